//! Prediction files in the formats that the official scripts score, written and read.

use std::{collections::HashMap, path::Path};

use serde_json::{Map, Value, json};
use univi::{Error, Result};

use crate::{
    benchmark::{Benchmark, Metric},
    data::{self, text},
    metrics::{exact_text, vqa},
    sample::Record,
};

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionFile {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: String,
}

/// Makes the prediction files of a run: the answers as Chat-UniVi's and LLaVA's scripts read them,
/// and what evaluation servers take.
pub fn prediction_files(
    benchmark: &Benchmark,
    model: &str,
    records: &[Record],
) -> Vec<PredictionFile> {
    let answered: Vec<&Record> = records.iter().filter(|r| r.error.is_none()).collect();
    let lines = answered
        .iter()
        .map(|record| line(benchmark, model, record).to_string() + "\n");
    let mut files = vec![PredictionFile {
        name: "predictions.jsonl",
        text: lines.collect(),
    }];
    let mut list = |name, entry: &dyn Fn(&Record) -> Value| {
        let all: Vec<Value> = answered.iter().map(|record| entry(record)).collect();
        files.push(PredictionFile {
            name,
            text: Value::Array(all).to_string(),
        });
    };
    match benchmark.name {
        "vqav2" => list(
            "vqav2_submission.json",
            &|record| json!({ "question_id": id(record), "answer": vqa::processed(record.text()) }),
        ),
        "vizwiz" => list(
            "vizwiz_submission.json",
            &|record| json!({ "image": record.media, "answer": vqa::processed(record.text()) }),
        ),
        "gqa" => list(
            "testdev_balanced_predictions.json",
            &|record| json!({ "questionId": id(record), "prediction": exact_text(record.text()) }),
        ),
        "video-chatgpt-generic" | "video-chatgpt-temporal" => {
            list("video_chatgpt_predictions.json", &|record| {
                json!({
                    "video_name": record.media,
                    "Q": record.questions.first(),
                    "A": right(record),
                    "pred": record.text(),
                })
            });
        }
        "video-chatgpt-consistency" => list("video_chatgpt_predictions.json", &|record| {
            json!({
                "video_name": record.media,
                "Q1": record.questions.first(),
                "Q2": record.questions.get(1),
                "A": right(record),
                "pred1": record.text(),
                "pred2": record.texts.get(1),
            })
        }),
        "mm-vet" => {
            let all = answered.iter();
            let all = all.map(|record| (record.id.clone(), Value::from(record.text())));
            files.push(PredictionFile {
                name: "mm-vet_predictions.json",
                text: Value::Object(all.collect()).to_string(),
            });
        }
        _ => {}
    }
    files
}

/// One line, as the reference's scripts write it.
fn line(benchmark: &Benchmark, model: &str, record: &Record) -> Value {
    let prompt = record.questions.first().cloned().unwrap_or_default();
    let mut line = json!({ "model_id": model, "metadata": {} });
    let fields: Vec<(&str, Value)> = match benchmark.metric {
        Metric::JudgedAnswer | Metric::JudgedAspects(_) if record.questions.len() == 2 => vec![
            ("video_name", json!(record.media)),
            ("prompt_1", prompt.into()),
            ("text_1", record.text().into()),
            ("prompt_2", record.questions[1].clone().into()),
            ("text_2", json!(record.texts.get(1))),
            ("answer", right(record)),
        ],
        Metric::JudgedAnswer | Metric::JudgedAspects(_) => vec![
            ("video_name", json!(record.media)),
            ("prompt", prompt.into()),
            ("text", record.text().into()),
            ("answer", right(record)),
        ],
        Metric::ScienceQa => vec![
            ("question_id", id(record)),
            (
                "prompt",
                match record.media {
                    Some(_) => format!("<image>\n{prompt}").into(),
                    None => prompt.into(),
                },
            ),
            ("text", crate::metrics::science_text(record).into()),
            ("pred", json!(record.choice)),
        ],
        Metric::YesNo => vec![
            ("question_id", id(record)),
            ("prompt", prompt.into()),
            ("text", record.text().into()),
            ("label", right(record)),
        ],
        _ => vec![
            ("question_id", id(record)),
            ("prompt", prompt.into()),
            ("text", record.text().into()),
        ],
    };
    for (key, value) in fields {
        line[key] = value;
    }
    line
}

