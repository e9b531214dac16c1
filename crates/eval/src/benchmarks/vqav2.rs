//! VQA v2 (arXiv 1612.00837): questions about pictures of COCO, each answered by ten people.

use univi::Result;

use super::short_answer::SHORT_ANSWER;
use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, answers, source, text},
    sample::{Expected, Sample},
};

/// The test split as LLaVA 1.5 asks it, or the validation split with its answers.
pub const VQAV2: Benchmark = Benchmark {
    name: "vqav2",
    title: "VQAv2",
    files: "llava_vqav2_mscoco_test-dev2015.jsonl and the pictures of test2015; or \
            v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and \
            those of val2014",
    folders: &["test2015", "val2014", "images"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY_SHORT,
    metric: Metric::Vqa,
    published: &[],
    read,
};

const OFFICIAL: &str = "v2_OpenEnded_mscoco_val2014_questions.json";
const ANNOTATIONS: &str = "v2_mscoco_val2014_annotations.json";

fn read(data: &Data) -> Result<Questions> {
    if data.find(&[OFFICIAL]).is_some() {
        return official(data);
    }
    let names = ["llava_vqav2_mscoco_test-dev2015.jsonl", OFFICIAL];
    Ok(Questions::collect(data.read(&names)?, |entry| {
        let image = text(entry, "image")?;
        Ok(Sample {
            id: text(entry, "question_id")?,
            media: data.image(&image, VQAV2.folders),
            media_name: Some(image),
            questions: vec![text(entry, "text")?],
            expected: Expected::Unknown,
            groups: Vec::new(),
            source: source(entry, &["question_id"]),
        })
    }))
}

fn official(data: &Data) -> Result<Questions> {
    let annotations = data.read_list(ANNOTATIONS, "annotations")?;
    let sha256 = annotations.sha256.clone();
    let (annotations, faults) = annotations.by("question_id");
    let asked = data.read_list(OFFICIAL, "questions")?;
    let mut questions = Questions::collect(asked, |entry| {
        let (id, image) = (text(entry, "question_id")?, text(entry, "image_id")?);
        let annotation = annotations
            .get(&id)
            .ok_or_else(|| format!("{id} is not in {ANNOTATIONS}"))?;
        let answers = annotation.get("answers").and_then(answers);
        let image = format!("COCO_val2014_{image:0>12}.jpg");
        Ok(Sample {
            id,
            media: data.image(&image, VQAV2.folders),
            media_name: Some(image),
            questions: vec![text(entry, "question")? + SHORT_ANSWER],
            expected: Expected::Texts(answers.ok_or("there are no \"answers\"")?),
            groups: text(annotation, "answer_type").into_iter().collect(),
            source: source(entry, &["question_id"]),
        })
    });
    questions.faults.extend(faults);
    questions.also_of(&sha256);
    Ok(questions)
}
