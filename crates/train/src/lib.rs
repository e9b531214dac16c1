//! Trains Chat-UniVi (arXiv 2311.08046, section 4): the same model code that answers,
//! differentiated.
//!
//! Types of candle appear in public signatures of [`autograd`], [`conversations`], [`optimizer`],
//! [`parameters`], [`reader`], [`trainer`] and [`nano`].

pub mod autograd;
pub mod conversations;
pub mod curve;
pub mod dataset;
pub mod example;
pub mod export;
pub mod nano;
pub mod optimizer;
pub mod parameters;
pub mod projector;
pub mod reader;
pub mod state;
pub mod trainer;
pub mod vocabulary;
pub mod whole_file;
pub mod world;
