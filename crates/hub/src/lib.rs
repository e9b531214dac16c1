#![doc = include_str!("../README.md")]

mod address;
mod cache;
mod client;
mod digest;
mod listing;
mod repository;
mod settings;

pub use address::HubAddress;
pub use client::Hub;
pub use listing::RemoteFile;
pub use repository::Repository;
pub use settings::HubSettings;
