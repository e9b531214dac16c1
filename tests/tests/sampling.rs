//! Which frames of a clip are looked at.

use univi::frames::{FrameOptions, frame_at, sample_frames, sample_times};
use univi_tests::{assert_report, folder};

#[test]
fn frames_match_the_reference() {
    assert_report(&univi_verify::sampling::check(&folder()), 90);
}

fn code(frame_count: usize, fps: f64, options: FrameOptions) -> &'static str {
    sample_frames(frame_count, fps, &options)
        .unwrap_err()
        .code()
}

#[test]
fn clips_and_options_out_of_range_are_refused() {
    let options = FrameOptions::default();
    for fps in [0.0, -25.0, f64::NAN, f64::INFINITY] {
        assert_eq!(code(100, fps, options), "bad-video");
    }
    assert_eq!(code(0, 25.0, options), "bad-video");
    for frame_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = options.frame_rate(frame_rate);
        assert_eq!(code(100, 25.0, options), "bad-request");
    }
    let none = options.max_frames(0);
    assert_eq!(code(100, 25.0, none), "bad-request");
    let start_s = Some(f64::NAN);
    assert_eq!(code(100, 25.0, options.start_s(start_s)), "bad-request");
    let backwards = options.start_s(5.0).end_s(2.0);
    assert_eq!(code(300, 25.0, backwards), "bad-request");
    let start_s = Some(f64::INFINITY);
    assert_eq!(code(100, 25.0, options.start_s(start_s)), "bad-video");
}

#[test]
fn absurd_clips_cost_no_more_than_the_frames_asked_for() {
    let options = FrameOptions::default();
    let frames = sample_frames(usize::MAX, 1e-300, &options).unwrap();
    assert_eq!(frames.len(), 64);
    assert_eq!(frames[0], 0);
    assert!(frames.is_sorted());
    assert_eq!(sample_frames(usize::MAX, 1e300, &options).unwrap(), [0]);
    let one = options.max_frames(1);
    assert_eq!(sample_frames(5000, 25.0, &one).unwrap(), [0]);
}

#[test]
fn a_start_alone_runs_to_the_end() {
    let options = FrameOptions::default().start_s(Some(3.0));
    let frames = sample_frames(300, 30.0, &options).unwrap();
    assert_eq!(frames, [90, 120, 150, 180, 210, 240, 270]);
}

#[test]
fn fractions_of_a_second_count() {
    let options = FrameOptions::default()
        .start_s(1.5)
        .end_s(3.5)
        .frame_rate(0.5);
    assert_eq!(sample_frames(300, 30.0, &options).unwrap(), [45, 105]);
}

/// Times of frames at a rate, rounded as a container does, without those that `dropped` names.
fn times(fps: f64, frames: usize, rounding_s: f64, dropped: impl Fn(usize) -> bool) -> Vec<f64> {
    let kept = (0..frames).filter(|&i| !dropped(i));
    let exact = kept.map(|i| i as f64 / fps);
    exact
        .map(|t| (t / rounding_s).round() * rounding_s)
        .collect()
}

/// The frames of a written clip that are chosen, by their numbers in the film.
fn chosen(fps: f64, times_s: &[f64], end_s: f64, options: &FrameOptions) -> Vec<usize> {
    let last_s = *times_s.last().unwrap();
    let moments = sample_times(times_s, last_s, end_s, options).unwrap();
    let shown = moments.iter().map(|&m| times_s[frame_at(times_s, m)]);
    shown.map(|t| (t * fps).round() as usize).collect()
}

#[test]
fn a_constant_rate_gives_the_frames_of_the_reference_however_times_are_rounded() {
    let options = FrameOptions::default();
    let rates = [
        1.0, 1.5, 7.5, 10.0, 12.5, 14.37, 23.976, 24.0, 24.5, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94,
        60.0, 119.88, 240.0,
    ];
    for fps in rates {
        // What is called 23.976 is 24000/1001.
        let exact: f64 = match fps {
            23.976 | 29.97 | 59.94 | 119.88 => (fps * 1.001_f64).round() / 1.001,
            fps => fps,
        };
        for seconds in [0.5, 3.0, 40.0, 1000.0] {
            let frames = (exact * seconds).ceil() as usize;
            let expected = sample_frames(frames, exact, &options).unwrap();
            for rounding_s in [1e-3, 1.0 / 90_000.0, 1e-9] {
                // An odd rate in milliseconds is only known as well as they tell it.
                if fps == 14.37 && rounding_s == 1e-3 {
                    continue;
                }
                let times_s = times(exact, frames, rounding_s, |_| false);
                let end_s = (frames as f64 / exact / rounding_s).round() * rounding_s;
                // A recording does not say when its last frame ends.
                for end_s in [end_s, *times_s.last().unwrap()] {
                    assert_eq!(
                        chosen(exact, &times_s, end_s, &options),
                        expected,
                        "{fps} frames per second, {seconds} s, rounded to {rounding_s} s"
                    );
                }
            }
        }
    }
}

#[test]
fn a_clip_without_its_repeated_frames_is_sampled_like_the_whole_one() {
    for fps in [25.0, 30.0 / 1.001, 60.0] {
        for rounding_s in [1e-3, 1e-9] {
            let options = FrameOptions::default();
            let whole = times(fps, 2000, rounding_s, |_| false);
            // One picture stands for a second and more at a time.
            let dropped = |i: usize| (40..100).contains(&(i % 130)) || i % 7 == 3;
            let some = times(fps, 2000, rounding_s, dropped);
            let end_s = 2000.0 / fps;
            let moments = |times_s| sample_times(times_s, end_s, end_s, &options).unwrap();
            assert_eq!(moments(&whole), moments(&some));
            let shown = |i: usize| (0..=i).rev().find(|&i| !dropped(i)).unwrap();
            let expected: Vec<usize> = chosen(fps, &whole, end_s, &options);
            let expected: Vec<usize> = expected.into_iter().map(shown).collect();
            assert_eq!(chosen(fps, &some, end_s, &options), expected, "{fps}");
        }
    }
}

#[test]
fn a_variable_rate_is_sampled_by_time() {
    let options = FrameOptions::default();
    // As a busy screen recorder writes it.
    let times_s = [0.0, 0.016, 0.113, 0.171, 1.208, 1.214, 1.999, 5.402];
    assert_eq!(
        sample_times(&times_s, 5.402, 6.2, &options).unwrap(),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
    let shown = [0.0, 1.0, 2.0, 5.0, 6.0].map(|moment| frame_at(&times_s, moment));
    assert_eq!(shown, [0, 3, 6, 6, 7]);
    // Slides, of which each stands for longer than the sampled rate.
    let slides = [0.0, 4.0, 8.0];
    assert_eq!(
        sample_times(&slides, 8.0, 12.0, &options).unwrap().len(),
        12
    );
    // A part, and a clip of one frame.
    let part = options.start_s(1.2).end_s(3.4);
    assert_eq!(
        sample_times(&times_s, 5.402, 6.2, &part).unwrap(),
        [1.2, 2.2, 3.2]
    );
    assert_eq!(sample_times(&[0.0], 0.0, 0.0, &options).unwrap(), [0.0]);
    for end_s in [f64::NAN, f64::INFINITY] {
        let error = sample_times(&times_s, 5.402, end_s, &options).unwrap_err();
        assert_eq!(error.code(), "bad-video");
    }
}
