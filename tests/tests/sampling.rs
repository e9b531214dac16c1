//! Which frames of a clip are looked at.

use univi::frames::{FrameOptions, sample_frames};
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
    for frame_rate in [0.0, 0.9, -1.0, f64::NAN, f64::INFINITY] {
        let options = FrameOptions {
            frame_rate,
            ..options
        };
        assert_eq!(code(100, 25.0, options), "bad-request");
    }
    let none = FrameOptions {
        max_frames: 0,
        ..options
    };
    assert_eq!(code(100, 25.0, none), "bad-request");
    let start_s = Some(f64::NAN);
    assert_eq!(
        code(100, 25.0, FrameOptions { start_s, ..options }),
        "bad-request"
    );
    let start_s = Some(f64::INFINITY);
    assert_eq!(
        code(100, 25.0, FrameOptions { start_s, ..options }),
        "bad-video"
    );
}

#[test]
fn absurd_clips_cost_no_more_than_the_frames_asked_for() {
    let options = FrameOptions::default();
    let frames = sample_frames(usize::MAX, 1e-300, &options).unwrap();
    assert_eq!(frames.len(), 64);
    assert_eq!(frames[0], 0);
    assert!(frames.is_sorted());
    assert_eq!(sample_frames(usize::MAX, 1e300, &options).unwrap(), [0]);
    let one = FrameOptions {
        max_frames: 1,
        ..options
    };
    assert_eq!(sample_frames(5000, 25.0, &one).unwrap(), [0]);
}

#[test]
fn a_start_alone_runs_to_the_end() {
    let options = FrameOptions {
        start_s: Some(3.0),
        ..FrameOptions::default()
    };
    let frames = sample_frames(300, 30.0, &options).unwrap();
    assert_eq!(frames, [90, 120, 150, 180, 210, 240, 270]);
}
