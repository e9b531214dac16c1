//! What a user asks: text, images and videos.

use crate::{Result, image::Rgb8};

use super::Visual;

/// A part of a question.
#[derive(Clone)]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(String),
    /// An image, encoded when it is asked about.
    Image(Rgb8),
    /// Frames of a video, chosen by [`sample_times`](crate::frames::sample_times); encoded when
    /// they are asked about.
    Video(Vec<Rgb8>),
    /// An image or a video that is encoded already.
    Visual(Visual),
}

impl Part {
    /// Decodes an image: PNG, JPEG, WebP, GIF or BMP.
    ///
    /// # Errors
    /// As [`Rgb8::decode`].
    pub fn image_bytes(bytes: &[u8]) -> Result<Part> {
        Rgb8::decode(bytes).map(Part::Image)
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Part {
        Part::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Part {
        Part::Text(text)
    }
}

impl From<Rgb8> for Part {
    fn from(image: Rgb8) -> Part {
        Part::Image(image)
    }
}

impl From<Visual> for Part {
    fn from(visual: Visual) -> Part {
        Part::Visual(visual)
    }
}

impl From<&Visual> for Part {
    fn from(visual: &Visual) -> Part {
        Part::Visual(visual.clone())
    }
}

/// A question: one part, or several in their order.
#[derive(Clone, Default)]
pub struct Question(pub(super) Vec<Part>);

impl<P: Into<Part>> From<P> for Question {
    fn from(part: P) -> Question {
        Question(vec![part.into()])
    }
}

impl<P: Into<Part>, const N: usize> From<[P; N]> for Question {
    fn from(parts: [P; N]) -> Question {
        parts.into_iter().collect()
    }
}

impl<P: Into<Part>> From<Vec<P>> for Question {
    fn from(parts: Vec<P>) -> Question {
        parts.into_iter().collect()
    }
}

impl<P: Into<Part>> FromIterator<P> for Question {
    fn from_iter<I: IntoIterator<Item = P>>(parts: I) -> Question {
        Question(parts.into_iter().map(Into::into).collect())
    }
}
