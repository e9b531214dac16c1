//! Answers that a language model judges: what it is asked, what its reply says, and the journal
//! that keeps every reply, so that none is paid for twice.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use univi::{Error, Result};

use crate::{
    benchmark::{Benchmark, Metric},
    sample::{Expected, Record},
};

/// The name of the journal of replies in the folder of a run.
pub const JUDGEMENTS_NAME: &str = "judgements.jsonl";

/// Tokens of a reply, at most.
pub const REPLY_TOKENS: usize = 256;

/// What a judge is asked about one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgeRequest {
    /// [`Record::id`].
    pub id: String,
    /// What is rated.
    pub aspect: &'static str,
    /// The system text.
    pub system: &'static str,
    /// The question.
    pub user: String,
}

/// What a judge said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// [`Record::id`].
    pub id: String,
    /// [`JudgeRequest::aspect`].
    pub aspect: String,
    /// What tells the request from others: judge, texts.
    pub request: String,
    /// Who was asked.
    #[serde(default)]
    pub judge: String,
    /// The reply as it came.
    pub reply: String,
    /// What it says; `None` where it makes no sense, or none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why there is no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A rating.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the answer means what is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yes: Option<bool>,
    /// The scores: one, or the reference's and the answer's.
    pub scores: Vec<f64>,
}

/// All judgements of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgements(BTreeMap<(String, String), Judgement>);

impl Judgements {
    /// Returns the verdict on an answer.
    pub fn verdict(&self, id: &str, aspect: &str) -> Option<&Verdict> {
        let found = self.0.get(&(id.to_owned(), aspect.to_owned()))?;
        found.verdict.as_ref()
    }

    /// Keeps those of these answers: the folder may have held others.
    pub fn about(mut self, benchmark: &Benchmark, records: &[Record]) -> Judgements {
        let asked = records
            .iter()
            .flat_map(|record| requests(benchmark, record));
        let asked = asked.map(|request| ((request.id.clone(), request.aspect.to_owned()), request));
        let asked: BTreeMap<_, _> = asked.collect();
        self.0.retain(|key, found| {
            let request = asked.get(key);
            request.is_some_and(|request| found.request == request.identity(&found.judge))
        });
        self
    }

    /// Returns all of them, by samples and aspects.
    pub fn iter(&self) -> impl Iterator<Item = &Judgement> {
        self.0.values()
    }

    fn insert(&mut self, judgement: Judgement) {
        let key = (judgement.id.clone(), judgement.aspect.clone());
        self.0.insert(key, judgement);
    }
}

impl FromIterator<Judgement> for Judgements {
    fn from_iter<T: IntoIterator<Item = Judgement>>(all: T) -> Judgements {
        let mut judgements = Judgements::default();
        all.into_iter().for_each(|one| judgements.insert(one));
        judgements
    }
}

/// The journal of replies.
#[derive(Debug)]
pub struct JudgementJournal {
    path: PathBuf,
    judgements: Judgements,
    file: File,
}

impl JudgementJournal {
    /// Opens the journal in `folder`, or begins one.
    ///
    /// # Errors
    /// `BadFile` for a line that can't be read; `Io`.
    pub fn open(folder: &Path) -> Result<JudgementJournal> {
        let path = folder.join(JUDGEMENTS_NAME);
        JudgementJournal::write(path, Judgements::load(folder)?)
    }

    /// Returns the replies.
    pub fn judgements(&self) -> &Judgements {
        &self.judgements
    }

    /// Returns whether this very request has been answered with sense.
    pub fn has(&self, judge: &str, request: &JudgeRequest) -> bool {
        let key = (request.id.clone(), request.aspect.to_owned());
        self.judgements.0.get(&key).is_some_and(|found| {
            found.verdict.is_some() && found.request == request.identity(judge)
        })
    }

