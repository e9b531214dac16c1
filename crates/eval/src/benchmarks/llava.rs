//! LLaVA's questions about pictures (arXiv 2304.08485): a judge rates the answer and that of GPT-4,
//! which saw a description only. The 90 of the paper, and those "in the wild".

use serde_json::{Map, Value};
use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol, Published},
    data::{Data, Questions, source, text},
    sample::{Expected, Sample},
};

/// 30 pictures of COCO, three questions each.
pub const NINETY: Benchmark = Benchmark {
    name: "llava-90",
    title: "LLaVA's 90",
    files: "qa90_questions.jsonl, qa90_gpt4_answer.jsonl, caps_boxes_coco2014_val_80.jsonl; \
            the pictures of COCO val2014",
    folders: &["images", "val2014"],
    template: "simple",
    protocol: Protocol::Answer,
    decoding: Decoding::SAMPLED,
    metric: Metric::JudgedPair,
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[
                ("relative", 84.2),
                ("relative, conversation", 84.1),
                ("relative, detail", 74.2),
                ("relative, reasoning", 93.7),
            ],
        },
        Published {
            model: "Chat-UniVi-13B",
            figures: &[
                ("relative", 86.1),
                ("relative, conversation", 84.1),
                ("relative, detail", 79.4),
                ("relative, reasoning", 94.7),
            ],
        },
    ],
    read: |data| {
        let files = |name: &str| {
            ["", "coco2014_val_qa_eval/", "table/"].map(|folder| format!("{folder}{name}"))
        };
        read(
            data,
            &files("qa90_questions.jsonl"),
            &files("qa90_gpt4_answer.jsonl"),
            &files("caps_boxes_coco2014_val_80.jsonl"),
            NINETY.folders,
        )
    },
};

/// 24 pictures from anywhere, 60 questions.
pub const WILD: Benchmark = Benchmark {
    name: "llava-wild",
    title: "LLaVA-Bench in the wild",
    files: "questions.jsonl, answers_gpt4.jsonl, context.jsonl; the folder images",
    folders: &["images"],
    template: "v1",
    decoding: Decoding::GREEDY,
    published: &[],
    read: |data| {
        let file = |name: &str| [name.to_owned()];
        read(
            data,
            &file("questions.jsonl"),
            &file("answers_gpt4.jsonl"),
            &file("context.jsonl"),
            WILD.folders,
        )
    },
    ..NINETY
};

fn read(
    data: &Data,
    questions: &[String],
    answers: &[String],
    contexts: &[String],
    folders: &[&str],
) -> Result<Questions> {
    let open = |names: &[String]| data.read(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (answers, contexts) = (open(answers)?, open(contexts)?);
    let hashes = [answers.sha256.clone(), contexts.sha256.clone()];
    let (answers, mut faults) = answers.by("question_id");
    let (contexts, more) = contexts.by("image");
    faults.extend(more);
    let mut questions = Questions::collect(open(questions)?, |entry| {
        let (id, image) = (text(entry, "question_id")?, text(entry, "image")?);
        let answer = answers
            .get(&id)
            .ok_or_else(|| format!("{id} has no answer of the reference"))?;
        let context = contexts
            .get(&image)
            .ok_or_else(|| format!("{image} has no description"))?;
        let mut source = source(entry, &["question_id", "category"]);
        source.insert("context".into(), Value::String(describe(context)?));
        Ok(Sample {
            id,
            media: data.image(&image, folders),
            media_name: Some(image),
            questions: vec![text(entry, "text")?],
            expected: Expected::Text(text(answer, "text")?),
            groups: vec![
                match &*text(entry, "category")? {
                    "conv" => "conversation",
                    "complex" => "reasoning",
                    category => category,
                }
                .to_owned(),
            ],
            source,
        })
    });
    questions.faults.extend(faults);
    for sha256 in &hashes {
        questions.also_of(sha256);
    }
    Ok(questions)
}

/// Writes down what stands for a picture: captions and boxes, or one text.
fn describe(context: &Map<String, Value>) -> Result<String, String> {
    if let Some(Value::String(caption)) = context.get("caption") {
        return Ok(caption.clone());
    }
    let list = |key: &str| context.get(key).and_then(Value::as_array);
    let captions = list("captions").ok_or("there are no \"captions\"")?;
    let mut lines: Vec<String> = captions
        .iter()
        .filter_map(|caption| Some(caption.as_str()?.to_owned()))
        .collect();
    for instance in list("instances").into_iter().flatten() {
        let category = instance.get("category").and_then(Value::as_str);
        let (category, bbox) = (category.unwrap_or("?"), &instance["bbox"]);
        lines.push(format!("{category}: {bbox}"));
    }
    Ok(lines.join("\n"))
}
