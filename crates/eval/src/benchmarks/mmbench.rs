//! MMBench (arXiv 2307.06281): questions with up to four choices, in a table that holds its
//! pictures.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, source, text},
    sample::{Expected, Media, Sample},
};

/// The dev split.
pub const MMBENCH: Benchmark = Benchmark {
    name: "mmbench",
    title: "MMBench, dev",
    files: "mmbench_dev_20230712.tsv",
    folders: &[],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY,
    metric: Metric::Letter,
    published: &[],
    read,
};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

fn read(data: &Data) -> Result<Questions> {
    let names = ["mmbench_dev_20230712.tsv", "mmbench_dev_en_20231003.tsv"];
    Ok(Questions::collect(data.read(&names)?, |entry| {
        let id = text(entry, "index")?;
        let is_there = |text: &String| !["nan", "none"].contains(&&*text.to_lowercase());
        let given = |key: &str| text(entry, key).ok().filter(is_there);
        let choices: Vec<String> = LETTERS.iter().map_while(|letter| given(letter)).collect();
        if choices.is_empty() {
            return Err("there are no choices".into());
        }
        let encoded = text(entry, "image")?;
        let image = STANDARD.decode(encoded.trim());
        let image = image.map_err(|error| format!("the picture is no base64: {error}"))?;
        let expected = match given("answer") {
            None => Expected::Unknown,
            Some(answer) => Expected::Choice {
                index: LETTERS[..choices.len()]
                    .iter()
                    .position(|letter| *letter == answer)
                    .ok_or_else(|| format!("the answer is {answer:?}, none of the choices"))?,
                choices: choices.clone(),
            },
        };
        let mut question = given("hint").map_or(String::new(), |hint| hint + "\n");
        question += &text(entry, "question")?;
        for (letter, choice) in LETTERS.iter().zip(&choices) {
            question += &format!("\n{letter}. {choice}");
        }
        question += "\nAnswer with the option's letter from the given choices directly.";
        let mut source = source(entry, &[]);
        source.insert("question_id".into(), id.clone().into());
        Ok(Sample {
            id,
            media: Media::Embedded(image),
            media_name: None,
            questions: vec![question],
            expected,
            groups: given("category").into_iter().collect(),
            source,
        })
    }))
}
