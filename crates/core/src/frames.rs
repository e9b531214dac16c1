//! Which frames of a clip the model sees.

use crate::{Error, Result};

/// How a clip is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameOptions {
    /// Frames per second to look at; the fraction is cut off, at least 1.
    pub frame_rate: f64,
    /// The most frames to look at, at least 1.
    pub max_frames: usize,
    /// Where to begin, in whole seconds: the fraction is cut off, and below 0 is 0.
    pub start_s: Option<f64>,
    /// Where to end, likewise; a frame that stands exactly there is taken.
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

/// Chooses frames of a clip of `frame_count` frames at `fps`: indices in rising order, at least
/// one.
///
/// Every `round(fps / frame_rate)`-th frame (half to even) from start to end; where these are more
/// than `max_frames`, that many of them spread evenly. A reversed pair of times is swapped, an
/// empty one becomes one second long.
///
/// Source: the reference's `_get_rawvideo_dec`. Deviations: the stride is at least 1, so that
/// slow clips and high frame rates work; a start without an end runs to the end of the clip.
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
    let frame_rate = options.frame_rate.trunc();
    if !(frame_rate.is_finite() && frame_rate >= 1.0) || options.max_frames == 0 {
        return Err(Error::BadRequest {
            reason: format!(
                "a clip can't be sampled at {} frames per second, {} at most: both must be at least 1",
                options.frame_rate, options.max_frames
            ),
        });
    }
    let seconds = |time: Option<f64>| match time {
        Some(t) if t.is_nan() => Err(Error::BadRequest {
            reason: "a clip's start and end must be numbers of seconds".into(),
        }),
        time => Ok(time.map(|t| t.trunc().max(0.0))),
    };
    let (start_s, end_s) = match (seconds(options.start_s)?, seconds(options.end_s)?) {
        (start, None) => (start.unwrap_or(0.0), f64::INFINITY),
        (start, Some(end)) => match start.unwrap_or(0.0) {
            start if start > end => (end, start),
            start if start == end => (start, end + 1.0),
            start => (start, end),
        },
    };
    let last_frame = frame_count - 1;
    let first = (start_s * fps).floor();
    let last = (end_s * fps).floor().min(last_frame as f64);
    if first > last {
        return Err(Error::BadVideo {
            reason: format!(
                "it is {:.1} s long: nothing lies between {start_s} s and {end_s} s",
                frame_count as f64 / fps
            ),
        });
    }
    let (first, last) = (first as usize, (last as usize).min(last_frame));
    let stride = ((fps / frame_rate).round_ties_even() as usize).max(1);
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
