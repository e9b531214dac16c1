//! One error type for the whole library: facts that a person or a program can act on.

use std::borrow::Cow;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: names, what was found, what was expected, and what helps.
///
/// [`Error::code`] is the stable word for programs; the `Display` text is one line for people, in
/// which control characters out of files are escaped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong inside this file (or URL, or archive member).
    #[error("{}: {source}", plain(.file))]
    In {
        /// The file as the user knows it.
        file: String,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// Bytes that are not what they claim to be, or not what was asked for.
    #[error("{format}: {}", plain(.reason))]
    BadFile {
        /// The format that was expected: "GGUF", "PNG", "manifest", ..
        format: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// A metadata key that is missing, of the wrong type, or out of range.
    #[error("metadata {}: {}", plain(.key), plain(.reason))]
    BadMetadata {
        /// The key as it stands in the file.
        key: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The checkpoint lacks a tensor that its own metadata calls for.
    #[error("tensor {} is missing", plain(.name))]
    MissingTensor {
        /// The tensor's name as it should stand in the file.
        name: String,
    },
    /// A tensor of a shape that contradicts the metadata.
    #[error("tensor {} has shape {found:?}, expected {expected:?}", plain(.name))]
    WrongShape {
        /// The tensor's name as it stands in the file.
        name: String,
        /// Its shape, outermost dimension first.
        found: Vec<usize>,
        /// The shape that the metadata calls for.
        expected: Vec<usize>,
    },
    /// A tensor stored in a type that no backend computes with.
    #[error(
        "tensor {} is stored as {}, which is not supported; supported are {supported}",
        plain(.name), plain(.found)
    )]
    UnsupportedType {
        /// The tensor's name as it stands in the file.
        name: String,
        /// The type's name or number.
        found: String,
        /// The names of the types that are.
        supported: String,
    },
    /// A tokenizer that can't be read, or a template that can't be rendered.
    #[error("tokenizer: {}", plain(.reason))]
    Tokenizer {
        /// What was found and what was expected.
        reason: String,
    },
    /// A picture that can't be decoded or used.
    #[error("image: {}", plain(.reason))]
    BadImage {
        /// What was found and what was expected.
        reason: String,
    },
    /// A clip that can't be decoded or used.
    #[error("video: {}", plain(.reason))]
    BadVideo {
        /// What was found and what was expected.
        reason: String,
    },
    /// A request that can't be carried out as it was put.
    #[error("{}", plain(.reason))]
    BadRequest {
        /// What was asked, and what would work.
        reason: String,
    },
    /// The conversation does not fit the context.
    #[error(
        "the conversation needs {needed} tokens, the context holds {capacity}: \
         ask something shorter, show fewer pictures or frames, or start a new conversation"
    )]
    ContextOverflow {
        /// Tokens needed, visual tokens included.
        needed: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// The bytes are not the ones that the manifest promises.
    #[error(
        "SHA-256 is {found}, the manifest says {expected}: the file is damaged or of another version; fetch it again"
    )]
    WrongHash {
        /// Hexadecimal digest from the manifest.
        expected: String,
        /// Hexadecimal digest of the bytes that came.
        found: String,
    },
    /// No usable GPU.
    #[error("no GPU: {}", plain(.reason))]
    NoGpu {
        /// Why, and what would help.
        reason: String,
    },
    /// The GPU was lost (driver reset, laptop asleep, tab in the background, `destroy()`).
    #[error("the GPU was lost: {}; load the model again", plain(.reason))]
    DeviceLost {
        /// What the driver or browser said.
        reason: String,
    },
    /// More memory than the device grants.
    #[error(
        "out of memory: {} needs {needed_bytes} bytes, {}; use a smaller model, a stronger quantization, a shorter context, or a KV cache of type q8",
        plain(.what), granted(*.limit_bytes)
    )]
    OutOfMemory {
        /// What was to be stored.
        what: String,
        /// Bytes asked for.
        needed_bytes: u64,
        /// Bytes that could be had; 0 where the device does not say.
        limit_bytes: u64,
    },
    /// The GPU refused a command: a fault of this library or of the driver.
    #[error("GPU: {}", plain(.reason))]
    Gpu {
        /// What the driver or browser said.
        reason: String,
    },
    /// Reading or writing failed outside this library.
    #[error("{}", plain(.reason))]
    Io {
        /// What the operating system, browser or server said.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("aborted")]
    Aborted,
}

/// What is quoted comes from files, drivers and servers: line ends become blanks, and what a
/// terminal would obey is escaped.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| match c {
        '\n' | '\t' => " ".to_string(),
        '\r' => String::new(),
        c if c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    });
    Cow::Owned(shown.collect())
}

fn granted(limit_bytes: u64) -> String {
    match limit_bytes {
        0 => "more than the device grants".into(),
        bytes => format!("the device grants {bytes}"),
    }
}

impl Error {
    /// Returns a stable word for programs: what JavaScript sees as `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::In { source, .. } => source.code(),
            Error::BadFile { .. } => "bad-file",
            Error::BadMetadata { .. } => "bad-metadata",
            Error::MissingTensor { .. } => "missing-tensor",
            Error::WrongShape { .. } => "wrong-shape",
            Error::UnsupportedType { .. } => "unsupported-type",
            Error::Tokenizer { .. } => "bad-tokenizer",
            Error::BadImage { .. } => "bad-image",
            Error::BadVideo { .. } => "bad-video",
            Error::BadRequest { .. } => "bad-request",
            Error::ContextOverflow { .. } => "context-overflow",
            Error::WrongHash { .. } => "wrong-hash",
            Error::NoGpu { .. } => "no-gpu",
            Error::DeviceLost { .. } => "device-lost",
            Error::OutOfMemory { .. } => "out-of-memory",
            Error::Gpu { .. } => "gpu",
            Error::Io { .. } => "io",
            Error::Aborted => "aborted",
        }
    }

    /// Returns the same error with the file that it was met in. An inner file name is kept.
    pub fn in_file(self, file: impl Into<String>) -> Error {
        match self {
            Error::In { .. } | Error::Aborted => self,
            source => Error::In {
                file: file.into(),
                source: Box::new(source),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_whatever_they_quote() {
        let error = Error::MissingTensor {
            name: "a\r\n\u{1b}[2J\tb\u{9b}".into(),
        };
        let error = error.in_file("c\0d");
        assert_eq!(
            error.to_string(),
            "c\\u{0}d: tensor a \\u{1b}[2J b\\u{9b} is missing"
        );
    }
}
