//! The reference's own numbers, on every backend.

use pollster::block_on;
use univi::{Backend, Cpu};
use univi_tests::{assert_report, folder, gpu};

/// Demands that all fixtures of a kind pass, and that at least `cases` comparisons were made.
fn check<B: Backend>(kind: &str, backend: &B, cases: usize) {
    let mut report = block_on(univi_verify::check(kind, backend, &folder()));
    if std::env::var_os("UNIVI_FIXTURES").is_none() {
        // This repository holds a choice of models that covers every type, not all that are listed.
        report
            .missing
            .retain(|missing| !missing.starts_with("models/"));
    }
    assert_report(&report, cases);
}

macro_rules! parity {
    ($($kind:ident: at least $cases:literal),* $(,)?) => {
        mod cpu {
            $(
                #[test]
                fn $kind() {
                    super::check(stringify!($kind), &super::Cpu, $cases);
                }
            )*
        }

        mod gpu {
            $(
                #[test]
                fn $kind() {
                    super::check(stringify!($kind), &super::gpu(), $cases);
                }
            )*
        }

        #[test]
        fn every_kind_that_computes_is_here() {
            // These need no backend, and have tests of their own.
            let others = ["sampling", "preprocess", "tokenizer", "prompt"];
            let here = [$(stringify!($kind)),*];
            for kind in univi_verify::KINDS {
                assert!(others.contains(&kind) || here.contains(&kind), "{kind} is not tested");
            }
        }
    };
}

parity! {
    dpc_knn: at least 30,
    merge: at least 20,
    clip: at least 1,
    llama: at least 16,
    raw: at least 12,
    e2e: at least 60,
    smollm2: at least 40,
    models: at least 8,
    shards: at least 2,
}
