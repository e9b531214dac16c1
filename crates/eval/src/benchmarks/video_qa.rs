//! Questions about short videos with an answer of a word or two, judged for their meaning, as
//! Video-ChatGPT (arXiv 2306.05424) set them up.

use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol, Published},
    data::{Data, Questions, source, text},
    sample::{Expected, Sample},
};

/// MSRVTT-QA.
pub const MSRVTT: Benchmark = Benchmark {
    name: "msrvtt-qa",
    title: "MSRVTT-QA",
    files: "msrvtt_qa.json; the folder of videos",
    published: &[
        published("Chat-UniVi-7B", &[("accuracy", 54.6), ("score", 3.1)]),
        published("Video-ChatGPT-7B", &[("accuracy", 49.3), ("score", 2.8)]),
        published("VideoChat-7B", &[("accuracy", 45.0), ("score", 2.5)]),
    ],
    read: |data| read(data, "msrvtt"),
    ..VIDEO_QA
};

/// MSVD-QA.
pub const MSVD: Benchmark = Benchmark {
    name: "msvd-qa",
    title: "MSVD-QA",
    files: "msvd_qa.json; the folder of videos",
    published: &[
        published("Chat-UniVi-7B", &[("accuracy", 65.0), ("score", 3.6)]),
        published("Video-ChatGPT-7B", &[("accuracy", 64.9), ("score", 3.3)]),
        published("VideoChat-7B", &[("accuracy", 56.3), ("score", 2.8)]),
    ],
    read: |data| read(data, "msvd"),
    ..VIDEO_QA
};

/// TGIF-QA, the questions about single frames.
pub const TGIF: Benchmark = Benchmark {
    name: "tgif-qa",
    title: "TGIF-QA, FrameQA",
    files: "tgif_qa.json; the folder of videos or GIFs",
    published: &[
        published("Chat-UniVi-7B", &[("accuracy", 60.3), ("score", 3.4)]),
        published("Video-ChatGPT-7B", &[("accuracy", 51.4), ("score", 3.0)]),
        published("VideoChat-7B", &[("accuracy", 34.4), ("score", 2.3)]),
    ],
    read: |data| read(data, "tgif"),
    ..VIDEO_QA
};

/// ActivityNet-QA.
pub const ACTIVITYNET: Benchmark = Benchmark {
    name: "activitynet-qa",
    title: "ActivityNet-QA",
    files: "activitynet_qa.json; the folder of videos",
    published: &[
        published("Chat-UniVi-7B", &[("accuracy", 45.8), ("score", 3.2)]),
        published("Video-ChatGPT-7B", &[("accuracy", 35.2), ("score", 2.7)]),
        published("VideoChat-7B", &[("accuracy", 26.5), ("score", 2.2)]),
    ],
    read: |data| read(data, "activitynet"),
    ..VIDEO_QA
};

/// What the four have in common.
const VIDEO_QA: Benchmark = Benchmark {
    name: "",
    title: "",
    files: "",
    folders: &["videos"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::SAMPLED,
    metric: Metric::JudgedAnswer,
    published: &[],
    read: |_| Ok(Questions::default()),
};

const fn published(model: &'static str, figures: &'static [(&'static str, f64)]) -> Published {
    Published { model, figures }
}

fn read(data: &Data, kind: &str) -> Result<Questions> {
    let name = format!("{kind}_qa.json");
    let names = [name.clone(), format!("video_qa/{name}")];
    let mut asked = std::collections::HashMap::<(String, String), usize>::new();
    Ok(Questions::collect(
        data.read(&[&names[0], &names[1]])?,
        |entry| {
            let video = text(entry, "video_name")?;
            let question = text(entry, "question")?;
            // The files have no ids, and ask some questions more than once.
            let times = asked.entry((video.clone(), question.clone())).or_default();
            *times += 1;
            let again = if *times > 1 {
                format!("#{times}")
            } else {
                String::new()
            };
            Ok(Sample {
                id: format!("{video}/{question}{again}"),
                media: data.video(&video, VIDEO_QA.folders),
                media_name: Some(video),
                questions: vec![question],
                expected: Expected::Text(text(entry, "answer")?),
                groups: Vec::new(),
                source: source(entry, &["video_name"]),
            })
        },
    ))
}
