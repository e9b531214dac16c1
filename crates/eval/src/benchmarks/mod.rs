//! The benchmarks, one file each: which files, which prompt, which metric.

mod gqa;
mod llava;
mod mm_vet;
mod mmbench;
mod pope;
mod science_qa;
mod short_answer;
mod text_vqa;
mod video_chatgpt;
mod video_qa;
mod vizwiz;
mod vqav2;

use univi::{Error, Result};

use crate::benchmark::Benchmark;

/// All of them, in the order of the papers.
const ALL: &[&Benchmark] = &[
    &llava::NINETY,
    &video_chatgpt::GENERIC,
    &video_chatgpt::TEMPORAL,
    &video_chatgpt::CONSISTENCY,
    &science_qa::SCIENCE_QA,
    &video_qa::MSRVTT,
    &video_qa::MSVD,
    &video_qa::TGIF,
    &video_qa::ACTIVITYNET,
    &pope::RANDOM,
    &pope::POPULAR,
    &pope::ADVERSARIAL,
    &vqav2::VQAV2,
    &gqa::GQA,
    &vizwiz::VIZWIZ,
    &text_vqa::TEXT_VQA,
    &mmbench::MMBENCH,
    &mm_vet::MM_VET,
    &llava::WILD,
];

impl Benchmark {
    /// Returns all benchmarks.
    pub fn all() -> &'static [&'static Benchmark] {
        ALL
    }

    /// Finds a benchmark by its name.
    ///
    /// # Errors
    /// `BadRequest` naming those that there are.
    pub fn find(name: &str) -> Result<&'static Benchmark> {
        let found = ALL.iter().find(|each| each.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|each| each.name).collect();
            Error::BadRequest {
                reason: format!(
                    "there is no benchmark {name:?}; there are {}",
                    names.join(", ")
                ),
            }
        })
    }
}
