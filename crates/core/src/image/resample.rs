//! Pillow's antialiased bicubic resampling, of the part of a picture that is wanted.

use std::ops::Range;

use super::{MAX_PIXELS, Rgb8};
use crate::{Error, Result};

impl Rgb8 {
    /// Makes the square that the vision tower sees, still as bytes: the shortest edge becomes
    /// `size_px` by [`resize`](Rgb8::resize)'s filter, the long edge `floor(size_px * long /
    /// short)`, and the middle `size_px x size_px` stays. Only that part is ever computed.
    ///
    /// # Errors
    /// `BadRequest` for a `size_px` of 0 or beyond any tower.
    pub fn crop(&self, size_px: usize) -> Result<Rgb8> {
        check_crop(size_px)?;
        let mut square = Resampled::square([self.width_px, self.height_px], size_px);
        self.resample(&mut square);
        Ok(square.into_picture())
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
        let source = [self.width_px, self.height_px];
        let target = [width_px, height_px];
        let mut whole = Resampled::new(source, target, 0..width_px, 0..height_px);
        self.resample(&mut whole);
        Ok(whole.into_picture())
    }

    fn resample(&self, into: &mut Resampled) {
        into.update(&self.pixels, self.width_px * 3, 3, |_| true);
    }
}

pub(super) fn check_crop(size_px: usize) -> Result<()> {
    if size_px == 0 || (size_px as u64).saturating_pow(2) > MAX_PIXELS {
        return Err(Error::BadRequest {
            reason: format!("pictures can't be cropped to {size_px} x {size_px} pixels"),
        });
    }
    Ok(())
}

/// A part of a resized picture, which follows changes of the picture row by row.
///
/// Only rows that changed are resampled again, so a frame of an animation costs what it changes.
pub(super) struct Resampled {
    across: Vec<Tap>,
    down: Vec<Tap>,
    /// The first row of the picture that matters.
    first_row: usize,
    /// Rows of the picture that matter, resized across: `[rows, xs, 3]`. Between the two passes
    /// values are bytes, as in Pillow.
    narrow: Vec<u8>,
    /// `[ys, xs, 3]`
    pixels: Vec<u8>,
}

impl Resampled {
    /// The columns `xs` and rows `ys` of a picture of `source` pixels (columns, rows) resized to
    /// `target`, black until [`update`](Resampled::update). A side that keeps its length is copied.
    pub(super) fn new(
        source: [usize; 2],
        target: [usize; 2],
        xs: Range<usize>,
        ys: Range<usize>,
    ) -> Resampled {
        let across = taps(source[0], target[0], xs);
        let down = taps(source[1], target[1], ys);
        let first_row = down.first().map_or(0, |tap| tap.start);
        let end_row = down.last().map_or(0, |tap| tap.end());
        Resampled {
            narrow: vec![0; (end_row - first_row) * across.len() * 3],
            pixels: vec![0; down.len() * across.len() * 3],
            across,
            down,
            first_row,
        }
    }

    /// The square of side `size_px` in the middle of a picture whose shortest edge is resized to
    /// `size_px`: what a vision tower sees. `size_px` is at least 1.
    pub(super) fn square(source: [usize; 2], size_px: usize) -> Resampled {
        let short = source[0].min(source[1]) as u64;
        let target = source.map(|side_px| (size_px as u64 * side_px as u64 / short) as usize);
        let [xs, ys] = target.map(|side_px| {
            let start = (side_px - size_px) / 2;
            start..start + size_px
        });
        Resampled::new(source, target, xs, ys)
    }

    /// Takes over the rows of the picture that `changed` names: `pixels` are its rows, of
    /// `row_bytes` each, with `channels` bytes per pixel of which the first three are the colours.
    pub(super) fn update(
        &mut self,
        pixels: &[u8],
        row_bytes: usize,
        channels: usize,
        changed: impl Fn(usize) -> bool,
    ) {
        let out_bytes = self.across.len() * 3;
        let mut renewed = vec![false; self.narrow.len().checked_div(out_bytes).unwrap_or(0)];
        let rows = self.narrow.chunks_exact_mut(out_bytes.max(1));
        for ((row, narrow), renewed) in (self.first_row..).zip(rows).zip(&mut renewed) {
            if !changed(row) {
                continue;
            }
            *renewed = true;
            let samples = &pixels[row * row_bytes..];
            for (tap, out) in self.across.iter().zip(narrow.chunks_exact_mut(3)) {
                for (channel, out) in out.iter_mut().enumerate() {
                    *out = tap.apply(&samples[tap.start * channels + channel..], channels);
                }
            }
        }
        let rows = self.pixels.chunks_exact_mut(out_bytes.max(1));
        for (tap, out) in self.down.iter().zip(rows) {
            let (start, end) = (tap.start - self.first_row, tap.end() - self.first_row);
            if !renewed[start..end].contains(&true) {
                continue;
            }
            let samples = &self.narrow[start * out_bytes..];
            for (x, out) in out.iter_mut().enumerate() {
                *out = tap.apply(&samples[x..], out_bytes);
            }
        }
    }

    /// The part as it is now.
    pub(super) fn picture(&self) -> Rgb8 {
        Rgb8 {
            width_px: self.across.len(),
            height_px: self.down.len(),
            pixels: self.pixels.clone(),
        }
    }

    /// The part as it is now, without a copy.
    pub(super) fn into_picture(self) -> Rgb8 {
        Rgb8 {
            width_px: self.across.len(),
            height_px: self.down.len(),
            pixels: self.pixels,
        }
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
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }

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
fn taps(input: usize, output: usize, range: Range<usize>) -> Vec<Tap> {
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
