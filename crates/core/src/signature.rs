//! What a file is by its first bytes, where it is not what its name or place says: the pointer that
//! Git leaves in place of a large file, the page that a server sends in place of one.

/// Bytes that are enough to recognize every kind.
pub const SIGNATURE_BYTES: usize = 512;

/// A kind of file that is often met in place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// The text that Git LFS keeps in place of a file.
    LfsPointer,
    /// A web page.
    Html,
    /// XML, such as an object storage's error message.
    Xml,
    /// A JSON object or list.
    Json,
    /// Compressed with gzip, zstd, bzip2, xz or 7-Zip.
    Compressed(&'static str),
    /// A tar archive.
    Tar,
    /// A zip archive, which is also what `torch.save` writes.
    Zip,
    /// A Python pickle outside of an archive.
    Pickle,
    /// A GGUF file.
    Gguf,
    /// What GGML had before GGUF.
    Ggml,
    /// A safetensors file.
    Safetensors,
    /// HDF5: weights of TensorFlow or Keras.
    Hdf5,
    /// A picture or a clip of this format.
    Media(&'static str),
    /// A PDF document.
    Pdf,
    /// Zeros: space that was reserved for a download.
    Zeros,
}

impl Signature {
    /// Recognizes the file that starts with `start`, at best [`SIGNATURE_BYTES`] of it.
    pub fn of(start: &[u8]) -> Option<Signature> {
        const MAGICS: [(&[u8], Signature); 22] = [
            (b"version https://git-lfs", Signature::LfsPointer),
            (b"version https://hawser", Signature::LfsPointer),
            (b"GGUF", Signature::Gguf),
            (b"tjgg", Signature::Ggml),
            (b"fmgg", Signature::Ggml),
            (b"lmgg", Signature::Ggml),
            (b"PK\x03\x04", Signature::Zip),
            (b"\x1f\x8b", Signature::Compressed("gzip")),
            (b"\x28\xb5\x2f\xfd", Signature::Compressed("zstd")),
            (b"BZh", Signature::Compressed("bzip2")),
            (b"\xfd7zXZ\0", Signature::Compressed("xz")),
            (b"7z\xbc\xaf\x27\x1c", Signature::Compressed("7-Zip")),
            (b"\x89HDF\r\n\x1a\n", Signature::Hdf5),
            (b"\x89PNG\r\n\x1a\n", Signature::Media("PNG")),
            (b"\xff\xd8\xff", Signature::Media("JPEG")),
            (b"GIF8", Signature::Media("GIF")),
            (b"RIFF", Signature::Media("WebP or AVI")),
            (b"\x1a\x45\xdf\xa3", Signature::Media("WebM or Matroska")),
            (b"%PDF-", Signature::Pdf),
            (b"\x80\x02", Signature::Pickle),
            (b"\x80\x03", Signature::Pickle),
            (b"\x80\x04", Signature::Pickle),
        ];
        if let Some((_, found)) = MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Some(*found);
        }
        if start.get(257..262) == Some(b"ustar") {
            return Some(Signature::Tar);
        }
        if start.get(4..8) == Some(b"ftyp") {
            return Some(Signature::Media("MP4 or HEIF"));
        }
        // A length of the header that is no text, then the header.
        if start.len() > 8 && start[5..8] == [0; 3] && start[8] == b'{' {
            return Some(Signature::Safetensors);
        }
        if start.len() >= 16 && start.iter().all(|&byte| byte == 0) {
            return Some(Signature::Zeros);
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let text = text.trim_ascii_start();
        let begins = |word: &[u8]| {
            text.get(..word.len())
                .is_some_and(|t| t.eq_ignore_ascii_case(word))
        };
        if [
            &b"<!doctype html"[..],
            b"<html",
            b"<head",
            b"<body",
            b"<script",
            b"<!--",
        ]
        .into_iter()
        .any(begins)
        {
            return Some(Signature::Html);
        }
        if begins(b"<?xml") || begins(b"<error") {
            return Some(Signature::Xml);
        }
        let json = match text.split_first() {
            Some((b'{', rest)) => {
                let next = rest.trim_ascii_start().first();
                next.is_some_and(|&byte| matches!(byte, b'"' | b'}'))
            }
            Some((b'[', rest)) => {
                let next = rest.trim_ascii_start().first();
                next.is_some_and(|&byte| matches!(byte, b'"' | b'{' | b'[' | b']' | b'0'..=b'9'))
            }
            _ => false,
        };
        json.then_some(Signature::Json)
    }

    /// Returns what the file is and what to do about it, to stand behind "the file" or its name.
    pub fn advice(self) -> String {
        let damaged = "the download was answered with something else: check the address, \
                       and whether it asks for a login";
        match self {
            Signature::LfsPointer => "is a Git LFS pointer, not the file itself: \
                                      run `git lfs pull`, or download the file"
                .into(),
            Signature::Html => format!("is a web page (HTML), not the file; {damaged}"),
            Signature::Xml => format!("is XML, often an error message, not the file; {damaged}"),
            Signature::Json => format!("is JSON, often an error message, not the file; {damaged}"),
            Signature::Compressed(how) => {
                format!("is compressed with {how}: unpack it first")
            }
            Signature::Tar => "is a tar archive: unpack it first".into(),
            Signature::Zip => "is a zip archive: either PyTorch weights, of whose folder \
                               `univi convert` makes a model, or a packed download to unpack first"
                .into(),
            Signature::Pickle => "is a Python pickle, as PyTorch wrote weights before 1.6: \
                                  load it there and save it again as safetensors"
                .into(),
            Signature::Gguf => {
                "is a GGUF file: a model already, which `--model` takes by its path".into()
            }
            Signature::Ggml => "is a GGML file from before GGUF: \
                                convert the original checkpoint again"
                .into(),
            Signature::Safetensors => "is a safetensors file: `univi convert` makes a model \
                                       of the folder that it belongs to"
                .into(),
            Signature::Hdf5 => "is HDF5, weights of TensorFlow or Keras: \
                                take the PyTorch or safetensors weights of the same model"
                .into(),
            Signature::Media(format) => {
                format!("is a picture or clip ({format}), where another kind of file is expected")
            }
            Signature::Pdf => "is a PDF document, where another kind of file is expected".into(),
            Signature::Zeros => "holds nothing but zeros: its download was not completed, \
                                 fetch it again"
                .into(),
        }
    }
}

/// Returns what the file that starts with `start` is and what to do about it, where it is a
/// well-known kind other than `expected`.
pub fn impostor(start: &[u8], expected: Option<Signature>) -> Option<String> {
    let found = Signature::of(&start[..start.len().min(SIGNATURE_BYTES)])?;
    (Some(found) != expected).then(|| found.advice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_kinds_are_recognized() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], Signature); 16] = [
            (pointer, Signature::LfsPointer),
            (b"\n  <!DOCTYPE HTML>\n<html>", Signature::Html),
            (b"\xef\xbb\xbf<html lang=en>", Signature::Html),
            (b"<?xml version=\"1.0\"?><Error>", Signature::Xml),
            (b"<Error><Code>AccessDenied</Code></Error>", Signature::Xml),
            (b"{\"error\":\"Repository not found\"}", Signature::Json),
            (b"[ {\"error\": 1}]", Signature::Json),
            (b"\x1f\x8b\x08\0\0", Signature::Compressed("gzip")),
            (b"PK\x03\x04\0\0", Signature::Zip),
            (b"\x80\x02}q\0.", Signature::Pickle),
            (b"GGUF\x03\0\0\0", Signature::Gguf),
            (b"tjgg\x03\0\0\0", Signature::Ggml),
            (b"\x40\0\0\0\0\0\0\0{\"a\":{}}", Signature::Safetensors),
            (b"\0\0\0\x20ftypisom", Signature::Media("MP4 or HEIF")),
            (&tar, Signature::Tar),
            (&[0; 64], Signature::Zeros),
        ];
        for (start, kind) in cases {
            assert_eq!(Signature::of(start), Some(kind), "{start:?}");
            assert_eq!(impostor(start, Some(kind)), None);
            assert_eq!(impostor(start, None), Some(kind.advice()));
        }
        for start in [&b""[..], b"G", b"just some words", b"{ not json", b"\0\0\0"] {
            assert_eq!(Signature::of(start), None, "{start:?}");
        }
    }
}
