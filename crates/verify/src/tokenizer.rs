//! `token_vectors.json`, `tokenizer/*.json` and the `tokenizer` of `models/*/expected.json`: texts
//! and their ids, in every form in which a vocabulary comes.

use crate::{Fixtures, Report, folders_with, read_json};
use univi::{
    Error, Result, gguf,
    tokenizer::{EncodeOptions, Tokenizer, TokenizerConfig},
};

/// A vocabulary and the file that it came from.
pub(super) struct Vocabulary {
    pub(super) file: String,
    pub(super) tokenizer: Tokenizer,
}

/// Reads every vocabulary of a folder: `tokenizer.model`, `tokenizer.json`, GGUF files, and the
/// first of these written to GGUF metadata and read again. `legacy` overrules the folder's own
/// `tokenizer_config.json`, and leaves out the forms that know no such choice.
pub(super) fn vocabularies(
    fixtures: &dyn Fixtures,
    folder: &str,
    legacy: Option<bool>,
) -> Result<Vec<Vocabulary>> {
    let files = fixtures.list();
    let present = |file: &str| files.iter().any(|f| f.strip_prefix(folder) == Some(file));
    let mut config = TokenizerConfig::default();
    if present("tokenizer_config.json") {
        let json = fixtures.read(&format!("{folder}tokenizer_config.json"))?;
        config = TokenizerConfig::from_json(&json)?;
    }
    config.legacy = legacy.or(config.legacy);
    let mut found = Vec::new();
    let mut add = |file: &str, tokenizer: Tokenizer| {
        found.push(Vocabulary {
            file: file.into(),
            tokenizer,
        });
    };
    if present("tokenizer.model") {
        let bytes = fixtures.read(&format!("{folder}tokenizer.model"))?;
        let tokenizer = Tokenizer::from_sentencepiece(&bytes, &config)?;
        let again = Tokenizer::from_gguf(&tokenizer.metadata())?;
        add("tokenizer.model", tokenizer);
        add("tokenizer.model as GGUF", again);
    }
    if legacy.is_some() {
        return Ok(found);
    }
    if present("tokenizer.json") {
        let bytes = fixtures.read(&format!("{folder}tokenizer.json"))?;
        let tokenizer = Tokenizer::from_json(&bytes, &config)?;
        let again = Tokenizer::from_gguf(&tokenizer.metadata())?;
        add("tokenizer.json", tokenizer);
        add("tokenizer.json as GGUF", again);
    }
    for file in files.iter().filter_map(|f| f.strip_prefix(folder)) {
        if file.ends_with(".gguf") && !file.contains('/') {
            let bytes = fixtures.read(&format!("{folder}{file}"))?;
            add(file, Tokenizer::from_gguf(&gguf::parse(&bytes)?.metadata)?);
        }
    }
    Ok(found)
}

/// Compares one list of things after another; the first that differs is told.
pub(super) fn all_equal<T: PartialEq + std::fmt::Debug>(
    report: &mut Report,
    name: &str,
    rows: impl IntoIterator<Item = (String, Result<T>, T)>,
) {
    let mut rows_seen = 0;
    for (label, found, expected) in rows {
        rows_seen += 1;
        let detail = match found {
            Ok(found) if found == expected => continue,
            Ok(found) => format!("{label:?}: {found:?}, expected {expected:?}"),
            Err(error) => format!("{label:?}: {error}"),
        };
        return report.measured(name, 1.0, 0.0, detail);
    }
    match rows_seen {
        0 => report.measured(name, f64::INFINITY, 0.0, "there is nothing to compare"),
        _ => report.measured(name, 0.0, 0.0, ""),
    }
}

/// Compares every text of every vocabulary that is there.
pub fn check(fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, "prompt/token_vectors.json") {
        let path = format!("{root}prompt/token_vectors.json");
        report.attempt("tokenizer/token_vectors", |report| {
            check_vectors(fixtures, &root, &read_json(fixtures, &path)?, report)
        });
    }
    for path in fixtures.list() {
        let Some((folder, file)) = path.rsplit_once('/') else {
            continue;
        };
        let kind = folder.rsplit('/').next();
        let name = file.trim_end_matches(".json");
        if kind == Some("tokenizer") && file.ends_with(".json") && !file.starts_with("tokenizer") {
            check_listed(fixtures, folder, &path, name, &mut report);
        }
        if file == "expected.json" {
            check_model(fixtures, folder, &path, &mut report);
        }
    }
    report
}

