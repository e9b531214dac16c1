#![doc = include_str!("../README.md")]

mod answer;
mod body;
mod endpoints;
mod error;
mod fault;
mod folders;
mod origin;
mod report;
mod server;

pub use endpoints::{EndpointBody, EndpointFuture, Endpoints, Peer};
pub use error::{Error, Result};
pub use fault::{Fault, FaultKind};
pub use folders::Mount;
/// The status of an answer, for [`FaultKind::Status`].
pub use hyper::StatusCode;
pub use origin::Origin;
pub use report::{Report, RequestRecord};
pub use server::{ServeOptions, Server};