    /// Adds a reply.
    ///
    /// # Errors
    /// `Io`.
    pub fn add(&mut self, judgement: Judgement) -> Result<()> {
        let written = self.file.write_all(line(&judgement).as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| io(&self.path, &error))?;
        self.judgements.insert(judgement);
        Ok(())
    }

    /// Puts all lines into the order of the samples' names.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<Judgements> {
        Ok(JudgementJournal::write(self.path, self.judgements)?.judgements)
    }

    fn write(path: PathBuf, judgements: Judgements) -> Result<JudgementJournal> {
        let failed = |error: std::io::Error| io(&path, &error);
        let fresh = path.with_extension("jsonl.part");
        let text: String = judgements.iter().map(line).collect();
        fs::write(&fresh, text).map_err(failed)?;
        fs::rename(&fresh, &path).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&path);
        Ok(JudgementJournal {
            file: file.map_err(failed)?,
            path,
            judgements,
        })
    }
}

impl Judgements {
    /// Reads the journal in `folder`; nothing where there is none. A piece of a line at the end
    /// does not count.
    ///
    /// # Errors
    /// As [`JudgementJournal::open`].
    pub fn load(folder: &Path) -> Result<Judgements> {
        let path = folder.join(JUDGEMENTS_NAME);
        if !path.is_file() {
            return Ok(Judgements::default());
        }
        let text = fs::read_to_string(&path).map_err(|error| io(&path, &error))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().enumerate();
        let parsed = lines.map(|(i, line)| {
            serde_json::from_str::<Judgement>(line).map_err(|error| {
                let reason = format!("line {}: {error}", i + 1);
                let format = "journal";
                Error::BadFile { format, reason }.in_file(path.display().to_string())
            })
        });
        parsed.collect()
    }
}

impl JudgeRequest {
    /// Returns what tells the request from others.
    pub fn identity(&self, judge: &str) -> String {
        let all = [judge, self.aspect, self.system, &self.user].join("\0");
        hex::encode(Sha256::digest(all))
    }

    /// Returns about how many tokens it has: four letters each.
    pub fn tokens(&self) -> usize {
        (self.system.len() + self.user.len()).div_ceil(4)
    }
}

/// Returns what a judge is asked about an answer; nothing where there is none to judge.
pub fn requests(benchmark: &Benchmark, record: &Record) -> Vec<JudgeRequest> {
    let Expected::Text(right) = &record.expected else {
        return Vec::new();
    };
    if record.error.is_some() || record.texts.is_empty() {
        return Vec::new();
    }
    let aspects = benchmark.metric.aspects().iter();
    let request = |&aspect: &&'static str| JudgeRequest {
        id: record.id.clone(),
        aspect,
        system: "You grade answers to questions about images and videos. You are fair and \
                 consistent, you know only what the texts say, and you reply with one JSON object.",
        user: question(benchmark.metric, aspect, record, right),
    };
    aspects.map(request).collect()
}

