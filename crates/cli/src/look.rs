//! Showing pictures and videos to a model.

use univi::{
    Backend, Error, Result,
    image::Rgb8,
    model::{EngineVisual, Vision},
};

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
pub fn read<B: Backend>(
    vision: &Vision<B>,
    visual: &VisualPath,
    frames: &FrameArgs,
) -> Result<Clip> {
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
/// As [`Vision::video`].
pub async fn video<B: Backend>(
    vision: &Vision<B>,
    name: &str,
    frames: Vec<Rgb8>,
) -> Result<EngineVisual<B>> {
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
/// As [`read`] and [`video`], [`Vision::image`] and [`Vision::merging_to`].
pub async fn show<B: Backend>(
    vision: &Vision<B>,
    visual: &VisualPath,
    frames: &FrameArgs,
) -> Result<EngineVisual<B>> {
    let vision = &vision.merging_to(frames.visual_tokens.map(|n| n as usize))?;
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
