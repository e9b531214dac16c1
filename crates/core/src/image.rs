//! Pictures: files to RGB, RGB to what the vision tower sees.
//!
//! Everything here equals what Pillow 10 and Hugging Face's `CLIPImageProcessor` compute, bit for
//! bit, because the tower was trained on their pixels and browsers' own resampling differs.

use std::io::Cursor;

use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    codecs::{gif::GifDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use crate::{Error, Result, signature::impostor};

/// The most pixels that a picture may have: more than any phone's camera makes, and few enough
/// that a file made to exhaust the memory is refused at its header.
pub const MAX_PIXELS: u64 = 1 << 27;

/// Bytes that one decoder may hold: the largest picture at four bytes per pixel.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 4;

/// Pixels that no byte of a PNG or JPEG can hold: Deflate reaches 8256 of one bit each, and JPEG
/// far fewer. A header that claims more is refused before room is made for them.
const MAX_PIXELS_PER_BYTE: u64 = 1 << 14;

/// The most frames of one animation.
const MAX_ANIMATION_FRAMES: usize = 1 << 20;

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
    /// `pixels: [height_px, width_px, 3]`.
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

    /// `rgba: [height_px, width_px, 4]`, as a browser's canvas hands it out; alpha is dropped.
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
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits());
        let mut decoder = reader
            .into_decoder()
            .map_err(|e| undecodable(format, bytes, e))?;
        check_size(decoder.dimensions())?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if matches!(format, ImageFormat::Png | ImageFormat::Jpeg)
            && pixels / MAX_PIXELS_PER_BYTE > bytes.len() as u64
        {
            return Err(bad(format!(
                "its header says {width} x {height} pixels, {} bytes can't hold them: \
                 it is damaged or cut short",
                bytes.len()
            )));
        }
        if decoder.total_bytes() > MAX_DECODER_BYTES {
            return Err(bad(format!(
                "{width} x {height} pixels of {:?} need more than {MAX_DECODER_BYTES} bytes: \
                 save it with 8 bits per channel, or smaller",
                decoder.color_type()
            )));
        }
        // A damaged EXIF block only says how the picture was held: it is no reason to refuse it.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let decoded =
            DynamicImage::from_decoder(decoder).map_err(|e| undecodable(format, bytes, e))?;
        Ok(turned(to_rgb(decoded)?, orientation))
    }

    /// The square that the vision tower sees, still as bytes: the shortest edge becomes `size_px`
    /// by [`resize`](Rgb8::resize)'s filter, the long edge `floor(size_px * long / short)`, and
    /// the middle `size_px x size_px` stays. Only that part is ever computed.
    ///
    /// # Errors
    /// `BadRequest` for a `size_px` of 0 or beyond any tower.
    pub fn crop(&self, size_px: usize) -> Result<Rgb8> {
        if size_px == 0 || (size_px as u64).saturating_pow(2) > MAX_PIXELS {
            return Err(Error::BadRequest {
                reason: format!("pictures can't be cropped to {size_px} x {size_px} pixels"),
            });
        }
        let short = self.width_px.min(self.height_px) as u64;
        let scaled = |side_px: usize| (size_px as u64 * side_px as u64 / short) as usize;
        let (width, height) = (scaled(self.width_px), scaled(self.height_px));
        let (left, top) = ((width - size_px) / 2, (height - size_px) / 2);
        Ok(self.resampled(width, left..left + size_px, height, top..top + size_px))
    }

    /// Resizes as Pillow's antialiased bicubic does.
    ///
    /// # Errors
    /// `BadRequest` for a side of 0 or more than [`MAX_PIXELS`] in all.
    pub fn resize(&self, width_px: usize, height_px: usize) -> Result<Rgb8> {
        let pixels = (width_px as u64).saturating_mul(height_px as u64);
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(Error::BadRequest {
                reason: format!("pictures can't be resized to {width_px} x {height_px} pixels"),
            });
        }
        Ok(self.resampled(width_px, 0..width_px, height_px, 0..height_px))
    }

    /// The columns `xs` and rows `ys` of this picture resized to `width x height`. A side that
    /// keeps its length is copied, and between the two passes values are bytes, as in Pillow.
    fn resampled(
        &self,
        width: usize,
        xs: std::ops::Range<usize>,
        height: usize,
        ys: std::ops::Range<usize>,
    ) -> Rgb8 {
        let across = taps(self.width_px, width, xs.clone());
        let down = taps(self.height_px, height, ys.clone());
        let first_row = down.first().map_or(0, |t| t.start);
        let end_row = down.last().map_or(0, |t| t.start + t.weights.len());

        let mut narrow = Vec::with_capacity((end_row - first_row) * xs.len() * 3);
        for row in self.pixels[first_row * self.width_px * 3..end_row * self.width_px * 3]
            .chunks_exact(self.width_px * 3)
        {
            for tap in &across {
                for channel in 0..3 {
                    narrow.push(tap.apply(&row[tap.start * 3 + channel..], 3));
                }
            }
        }

        let row_bytes = xs.len() * 3;
        let mut pixels = Vec::with_capacity(ys.len() * row_bytes);
        for tap in &down {
            let rows = &narrow[(tap.start - first_row) * row_bytes..];
            for x in 0..row_bytes {
                pixels.push(tap.apply(&rows[x..], row_bytes));
            }
        }
        Rgb8 {
            width_px: xs.len(),
            height_px: ys.len(),
            pixels,
        }
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

/// An animated GIF or WebP: a video that needs no other program to read.
///
/// Frames are decoded anew on each walk, so that only those asked for are ever held.
pub struct Animation {
    bytes: Vec<u8>,
    format: ImageFormat,
    ends_s: Vec<f64>,
}

impl Animation {
    /// Reads an animation and its timing.
    ///
    /// # Errors
    /// `BadVideo` where the bytes are no GIF or WebP, or hold no whole frame.
    pub fn new(bytes: Vec<u8>) -> Result<Animation> {
        let format = format_of(&bytes).map_err(as_video)?;
        if !matches!(format, ImageFormat::Gif | ImageFormat::WebP) {
            return Err(Error::BadVideo {
                reason: format!("a {} picture is no animation", name(format)),
            });
        }
        let mut animation = Animation {
            bytes,
            format,
            ends_s: Vec::new(),
        };
        let (mut ends_s, mut end_ms) = (Vec::new(), 0.0);
        animation.walk(|_, frame| {
            let (numerator, denominator) = frame.delay().numer_denom_ms();
            let delay_ms = f64::from(numerator) / f64::from(denominator.max(1));
            // Browsers show frames without a sensible delay for a tenth of a second.
            end_ms += if delay_ms > 10.0 { delay_ms } else { 100.0 };
            ends_s.push(end_ms / 1000.0);
            Ok(())
        })?;
        if ends_s.is_empty() {
            return Err(Error::BadVideo {
                reason: format!("the {} file holds no frame", name(format)),
            });
        }
        animation.ends_s = ends_s;
        Ok(animation)
    }

    /// The number of frames, at least 1.
    pub fn frame_count(&self) -> usize {
        self.ends_s.len()
    }

    /// How long it plays, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.ends_s.last().copied().unwrap_or_default()
    }

    /// Frames per second on average.
    pub fn fps(&self) -> f64 {
        self.frame_count() as f64 / self.duration_s()
    }

    /// When frame `index` appears, in seconds from the start.
    pub fn time_s(&self, index: usize) -> f64 {
        match index {
            0 => 0.0,
            _ => self.ends_s[index - 1],
        }
    }

    /// The frames at `indices`, in their order, as they stand on the screen.
    ///
    /// # Errors
    /// `BadVideo` where an index is beyond the last frame.
    pub fn frames(&self, indices: &[usize]) -> Result<Vec<Rgb8>> {
        let mut found = vec![None; indices.len()];
        self.walk(|index, frame| {
            for (slot, _) in found
                .iter_mut()
                .zip(indices)
                .filter(|(_, wanted)| **wanted == index)
            {
                let buffer = frame.buffer();
                *slot = Some(Rgb8::from_rgba(
                    buffer.width() as usize,
                    buffer.height() as usize,
                    buffer.as_raw(),
                )?);
            }
            Ok(())
        })?;
        found
            .into_iter()
            .zip(indices)
            .map(|(frame, index)| {
                frame.ok_or_else(|| Error::BadVideo {
                    reason: format!(
                        "frame {index} was asked for, there are {}",
                        self.frame_count()
                    ),
                })
            })
            .collect()
    }

    fn walk(&self, mut see: impl FnMut(usize, &image::Frame) -> Result<()>) -> Result<()> {
        let fail = |e| as_video(undecodable(self.format, &self.bytes, e));
        let source = Cursor::new(&self.bytes[..]);
        let frames = match self.format {
            ImageFormat::Gif => {
                let mut decoder = GifDecoder::new(source).map_err(fail)?;
                check_size(decoder.dimensions()).map_err(as_video)?;
                decoder.set_limits(limits()).map_err(fail)?;
                decoder.into_frames()
            }
            _ => {
                let mut decoder = WebPDecoder::new(source).map_err(fail)?;
                check_size(decoder.dimensions()).map_err(as_video)?;
                decoder.set_limits(limits()).map_err(fail)?;
                decoder.into_frames()
            }
        };
        for (index, frame) in frames.enumerate() {
            if index == MAX_ANIMATION_FRAMES {
                return Err(Error::BadVideo {
                    reason: format!("more than {MAX_ANIMATION_FRAMES} frames"),
                });
            }
            see(index, &frame.map_err(fail)?)?;
        }
        Ok(())
    }
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadImage {
        reason: reason.into(),
    }
}

