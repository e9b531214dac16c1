//! POPE (arXiv 2305.10355): is this thing in the picture? Half of the things are; those that are
//! not are chosen at random, by how frequent they are, or by how often they come with what is
//! there.

use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol, Published},
    data::{Data, Questions, source, text},
    sample::{Expected, Sample},
};

/// Things at random.
pub const RANDOM: Benchmark = Benchmark {
    name: "pope-random",
    title: "POPE, random",
    files: "coco_pope_random.jsonl or .json; the pictures of COCO val2014",
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("accuracy", 85.19), ("F1", 86.05), ("yes", 54.67)],
        },
        Published {
            model: "LLaVA-7B",
            figures: &[("accuracy", 72.16), ("F1", 78.22), ("yes", 76.29)],
        },
    ],
    read: |data| read(data, "random"),
    ..POPE
};

/// Frequent things.
pub const POPULAR: Benchmark = Benchmark {
    name: "pope-popular",
    title: "POPE, popular",
    files: "coco_pope_popular.jsonl or .json; the pictures of COCO val2014",
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("accuracy", 69.50), ("F1", 74.39), ("yes", 69.10)],
        },
        Published {
            model: "LLaVA-7B",
            figures: &[("accuracy", 61.37), ("F1", 71.52), ("yes", 85.63)],
        },
    ],
    read: |data| read(data, "popular"),
    ..POPE
};

/// Things that often come with what is there.
pub const ADVERSARIAL: Benchmark = Benchmark {
    name: "pope-adversarial",
    title: "POPE, adversarial",
    files: "coco_pope_adversarial.jsonl or .json; the pictures of COCO val2014",
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("accuracy", 64.97), ("F1", 71.54), ("yes", 73.10)],
        },
        Published {
            model: "LLaVA-7B",
            figures: &[("accuracy", 58.67), ("F1", 70.12), ("yes", 88.33)],
        },
    ],
    read: |data| read(data, "adversarial"),
    ..POPE
};

/// What the three have in common.
const POPE: Benchmark = Benchmark {
    name: "",
    title: "",
    files: "",
    folders: &["images", "val2014"],
    template: "simpleqa",
    protocol: Protocol::FirstToken(&["yes", "Yes", "no", "No"]),
    decoding: Decoding::SAMPLED,
    metric: Metric::YesNo,
    published: &[],
    read: |_| Ok(Questions::default()),
};

fn read(data: &Data, kind: &str) -> Result<Questions> {
    let name = format!("coco_pope_{kind}");
    let names: Vec<String> = ["", "coco_pope/", "coco/"]
        .iter()
        .flat_map(|folder| ["jsonl", "json"].map(|end| format!("{folder}{name}.{end}")))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(Questions::collect(data.read(&names)?, |entry| {
        let image = text(entry, "image")?;
        let label = text(entry, "label")?;
        if !["yes", "no"].contains(&&*label) {
            return Err(format!("the label is {label:?}, expected yes or no"));
        }
        Ok(Sample {
            id: text(entry, "question_id")?,
            media: data.image(&image, POPE.folders),
            media_name: Some(image),
            questions: vec![text(entry, "text")?],
            expected: Expected::Text(label),
            groups: Vec::new(),
            source: source(entry, &["question_id"]),
        })
    }))
}
