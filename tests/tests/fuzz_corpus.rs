//! What `fuzz/` runs for long, for short: every target over its seeds, and over mutations of them
//! that are the same in every run.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Instant};

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi_tests::{files_in, fuzzed::TARGETS};

/// Mutations of each seed.
const MUTATIONS: u64 = 200;

/// What one input may take, in seconds, on a machine that has other work: libFuzzer's limit in
/// CONTRIBUTING.md, too.
const MOST_S: f64 = 10.0;

/// What lengths, counts and offsets are changed to.
const LENGTHS: [u64; 10] = [
    0,
    1,
    0xff,
    0x7fff,
    0xffff,
    1 << 31,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    gguf safetensors pickle tokenizer_json sentencepiece manifest template schema picture gif
    imatrix
}

fn fuzz() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
}

/// Names the input that a target panics over.
struct Input<'a> {
    target: &'a str,
    seed: &'a str,
    mutation: u64,
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Input {
                target,
                seed,
                mutation,
            } = self;
            eprintln!("{target} fails over {seed}, mutation {mutation} (0 is the seed itself)");
        }
    }
}

/// Runs a target over its seeds and their mutations.
fn holds(target: &str) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, run) = found.expect("a target of this name");
    let seeds = files_in(&fuzz().join("seeds").join(target), "");
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for path in seeds {
        let bytes = fs::read(&path).expect("a seed");
        let seed = path.file_name().unwrap_or_default().to_string_lossy();
        for mutation in 0..=MUTATIONS {
            let input = Input {
                target,
                seed: &seed,
                mutation,
            };
            let began = Instant::now();
            match mutation {
                0 => run(&bytes),
                _ => run(&mutated(&bytes, mutation)),
            }
            let seconds = began.elapsed().as_secs_f64();
            assert!(seconds < MOST_S, "it took {seconds} s");
            drop(input);
        }
    }
}

/// Changes a few things of `bytes`, the same for the same `seed`.
fn mutated(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut changed = bytes.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if changed.is_empty() {
            break;
        }
        let at = random.random_range(0..changed.len());
        let end = (at + random.random_range(1..=64)).min(changed.len());
        match random.random_range(0..6) {
            0 => changed[at] ^= 1 << random.random_range(0..8),
            1 => changed[at] = random.random(),
            2 => changed.truncate(at),
            3 => drop(changed.drain(at..end)),
            4 => {
                let copy = changed[at..end].to_vec();
                let place = random.random_range(0..=changed.len());
                changed.splice(place..place, copy);
            }
            _ => {
                let length = LENGTHS[random.random_range(0..LENGTHS.len())].to_le_bytes();
                let mut length = length[..[1, 2, 4, 8][random.random_range(0..4)]].to_vec();
                if random.random() {
                    length.reverse();
                }
                let end = (at + length.len()).min(changed.len());
                changed[at..end].copy_from_slice(&length[..end - at]);
            }
        }
    }
    changed
}

#[test]
fn every_target_has_a_test_a_program_and_seeds() {
    let targets: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_string()).into();
    let tested: BTreeSet<String> = TESTED.iter().map(ToString::to_string).collect();
    let programs = files_in(&fuzz().join("fuzz_targets"), ".rs").into_iter();
    let programs = programs.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
    let folders = fs::read_dir(fuzz().join("seeds")).expect("the seeds");
    let folders = folders.map(|folder| folder.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(tested, targets);
    assert_eq!(programs.collect::<BTreeSet<_>>(), targets);
    assert_eq!(folders.collect::<BTreeSet<_>>(), targets);
}
