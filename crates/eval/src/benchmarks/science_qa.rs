//! ScienceQA (arXiv 2209.09513): questions of lessons with up to five choices, with a picture, a
//! text, both or neither. The model explains first and chooses then.

use std::collections::HashMap;

use serde_json::{Map, Value};
use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol, Published},
    data::{Data, Fault, Questions, source, text},
    sample::{Expected, Media, Sample},
};

/// The test split.
pub const SCIENCE_QA: Benchmark = Benchmark {
    name: "science-qa",
    title: "ScienceQA, test",
    files: "problems.json, pid_splits.json, test_QCM-LEA.json; the folder of pictures",
    folders: &["images", "test", "images/test", "scienceqa/images"],
    template: "simple",
    protocol: Protocol::ReasonThenChoose {
        bridge: " ###\nANSWER:",
        max_tokens: 64,
    },
    decoding: Decoding::SAMPLED,
    metric: Metric::ScienceQa,
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[
                ("accuracy", 88.78),
                ("accuracy, NAT", 88.50),
                ("accuracy, SOC", 93.03),
                ("accuracy, LAN", 85.91),
                ("accuracy, TXT", 88.51),
                ("accuracy, IMG", 85.97),
                ("accuracy, NO", 88.15),
                ("accuracy, G1-6", 88.88),
                ("accuracy, G7-12", 88.60),
            ],
        },
        Published {
            model: "Chat-UniVi-13B",
            figures: &[
                ("accuracy", 90.99),
                ("accuracy, NAT", 90.41),
                ("accuracy, SOC", 95.05),
                ("accuracy, LAN", 88.91),
                ("accuracy, TXT", 89.64),
                ("accuracy, IMG", 88.05),
                ("accuracy, NO", 90.94),
                ("accuracy, G1-6", 91.19),
                ("accuracy, G7-12", 90.64),
            ],
        },
    ],
    read,
};

fn read(data: &Data) -> Result<Questions> {
    let problems = data.read(&["problems.json", "scienceqa/problems.json"])?;
    let asked = data.read(&["test_QCM-LEA.json", "scienceqa/test_QCM-LEA.json"])?;
    let splits = data.read(&["pid_splits.json", "scienceqa/pid_splits.json"])?;
    let split: Vec<String> = splits
        .entries
        .first()
        .and_then(|(_, splits)| splits.get("test")?.as_array())
        .map(|ids| {
            ids.iter()
                .filter_map(|id| Some(id.as_str()?.to_owned()))
                .collect()
        })
        .unwrap_or_default();
    let hashes = [&problems.sha256, &splits.sha256].map(String::clone);
    let (problems, faults) = problems.by("key");
    let mut questions = Questions::collect(asked, |entry| {
        let id = text(entry, "id")?;
        let problem = problems
            .get(&id)
            .ok_or_else(|| format!("{id} is not in problems.json"))?;
        let choices = problem.get("choices").and_then(Value::as_array);
        let choices: Option<Vec<String>> = choices.and_then(|all| {
            all.iter()
                .map(|one| Some(one.as_str()?.to_owned()))
                .collect()
        });
        let choices = choices.ok_or("there are no \"choices\"")?;
        let index = problem.get("answer").and_then(Value::as_u64);
        let index = index.map(|index| index as usize);
        let index = index
            .filter(|&index| index < choices.len())
            .ok_or("the answer is none of the choices")?;
        let said = entry
            .get("conversations")
            .and_then(|said| said.get(0)?.get("value")?.as_str());
        let question = said.ok_or("there is no question in \"conversations\"")?;
        let image = match entry.get("image") {
            Some(_) => Some(text(entry, "image")?),
            None => None,
        };
        Ok(Sample {
            id,
            media: image
                .as_deref()
                .map_or(Media::None, |image| data.image(image, SCIENCE_QA.folders)),
            media_name: image,
            questions: vec![question.replace("<image>", "").trim().to_owned()],
            expected: Expected::Choice { index, choices },
            groups: groups(problem),
            source: source(entry, &["id"]),
        })
    });
    for sha256 in &hashes {
        questions.also_of(sha256);
    }
    questions.faults.extend(faults);
    // The script counts what the split names.
    let mut samples: HashMap<String, Sample> = HashMap::new();
    for sample in std::mem::take(&mut questions.samples) {
        if let Some(sample) = samples.insert(sample.id.clone(), sample) {
            questions.faults.push(Fault {
                sample: sample.id,
                reason: "this id stands there twice; the last one counts".into(),
            });
        }
    }
    for id in split {
        match samples.remove(&id) {
            Some(sample) => questions.samples.push(sample),
            None => questions.faults.push(Fault {
                sample: id,
                reason: "the test split names it, but it is not asked".into(),
            }),
        }
    }
    Ok(questions)
}

/// Returns the parts of the table that a problem counts in.
fn groups(problem: &Map<String, Value>) -> Vec<String> {
    let is_set = |key: &str| {
        problem
            .get(key)
            .and_then(Value::as_str)
            .is_some_and(|s| !s.is_empty())
    };
    let mut groups = Vec::new();
    match problem.get("subject").and_then(Value::as_str) {
        Some("natural science") => groups.push("NAT"),
        Some("social science") => groups.push("SOC"),
        Some("language science") => groups.push("LAN"),
        _ => {}
    }
    let (hint, image) = (is_set("hint"), is_set("image"));
    if hint {
        groups.push("TXT");
    }
    if image {
        groups.push("IMG");
    }
    if !hint && !image {
        groups.push("NO");
    }
    let grade = problem.get("grade").and_then(Value::as_str);
    let grade = grade.and_then(|grade| grade.strip_prefix("grade")?.parse::<u32>().ok());
    match grade {
        Some(1..=6) => groups.push("G1-6"),
        Some(7..=12) => groups.push("G7-12"),
        _ => {}
    }
    groups.into_iter().map(String::from).collect()
}
