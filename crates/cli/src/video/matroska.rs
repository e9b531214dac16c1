//! Whether a Matroska file is whole: one that broke off still states the length that was planned.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];

/// Where the segment's size has been read, in bytes from the beginning of any file.
const HEAD_BYTES: u64 = 4096;

/// Tells whether the file at `path` ends before its segment does.
pub(super) fn is_cut(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let length = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
    let mut head = Vec::new();
    let read = file.take(HEAD_BYTES).read_to_end(&mut head);
    read.is_ok() && segment_end(&head).is_some_and(|end| end > length)
}

/// Where the segment of a file ends, in bytes, from its first bytes; `None` where the file doesn't
/// say, as one that was recorded live. As `segmentEnd` in `pkg/src/clip/matroska.ts`.
fn segment_end(head: &[u8]) -> Option<u64> {
    let (header, at) = element(head, 0, EBML)?;
    let (segment, at) = element(head, at.checked_add(header?)?, SEGMENT)?;
    at.checked_add(segment?)
}

/// The length of the element `id` at `at`, `None` where it is unknown, and where its data begins.
fn element(head: &[u8], at: u64, id: [u8; 4]) -> Option<(Option<u64>, u64)> {
    let rest = head.get(usize::try_from(at).ok()?..)?.strip_prefix(&id)?;
    let bytes = rest.first()?.leading_zeros() as usize + 1;
    let size = rest.get(..bytes.min(9))?;
    if bytes > 8 {
        return None;
    }
    let mask = (1 << (7 * bytes)) - 1;
    let value = size
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
        & mask;
    Some(((value != mask).then_some(value), at + 4 + bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::segment_end;

    /// A header of 3 bytes, and a segment whose size is stored as `size`.
    fn head(size: &[u8]) -> Vec<u8> {
        let header = [0x1a, 0x45, 0xdf, 0xa3, 0x83, 1, 2, 3];
        [&header[..], &[0x18, 0x53, 0x80, 0x67], size].concat()
    }

    #[test]
    fn a_segment_ends_where_its_size_says() {
        assert_eq!(segment_end(&head(&[0x8a])), Some(13 + 10));
        assert_eq!(segment_end(&head(&[0x41, 0x00])), Some(14 + 256));
        let eight = [0x01, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(segment_end(&head(&eight)), Some(20 + 65536));
    }

    #[test]
    fn what_is_not_said_is_not_guessed() {
        assert_eq!(segment_end(&head(&[0xff])), None);
        assert_eq!(
            segment_end(&head(&[0x01, 255, 255, 255, 255, 255, 255, 255])),
            None
        );
        assert_eq!(segment_end(&head(&[0x00, 1, 2, 3, 4, 5, 6, 7, 8])), None);
        assert_eq!(segment_end(&head(&[0x01, 0])), None);
        assert_eq!(segment_end(b"RIFF"), None);
        assert_eq!(segment_end(&[]), None);
        let far = [
            0x1a, 0x45, 0xdf, 0xa3, 0x01, 255, 255, 255, 255, 255, 255, 254,
        ];
        assert_eq!(segment_end(&far), None);
    }
}
