//! Images and videos of the command line: opened, read, encoded.

use std::path::Path;

use univi::{Error, Result, VisionEncoder, Visual, image::Rgb8};

use crate::{
    args::{FrameArgs, VisualPath},
    files,
    progress::{Progress, Unit},
    video::{self, Clip},
};

/// An image or a video that is there: what can be refused without a model has been checked.
pub struct Opened {
    /// As it was given.
    pub path: VisualPath,
    /// The decoded picture, where it is one: stdin can be read once only.
    picture: Option<Rgb8>,
}

/// Opens an image or a video, before a large model is loaded.
///
/// # Errors
/// `Io` for what is not there, `BadImage` for what is no picture, `BadVideo` for text.
pub fn open(visual: &VisualPath) -> Result<Opened> {
    let picture = match visual {
        VisualPath::Image(path) => Some(files::picture(path)?),
        VisualPath::Video(path) => {
            if files::metadata(path)?.is_file() {
                refuse_text(path)?;
            }
            None
        }
    };
    Ok(Opened {
        path: visual.clone(),
        picture,
    })
}

/// Opens all of them, in their order. Errors as [`open`].
pub fn open_all(visuals: &[VisualPath]) -> Result<Vec<Opened>> {
    visuals.iter().map(open).collect()
}

/// Refuses text that is given as a video: a playlist makes ffmpeg open the files that it lists.
///
/// # Errors
/// `BadVideo` for text, `Io` where the file can't be read.
fn refuse_text(path: &Path) -> Result<()> {
    let start = files::start(path)?;
    if !files::is_text(&start) {
        return Ok(());
    }
    let reason = match start.starts_with(b"#EXTM3U") {
        true => "is a playlist, which lists other files: give the video itself",
        false => "is text, not a video",
    };
    Err(Error::BadVideo {
        reason: reason.into(),
    }
    .in_file(files::name(path)))
}

/// Reads what the user shows: a picture is a clip of one frame. Each frame is the square that the
/// model sees.
///
/// # Errors
/// As [`video::read`].
pub fn read(vision: &VisionEncoder, visual: &Opened, frames: &FrameArgs) -> Result<Clip> {
    let config = vision.config();
    let size_px = config.clip.image_px;
    match (&visual.picture, &visual.path) {
        (Some(picture), _) => Ok(Clip {
            frames: vec![picture.crop(size_px)?],
            times_s: vec![0.0],
        }),
        (None, VisualPath::Image(path) | VisualPath::Video(path)) => {
            video::read(path, &frames.options(&config.merge), size_px)
        }
    }
}

/// Encodes the frames of a video, and reports progress.
///
/// # Errors
/// As [`VisionEncoder::video`].
pub async fn video(vision: &VisionEncoder, name: &str, frames: Vec<Rgb8>) -> Result<Visual> {
    let mut progress = Progress::new(format!("encoding {name}"), Unit::Items, frames.len() as u64);
    let frames = frames.into_iter().inspect(|_| progress.advance(1));
    vision.video(frames.map(Ok)).await
}

/// Reads and encodes an image or a video.
///
/// # Errors
/// As [`read`] and [`video`], and [`VisionEncoder::image`].
pub async fn visual(vision: &VisionEncoder, visual: &Opened, frames: &FrameArgs) -> Result<Visual> {
    let clip = read(vision, visual, frames)?;
    match &visual.path {
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
