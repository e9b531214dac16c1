//! TextVQA (arXiv 1904.08920): questions about writing in pictures, each answered by ten people.

use std::collections::HashMap;

use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, answers, source, text},
    sample::{Expected, Sample},
};

/// The validation split as LLaVA 1.5 asks it.
pub const TEXT_VQA: Benchmark = Benchmark {
    name: "text-vqa",
    title: "TextVQA, val",
    files: "llava_textvqa_val_v051_ocr.jsonl, TextVQA_0.5.1_val.json; the folder train_images",
    folders: &["train_images", "images"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY_SHORT,
    metric: Metric::TextVqa,
    published: &[],
    read,
};

fn read(data: &Data) -> Result<Questions> {
    let annotations = data.read_list("TextVQA_0.5.1_val.json", "data")?;
    let sha256 = annotations.sha256;
    let annotations: HashMap<(String, String), Vec<String>> = annotations
        .entries
        .iter()
        .filter_map(|(_, entry)| {
            let question = text(entry, "question").ok()?.to_lowercase();
            let given = answers(entry.get("answers")?)?;
            Some(((text(entry, "image_id").ok()?, question), given))
        })
        .collect();
    let asked = data.read(&["llava_textvqa_val_v051_ocr.jsonl"])?;
    let mut questions = Questions::collect(asked, |entry| {
        let (image_id, asked) = (text(entry, "question_id")?, text(entry, "text")?);
        let image = text(entry, "image")?;
        let question = question_of(&asked)
            .ok_or("the text is not of two or three lines with a question")?
            .to_lowercase();
        let given = annotations
            .get(&(image_id.clone(), question.clone()))
            .ok_or_else(|| format!("{image_id} has no annotation of {question:?}"))?;
        Ok(Sample {
            // A picture has several questions under its own id.
            id: format!("{image_id}/{question}"),
            media: data.image(&image, TEXT_VQA.folders),
            media_name: Some(image),
            questions: vec![asked],
            expected: Expected::Texts(given.clone()),
            groups: Vec::new(),
            source: source(entry, &["question_id"]),
        })
    });
    questions.also_of(&sha256);
    Ok(questions)
}

/// Returns the question in a prompt: its first line, or the second where the first one is of the
/// text in the picture.
fn question_of(prompt: &str) -> Option<&str> {
    let lines: Vec<&str> = prompt.split('\n').collect();
    match lines[..] {
        [first, second, _] if first.starts_with("Reference OCR token:") => Some(second),
        [first, _, _] if prompt.contains("Reference OCR token: ") => Some(first),
        [first, _] => Some(first),
        _ => None,
    }
}
