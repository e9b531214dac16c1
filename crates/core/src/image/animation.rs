//! Animated GIF and WebP files: videos that need no other program to read.

use std::io::Cursor;

use gif::{ColorOutput, DisposalMethod};
use image::ImageFormat;

use super::{
    Rgb8, budget, check_size,
    container::{Outline, outline},
    format::name,
    format_of,
    resample::{Resampled, check_crop},
};
use crate::{
    Error, Result,
    frames::{FrameOptions, frame_at, sample_times},
};

/// Bytes per pixel of the canvas while a GIF is drawn: the canvas, what a frame covered, and a
/// frame's indices.
const GIF_BYTES_PER_PIXEL: u64 = 7;

/// Bytes per pixel of the canvas while a WebP is drawn: the decoder's canvas, its frame, and two
/// canvases that are compared.
const WEBP_BYTES_PER_PIXEL: u64 = 16;

/// An animated GIF or WebP.
///
/// Opening one reads its structure only. Frames are decoded anew on each walk, and none is held.
pub struct Animation {
    bytes: Vec<u8>,
    is_gif: bool,
    size_px: [usize; 2],
    ends_s: Vec<f64>,
}

impl Animation {
    /// Reads the timing of an animation.
    ///
    /// # Errors
    /// `BadVideo` where the bytes are no whole GIF or WebP, hold no frame, or claim a canvas that
    /// so few bytes do not justify.
    pub fn new(bytes: Vec<u8>) -> Result<Animation> {
        let format = format_of(&bytes).map_err(as_video)?;
        let is_gif = format == ImageFormat::Gif;
        if !is_gif && format != ImageFormat::WebP {
            return Err(bad(format!("a {} picture is no animation", name(format))));
        }
        let Outline { delays_ms, .. } = outline(format, &bytes).map_err(as_video)?;
        if delays_ms.is_empty() {
            let what = if is_gif {
                "holds no frame"
            } else {
                "is a still picture"
            };
            return Err(bad(format!("the {} file {what}", name(format))));
        }
        let canvas = match is_gif {
            true => {
                let gif = gif::Decoder::new(&bytes[..]).map_err(|e| broken(&e))?;
                [gif.width(), gif.height()].map(u32::from)
            }
            false => {
                let webp = image_webp::WebPDecoder::new(Cursor::new(&bytes));
                webp.map_err(|e| broken(&e))?.dimensions().into()
            }
        };
        check_size(canvas.into()).map_err(as_video)?;
        let bytes_per_pixel = match is_gif {
            true => GIF_BYTES_PER_PIXEL,
            false => WEBP_BYTES_PER_PIXEL,
        };
        budget(canvas.into(), bytes_per_pixel, bytes.len()).map_err(as_video)?;
        let mut end_ms = 0.0;
        let ends_s = delays_ms.into_iter().map(|delay_ms| {
            // Browsers show frames without a sensible delay for a tenth of a second.
            end_ms += f64::from(if delay_ms > 10 { delay_ms } else { 100 });
            end_ms / 1000.0
        });
        Ok(Animation {
            ends_s: ends_s.collect(),
            bytes,
            is_gif,
            size_px: canvas.map(|side_px| side_px as usize),
        })
    }

    /// Returns the number of frames, at least 1.
    pub fn frame_count(&self) -> usize {
        self.ends_s.len()
    }

    /// Returns `[width, height]` of every frame, in pixels.
    pub fn size_px(&self) -> [usize; 2] {
        self.size_px
    }

