//! Quantized language models against exact arithmetic on the dequantized weights.

use std::collections::BTreeMap;

use univi::{
    Backend, Error, Result,
    loader::{Content, LoadOptions, Loader, ModelFile},
    model::{ChatUniVi, Llama},
    sampler::Choice,
};

use crate::{Fixtures, Report, Tensors, folders_with, read_json};

/// Of logits with a standard deviation of 3. The reference computes in f64; f32 itself is off by
/// 3e-5, a cache in f16 by 0.02.
pub(super) const LOGITS_TOLERANCE: f64 = 1e-3;

/// Of the logits' differences against the logits less their mean, as lengths of vectors. An
/// epsilon of 1e-3 instead of 1e-5 already shows here, with 5e-4.
pub(super) const LOGITS_L2_TOLERANCE: f64 = 1e-4;

/// Where the likeliest token leads the second by no more, either is right.
pub(super) const MARGIN: f64 = 0.01;

/// `expected.json` of a model.
#[derive(serde::Deserialize)]
struct Expected {
    model: String,
    types: BTreeMap<String, Type>,
}

/// One file of a model, and what it says.
#[derive(serde::Deserialize)]
struct Type {
    file: String,
    bytes: u64,
    sha256: String,
    prompts: BTreeMap<String, Prompt>,
}

#[derive(serde::Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    exact_greedy: Vec<u32>,
    exact_margins: Vec<f64>,
}

/// Compares every `models/NAME/expected.json`.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    let files = fixtures.list();
    for folder in folders_with(fixtures, "expected.json") {
        let path = format!("{folder}expected.json");
        // Other fixtures have a file of this name, too.
        if folder.trim_end_matches('/').rsplit('/').nth(1) != Some("models") {
            continue;
        }
        let expected = match read_json::<Expected>(fixtures, &path) {
            Ok(expected) => expected,
            Err(error) => {
                report.measured(
                    format!("models/{path}"),
                    f64::INFINITY,
                    0.0,
                    error.to_string(),
                );
                continue;
            }
        };
        for (ty, entry) in &expected.types {
            let name = format!("models/{}-{ty}", expected.model);
            if !fixtures.wants(&name) {
                continue;
            }
            let file = format!("{folder}{}", entry.file);
            if !files.contains(&file) {
                report.missing.push(format!("{name}: {file}"));
                continue;
            }
            let promised = [(file.clone(), entry.bytes, entry.sha256.clone())];
            let logits = format!("{folder}logits/{ty}.safetensors");
            if let Err(error) = compare(
                backend,
                fixtures,
                &name,
                &promised,
                entry,
                &logits,
                &mut report,
            )
            .await
            {
                report.measured(name, f64::INFINITY, 0.0, error.to_string());
            }
        }
    }
    report
}

/// Compares a split model with what the whole one says: `expected` is the path of its
/// `expected.json`, `logits` that of its logits, `files` are path, bytes and SHA-256 of the shards.
pub(super) async fn check_shards<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    name: &str,
    files: &[(String, u64, String)],
    [expected, ty, logits]: [&str; 3],
    report: &mut Report,
) -> Result<()> {
    let expected: Expected = read_json(fixtures, expected)?;
    let entry = expected.types.get(ty).ok_or_else(|| Error::BadFile {
        format: "fixture",
        reason: format!("{} has no type {ty}", expected.model),
    })?;
    compare(backend, fixtures, name, files, entry, logits, report).await
}

async fn compare<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    name: &str,
    files: &[(String, u64, String)],
    entry: &Type,
    logits: &str,
    report: &mut Report,
) -> Result<()> {
    let model = load(backend, fixtures, files).await?;
    let tensors = Tensors::read(fixtures, logits)?;
    let steps = tensors.metadata("decode_steps").unwrap_or("[]");
    let steps: Vec<usize> = serde_json::from_str(steps).map_err(|e| {
        Error::BadFile {
            format: "fixture",
            reason: format!("decode_steps: {e}"),
        }
        .in_file(logits)
    })?;
    for (prompt_name, prompt) in &entry.prompts {
        let found = continue_with(model.llama(), backend, prompt).await?;
        let mut errors = Errors::default();
        let tensor = |kind: &str| tensors.f32(&format!("{prompt_name}.exact.{kind}")).ok();
        if let Some(rows) = tensor("prompt") {
            errors.rows(&found.prompt, rows);
        }
        if let (Some(row), Some(last)) = (tensor("last"), found.decode.first()) {
            errors.rows(last, row);
        }
        if let Some(rows) = tensor("decode") {
            let decode: Vec<f32> = steps
                .iter()
                .filter_map(|&step| found.decode.get(step))
                .flatten()
                .copied()
                .collect();
            errors.rows(&decode, rows);
        }
        let case = |what: &str| format!("{name} {prompt_name} {what}");
        errors.report(report, &case("logits"));
        let clear = |step: &usize| {
            prompt
                .exact_margins
                .get(*step)
                .is_none_or(|&margin| margin > MARGIN)
        };
        let steps = || (0..prompt.exact_greedy.len()).filter(clear);
        let pick = |ids: &[u32]| {
            steps()
                .filter_map(|step| ids.get(step).copied())
                .collect::<Vec<_>>()
        };
        report.equal(
            case("greedy ids"),
            &pick(&found.greedy),
            &pick(&prompt.exact_greedy),
        );
    }
    Ok(())
}

