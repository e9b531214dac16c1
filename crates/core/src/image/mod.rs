//! Pictures: files to RGB, RGB to what the vision tower sees.
//!
//! Everything here equals what Pillow 10 and Hugging Face's `CLIPImageProcessor` compute, bit for
//! bit, because the tower was trained on their pixels and browsers' own resampling differs.

mod animation;
mod container;
mod format;
mod resample;

use std::{borrow::Cow, io::Cursor};

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    metadata::Orientation,
};

use crate::{Error, Result, signature::impostor};
use format::{bad, name};

pub use animation::{Animation, Crops};

/// The most pixels that a picture may have: more than any phone's camera makes, and few enough
/// that a file made to exhaust the memory is refused at its header.
pub const MAX_PIXELS: u64 = 1 << 27;

/// Bytes of memory that decoding any file may take: 44 million pixels of three bytes.
const DECODE_BYTES: u64 = 128 << 20;

/// Bytes of memory that each byte of a file justifies on top. Photographs take between 3 and 60;
/// only files made of nothing take more, such as one colour on a canvas of a hundred million
/// pixels.
const DECODE_BYTES_PER_BYTE: u64 = 64;

/// A picture: rows from the top, three bytes per pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Columns, at least 1.
    pub width_px: usize,
    /// Rows, at least 1.
    pub height_px: usize,
    /// `[height_px, width_px, 3]`: red, green, blue.
    pub pixels: Vec<u8>,
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8 {} x {}", self.width_px, self.height_px)
    }
}

impl Rgb8 {
    /// Makes an image of `pixels: [height_px, width_px, 3]`.
    ///
    /// # Errors
    /// `BadImage` where the sizes contradict each other, or a side is 0.
    pub fn new(width_px: usize, height_px: usize, pixels: Vec<u8>) -> Result<Rgb8> {
        let expected = width_px
            .checked_mul(height_px)
            .and_then(|n| n.checked_mul(3));
        if width_px == 0 || height_px == 0 || expected != Some(pixels.len()) {
            return Err(bad(format!(
                "{width_px} x {height_px} pixels of RGB do not make {} bytes",
                pixels.len()
            )));
        }
        Ok(Rgb8 {
            width_px,
            height_px,
            pixels,
        })
    }

    /// Makes an image of `rgba: [height_px, width_px, 4]`, as a browser's canvas hands it out;
    /// alpha is dropped.
    ///
    /// # Errors
    /// `BadImage` where the sizes contradict each other, or a side is 0.
    pub fn from_rgba(width_px: usize, height_px: usize, rgba: &[u8]) -> Result<Rgb8> {
        if !rgba.len().is_multiple_of(4) {
            return Err(bad(format!(
                "{} bytes are not a whole number of RGBA pixels",
                rgba.len()
            )));
        }
        Rgb8::new(width_px, height_px, rgb_of(rgba, 4, |v| v))
    }

    /// Decodes PNG, JPEG, WebP, GIF or BMP, told apart by content; of an animation the first frame.
    ///
    /// Alpha is dropped, not composited; grey and palette pictures become RGB; 16-bit samples keep
    /// their high byte: as Pillow's `convert("RGB")` does, with two deviations. EXIF orientation is
    /// honoured, and 16-bit grey keeps its high byte, too, where Pillow clips it to white.
    ///
    /// # Errors
    /// `BadImage` for anything that is not a whole picture of at most [`MAX_PIXELS`] pixels.
    pub fn decode(bytes: &[u8]) -> Result<Rgb8> {
        let format = format_of(bytes)?;
        let outline = container::outline(format, bytes)?;
        let source = match format {
            ImageFormat::Png => container::without_profiles(bytes),
            _ => Cow::Borrowed(bytes),
        };
        let mut reader = ImageReader::with_format(Cursor::new(&source[..]), format);
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(allowed_bytes(bytes.len()));
        reader.limits(limits);
        let mut decoder = reader
            .into_decoder()
            .map_err(|e| undecodable(format, bytes, e))?;
        check_size(decoder.dimensions())?;
        let bytes_per_pixel = match format {
            // The coefficients of all three components, beside the pixels; else the pixels before
            // and after they are turned upright.
            ImageFormat::Jpeg if outline.holds_coefficients => 9,
            ImageFormat::Jpeg => 6,
            // The canvas and the frame; of a WebP, the pixels beside them.
            ImageFormat::Gif => 8,
            ImageFormat::WebP => 12,
            _ => match decoder.color_type() {
                ColorType::Rgb8 | ColorType::Rgba8 => decoder.color_type().bytes_per_pixel().into(),
                // Turned into RGB, which is held beside it for a moment.
                other => u64::from(other.bytes_per_pixel()) + 3,
            },
        };
        budget(decoder.dimensions(), bytes_per_pixel, bytes.len())?;
        // A damaged EXIF block only says how the picture was held: it is no reason to refuse it.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let decoded =
            DynamicImage::from_decoder(decoder).map_err(|e| undecodable(format, bytes, e))?;
        Ok(turned(to_rgb(decoded)?, orientation))
    }
}

