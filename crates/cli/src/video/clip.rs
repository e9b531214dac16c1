//! What is read of a video.

use univi::{Error, image::Rgb8};

/// The chosen frames of a video, each the square that the model sees.
pub struct Clip {
    /// `[t]`: square pictures.
    pub frames: Vec<Rgb8>,
    /// `[t]`: the moments that they were chosen for, in seconds from the start of the video.
    pub times_s: Vec<f64>,
}

/// What is wrong with a video.
pub(super) fn bad(reason: String) -> Error {
    Error::BadVideo { reason }
}
