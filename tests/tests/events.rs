//! What people are told about merging: which patch became part of which token, which frames are one
//! event.

use pollster::block_on;
use univi::{
    Backend,
    config::{ClusterConfig, ClusterRate, MergeConfig, TemporalPosition},
    model::merge::{self, Frames},
};
use univi_tests::on_every_backend;

const CHANNELS: usize = 4;
const PATCHES: usize = 16;

/// Four kinds of patches, of which two and two are alike.
const KINDS: [f32; 4] = [0., 10., 100., 110.];

fn count(count: usize, k: usize) -> ClusterConfig {
    ClusterConfig {
        rate: ClusterRate::Count(count),
        k,
    }
}

fn config() -> MergeConfig {
    MergeConfig {
        use_cluster: true,
        spatial: [count(6, 2), count(4, 1), count(2, 1)],
        temporal: ClusterConfig {
            rate: ClusterRate::Share(1. / 16.),
            k: 5,
        },
        temporal_position: TemporalPosition::None,
        max_frames: 64,
        frame_rate: 1.,
    }
}

/// The kind of each patch of a frame; frames of a scene have the same patches at other places.
fn kind(frame: usize, patch: usize) -> usize {
    (patch + frame) % 4
}

/// A frame of a scene: no two patches are quite equal.
fn frame(number: usize, scene: f32) -> Vec<f32> {
    let patch = |patch: usize| {
        let value =
            scene + KINDS[kind(number, patch)] + 0.01 * patch as f32 + 0.001 * number as f32;
        [value, -value, value, 0.5 * value]
    };
    (0..PATCHES).flat_map(patch).collect()
}

/// That a group holds all patches of a kind, or of two kinds that are alike, and no others.
fn assert_grouped(groups: &[u32], expected: impl Fn(usize, usize) -> usize, frames: &[usize]) {
    let expected: Vec<usize> = frames
        .iter()
        .flat_map(|&frame| (0..PATCHES).map(move |patch| (frame, patch)))
        .map(|(frame, patch)| expected(frame, patch))
        .collect();
    assert_eq!(groups.len(), expected.len());
    for i in 0..groups.len() {
        for j in 0..i {
            assert_eq!(
                groups[i] == groups[j],
                expected[i] == expected[j],
                "places {i} and {j} of {groups:?}"
            );
        }
    }
}

fn pictures_tell_their_groups<B: Backend>(b: B) {
    let x = b.tensor(&frame(0, 0.), CHANNELS);
    let merged = merge::image(&b, &x, &config());
    assert_eq!(b.shape(&merged.tokens), [6 + 4 + 2, CHANNELS]);
    let events = block_on(merged.trace.events(&b)).unwrap();
    let [event] = &events[..] else {
        panic!("{} events", events.len())
    };
    assert_eq!(event.frames, [0]);
    assert_grouped(&event.stages[1].groups, kind, &[0]);
    assert_grouped(
        &event.stages[2].groups,
        |frame, patch| kind(frame, patch) / 2,
        &[0],
    );
    for (stage, tokens) in event.stages.iter().zip([6, 4, 2]) {
        assert_eq!(
            (stage.sizes.len(), stage.sizes.iter().sum::<u32>()),
            (tokens, PATCHES as u32)
        );
        for (token, &size) in stage.sizes.iter().enumerate() {
            assert_eq!(
                stage
                    .groups
                    .iter()
                    .filter(|&&group| group as usize == token)
                    .count(),
                size as usize
            );
        }
    }
}

fn clips_tell_their_events<B: Backend>(b: B) {
    // Two scenes; the first comes back.
    let scene = |number: usize| if (8..15).contains(&number) { 1000. } else { 0. };
    let frames: Vec<f32> = (0..20)
        .flat_map(|number| frame(number, scene(number)))
        .collect();
    let x = b.tensor(&frames, CHANNELS);
    let merged = block_on(merge::video(
        &b,
        &Frames::new(&b, &x, 20, &config()),
        &config(),
        None,
    ))
    .unwrap();
    let expected: [Vec<usize>; 2] = [(0..8).chain(15..20).collect(), (8..15).collect()];
    assert_eq!(merged.trace.event_frames(), expected);
    assert_eq!(b.shape(&merged.tokens), [2 * (6 + 4 + 2), CHANNELS]);

    let events = block_on(merged.trace.events(&b)).unwrap();
    for (event, frames) in events.iter().zip(&expected) {
        assert_eq!(&event.frames, frames);
        assert_grouped(&event.stages[1].groups, kind, frames);
        assert_grouped(
            &event.stages[2].groups,
            |frame, patch| kind(frame, patch) / 2,
            frames,
        );
        for stage in &event.stages {
            assert_eq!(
                stage.sizes.iter().sum::<u32>() as usize,
                frames.len() * PATCHES
            );
        }
    }
}

fn positions_tell_frames_apart<B: Backend>(b: B) {
    let frames: Vec<f32> = (0..4).flat_map(|number| frame(number, 0.)).collect();
    let x = b.tensor(&frames, CHANNELS);
    let tokens = |temporal_position| {
        let config = MergeConfig {
            temporal_position,
            ..config()
        };
        let frames = Frames::new(&b, &x, 4, &config);
        let merged = block_on(merge::video(&b, &frames, &config, None)).unwrap();
        block_on(b.read(&merged.tokens)).unwrap()
    };
    // The two tokens of the last stage are far apart, in whatever order they come.
    let last = |tokens: Vec<f32>| {
        let mut last: Vec<f32> = tokens
            .chunks(CHANNELS)
            .rev()
            .take(2)
            .map(|row| row[0])
            .collect();
        last.sort_by(f32::total_cmp);
        last
    };
    let without = last(tokens(TemporalPosition::None));
    let with = last(tokens(TemporalPosition::Sinusoidal));
    for (without, with) in without.iter().zip(&with) {
        // The mean of four sines: neither nothing nor more than 1.
        let moved = (with - without).abs();
        assert!(moved > 0.01 && moved <= 1., "{without} moved to {with}");
    }
}

fn without_merging_every_patch_stays<B: Backend>(b: B) {
    let x = b.tensor(&[frame(0, 0.), frame(1, 0.)].concat(), CHANNELS);
    let config = MergeConfig {
        use_cluster: false,
        ..config()
    };
    let merged = block_on(merge::video(
        &b,
        &Frames::new(&b, &x, 2, &config),
        &config,
        None,
    ))
    .unwrap();
    let tokens = block_on(b.read(&merged.tokens)).unwrap();
    assert_eq!(tokens.len(), (PATCHES + 2) * CHANNELS);
    let all = [frame(0, 0.), frame(1, 0.)];
    for i in 0..PATCHES * CHANNELS {
        assert!((tokens[i] - (all[0][i] + all[1][i]) / 2.).abs() < 1e-4);
    }
    let events = block_on(merged.trace.events(&b)).unwrap();
    assert_eq!(
        (events.len(), &events[0].frames[..], events[0].stages.len()),
        (1, &[0, 1][..], 0)
    );
}

on_every_backend! {
    pictures_tell_their_groups,
    clips_tell_their_events,
    positions_tell_frames_apart,
    without_merging_every_patch_stays,
}
