//! What is done about single questions that fail.

use clap::ValueEnum;

/// What happens at a question that can't be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// The run ends, and says which one it is. What was answered stays.
    Stop,
    /// It is left out, and the report names it.
    Skip,
}
