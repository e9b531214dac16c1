//! The outer structure of picture files: whether a file is complete, and when its frames appear.
//!
//! Decoders fill what is missing at the end of a file with grey or with zeros, so completeness is
//! checked before anything is decoded. Only lengths are followed; no pixel is read.

use std::borrow::Cow;

use image::ImageFormat;

use super::format::{bad, name};
use crate::Result;

/// What the structure of a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outline {
    /// Whether a JPEG is decoded in several passes, which hold all coefficients at once.
    pub holds_coefficients: bool,
    /// How long each frame of an animated GIF or WebP is shown, in milliseconds.
    pub delays_ms: Vec<u32>,
}

/// Follows the structure of a file to its end.
///
/// # Errors
/// `BadImage` where the file ends before its structure does, or breaks off otherwise.
pub(super) fn outline(format: ImageFormat, bytes: &[u8]) -> Result<Outline> {
    let outline = match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Png => png(bytes, &mut |_, _| {}),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Gif => gif(bytes),
        // Its pixels have a known length, which the decoder asks for.
        _ => Some(Outline::default()),
    };
    outline.ok_or_else(|| {
        bad(format!(
            "this {} of {} bytes is damaged or cut short: its end is missing",
            name(format),
            bytes.len()
        ))
    })
}

/// The chunks of a PNG that its pixels depend on, and the EXIF block. Colour profiles and texts may
/// be compressed, and inflate to a thousand times their size for nothing.
pub(super) fn without_profiles(png_bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut kept = png_bytes[..8].to_vec();
    let mut all = true;
    png(png_bytes, &mut |kind, chunk| {
        if matches!(kind, b"iCCP" | b"zTXt" | b"iTXt" | b"tEXt") {
            all = false;
        } else {
            kept.extend_from_slice(chunk);
        }
    });
    match all {
        true => Cow::Borrowed(png_bytes),
        false => Cow::Owned(kept),
    }
}

/// Markers up to the end of the image. Thumbnails lie inside segments and are skipped with them;
/// whatever follows the end, such as the second picture of a stereo pair, is not looked at.
fn jpeg(bytes: &[u8]) -> Option<Outline> {
    let mut outline = Outline::default();
    let mut scans = 0;
    let mut rest = bytes.get(2..)?;
    loop {
        let marker_at = rest.iter().position(|&byte| byte == 0xff)?;
        rest = &rest[marker_at + 1..];
        match *rest.first()? {
            // A fill byte: the marker follows.
            0xff => {}
            // A stuffed zero of entropy-coded data, TEM, RSTm and SOI have no length.
            0x00 | 0x01 | 0xd0..=0xd8 => rest = &rest[1..],
            0xd9 => return Some(outline),
            kind => {
                // A scan; a progressive frame.
                scans += usize::from(kind == 0xda);
                outline.holds_coefficients |= scans > 1 || kind == 0xc2;
                let length = usize::from(u16::from_be_bytes(*rest.get(1..)?.first_chunk()?));
                rest = rest.get(1 + length.max(2)..)?;
            }
        }
    }
}

fn png(bytes: &[u8], see: &mut dyn FnMut(&[u8; 4], &[u8])) -> Option<Outline> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        // Length, kind and checksum.
        let chunk = rest.get(..length.checked_add(12)?)?;
        let kind = chunk[4..].first_chunk()?;
        see(kind, chunk);
        if kind == b"IEND" {
            return Some(Outline::default());
        }
        rest = &rest[chunk.len()..];
    }
}

fn webp(bytes: &[u8]) -> Option<Outline> {
    let mut outline = Outline::default();
    let size = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize);
    let end = size(bytes)?.checked_add(8)?;
    let mut rest = bytes.get(12..end)?;
    while !rest.is_empty() {
        let length = size(rest)?;
        let data = rest.get(8..length.checked_add(8)?)?;
        if rest.starts_with(b"ANMF") {
            let duration = data.get(12..15)?;
            let duration = [duration[0], duration[1], duration[2], 0];
            outline.delays_ms.push(u32::from_le_bytes(duration));
        }
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
    }
    Some(outline)
}

fn gif(bytes: &[u8]) -> Option<Outline> {
    let mut outline = Outline::default();
    let table_bytes = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3usize << ((flags & 7) + 1),
    };
    let mut rest = bytes.get(13 + table_bytes(*bytes.get(10)?)..)?;
    let mut delay_ms = 0;
    loop {
        match *rest.first()? {
            0x3b => return Some(outline),
            0x21 => {
                let is_control = *rest.get(1)? == 0xf9;
                if let (true, Some(&[_, _, low, high])) = (is_control, rest[2..].first_chunk()) {
                    delay_ms = u32::from(u16::from_le_bytes([low, high])) * 10;
                }
                rest = after_blocks(&rest[2..])?;
            }
            0x2c => {
                outline.delays_ms.push(std::mem::take(&mut delay_ms));
                let table = table_bytes(*rest.get(9)?);
                // The descriptor, its table, and the first size of a code.
                rest = after_blocks(rest.get(10 + table + 1..)?)?;
            }
            _ => return None,
        }
    }
}

/// What follows a run of blocks, each with its length before it, that an empty one ends.
fn after_blocks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let length = usize::from(*bytes.first()?);
        bytes = bytes.get(1 + length..)?;
        if length == 0 {
            return Some(bytes);
        }
    }
}
