//! Which frames of a clip the model sees.
//!
//! Frames are chosen by when they are shown, so that one clip gives the same frames at whatever
//! rate, and in whatever container, it was written: [`sample_times`] chooses moments, and the
//! frame of a moment is the one that [`frame_at`] finds. For a clip of a constant rate these are
//! the frames that the reference takes, which [`sample_frames`] chooses by index.

use crate::{Error, Result};

/// Options of sampling a clip: which of its frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct FrameOptions {
    /// Frames per second to sample, above 0.
    pub frame_rate: f64,
    /// The most frames to sample, at least 1.
    pub max_frames: usize,
    /// Where to begin, in seconds; below 0 is 0.
    pub start_s: Option<f64>,
    /// Where to end, in seconds; a frame that stands exactly there is taken. Where it is the start,
    /// a second is sampled.
    pub end_s: Option<f64>,
}

impl Default for FrameOptions {
    /// One frame per second, 64 at most, the whole clip.
    fn default() -> FrameOptions {
        FrameOptions {
            frame_rate: 1.0,
            max_frames: 64,
            start_s: None,
            end_s: None,
        }
    }
}

impl FrameOptions {
    /// Sets [`FrameOptions::frame_rate`].
    pub fn frame_rate(mut self, frame_rate: f64) -> FrameOptions {
        self.frame_rate = frame_rate;
        self
    }

    /// Sets [`FrameOptions::max_frames`].
    pub fn max_frames(mut self, max_frames: usize) -> FrameOptions {
        self.max_frames = max_frames;
        self
    }

    /// Sets [`FrameOptions::start_s`].
    pub fn start_s(mut self, start_s: impl Into<Option<f64>>) -> FrameOptions {
        self.start_s = start_s.into();
        self
    }

    /// Sets [`FrameOptions::end_s`].
    pub fn end_s(mut self, end_s: impl Into<Option<f64>>) -> FrameOptions {
        self.end_s = end_s.into();
        self
    }

    /// Start and end in seconds; the end is infinite where none is set.
    fn range_s(&self) -> Result<(f64, f64)> {
        let refuse = |reason: String| Err(Error::BadRequest { reason });
        if !(self.frame_rate.is_finite() && self.frame_rate > 0.0) || self.max_frames == 0 {
            return refuse(format!(
                "a clip can't be sampled at {} frames per second, {} at most: the rate must be above 0 \
                 and the number at least 1",
                self.frame_rate, self.max_frames
            ));
        }
        let (start_s, end_s) = (
            self.start_s.unwrap_or(0.0),
            self.end_s.unwrap_or(f64::INFINITY),
        );
        if start_s.is_nan() || end_s.is_nan() {
            return refuse("a clip's start and end must be numbers of seconds".into());
        }
        if end_s < start_s || end_s < 0.0 {
            return refuse(format!(
                "the part of the clip ends at {end_s} s and starts at {start_s} s: the end must not lie \
                 before the start"
            ));
        }
        let start_s = start_s.max(0.0);
        Ok((start_s, if end_s == start_s { end_s + 1.0 } else { end_s }))
    }
}

/// How many frames of a clip's beginning [`sample_times`] finds its rate from: enough that 29.97
/// and 30 frames per second differ where times are rounded to milliseconds, and few enough that a
/// clip on a server need not be read as a whole.
pub const RATE_FRAMES: usize = 256;

/// Seconds by which a container may have rounded a frame's time: Matroska counts milliseconds.
pub const TIME_ROUNDING_S: f64 = 0.0006;

/// Chooses moments of a clip: seconds from its first frame, in rising order, at least one.
///
/// `first_times_s` are the times at which the first frames appear, in rising order from the
/// clip's first frame at 0, [`RATE_FRAMES`] of them where the clip has so many; `last_s` is when
/// the last frame appears, and `end_s` when it ends as far as that is known, else `last_s`. All may
/// be rounded to milliseconds.
///
/// A clip of a constant rate, also one of which repeated frames were left out, is sampled as
/// [`sample_frames`] samples it: at the times of every `round(fps / frame_rate)`-th frame. A clip
/// of a variable rate, or of a rate below the sampled one, is sampled every `1 / frame_rate`
/// seconds.
///
/// # Errors
/// As [`sample_frames`].
pub fn sample_times(
    first_times_s: &[f64],
    last_s: f64,
    end_s: f64,
    options: &FrameOptions,
) -> Result<Vec<f64>> {
    options.range_s()?;
    if !(last_s.is_finite() && end_s.is_finite()) {
        return Err(Error::BadVideo {
            reason: "its length is not known; a recording that has ended is needed".into(),
        });
    }
    let fps = constant_rate(first_times_s).filter(|&fps| fps >= options.frame_rate);
    // Else any moment will do, so that sampling begins exactly at the start.
    let fps = fps.unwrap_or(1000.0 * options.frame_rate);
    // Rounded times make no further frame.
    let frames = ((end_s - 2.0 * TIME_ROUNDING_S) * fps).ceil();
    let frames = frames.max((last_s * fps).round() + 1.0).max(1.0);
    let indices = sample_frames(frames as usize, fps, options)?;
    Ok(indices.into_iter().map(|i| i as f64 / fps).collect())
}