    /// Returns how long it plays, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.ends_s.last().copied().unwrap_or_default()
    }

    /// Returns when each frame appears, in seconds from the start.
    pub fn times_s(&self) -> Vec<f64> {
        let before = self.ends_s[..self.ends_s.len() - 1].iter();
        std::iter::once(0.0).chain(before.copied()).collect()
    }

    /// Chooses moments, in seconds from the start, and the indices of the frames that are shown at
    /// them, as [`sample_times`].
    ///
    /// # Errors
    /// As [`sample_times`].
    pub fn sample(&self, options: &FrameOptions) -> Result<(Vec<f64>, Vec<usize>)> {
        let times_s = self.times_s();
        let last_s = times_s.last().copied().unwrap_or_default();
        let moments_s = sample_times(&times_s, last_s, self.duration_s(), options)?;
        let indices = moments_s
            .iter()
            .map(|&moment_s| frame_at(&times_s, moment_s));
        let indices = indices.collect();
        Ok((moments_s, indices))
    }

    /// Draws the frames one after the other, and returns those at `indices`, in rising order and
    /// perhaps repeated, cropped as [`Rgb8::crop`] does to `size_px`.
    ///
    /// # Errors
    /// `BadRequest` for indices that fall or lie beyond the last frame, or for a `size_px` of 0 or
    /// beyond any tower; `BadVideo` where the file breaks off.
    pub fn crops(&self, indices: &[usize], size_px: usize) -> Result<Crops<'_>> {
        check_crop(size_px)?;
        if !indices.is_sorted() || indices.last().is_some_and(|&i| i >= self.frame_count()) {
            return Err(Error::BadRequest {
                reason: format!(
                    "frames of an animation are asked for in rising order, below {}",
                    self.frame_count()
                ),
            });
        }
        let [width, height] = self.size_px;
        let drawing = match self.is_gif {
            true => {
                let mut options = gif::DecodeOptions::new();
                options.set_color_output(ColorOutput::Indexed);
                Drawing::Gif(Box::new(Gif {
                    decoder: options.read_info(&self.bytes[..]).map_err(|e| broken(&e))?,
                    canvas: vec![0; width * height * 3],
                    covered: Vec::new(),
                    disposal: None,
                    file_bytes: self.bytes.len(),
                }))
            }
            false => {
                let decoder = image_webp::WebPDecoder::new(Cursor::new(&self.bytes[..]))
                    .map_err(|e| broken(&e))?;
                let channels = if decoder.has_alpha() { 4 } else { 3 };
                let canvas = vec![0; width * height * channels];
                Drawing::WebP(Box::new(WebP {
                    decoder,
                    channels,
                    drawn: canvas.clone(),
                    canvas,
                }))
            }
        };
        Ok(Crops {
            size_px: self.size_px,
            drawing,
            left: indices.iter().rev().copied().collect(),
            drawn: 0,
            changed: vec![true; height],
            square: Resampled::square(self.size_px, size_px),
        })
    }
}

/// Draws the frames of an animation: each item is the work of one frame of the file, and has its
/// crop where that was asked for.
///
/// Items without a crop let a caller pause or stop between two frames however many are skipped. A
/// frame costs what it changes on the canvas. Ends after the last frame that was asked for.
pub struct Crops<'a> {
    size_px: [usize; 2],
    drawing: Drawing<'a>,
    /// Frames that are still asked for, the next one last.
    left: Vec<usize>,
    /// Frames of the file that are drawn.
    drawn: usize,
    /// Rows of the canvas that changed since the last crop.
    changed: Vec<bool>,
    square: Resampled,
}

impl Iterator for Crops<'_> {
    type Item = Result<Option<(usize, Rgb8)>>;

    fn next(&mut self) -> Option<Self::Item> {
        let wanted = *self.left.last()?;
        if self.drawn <= wanted {
            if let Err(error) = self.drawing.draw(self.size_px, &mut self.changed) {
                self.left.clear();
                return Some(Err(error));
            }
            self.drawn += 1;
        }
        if self.drawn <= wanted {
            return Some(Ok(None));
        }
        self.left.pop();
        let (pixels, channels) = match &self.drawing {
            Drawing::Gif(gif) => (&gif.canvas, 3),
            Drawing::WebP(webp) => (&webp.canvas, webp.channels),
        };
        let row_bytes = self.size_px[0] * channels;
        self.square
            .update(pixels, row_bytes, channels, |row| self.changed[row]);
        self.changed.fill(false);
        Some(Ok(Some((wanted, self.square.picture()))))
    }
}

enum Drawing<'a> {
    Gif(Box<Gif<'a>>),
    WebP(Box<WebP<'a>>),
}

impl Drawing<'_> {
    /// Draws the next frame of the file and marks the rows that it changed.
    fn draw(&mut self, size_px: [usize; 2], changed: &mut [bool]) -> Result<()> {
        match self {
            Drawing::Gif(gif) => gif.draw(size_px, changed),
            Drawing::WebP(webp) => webp.draw(size_px, changed),
        }
    }
}

