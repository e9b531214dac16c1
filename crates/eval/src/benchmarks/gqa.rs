//! GQA (arXiv 1902.09506): questions made from scene graphs, with one answer each.

use univi::Result;

use super::short_answer::SHORT_ANSWER;
use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, source, text},
    sample::{Expected, Sample},
};

/// The balanced test-dev split.
pub const GQA: Benchmark = Benchmark {
    name: "gqa",
    title: "GQA, test-dev balanced",
    files: "testdev_balanced_questions.json; the folder images",
    folders: &["images", "data/images"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY_SHORT,
    metric: Metric::ExactText,
    published: &[],
    read,
};

fn read(data: &Data) -> Result<Questions> {
    let names = [
        "testdev_balanced_questions.json",
        "data/testdev_balanced_questions.json",
    ];
    Ok(Questions::collect(data.read(&names)?, |entry| {
        let image = text(entry, "imageId")? + ".jpg";
        let mut source = source(entry, &[]);
        let id = text(entry, "key")?;
        source.insert("question_id".into(), id.clone().into());
        Ok(Sample {
            id,
            media: data.image(&image, GQA.folders),
            media_name: Some(image),
            questions: vec![text(entry, "question")? + SHORT_ANSWER],
            expected: Expected::Text(text(entry, "answer")?),
            groups: Vec::new(),
            source,
        })
    }))
}
