//! VizWiz (arXiv 1802.08218): what blind people asked about pictures that they took.

use univi::Result;

use super::short_answer::SHORT_ANSWER;
use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, answers, source, text},
    sample::{Expected, Sample},
};

/// The test split as LLaVA 1.5 asks it, or the validation split with its answers.
pub const VIZWIZ: Benchmark = Benchmark {
    name: "vizwiz",
    title: "VizWiz",
    files: "llava_test.jsonl and the folder test; or val.json and the folder val",
    folders: &["test", "val", "images"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY_SHORT,
    metric: Metric::Vqa,
    published: &[],
    read,
};

/// What LLaVA 1.5 adds here, since many pictures can't be answered.
const UNANSWERABLE: &str = "\nWhen the provided information is insufficient, respond with \
    'Unanswerable'.";

fn read(data: &Data) -> Result<Questions> {
    let names = ["val.json", "Annotations/val.json", "llava_test.jsonl"];
    Ok(Questions::collect(data.read(&names)?, |entry| {
        let image = text(entry, "image")?;
        let given = entry.get("answers").and_then(answers);
        Ok(Sample {
            // The official file has no ids, but each picture once.
            id: text(entry, "question_id").unwrap_or_else(|_| image.clone()),
            media: data.image(&image, VIZWIZ.folders),
            questions: vec![match entry.get("text") {
                Some(_) => text(entry, "text")?,
                None => text(entry, "question")? + UNANSWERABLE + SHORT_ANSWER,
            }],
            expected: given.map_or(Expected::Unknown, Expected::Texts),
            groups: text(entry, "answer_type").into_iter().collect(),
            source: source(entry, &["question_id", "image"]),
            media_name: Some(image),
        })
    }))
}