/// Returns the index of the frame that is shown at a moment: the last of `times_s`, which rise,
/// that does not lie behind it; the first where all do.
pub fn frame_at(times_s: &[f64], moment_s: f64) -> usize {
    let shown = times_s.partition_point(|&time_s| time_s <= moment_s + TIME_ROUNDING_S);
    shown.saturating_sub(1)
}

/// The rate of which all of `times_s` are multiples, in frames per second.
fn constant_rate(times_s: &[f64]) -> Option<f64> {
    let times_s = &times_s[..times_s.len().min(RATE_FRAMES)];
    let first_s = *times_s.first()?;
    let gaps = || times_s.windows(2).map(|pair| pair[1] - pair[0]);
    let shortest_s = gaps().fold(f64::INFINITY, f64::min);
    // Times that are this close fit any rate.
    if !(shortest_s.is_finite() && shortest_s > 4.0 * TIME_ROUNDING_S) {
        return None;
    }
    // A gap is a frame long, or several where repeated frames were left out.
    let short: Vec<f64> = gaps().filter(|&gap| gap < 1.5 * shortest_s).collect();
    let about_s = short.iter().sum::<f64>() / short.len() as f64;
    let frames: f64 = gaps().map(|gap| (gap / about_s).round()).sum();
    let length_s = times_s.last()? - first_s;
    let exact_s = length_s / frames;
    // A rate that people use, where rounding explains the difference.
    let usual = (1..=480).map(|n| f64::from(n) / 2.0);
    let television = (1..=240).map(|n| f64::from(n) / 1.001);
    let usual = usual
        .chain(television)
        .map(|fps| (fps, (frames / fps - length_s).abs()));
    let fps = usual
        .filter(|&(_, off_s)| off_s <= 2.0 * TIME_ROUNDING_S)
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(1.0 / exact_s, |(fps, _)| fps);
    let fits = times_s.iter().all(|time_s| {
        let at = (time_s - first_s) * fps;
        (at - at.round()).abs() <= 2.0 * TIME_ROUNDING_S * fps
    });
    fits.then_some(fps)
}

/// Chooses frames of a clip of `frame_count` frames at a constant `fps`: indices in rising order,
/// at least one.
///
/// Every `round(fps / frame_rate)`-th frame (half to even) from start to end; where these are more
/// than `max_frames`, that many of them spread evenly.
///
/// Source: the reference's `_get_rawvideo_dec`. Deviations: the stride is at least 1, so that
/// slow clips and high frame rates work; fractions of `frame_rate`, `start_s` and `end_s` count,
/// where the reference cuts them off; an end before the start is refused, where the reference
/// swaps them; a start without an end runs to the end of the clip.
///
/// # Errors
/// `BadVideo` for a clip without frames or with an unusable `fps`, or where nothing lies between
/// start and end; `BadRequest` for options out of range.
pub fn sample_frames(frame_count: usize, fps: f64, options: &FrameOptions) -> Result<Vec<usize>> {
    if frame_count == 0 {
        return Err(Error::BadVideo {
            reason: "it has no frames".into(),
        });
    }
    if !(fps.is_finite() && fps > 0.0) {
        return Err(Error::BadVideo {
            reason: format!("{fps} frames per second; a positive number is needed"),
        });
    }
    let (start_s, end_s) = options.range_s()?;
    let last_frame = frame_count - 1;
    // A time that a number can't hold exactly is its frame's all the same.
    let frame_of = |time_s: f64| (time_s * fps + 1e-6).floor();
    let first = frame_of(start_s);
    let last = frame_of(end_s).min(last_frame as f64);
    if first > last {
        let length_s = frame_count as f64 / fps;
        let reason = match end_s.is_finite() {
            true => format!(
                "it is {length_s:.1} s long: nothing lies between {start_s} s and {end_s} s"
            ),
            false => format!("it is {length_s:.1} s long: nothing lies behind {start_s} s"),
        };
        return Err(Error::BadVideo { reason });
    }
    let (first, last) = (first as usize, (last as usize).min(last_frame));
    let stride = ((fps / options.frame_rate).round_ties_even() as usize).max(1);
    let candidates = (last - first) / stride + 1;
    let candidate = |i: usize| first + i * stride;
    if candidates <= options.max_frames {
        return Ok((0..candidates).map(candidate).collect());
    }
    // The last one is set, not computed, as in numpy's linspace: rounding must not lose it.
    let spread = |i: usize| match options.max_frames - 1 {
        0 => 0,
        steps if i == steps => candidates - 1,
        steps => (i as f64 * ((candidates - 1) as f64 / steps as f64)) as usize,
    };
    Ok((0..options.max_frames)
        .map(|i| candidate(spread(i)))
        .collect())
}