/// How a checkpoint wants its pictures (`preprocessor_config.json`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocess {
    /// Side of the square that the tower sees.
    pub size_px: usize,
    /// Per channel, subtracted from values in 0..=1.
    pub mean: [f32; 3],
    /// Per channel, divided by.
    pub std: [f32; 3],
}

impl Preprocess {
    /// Reads a `preprocessor_config.json`, in the form of any year.
    ///
    /// # Errors
    /// `BadFile` where it asks for something else than a bicubic resize, a square crop and a
    /// normalisation by three means and standard deviations.
    pub fn from_json(json: &[u8]) -> Result<Preprocess> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Size {
            Side(usize),
            Shortest { shortest_edge: usize },
            Box { height: usize, width: usize },
        }
        #[derive(serde::Deserialize)]
        struct Config {
            crop_size: Size,
            size: Size,
            #[serde(default = "bicubic_in_pillow")]
            resample: u32,
            image_mean: [f32; 3],
            image_std: [f32; 3],
        }
        fn bicubic_in_pillow() -> u32 {
            3
        }
        let wrong = |reason: String| Error::BadFile {
            format: "preprocessor_config.json",
            reason,
        };
        let config: Config = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        let side = |size: &Size| match *size {
            Size::Side(side)
            | Size::Shortest {
                shortest_edge: side,
            } => Ok(side),
            Size::Box { height, width } if height == width => Ok(width),
            Size::Box { height, width } => Err(wrong(format!(
                "a crop of {width} x {height} pixels; only squares are supported"
            ))),
        };
        let size_px = side(&config.crop_size)?;
        if side(&config.size)? != size_px || size_px == 0 {
            return Err(wrong(format!(
                "size {} and crop_size {size_px}; they must be equal and not 0",
                side(&config.size)?
            )));
        }
        if config.resample != bicubic_in_pillow() {
            return Err(wrong(format!(
                "resample is {}; only 3, bicubic, is supported",
                config.resample
            )));
        }
        if config
            .image_std
            .iter()
            .any(|s| !(s.is_finite() && *s > 0.0))
            || config.image_mean.iter().any(|m| !m.is_finite())
        {
            return Err(wrong(format!(
                "image_mean {:?} and image_std {:?} can't normalise",
                config.image_mean, config.image_std
            )));
        }
        Ok(Preprocess {
            size_px,
            mean: config.image_mean,
            std: config.image_std,
        })
    }
}

/// Crops and normalises: `picture -> [3, size_px, size_px]`, `(u8 / 255 - mean) / std`.
///
/// Source: `CLIPImageProcessor` of transformers 4.31.
///
/// # Errors
/// As [`Rgb8::crop`].
pub fn preprocess(picture: &Rgb8, options: &Preprocess) -> Result<Vec<f32>> {
    let crop = picture.crop(options.size_px)?;
    let mut planar = Vec::with_capacity(crop.pixels.len());
    for channel in 0..3 {
        let (mean, std) = (options.mean[channel], options.std[channel]);
        // Scaled in f64 and rounded once, then f32: the reference's order, so equal to the ulp.
        let value: Vec<f32> = (0..=255u8)
            .map(|v| ((f64::from(v) * (1.0 / 255.0)) as f32 - mean) / std)
            .collect();
        planar.extend(
            crop.pixels
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|&v| value[usize::from(v)]),
        );
    }
    Ok(planar)
}

/// Cuts `[3, size_px, size_px]` into rows `[n, 3 * patch_px * patch_px]` in the order of a
/// flattened convolution weight `[width, 3, patch_px, patch_px]`, so that the patch convolution is
/// a matrix product. `n = (size_px / patch_px)^2`, from the top left, row by row.
///
/// Panics where `planar` is not `[3, size_px, size_px]` or a side is 0: a bug of the caller.
pub fn patches(planar: &[f32], size_px: usize, patch_px: usize) -> Vec<f32> {
    assert_eq!(planar.len(), 3 * size_px * size_px, "planar [3, s, s]");
    let side = size_px / patch_px;
    let mut rows = Vec::with_capacity(side * side * 3 * patch_px * patch_px);
    for patch in 0..side * side {
        let (top, left) = (patch / side * patch_px, patch % side * patch_px);
        for channel in 0..3 {
            for y in top..top + patch_px {
                let start = (channel * size_px + y) * size_px + left;
                rows.extend_from_slice(&planar[start..start + patch_px]);
            }
        }
    }
    rows
}

/// Bytes of memory that decoding a file of `file_bytes` may take.
fn allowed_bytes(file_bytes: usize) -> u64 {
    DECODE_BYTES.saturating_add((file_bytes as u64).saturating_mul(DECODE_BYTES_PER_BYTE))
}

