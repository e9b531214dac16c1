//! Answers go to stdout, everything else to stderr.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{ErrorKind, IsTerminal, Write},
};

use univi::{Error, Result};

/// Writes `text` to stdout at once, so that an answer streams. A terminal gets it [`printable`],
/// a file or a program as it is.
///
/// # Errors
/// `Aborted` where the reader has gone (`univi .. | head`), `Io` where stdout can't be written.
pub fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match out.is_terminal() {
        true => printable(text),
        false => Cow::Borrowed(text),
    };
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

/// Writes a line to stderr, [`printable`]; a closed stderr is ignored.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Returns `text` with every character escaped that a terminal obeys instead of showing it: names,
/// metadata and answers come from files, and could clear the screen, hide text, or type commands.
/// Line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        let is_control = c.is_control() && c != '\n' && c != '\t';
        // Marks that turn the direction of the text around them.
        let is_direction = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        is_control || is_direction
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match obeyed(c) {
            // Writing to a String cannot fail.
            true => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns `text` as one line: [`printable`], with line ends and tabs escaped, too.
pub fn one_line(text: &str) -> String {
    let text = printable(text);
    text.replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(printable("größer\tals 羊\n"), "größer\tals 羊\n");
        for (text, shown) in [
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("over\rwritten", "over\\u{d}written"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("del\u{7f}", "del\\u{7f}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(one_line("a\nerror: b\t"), "a\\nerror: b\\t");
    }
}
