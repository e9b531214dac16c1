//! Paths as people type, paste and drag them into a terminal: quoted, escaped, or as a file:// URL.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// Endings of files that are shown to a model.
const PICTURES: [&str; 10] = [
    "png", "jpg", "jpeg", "webp", "gif", "bmp", "avif", "heic", "tif", "tiff",
];
const VIDEOS: [&str; 9] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts",
];

/// Reads the paths that `text` names.
///
/// The whole text is one path where a file of that name exists, spaces and all. Otherwise it is
/// read as a shell reads words, and is several paths where each of them exists: some terminals put
/// several files down at once.
pub fn parse(text: &str) -> Vec<PathBuf> {
    let text = text.trim();
    let literal = PathBuf::from(text);
    if literal.exists() {
        return vec![literal];
    }
    // PowerShell puts its call operator before a quoted path.
    let unprefixed = text.strip_prefix("& ").unwrap_or(text);
    // Its escapes are its own: a quote in it is a quote.
    if unprefixed.starts_with("file://") && !unprefixed.contains(char::is_whitespace) {
        return vec![path(unprefixed)];
    }
    let words: Vec<PathBuf> = words(unprefixed).iter().map(|word| path(word)).collect();
    match words.as_slice() {
        [] => vec![literal],
        [_] => words,
        all if all.iter().all(|path| path.exists()) => words,
        // One path with spaces that is not there: named whole, so that the error makes sense.
        _ => vec![path(text)],
    }
}

/// What a question is, that is nothing but the path of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture, or a file that could be one.
    Image,
    /// A video, or a folder of frames.
    Video,
}

/// Returns the path that a question consists of, and what it shows; `None` for a question in
/// words.
pub fn of_question(question: &str) -> Option<(PathBuf, Kind)> {
    let question = question.trim();
    if question.contains('\n') {
        return None;
    }
    let [path] = <[PathBuf; 1]>::try_from(parse(question)).ok()?;
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.unwrap_or_default().to_ascii_lowercase();
    let kind = match () {
        () if VIDEOS.contains(&ending.as_str()) => Kind::Video,
        () if PICTURES.contains(&ending.as_str()) => Kind::Image,
        () if path.is_dir() => Kind::Video,
        () => Kind::Image,
    };
    let is_named_so = PICTURES.contains(&ending.as_str()) || VIDEOS.contains(&ending.as_str());
    // `What is in sheep.jpg` is a question, `sheep.jpg` is none, be it there or not.
    let is_one_word = !question.contains(char::is_whitespace);
    let is_path = path.is_file()
        || path.is_dir() && question.contains(['/', '\\'])
        || is_named_so && is_one_word;
    is_path.then_some((path, kind))
}

/// A word as the path that it stands for.
fn path(word: &str) -> PathBuf {
    if let Some(rest) = word.strip_prefix("file://") {
        // `file:///a` and `file://localhost/a`; on Windows `file:///C:/a`.
        let local = rest.strip_prefix("localhost").unwrap_or(rest);
        let decoded = percent_decode_str(local).decode_utf8_lossy().into_owned();
        let is_drive = decoded.as_bytes().get(2) == Some(&b':');
        return PathBuf::from(if is_drive { &decoded[1..] } else { &decoded });
    }
    match (word.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(word),
    }
}

/// The words of a line, with quotes and backslashes taken away as a shell does.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            // On Windows it separates folders.
            (None, '\\') if !cfg!(windows) => {
                word.get_or_insert_default().extend(letters.next());
            }
            (Some('"'), '\\')
                if !cfg!(windows) && matches!(letters.peek(), Some('"' | '\\' | '$' | '`')) =>
            {
                word.get_or_insert_default().extend(letters.next());
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns how a path is written so that [`parse`] and a shell read it back.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/\\:._-+~@%,=".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false if cfg!(windows) => format!("\"{text}\""),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_path_is_read_however_a_terminal_writes_it() {
        let expected = [PathBuf::from("/no such/it's my photo.png")];
        for text in [
            "'/no such/it'\\''s my photo.png'",
            "\"/no such/it's my photo.png\"",
            "/no\\ such/it\\'s\\ my\\ photo.png",
            "file:///no%20such/it%27s%20my%20photo.png",
            "file://localhost/no%20such/it's%20my%20photo.png",
            "  '/no such/it'\"'\"'s my photo.png'  ",
            "& \"/no such/it's my photo.png\"",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse(&quoted(&expected[0])), expected);
        assert_eq!(parse("\"a\\\"b\\c\""), [PathBuf::from("a\"b\\c")]);
        // Not there, and not quoted: one path, named whole.
        assert_eq!(parse("my photo.png"), [PathBuf::from("my photo.png")]);
        assert_eq!(parse("größe 羊.png"), [PathBuf::from("größe 羊.png")]);
    }

    #[cfg(unix)]
    #[test]
    fn files_that_are_there_are_found_with_spaces_and_several_at_once() {
        let folder = std::env::temp_dir().join(format!("univi typed {}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [a, b] = ["my a.png", "b.png"].map(|name| folder.join(name));
        for path in [&a, &b] {
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(parse(&a.display().to_string()), std::slice::from_ref(&a));
        let both = format!("{} {}", quoted(&a), quoted(&b));
        assert_eq!(parse(&both), [a.clone(), b]);
        let question = |text: &str| of_question(text).map(|(_, kind)| kind);
        assert_eq!(question(&quoted(&a)), Some(Kind::Image));
        assert_eq!(question(&folder.display().to_string()), Some(Kind::Video));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(question("clip.mp4"), Some(Kind::Video));
        assert_eq!(question("sheep.JPG"), Some(Kind::Image));
        for words in ["What is in sheep.jpg", "Yes.", "and/or?", "e.g.", ""] {
            assert_eq!(question(words), None, "{words}");
        }
    }
}