/// Refuses a picture that would take more memory than its file justifies, before any is taken.
fn budget((width, height): (u32, u32), bytes_per_pixel: u64, file_bytes: usize) -> Result<()> {
    let needed = u64::from(width) * u64::from(height) * bytes_per_pixel;
    let allowed = allowed_bytes(file_bytes);
    if needed > allowed {
        return Err(bad(format!(
            "its header says {width} x {height} pixels, which take {} MB to decode; a file of \
             {file_bytes} bytes is given {} MB: save it smaller",
            needed.div_ceil(1_000_000),
            allowed / 1_000_000
        )));
    }
    Ok(())
}

/// Checks that a file which begins with `start` is of a format that [`Rgb8::decode`] reads, so that
/// the rest of a long one need not be read to refuse it.
///
/// # Errors
/// `BadImage` that says what it is instead, as far as that shows.
pub fn check_format(start: &[u8]) -> Result<()> {
    format_of(start).map(drop)
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(bad("the file is empty"));
    }
    let guessed = image::guess_format(bytes);
    if let (Err(_), Some(advice)) = (&guessed, impostor(bytes, None)) {
        return Err(bad(format!("this {advice}")));
    }
    match guessed {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp),
        ) => Ok(format),
        Ok(other) => Err(bad(format!(
            "{} files are not read; PNG, JPEG, WebP, GIF and BMP are",
            other.to_mime_type()
        ))),
        Err(_) if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() => Err(bad(
            "this is text, not a picture; PNG, JPEG, WebP, GIF and BMP are read",
        )),
        Err(_) => Err(bad(
            "the bytes are of no known format; PNG, JPEG, WebP, GIF and BMP are read",
        )),
    }
}

fn check_size((width, height): (u32, u32)) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(bad(format!(
            "its header says {width} x {height} pixels; 1 to {MAX_PIXELS} pixels are read"
        )));
    }
    Ok(())
}

fn undecodable(format: ImageFormat, bytes: &[u8], error: ImageError) -> Error {
    let kind = name(format);
    match error {
        ImageError::Limits(_) => bad(format!(
            "decoding this {kind} would take more than {} MB of memory: save it smaller",
            allowed_bytes(bytes.len()) / 1_000_000
        )),
        ImageError::Unsupported(e) => bad(format!("this kind of {kind} is not read: {e}")),
        other => bad(format!(
            "this {kind} of {} bytes is damaged or cut short: {other}",
            bytes.len()
        )),
    }
}

/// The first three of every four bytes, in the same memory.
fn without_alpha(mut rgba: Vec<u8>) -> Vec<u8> {
    let pixels = rgba.len() / 4;
    for pixel in 1..pixels {
        rgba.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
    }
    rgba.truncate(pixels * 3);
    rgba.shrink_to_fit();
    rgba
}

fn rgb_of<T: Copy>(samples: &[T], channels: usize, byte: impl Fn(T) -> u8) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() / channels * 3);
    for pixel in samples.chunks_exact(channels) {
        // One or two channels are grey, with alpha: the grey is all three colours.
        let colour = |i: usize| byte(pixel[if channels < 3 { 0 } else { i }]);
        rgb.extend([colour(0), colour(1), colour(2)]);
    }
    rgb
}

fn to_rgb(decoded: DynamicImage) -> Result<Rgb8> {
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let high = |v: u16| (v >> 8) as u8;
    let pixels = match decoded {
        DynamicImage::ImageRgb8(b) => b.into_raw(),
        DynamicImage::ImageRgba8(b) => without_alpha(b.into_raw()),
        DynamicImage::ImageLuma8(b) => rgb_of(&b, 1, |v| v),
        DynamicImage::ImageLumaA8(b) => rgb_of(&b, 2, |v| v),
        DynamicImage::ImageLuma16(b) => rgb_of(&b, 1, high),
        DynamicImage::ImageLumaA16(b) => rgb_of(&b, 2, high),
        DynamicImage::ImageRgb16(b) => rgb_of(&b, 3, high),
        DynamicImage::ImageRgba16(b) => rgb_of(&b, 4, high),
        other => {
            return Err(bad(format!(
                "pictures of colour type {:?} are not read",
                other.color()
            )));
        }
    };
    Rgb8::new(width, height, pixels)
}

fn turned(picture: Rgb8, orientation: Orientation) -> Rgb8 {
    if orientation == Orientation::NoTransforms {
        return picture;
    }
    let (width, height) = (picture.width_px as u32, picture.height_px as u32);
    let Some(buffer) = image::RgbImage::from_raw(width, height, picture.pixels) else {
        unreachable!("an Rgb8 is as long as its sides say");
    };
    let mut upright = DynamicImage::ImageRgb8(buffer);
    upright.apply_orientation(orientation);
    Rgb8 {
        width_px: upright.width() as usize,
        height_px: upright.height() as usize,
        pixels: upright.into_rgb8().into_raw(),
    }
}
