//! MM-Vet (arXiv 2308.02490): questions that want several abilities at once, rated by a judge.

use univi::Result;

use crate::{
    benchmark::{Benchmark, Decoding, Metric, Protocol},
    data::{Data, Questions, text},
    sample::{Expected, Sample},
};

/// All questions.
pub const MM_VET: Benchmark = Benchmark {
    name: "mm-vet",
    title: "MM-Vet",
    files: "mm-vet.json; the folder images",
    folders: &["images", "mm-vet/images"],
    template: "v1",
    protocol: Protocol::Answer,
    decoding: Decoding::GREEDY,
    metric: Metric::JudgedShare,
    published: &[],
    read,
};

fn read(data: &Data) -> Result<Questions> {
    let asked = data.read(&["mm-vet.json", "mm-vet/mm-vet.json"])?;
    Ok(Questions::collect(asked, |entry| {
        let (id, image) = (text(entry, "key")?, text(entry, "imagename")?);
        let abilities = entry.get("capability").and_then(|all| all.as_array());
        let abilities = abilities.into_iter().flatten();
        let mut source = serde_json::Map::new();
        source.insert("question_id".into(), id.trim_start_matches("v1_").into());
        Ok(Sample {
            id,
            media: data.image(&image, MM_VET.folders),
            media_name: Some(image),
            questions: vec![text(entry, "question")?],
            expected: Expected::Text(text(entry, "answer")?),
            groups: abilities
                .filter_map(|ability| Some(ability.as_str()?.to_owned()))
                .collect(),
            source,
        })
    }))
}