/// Reads and loads a model from its files: path, bytes and SHA-256 of each.
pub(super) async fn load<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    files: &[(String, u64, String)],
) -> Result<ChatUniVi<B>> {
    let wanted = files.iter().map(|(path, bytes, sha256)| ModelFile {
        content: Content::Gguf,
        name: path.clone(),
        bytes: Some(*bytes),
        sha256: Some(sha256.clone()),
    });
    let mut loader = Loader::new(backend.clone(), wanted.collect())?;
    while let Some(name) = loader.next_file().map(|file| file.name.clone()) {
        loader.push(&fixtures.read(&name)?)?;
        loader.end_file()?;
    }
    loader.finish(&LoadOptions::default()).await
}

/// Logits of a prompt and of its given continuation.
struct Continued {
    /// `[t, vocabulary]`
    prompt: Vec<f32>,
    /// For each step, the logits `[vocabulary]` that choose its id.
    decode: Vec<Vec<f32>>,
    /// The likeliest id of each step.
    greedy: Vec<u32>,
}

/// Feeds the prompt at once, then the reference's ids one by one, so that a near-tie at one step
/// does not hide the others.
async fn continue_with<B: Backend>(llama: &Llama<B>, b: &B, prompt: &Prompt) -> Result<Continued> {
    let (t, steps) = (prompt.ids.len(), prompt.exact_greedy.len());
    let vocabulary = llama.config().vocabulary;
    let unknown = |ids: &[u32]| ids.iter().copied().find(|&id| id as usize >= vocabulary);
    if let Some(id) = unknown(&prompt.ids).or(unknown(&prompt.exact_greedy)) {
        let reason = format!("id {id} is beyond the vocabulary of {vocabulary}");
        return Err(Error::BadFile {
            format: "fixture",
            reason,
        });
    }
    if t == 0 {
        return Err(Error::BadFile {
            format: "fixture",
            reason: "a prompt has no ids".into(),
        });
    }
    let mut caches = llama.caches();
    llama.reserve(&mut caches, t + steps).await?;
    let hidden = llama.forward(&llama.embed(&b.ids(&prompt.ids)), &mut caches, 0);
    let prompt_logits = b.read(&llama.logits(&hidden)).await?;
    let mut hidden = b.slice(&hidden, t - 1..t);
    let (mut decode, mut greedy) = (Vec::new(), Vec::new());
    for (i, &id) in prompt.exact_greedy.iter().enumerate() {
        let logits = llama.logits(&hidden);
        greedy.extend(b.read_ids(&b.choose(&logits, &Choice::GREEDY)).await?);
        decode.push(b.read(&logits).await?);
        hidden = llama.forward(&llama.embed(&b.ids(&[id])), &mut caches, t + i);
    }
    Ok(Continued {
        prompt: prompt_logits,
        decode,
        greedy,
    })
}

/// The largest errors over several sets of logits.
#[derive(Default)]
pub(super) struct Errors {
    max: f64,
    l2: f64,
    compared: usize,
    wrong_length: Option<String>,
}

impl Errors {
    /// Takes in `found` against `expected`, of any number of rows: the length of differences is
    /// taken over all of them.
    pub(super) fn rows(&mut self, found: &[f32], expected: &[f32]) {
        if found.len() != expected.len() || found.is_empty() {
            self.wrong_length = Some(format!(
                "{} logits, expected {}",
                found.len(),
                expected.len()
            ));
            return;
        }
        let mean = expected.iter().map(|&x| f64::from(x)).sum::<f64>() / expected.len() as f64;
        let (mut difference, mut length, mut max) = (0.0, 0.0, 0.0f64);
        for (&f, &e) in found.iter().zip(expected) {
            let d = (f64::from(f) - f64::from(e)).abs();
            // NaN must not be compared away.
            max = if d > max || d.is_nan() { d } else { max };
            difference += d * d;
            length += (f64::from(e) - mean).powi(2);
        }
        let l2 = (difference / length).sqrt();
        self.max = if max > self.max || max.is_nan() {
            max
        } else {
            self.max
        };
        self.l2 = if l2 > self.l2 || l2.is_nan() {
            l2
        } else {
            self.l2
        };
        self.compared += 1;
    }

    /// Two cases: the largest difference, and the relative length of all differences.
    pub(super) fn report(&self, report: &mut Report, name: &str) {
        let none = (self.compared == 0).then(|| "the fixture holds no logits".to_string());
        let (max, l2, detail) = match self.wrong_length.clone().or(none) {
            Some(wrong) => (f64::INFINITY, f64::INFINITY, wrong),
            None => (self.max, self.l2, String::new()),
        };
        report.measured(name, max, LOGITS_TOLERANCE, detail.clone());
        report.measured(
            format!("{name}, relative L2"),
            l2,
            LOGITS_L2_TOLERANCE,
            detail,
        );
    }
}
