//! Showing pictures and videos to a model.

use univi::{Error, Result, VisionEncoder, Visual, image::Rgb8};

use crate::{
    args::{FrameArgs, VisualPath},
    files,
    progress::{Progress, Unit},
    video::{self, Clip},
};

/// That everything to look at is there, before a large model is loaded.
///
/// # Errors
/// `Io` for what is not.
pub fn check(visuals: &[VisualPath]) -> Result<()> {
    visuals.iter().try_for_each(|visual| match visual {
        VisualPath::Image(path) => files::picture(path).map(drop),
        VisualPath::Video(path) => files::metadata(path).map(drop),
    })
}

/// Reads what the user shows: a picture is a clip of one frame. Each frame is the square that the
/// model sees.
///
/// # Errors
/// As [`files::picture`] and [`video::read`].
pub fn read(vision: &VisionEncoder, visual: &VisualPath, frames: &FrameArgs) -> Result<Clip> {
    let config = vision.config();
    let size_px = config.clip.image_px;
    match visual {
        VisualPath::Image(path) => {
            let square = files::picture(path)?.crop(size_px)?;
            Ok(Clip {
                frames: vec![square],
                times_s: vec![0.0],
            })
        }
        VisualPath::Video(path) => video::read(path, &frames.options(&config.merge), size_px),
    }
}

/// Looks at the frames of a video, and tells how far that is.
///
/// # Errors
/// As [`VisionEncoder::video`].
pub async fn video(vision: &VisionEncoder, name: &str, frames: Vec<Rgb8>) -> Result<Visual> {
    let mut progress = Progress::new(
        format!("looking at {name}"),
        Unit::Items,
        frames.len() as u64,
    );
    let frames = frames.into_iter().inspect(|_| progress.advance(1));
    vision.video(frames.map(Ok)).await
}

/// Reads and looks at what the user shows.
///
/// # Errors
/// As [`read`] and [`video`], [`VisionEncoder::image`] and [`VisionEncoder::with_options`].
pub async fn show(
    vision: &VisionEncoder,
    visual: &VisualPath,
    frames: &FrameArgs,
) -> Result<Visual> {
    let clip = read(vision, visual, frames)?;
    match visual {
        VisualPath::Image(path) => {
            let square = clip.frames.first().ok_or(Error::BadImage {
                reason: "no pixels".into(),
            })?;
            vision
                .image(square)
                .await
                .map_err(|e| e.in_file(files::name(path)))
        }
        VisualPath::Video(path) => {
            let name = files::name(path);
            video(vision, &name, clip.frames)
                .await
                .map_err(|e| e.in_file(name))
        }
    }
}