#[derive(serde::Deserialize)]
struct Vectors {
    encode: Vec<Encoded>,
    decode: Vec<Decoded>,
    special_in_text: Vec<Special>,
}

#[derive(serde::Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
    /// Where Hugging Face's fast tokenizer differs.
    fast_ids: Option<Vec<u32>>,
    decoded: String,
}

#[derive(serde::Deserialize)]
struct Decoded {
    ids: Vec<u32>,
    decoded: String,
}

#[derive(serde::Deserialize)]
struct Special {
    text: String,
    ids_legacy: Vec<u32>,
    ids_nonlegacy: Vec<u32>,
    ids_fast: Vec<u32>,
}

fn check_vectors(
    fixtures: &dyn Fixtures,
    root: &str,
    vectors: &Vectors,
    report: &mut Report,
) -> Result<()> {
    let folder = format!("{root}tokenizer/");
    let all = vocabularies(fixtures, &folder, None)?;
    if all.is_empty() {
        let what =
            "tokenizer/token_vectors: no tokenizer.model, tokenizer.json or GGUF lies beside";
        report.missing.push(format!("{what} {root}prompt"));
        return Ok(());
    }
    for Vocabulary { file, tokenizer } in &all {
        let is_fast = file.starts_with("tokenizer.json");
        let encode = |text: &str| tokenizer.encode(text, EncodeOptions::PROMPT);
        all_equal(
            report,
            &format!("tokenizer/token_vectors encode {file}"),
            vectors.encode.iter().map(|row| {
                let fast = row.fast_ids.as_ref().filter(|_| is_fast);
                let expected = fast.unwrap_or(&row.ids).clone();
                (row.text.clone(), encode(&row.text), expected)
            }),
        );
        let decoded = vectors.decode.iter().map(|row| (&row.ids, &row.decoded));
        let decoded = decoded.chain(vectors.encode.iter().map(|row| (&row.ids, &row.decoded)));
        all_equal(
            report,
            &format!("tokenizer/token_vectors decode {file}"),
            decoded
                .map(|(ids, text)| (format!("{ids:?}"), Ok(tokenizer.decode(ids)), text.clone())),
        );
        all_equal(
            report,
            &format!("tokenizer/token_vectors special {file}"),
            vectors.special_in_text.iter().map(|row| {
                let expected = if is_fast {
                    &row.ids_fast
                } else {
                    &row.ids_legacy
                };
                (row.text.clone(), encode(&row.text), expected.clone())
            }),
        );
    }
    for Vocabulary { file, tokenizer } in vocabularies(fixtures, &folder, Some(false))? {
        all_equal(
            report,
            &format!("tokenizer/token_vectors special not legacy {file}"),
            vectors.special_in_text.iter().map(|row| {
                let found = tokenizer.encode(&row.text, EncodeOptions::PROMPT);
                (row.text.clone(), found, row.ids_nonlegacy.clone())
            }),
        );
    }
    Ok(())
}

/// A text and its ids in llama.cpp's four modes.
#[derive(serde::Deserialize)]
struct Modes {
    text: String,
    /// The text's bytes, where an editor could have changed the text.
    text_hex: Option<String>,
    detok: Option<String>,
    detok_hex: Option<String>,
    #[serde(rename = "add_special=0,parse_special=0")]
    plain: Vec<u32>,
    #[serde(rename = "add_special=0,parse_special=1")]
    parsed: Vec<u32>,
    #[serde(rename = "add_special=1,parse_special=0")]
    added: Vec<u32>,
    #[serde(rename = "add_special=1,parse_special=1")]
    added_and_parsed: Vec<u32>,
}

fn unhex(hex: &str) -> Result<String> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::BadFile {
        format: "fixture",
        reason: format!("{hex:?} is no hexadecimal text"),
    })
}

fn check_modes(tokenizer: &Tokenizer, name: &str, rows: &[Modes], report: &mut Report) {
    report.attempt(name, |report| {
        let mut texts = Vec::with_capacity(rows.len());
        for row in rows {
            let exact = row.text_hex.as_deref().map(unhex).transpose()?;
            texts.push(exact.unwrap_or_else(|| row.text.clone()));
        }
        for add_special in [false, true] {
            for parse_special in [false, true] {
                let options = EncodeOptions::default()
                    .add_special(add_special)
                    .parse_special(parse_special);
                let expected = |row: &Modes| match (add_special, parse_special) {
                    (false, false) => row.plain.clone(),
                    (false, true) => row.parsed.clone(),
                    (true, false) => row.added.clone(),
                    (true, true) => row.added_and_parsed.clone(),
                };
                all_equal(
                    report,
                    &format!(
                        "{name} add_special={},parse_special={}",
                        u8::from(add_special),
                        u8::from(parse_special)
                    ),
                    rows.iter().zip(&texts).map(|(row, text)| {
                        let found = tokenizer.encode(text, options);
                        (text.clone(), found, expected(row))
                    }),
                );
            }
        }
        let mut decoded = Vec::with_capacity(rows.len());
        for row in rows {
            let exact = row.detok_hex.as_deref().map(unhex).transpose()?;
            let expected = exact.or_else(|| row.detok.clone()).unwrap_or_default();
            decoded.push((row.text.clone(), Ok(tokenizer.decode(&row.plain)), expected));
        }
        all_equal(report, &format!("{name} decode"), decoded);
        Ok(())
    });
}

