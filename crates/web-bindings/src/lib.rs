//! What both modules of the npm package have: transfers over HTTP, plain objects, and errors and
//! panics as JavaScript catches them.

mod object;
mod panic;
mod transfer;

pub use object::{object, thrown, whole};
pub use panic::throw_panics;
pub use transfer::Transfer;
