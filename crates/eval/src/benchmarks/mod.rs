//! The benchmarks, one file each: which files, which prompt, which metric.

mod gqa;
mod llava;
mod mm_vet;
mod mmbench;
mod pope;
mod science_qa;
mod text_vqa;
mod video_chatgpt;
mod video_qa;
mod vizwiz;
mod vqav2;

use crate::benchmark::Benchmark;

/// All of them, in the order of the papers.
pub const ALL: &[&Benchmark] = &[
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

/// What LLaVA 1.5 adds to a question with a short answer.
const SHORT_ANSWER: &str = "\nAnswer the question using a single word or phrase.";
