//! Shared by the tests beside this crate.
