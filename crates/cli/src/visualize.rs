//! `univi visualize`: which patches were merged into one token.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use univi::{Error, MergeStage, Result, TokenMap, image::Rgb8};

use crate::{
    args::{DeviceChoice, FrameArgs, VisualPath},
    encode, figure, files, open, out,
};

/// Draw which patches were merged into one token.
///
/// For a picture: the stages side by side over it. For a video: its events, their frames and times.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi visualize --model models/chat-univi-7b --image sheep.jpg --out merged.png
  univi visualize -m models/chat-univi-7b --image sheep.jpg --stage 2 --out coarse.png
  univi visualize -m models/chat-univi-7b --video clip.mp4 --max-frames 32 --out events.png

Exit codes: 0 drawn, 1 failed, 2 wrong command line, 130 interrupted.")]
#[command(group = clap::ArgGroup::new("visual").required(true).args(["image", "video"]))]
pub struct VisualizeArgs {
    /// The model whose vision encoder is used: a folder with a manifest.json, the manifest, or a
    /// model on the Hub: hf:OWNER/NAME.
    #[arg(long, short, value_name = "MODEL")]
    pub model: PathBuf,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// The picture to draw on.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The video whose events are drawn: a file, an animated GIF, or a folder of frames.
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    #[command(flatten)]
    pub frames: FrameArgs,
    /// Which stage of merging: 0 is fine, 2 is coarse.
    #[arg(long, value_enum, default_value_t = StageChoice::All)]
    pub stage: StageChoice,
    /// Where the figure goes: a PNG, JPEG or WebP file, by its name.
    #[arg(long, value_name = "FILE", value_parser = FigureFile::parse)]
    pub out: FigureFile,
}

impl VisualizeArgs {
    /// Checks that every option has something to act on.
    ///
    /// # Errors
    /// What contradicts itself or would be ignored.
    pub fn check(&self) -> Result<(), String> {
        self.frames
            .check(self.image.is_some(), self.video.is_some())
    }
}

/// Which stages of merging are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageChoice {
    /// Spatial stage 0.
    #[value(name = "0")]
    Zero,
    /// Spatial stage 1.
    #[value(name = "1")]
    One,
    /// Spatial stage 2.
    #[value(name = "2")]
    Two,
    /// All three.
    All,
}

/// Lines and letters stay sharp.
const JPEG_QUALITY: u8 = 92;

/// Draws the figure and writes it.
///
/// # Errors
/// What is wrong with the model or the visual; `Io` where the figure can't be written.
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
    let opened = encode::open(&visual)?;
    let vision = open::vision(&device, &args.model).await?;
    let vision = vision.with_options(&args.frames.visual_options())?;
    let clip = encode::read(&vision, &opened, &args.frames)?;
    let frames: Vec<RgbImage> = clip.frames.iter().map(drawable).collect::<Result<_>>()?;
    let name = title(path);
    let figure = match visual {
        VisualPath::Image(_) => {
            let map = vision.image(&clip.frames[0]).await?.token_map().await?;
            let stages = map.events.first().map_or(&[][..], |event| &event.stages);
            let chosen = chosen(args.stage, stages.len(), &map)?;
            let stages: Vec<&MergeStage> = chosen.into_iter().map(|stage| &stages[stage]).collect();
            figure::picture(&name, &frames[0], map.patches_per_side, &stages)
        }
        VisualPath::Video(_) => {
            let video = encode::video(&vision, &name, clip.frames).await?;
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
    args.out.save(&figure)?;
    let (width, height) = figure.dimensions();
    out::note(&format!(
        "{}: {width} x {height} pixels",
        files::name(&args.out.path)
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

/// A file to draw into, of a format that its name says.
#[derive(Debug, Clone)]
pub struct FigureFile {
    path: PathBuf,
    format: ImageFormat,
}

impl FigureFile {
    /// Reads a path that ends in .png, .jpg, .jpeg or .webp.
    fn parse(text: &str) -> Result<FigureFile, String> {
        let path = PathBuf::from(text);
        let format = path.extension().and_then(ImageFormat::from_extension);
        match format {
            Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => {
                Ok(FigureFile { path, format })
            }
            _ => Err("expected a name that ends in .png, .jpg or .webp".into()),
        }
    }

    /// Writes the figure, whole or not at all.
    fn save(&self, figure: &RgbImage) -> Result<()> {
        let mut file = std::io::Cursor::new(Vec::new());
        let encoded = match self.format {
            ImageFormat::Jpeg => {
                JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).encode_image(figure)
            }
            format => figure.write_to(&mut file, format),
        };
        encoded.map_err(|e| {
            Error::Io {
                reason: e.to_string(),
            }
            .in_file(files::name(&self.path))
        })?;
        files::write(&self.path, &file.into_inner())
    }
}
