//! Why a server can't start.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder can't be read.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder, as it was given.
        path: PathBuf,
        /// What the operating system reports.
        source: io::Error,
    },
    /// What should be served is no folder.
    #[error("{}: not a folder", path.display())]
    NotAFolder {
        /// The path, as it was given.
        path: PathBuf,
    },
    /// The address of a mount is none that a folder can have.
    #[error("{address:?} is no address that a folder can have; expected one such as /models")]
    BadMount {
        /// The address, as it was given.
        address: String,
    },
    /// Two folders have the same address.
    #[error("two folders are served at {address}")]
    SameMount {
        /// The address.
        address: String,
    },
    /// The text is no origin.
    #[error("expected a scheme and a host, such as https://models.example")]
    BadOrigin,
    /// The address can't be listened on.
    #[error(
        "cannot listen on {address}: {source} (give another port, 0 for any free one, or another address)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system reports.
        source: io::Error,
    },
    /// The threads that serve can't be started.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
}

/// The result of what may fail with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