/// Draws as browsers do: the background is transparent, which is black without its alpha.
struct Gif<'a> {
    decoder: gif::Decoder<&'a [u8]>,
    /// `[height, width, 3]`
    canvas: Vec<u8>,
    /// What the last frame covered, where it is to be put back.
    covered: Vec<u8>,
    /// What happens to the rectangle of the last frame before the next is drawn.
    disposal: Option<(DisposalMethod, Rectangle)>,
    file_bytes: usize,
}

/// Columns and rows of the canvas.
struct Rectangle {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Gif<'_> {
    fn draw(&mut self, [width, height]: [usize; 2], changed: &mut [bool]) -> Result<()> {
        let row_bytes = width * 3;
        if let Some((method, area)) = self.disposal.take() {
            let at = area.left * 3..(area.left + area.width) * 3;
            let rows = self.canvas.chunks_exact_mut(row_bytes);
            let mut covered = self.covered.chunks_exact((area.width * 3).max(1));
            for row in rows.skip(area.top).take(area.height) {
                match method {
                    DisposalMethod::Background => row[at.clone()].fill(0),
                    _ => {
                        if let Some(covered) = covered.next() {
                            row[at.clone()].copy_from_slice(covered);
                        }
                    }
                }
            }
            changed[area.top..area.top + area.height].fill(true);
        }

        let frame = self.decoder.next_frame_info().map_err(|e| broken(&e))?;
        let frame = frame.ok_or_else(|| bad("it has fewer frames than it announces"))?;
        let [left, top] = [frame.left, frame.top].map(usize::from);
        let [columns, rows] = [frame.width, frame.height].map(usize::from);
        let (transparent, method) = (frame.transparent, frame.dispose);
        budget([columns as u32, rows as u32].into(), 1, self.file_bytes).map_err(as_video)?;
        let own_palette = frame.palette.clone();
        let mut indices = vec![0; columns * rows];
        let decoded = self.decoder.read_into_buffer(&mut indices);
        decoded.map_err(|e| broken(&e))?;
        let palette = own_palette.as_deref().or(self.decoder.global_palette());
        let palette = palette.unwrap_or_default();

        // A frame may reach beyond the canvas.
        let area = Rectangle {
            left: left.min(width),
            top: top.min(height),
            width: columns.min(width.saturating_sub(left)),
            height: rows.min(height.saturating_sub(top)),
        };
        self.covered.clear();
        let canvas_rows = self.canvas.chunks_exact_mut(row_bytes).skip(area.top);
        let frame_rows = indices.chunks_exact(columns.max(1));
        for (canvas, indices) in canvas_rows.take(area.height).zip(frame_rows) {
            let canvas = &mut canvas[area.left * 3..(area.left + area.width) * 3];
            if method == DisposalMethod::Previous {
                self.covered.extend_from_slice(canvas);
            }
            for (pixel, &index) in canvas.chunks_exact_mut(3).zip(indices) {
                let colour = usize::from(index) * 3;
                match palette.get(colour..colour + 3) {
                    Some(colour) if transparent != Some(index) => pixel.copy_from_slice(colour),
                    _ => {}
                }
            }
        }
        changed[area.top..area.top + area.height].fill(true);
        if matches!(
            method,
            DisposalMethod::Background | DisposalMethod::Previous
        ) {
            self.disposal = Some((method, area));
        }
        Ok(())
    }
}

/// The decoder composes the whole canvas, so rows that changed are found by comparing.
struct WebP<'a> {
    decoder: image_webp::WebPDecoder<Cursor<&'a [u8]>>,
    channels: usize,
    /// `[height, width, channels]`
    canvas: Vec<u8>,
    drawn: Vec<u8>,
}

impl WebP<'_> {
    fn draw(&mut self, [width, _]: [usize; 2], changed: &mut [bool]) -> Result<()> {
        let read = self.decoder.read_frame(&mut self.drawn);
        read.map_err(|e| broken(&e))?;
        let row_bytes = width * self.channels;
        let rows = self.drawn.chunks_exact(row_bytes);
        let before = self.canvas.chunks_exact(row_bytes);
        for ((row, before), changed) in rows.zip(before).zip(changed) {
            *changed |= row != before;
        }
        std::mem::swap(&mut self.drawn, &mut self.canvas);
        Ok(())
    }
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadVideo {
        reason: reason.into(),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    bad(format!("the animation is damaged: {error}"))
}

fn as_video(error: Error) -> Error {
    match error {
        Error::BadImage { reason } => Error::BadVideo { reason },
        other => other,
    }
}
