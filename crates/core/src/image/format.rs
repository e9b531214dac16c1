//! What formats are called, and what is wrong with a file of theirs.

use image::ImageFormat;

use crate::Error;

pub(super) fn bad(reason: impl Into<String>) -> Error {
    Error::BadImage {
        reason: reason.into(),
    }
}

pub(super) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => "BMP",
    }
}
