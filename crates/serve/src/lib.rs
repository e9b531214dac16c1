//! A static file server for models and the pages that load them.
//!
//! Answers as a page wants it that streams weights and resumes where it stopped: byte ranges,
//! strong ETags, CORS for every origin, cross-origin isolation, no compression. For tests of what
//! loads from it, [`Fault`]s make it answer wrongly on demand.
//!
//! ```no_run
//! use univi_serve::{ServeOptions, Server};
//!
//! # fn main() -> univi_serve::Result<()> {
//! let server = Server::bind(ServeOptions::new("models").port(8080))?;
//! println!("http://{}/", server.address());
//! server.run()
//! # }
//! ```

mod answer;
mod body;
mod error;
mod fault;
mod folders;
mod origin;
mod report;
mod server;

pub use error::{Error, Result};
pub use fault::{Fault, FaultKind};
pub use folders::Mount;
/// The status of an answer, for [`FaultKind::Status`].
pub use hyper::StatusCode;
pub use origin::Origin;
pub use report::{Report, RequestRecord};
pub use server::{ServeOptions, Server};