fn as_video(error: Error) -> Error {
    match error {
        Error::BadImage { reason } => Error::BadVideo { reason },
        other => other,
    }
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => "BMP",
    }
}

fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    limits
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
            "decoding this {kind} would need more than {MAX_DECODER_BYTES} bytes of memory"
        )),
        ImageError::Unsupported(e) => bad(format!("this kind of {kind} is not read: {e}")),
        other => bad(format!(
            "this {kind} of {} bytes is damaged or cut short: {other}",
            bytes.len()
        )),
    }
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
    let pixels = match &decoded {
        DynamicImage::ImageRgb8(b) => b.as_raw().clone(),
        DynamicImage::ImageLuma8(b) => rgb_of(b, 1, |v| v),
        DynamicImage::ImageLumaA8(b) => rgb_of(b, 2, |v| v),
        DynamicImage::ImageRgba8(b) => rgb_of(b, 4, |v| v),
        DynamicImage::ImageLuma16(b) => rgb_of(b, 1, high),
        DynamicImage::ImageLumaA16(b) => rgb_of(b, 2, high),
        DynamicImage::ImageRgb16(b) => rgb_of(b, 3, high),
        DynamicImage::ImageRgba16(b) => rgb_of(b, 4, high),
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

/// Bits after the point in the fixed-point weights: 32, less 8 for the samples, less 2 for the
/// filter's overshoot and the sign.
const PRECISION_BITS: u32 = 22;

/// Which neighbouring input samples make one output sample, and their weights.
struct Tap {
    start: usize,
    weights: Vec<i32>,
}

impl Tap {
    /// `samples` starts at this tap's first sample of one channel; the next is `stride` further.
    fn apply(&self, samples: &[u8], stride: usize) -> u8 {
        let half = 1i32 << (PRECISION_BITS - 1);
        let sum = self
            .weights
            .iter()
            .zip(samples.iter().step_by(stride))
            .fold(half, |sum, (w, s)| sum + w * i32::from(*s));
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

/// The taps of outputs `range` when `input` samples become `output`.
///
/// The support grows with the scale, which is the antialiasing; weights are computed in f64,
/// normalised, and rounded half away from zero.
fn taps(input: usize, output: usize, range: std::ops::Range<usize>) -> Vec<Tap> {
    if input == output {
        let one = |start| Tap {
            start,
            weights: vec![1 << PRECISION_BITS],
        };
        return range.map(one).collect();
    }
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    range
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // A cast of a float to an integer stops at 0, as it must here.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights: Vec<f64> = (start..end)
                .map(|x| bicubic((x as f64 - centre + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let unit = f64::from(1u32 << PRECISION_BITS);
            let fixed = |w: &f64| (w / sum * unit + 0.5f64.copysign(*w)) as i32;
            Tap {
                start,
                weights: weights.iter().map(fixed).collect(),
            }
        })
        .collect()
}

/// Keys' cubic convolution with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
