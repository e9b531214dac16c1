//! `univi visualize`: which patches were merged into one token.

use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use univi::{Error, Result, TokenMap, image::Rgb8, model::merge::Stage};

use crate::{
    args::{StageChoice, VisualPath, VisualizeArgs},
    figure, files, look, open, out,
};

/// Draws the figure and writes it.
///
/// # Errors
/// Whatever is wrong with the model or the visual; `Io` where the figure can't be written.
pub async fn run(args: &VisualizeArgs) -> Result<()> {
    let device = open::device(args.device.into()).await?;
    let (visual, path) = match (&args.image, &args.video) {
        (Some(path), _) => (VisualPath::Image(path.clone()), path),
        (None, Some(path)) => (VisualPath::Video(path.clone()), path),
        (None, None) => {
            return Err(Error::BadRequest {
                reason: "give --image or --video".into(),
            });
        }
    };
    look::check(std::slice::from_ref(&visual))?;
    let vision = open::vision(&device, &args.model).await?;
    let vision = vision.with_options(&args.frames.visual_options())?;
    let clip = look::read(&vision, &visual, &args.frames)?;
    let frames: Vec<RgbImage> = clip.frames.iter().map(drawable).collect::<Result<_>>()?;
    let name = title(path);
    let figure = match visual {
        VisualPath::Image(_) => {
            let map = vision.image(&clip.frames[0]).await?.token_map().await?;
            let stages = map.events.first().map_or(&[][..], |event| &event.stages);
            let chosen = chosen(args.stage, stages.len(), &map)?;
            let stages: Vec<&Stage> = chosen.into_iter().map(|stage| &stages[stage]).collect();
            figure::picture(&name, &frames[0], map.patches_per_side, &stages)
        }
        VisualPath::Video(_) => {
            let video = look::video(&vision, &name, clip.frames).await?;
            let map = video.token_map().await?;
            let stages = map.events.first().map_or(0, |event| event.stages.len());
            let chosen = chosen(args.stage, stages, &map)?;
            figure::events(
                &name,
                &frames,
                &clip.times_s,
                map.patches_per_side,
                &map.events,
                &chosen,
            )
        }
    };
    save(&figure, &args.out)?;
    let (width, height) = figure.dimensions();
    out::note(&format!(
        "{}: {width} x {height} pixels",
        files::name(&args.out)
    ));
    Ok(())
}

/// The numbers of the stages to draw.
fn chosen(choice: StageChoice, stages: usize, map: &TokenMap) -> Result<Vec<usize>> {
    if stages == 0 {
        let reason = format!(
            "the model does not merge: each of the {} tokens is one patch",
            map.tokens
        );
        return Err(Error::BadRequest { reason });
    }
    Ok(match choice {
        StageChoice::Zero => vec![0],
        StageChoice::One => vec![1],
        StageChoice::Two => vec![2],
        StageChoice::All => (0..stages).collect(),
    })
}

fn drawable(picture: &Rgb8) -> Result<RgbImage> {
    let [width, height] = [picture.width_px as u32, picture.height_px as u32];
    let too_large = || Error::BadImage {
        reason: "too large to draw".into(),
    };
    RgbImage::from_raw(width, height, picture.pixels.clone()).ok_or_else(too_large)
}

/// The file's name without its folders.
fn title(path: &Path) -> String {
    path.file_name().map_or_else(
        || files::name(path),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn save(figure: &RgbImage, path: &PathBuf) -> Result<()> {
    let mut png = std::io::Cursor::new(Vec::new());
    let encoded = figure.write_to(&mut png, ImageFormat::Png);
    encoded.map_err(|e| {
        Error::Io {
            reason: e.to_string(),
        }
        .in_file(files::name(path))
    })?;
    std::fs::write(path, png.into_inner()).map_err(|e| files::io_error(path, &e))
}
