//! Answers go to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};

use univi::{Error, Result};

/// Writes `text` to stdout at once, so that an answer streams.
///
/// # Errors
/// `Aborted` where nobody reads any more (`univi .. | head`), `Io` where stdout can't be written.
pub fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Error::Aborted,
            _ => Error::Io {
                reason: e.to_string(),
            }
            .in_file("stdout"),
        })
}

/// Writes `text` and a line end to stdout. Errors as [`write`].
pub fn line(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

/// Writes `value` as indented JSON and a line end to stdout. Errors as [`write`].
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| {
        Error::Io {
            reason: e.to_string(),
        }
        .in_file("stdout")
    })?;
    line(&text)
}

/// Writes a line to stderr; a closed stderr is nobody's concern.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