/// The question's id as its file has it.
fn id(record: &Record) -> Value {
    let own = record.source.get("question_id").or(record.source.get("id"));
    own.cloned().unwrap_or_else(|| record.id.clone().into())
}

fn right(record: &Record) -> Value {
    match &record.expected {
        crate::Expected::Text(text) => text.clone().into(),
        _ => Value::Null,
    }
}

/// Puts the answers of another model, read from a prediction file in one of the official formats,
/// in the place of those of a run. A question that the file does not answer has an error.
///
/// # Errors
/// `Io`; `BadFile` where the file can't be read or answers none of the questions.
pub fn read_predictions(path: &Path, records: &[Record]) -> Result<Vec<Record>> {
    let read = data::entries(path)?;
    let mut by_id: HashMap<String, &Map<String, Value>> = HashMap::new();
    let mut by_question: HashMap<(String, String), &Map<String, Value>> = HashMap::new();
    let first = |entry: &Map<String, Value>, keys: &[&str]| {
        keys.iter().find_map(|key| text(entry, key).ok())
    };
    const QUESTIONS: [&str; 5] = ["prompt", "prompt_1", "Q", "Q1", "question"];
    // One object maps ids to answers, as MM-Vet's.
    let mut mapped: Vec<(String, Map<String, Value>)> = Vec::new();
    if let [(_, only)] = &read.entries[..]
        && only.values().all(Value::is_string)
        && first(only, &["text", "answer", "pred", "prediction"]).is_none()
    {
        for (key, answer) in only {
            let entry = Map::from_iter([("text".to_owned(), answer.clone())]);
            mapped.push((key.clone(), entry));
        }
    }
    for (id, entry) in &mapped {
        by_id.insert(id.clone(), entry);
    }
    for (_, entry) in &read.entries {
        let question = first(entry, &QUESTIONS).map(|question| plain(&question));
        if let Some(id) = first(entry, &["question_id", "questionId", "id"]) {
            by_id.entry(id.clone()).or_insert(entry);
            if let Some(question) = &question {
                by_question.entry((id, question.clone())).or_insert(entry);
            }
        }
        if let Some(media) = first(entry, &["video_name", "image"]) {
            let key = (media, question.unwrap_or_default());
            by_question.entry(key).or_insert(entry);
        }
    }
    let mut answered = 0;
    let records: Vec<Record> = records
        .iter()
        .map(|record| {
            let id = match id(record) {
                Value::String(id) => id,
                id => id.to_string(),
            };
            let question = record.questions.first().map_or("", String::as_str);
            let media = record.media.clone().unwrap_or_default();
            let found = by_question
                .get(&(id.clone(), plain(question)))
                .or_else(|| by_question.get(&(media.clone(), plain(question))))
                .or_else(|| by_question.get(&(media.clone(), String::new())))
                .or_else(|| by_id.get(&record.id))
                .or_else(|| by_id.get(&id));
            let mut record = Record {
                texts: Vec::new(),
                choice: None,
                error: None,
                prompt_tokens: 0,
                visual_tokens: 0,
                ..record.clone()
            };
            let texts = found.and_then(|entry| {
                let pair = ["text_1", "pred1"].iter().zip(["text_2", "pred2"]);
                let pair = pair.into_iter().find_map(|(one, two)| {
                    Some(vec![text(entry, one).ok()?, text(entry, two).ok()?])
                });
                // POPE's own format has its answers under `answer`.
                let keys = ["text", "pred", "prediction", "answer"];
                pair.or_else(|| Some(vec![first(entry, &keys)?]))
            });
            match texts {
                Some(texts) => {
                    answered += 1;
                    record.texts = texts;
                    record.choice = found
                        .filter(|entry| entry.contains_key("text"))
                        .and_then(|entry| text(entry, "pred").ok());
                }
                None => record.error = Some("the prediction file has no answer".into()),
            }
            record
        })
        .collect();
    if answered == 0 {
        return Err(Error::BadFile {
            format: "predictions",
            reason: "answers none of the questions of this run".into(),
        }
        .in_file(path.display().to_string()));
    }
    Ok(records)
}

/// A question without the mark of a picture.
fn plain(question: &str) -> String {
    question.replace("<image>", "").trim().to_owned()
}