/// Both are there, or the file is of another kind.
#[derive(serde::Deserialize)]
struct Listed {
    model: Option<String>,
    rows: Option<Vec<Modes>>,
}

/// A real model that fixtures name by length and hash.
#[derive(serde::Deserialize)]
pub(super) struct RealModel {
    pub(super) info: ModelFile,
}

#[derive(serde::Deserialize)]
pub(super) struct ModelFile {
    source: String,
    size: u64,
    sha256: String,
}

impl ModelFile {
    /// The model's vocabulary and metadata; `None`, and told as missing, where it is not there.
    pub(super) fn read(
        &self,
        fixtures: &dyn Fixtures,
        name: &str,
        report: &mut Report,
    ) -> Result<Option<(Tokenizer, gguf::Metadata)>> {
        match fixtures.model(self.size, &self.sha256)? {
            None => {
                report.missing.push(format!("{name}: {}", self.source));
                Ok(None)
            }
            Some(bytes) => {
                let metadata = gguf::parse(&bytes)?.metadata;
                Ok(Some((Tokenizer::from_gguf(&metadata)?, metadata)))
            }
        }
    }
}

fn check_listed(
    fixtures: &dyn Fixtures,
    folder: &str,
    path: &str,
    name: &str,
    report: &mut Report,
) {
    let name = format!("tokenizer/{name}");
    report.attempt(&name, |report| {
        let listed: Listed = read_json(fixtures, path)?;
        let (Some(model), Some(rows)) = (listed.model, listed.rows) else {
            return Ok(());
        };
        let files = fixtures.list();
        // A vocabulary is named after the model; a model's own fixtures say which file it is.
        let stem = model.trim_end_matches(".gguf");
        let is_vocabulary = |f: &&String| {
            let file = f.rsplit('/').next().unwrap_or_default();
            file.ends_with(".gguf") && file.contains("vocab") && file.contains(stem)
        };
        let root = folder.strip_suffix("tokenizer").unwrap_or_default();
        let real = format!("{root}{stem}/expected.json");
        let tokenizer = if let Some(file) = files.iter().find(is_vocabulary) {
            let metadata = gguf::parse(&fixtures.read(file)?)?.metadata;
            Some(Tokenizer::from_gguf(&metadata)?)
        } else if files.contains(&real) {
            let model: RealModel = read_json(fixtures, &real)?;
            let read = model.info.read(fixtures, &name, report)?;
            read.map(|(tokenizer, _)| tokenizer)
        } else {
            let what = format!("{name}: the vocabulary {model}");
            report.missing.push(what);
            None
        };
        if let Some(tokenizer) = tokenizer {
            check_modes(&tokenizer, &name, &rows, report);
        }
        Ok(())
    });
}

#[derive(serde::Deserialize)]
struct Model {
    tokenizer: Option<Vec<Modes>>,
}

/// The files of one model differ in their weights, not in their vocabulary.
fn check_model(fixtures: &dyn Fixtures, folder: &str, path: &str, report: &mut Report) {
    let model = folder.rsplit('/').next().unwrap_or_default();
    let name = format!("tokenizer/models {model}");
    report.attempt(&name, |report| {
        let expected: Model = read_json(fixtures, path)?;
        let Some(rows) = expected.tokenizer else {
            return Ok(());
        };
        let files = fixtures.list();
        let is_weights = |f: &&String| f.starts_with(folder) && f.ends_with(".gguf");
        match files.iter().find(is_weights) {
            None => report
                .missing
                .push(format!("{name}: no GGUF file in {folder}")),
            Some(file) => {
                let metadata = gguf::parse(&fixtures.read(file)?)?.metadata;
                check_modes(&Tokenizer::from_gguf(&metadata)?, &name, &rows, report);
            }
        }
        Ok(())
    });
}
