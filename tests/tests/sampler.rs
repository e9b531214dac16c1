//! Choosing the next token.

use std::f32::consts::LN_2;

use univi::sampler::{Sampler, Sampling};

fn plain() -> Sampling {
    Sampling::default().temperature(1.0).seed(7)
}

/// Probabilities 0.25, 0.125, 0.125, 0.5.
const LOGITS: [f32; 4] = [LN_2, 0.0, 0.0, 2.0 * LN_2];

/// How often each id is chosen in `draws` draws.
fn shares(options: Sampling, logits: &[f32], draws: usize) -> Vec<f64> {
    let mut sampler = Sampler::new(options).unwrap();
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits, &[]) as usize] += 1.0 / draws as f64;
    }
    counts
}

fn assert_shares(options: Sampling, expected: [f64; 4]) {
    let found = shares(options, &LOGITS, 20_000);
    for (f, e) in found.iter().zip(expected) {
        // Four standard deviations of a share of one half; what is cut must never come.
        let far = if e == 0.0 {
            *f > 0.0
        } else {
            (f - e).abs() > 0.015
        };
        assert!(!far, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn tokens_come_as_often_as_they_are_probable() {
    assert_shares(plain(), [0.25, 0.125, 0.125, 0.5]);
    let squared = 0.25 + 0.0625 + 2.0 * 0.015_625;
    assert_shares(
        plain().temperature(0.5),
        [
            0.0625 / squared,
            0.015_625 / squared,
            0.015_625 / squared,
            0.25 / squared,
        ],
    );
}

#[test]
fn cuts_leave_the_best_and_ties_go_to_the_lower_id() {
    assert_shares(
        plain().top_k(3),
        [0.25 / 0.875, 0.125 / 0.875, 0.0, 0.5 / 0.875],
    );
    assert_shares(plain().top_k(1), [0.0, 0.0, 0.0, 1.0]);
    // 0.5 and 0.25 are not 0.8; the first of the equal ones makes it 0.875.
    assert_shares(
        plain().top_p(0.8),
        [0.25 / 0.875, 0.125 / 0.875, 0.0, 0.5 / 0.875],
    );
    assert_shares(plain().top_p(0.4), [0.0, 0.0, 0.0, 1.0]);
    assert_shares(plain().min_p(0.4), [1.0 / 3.0, 0.0, 0.0, 2.0 / 3.0]);
}

#[test]
fn equal_seeds_give_equal_answers() {
    let draw = |seed| {
        let mut sampler = Sampler::new(plain().seed(seed)).unwrap();
        (0..64)
            .map(|_| sampler.sample(&LOGITS, &[]))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let mut sampler = Sampler::new(Sampling::greedy()).unwrap();
    assert!(!sampler.options().penalizes());
    assert_eq!(sampler.sample(&[0.5, 2.0, -1.0, 2.0], &[1]), 1);
}

#[test]
fn what_was_said_lately_is_less_likely() {
    let options = Sampling::greedy()
        .repetition_penalty(2.0)
        .repetition_window(2);
    let mut sampler = Sampler::new(options).unwrap();
    assert!(sampler.options().penalizes());
    // Said twice counts once; 1 was said too long ago.
    assert_eq!(sampler.sample(&[4.0, 3.0, 2.5], &[1, 0, 0]), 1);
    assert_eq!(sampler.sample(&[4.0, 3.0, 2.5], &[1, 0, 1]), 2);
    // Negative logits get worse, too; ids beyond the logits are nobody's.
    assert_eq!(sampler.sample(&[-1.0, -1.5], &[0, 99]), 1);
}

#[test]
fn nothing_makes_it_fall_over() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for options in [
        plain(),
        Sampling::greedy(),
        Sampling::default(),
        plain()
            .top_k(2)
            .top_p(0.5)
            .min_p(0.5)
            .repetition_penalty(1.3),
    ] {
        let mut sampler = Sampler::new(options).unwrap();
        assert_eq!(sampler.sample(&[], &[3]), 0);
        assert_eq!(sampler.sample(&[nan, 1.0, nan], &[]), 1);
        assert_eq!(sampler.sample(&[1.0, inf, -inf, nan], &[]), 1);
        assert_eq!(sampler.sample(&[-inf, -inf, 0.0], &[0]), 2);
        assert!(sampler.sample(&[nan, nan], &[]) < 2);
        assert!(sampler.sample(&[-inf, -inf], &[]) < 2);
        assert!(sampler.sample(&[inf, inf], &[]) < 2);
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    for (name, options) in [
        ("temperature", plain().temperature(-0.1)),
        ("temperature", plain().temperature(f32::NAN)),
        ("top_p", plain().top_p(0.0)),
        ("top_p", plain().top_p(1.1)),
        ("min_p", plain().min_p(-0.5)),
        ("repetition_penalty", plain().repetition_penalty(0.0)),
    ] {
        let error = Sampler::new(options).unwrap_err();
        assert_eq!(error.code(), "bad-request");
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
