//! Video-ChatGPT's five (arXiv 2306.05424): a judge rates answers about videos of ActivityNet for
//! correctness, detail, context and order in time, and two answers to like questions for
//! consistency.

use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol, Published},
    data::{Data, Questions, source, text},
    sample::{Expected, Sample},
};

/// One answer, rated three times.
pub const GENERIC: Benchmark = Benchmark {
    name: "video-chatgpt-generic",
    title: "Video-ChatGPT: correctness, detail, context",
    files: "generic_qa.json; the folder of videos",
    metric: Metric::JudgedAspects(&["correctness", "detail", "context"]),
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("correctness", 57.8), ("detail", 58.2), ("context", 69.2)],
        },
        Published {
            model: "Chat-UniVi-13B",
            figures: &[("correctness", 59.4), ("detail", 59.8), ("context", 70.5)],
        },
        Published {
            model: "Video-ChatGPT-7B",
            figures: &[("correctness", 48.0), ("detail", 50.4), ("context", 52.4)],
        },
    ],
    read: |data| read(data, "generic_qa.json", &["Q"]),
    ..VIDEO_CHATGPT
};

/// Order in time.
pub const TEMPORAL: Benchmark = Benchmark {
    name: "video-chatgpt-temporal",
    title: "Video-ChatGPT: temporal",
    files: "temporal_qa.json; the folder of videos",
    metric: Metric::JudgedAspects(&["temporal"]),
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("temporal", 47.9)],
        },
        Published {
            model: "Video-ChatGPT-7B",
            figures: &[("temporal", 39.6)],
        },
    ],
    read: |data| read(data, "temporal_qa.json", &["Q"]),
    ..VIDEO_CHATGPT
};

/// Two questions, each asked by itself.
pub const CONSISTENCY: Benchmark = Benchmark {
    name: "video-chatgpt-consistency",
    title: "Video-ChatGPT: consistency",
    files: "consistency_qa.json; the folder of videos",
    metric: Metric::JudgedAspects(&["consistency"]),
    published: &[
        Published {
            model: "Chat-UniVi-7B",
            figures: &[("consistency", 56.2)],
        },
        Published {
            model: "Video-ChatGPT-7B",
            figures: &[("consistency", 47.4)],
        },
    ],
    read: |data| read(data, "consistency_qa.json", &["Q1", "Q2"]),
    ..VIDEO_CHATGPT
};

/// What the three have in common.
const VIDEO_CHATGPT: Benchmark = Benchmark {
    name: "",
    title: "",
    files: "",
    folders: &["videos"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::SAMPLED,
    metric: Metric::JudgedAspects(&[]),
    published: &[],
    read: |_| Ok(Questions::default()),
};

fn read(data: &Data, name: &str, keys: &[&str]) -> Result<Questions> {
    let below = format!("video_qa/{name}");
    let mut asked = std::collections::HashMap::<String, usize>::new();
    Ok(Questions::collect(data.read(&[name, &below])?, |entry| {
        let video = text(entry, "video_name")?;
        let asked = asked.entry(video.clone()).or_default();
        *asked += 1;
        Ok(Sample {
            // As the official script counts them, from 0.
            id: format!("{video}_{}", *asked - 1),
            media: data.video(&video, VIDEO_CHATGPT.folders),
            media_name: Some(video),
            questions: keys
                .iter()
                .map(|key| text(entry, key))
                .collect::<Result<_, _>>()?,
            expected: Expected::Text(text(entry, "A")?),
            groups: Vec::new(),
            source: source(entry, &["video_name"]),
        })
    }))
}