fn question(metric: Metric, aspect: &str, record: &Record, right: &str) -> String {
    let asked = record.questions.first().map_or("", String::as_str);
    let pair = format!(
        "Question: {asked}\nRight answer: {right}\nAnswer to grade: {}\n\n",
        record.text()
    );
    let scale = "Reply with {\"score\": N}, where N is a whole number from 0 (not at all) to 5 \
                 (entirely).";
    match (metric, aspect) {
        (Metric::JudgedAnswer, _) => {
            pair + "Does the answer to grade mean the same as the right answer? Other words for the same \
               thing are fine. Reply with {\"match\": \"yes\" or \"no\", \"score\": N}, where N is a \
               whole number from 0 (nothing in common) to 5 (the same)."
        }
        (Metric::JudgedShare, _) => {
            pair + "How right is the answer to grade? <AND> in the right answer joins parts that are all \
               needed, <OR> parts of which one is enough. Reply with {\"score\": N}, where N is a \
               number from 0.0 (all wrong) to 1.0 (all right) in steps of 0.1."
        }
        (Metric::JudgedPair, _) => format!(
            "A picture, described:\n{}\n\nQuestion: {asked}\n\nFirst answer:\n{right}\n\n\
             Second answer:\n{}\n\nRate how helpful, relevant, accurate and detailed each answer \
             is, for somebody who sees the picture. Their order must not matter. Reply with \
             {{\"first\": N, \"second\": M}}, each a whole number from 1 (worst) to 10 (best).",
            record
                .source
                .get("context")
                .and_then(Value::as_str)
                .unwrap_or(""),
            record.text()
        ),
        (_, "consistency") => format!(
            "Two questions about the same video ask for the same thing.\nFirst question: {asked}\n\
             Second question: {}\nRight answer to both: {right}\nAnswer to the first: {}\n\
             Answer to the second: {}\n\nDo the two answers agree with each other and with the \
             right one? {scale}",
            record.questions.get(1).map_or("", String::as_str),
            record.text(),
            record.texts.get(1).map_or("", String::as_str),
        ),
        (_, "correctness") => format!(
            "{pair}Is all that the answer to grade states true, as far as the right answer tells? \
             Penalize whatever contradicts it or is made up. {scale}"
        ),
        (_, "detail") => format!(
            "{pair}Does the answer to grade cover all main points of the right one, and is it as \
             specific? {scale}"
        ),
        (_, "context") => format!(
            "{pair}Does the answer to grade understand the scene as a whole and its theme, as the \
             right answer has it? {scale}"
        ),
        (_, aspect) => format!(
            "{pair}Does the answer to grade have events in their right order in time? Grade the \
             {aspect} aspect alone. {scale}"
        ),
    }
}

/// Reads a reply.
///
/// # Errors
/// What is wrong with it.
pub fn verdict(metric: Metric, reply: &str) -> Result<Verdict, String> {
    let object = object_in(reply).ok_or("holds no JSON object")?;
    let number = |key: &str, least: f64, most: f64| {
        let value = object.get(key).ok_or_else(|| format!("has no {key:?}"))?;
        let text = value.as_str().and_then(|text| text.trim().parse().ok());
        let number = value.as_f64().or(text);
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("has {key:?} {value}, expected {least} to {most}"))
    };
    match metric {
        Metric::JudgedAnswer => {
            let said = object
                .get("match")
                .or(object.get("pred"))
                .and_then(Value::as_str);
            let said = said.ok_or("has no \"match\"")?.to_lowercase();
            let yes = match (said.contains("yes"), said.contains("no")) {
                (true, _) => true,
                (false, true) => false,
                _ => return Err(format!("has \"match\" {said:?}, expected yes or no")),
            };
            Ok(Verdict {
                yes: Some(yes),
                // The official scripts cut fractions off.
                scores: vec![number("score", 0., 5.)?.trunc()],
            })
        }
        Metric::JudgedAspects(_) => Ok(Verdict {
            yes: None,
            scores: vec![number("score", 0., 5.)?.trunc()],
        }),
        Metric::JudgedPair => Ok(Verdict {
            yes: None,
            scores: vec![number("first", 1., 10.)?, number("second", 1., 10.)?],
        }),
        _ => Ok(Verdict {
            yes: None,
            scores: vec![number("score", 0., 1.)?],
        }),
    }
}

/// Finds the first object in a text; one in Python's spelling counts, too.
fn object_in(text: &str) -> Option<Value> {
    let start = text.find('{')?;
    let end = start + text[start..].find('}')? + 1;
    let object = &text[start..end];
    let parsed = serde_json::from_str(object);
    parsed
        .or_else(|_| serde_json::from_str(&object.replace('\'', "\"")))
        .ok()
}

fn line(judgement: &Judgement) -> String {
    serde_json::to_string(judgement).unwrap_or_default() + "\n"
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file(path.display().to_string())
}
