//! `prompt/prompts.json`, `smollm2/*.json` and the prompts of `e2e/cases.json`: conversations
//! written down, tokenized, and where answers end.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Fixtures, Report, folders_with, read_json,
    tokenizer::{RealModel, Vocabulary, all_equal, vocabularies},
};
use univi::{
    Result,
    prompt::{
        Conversation, IM_END, IM_START, IMAGE_MARKER, Prompt, PromptPart, PromptVisual, Slot,
        Template, Turn,
    },
    stop_buffer::StopBuffer,
    tokenizer::{Decoder, Tokenizer},
};

/// Stands for an `<image>` among the reference's ids.
const IMAGE_ID: i64 = -200;

/// Compares every prompt and every answer that is there.
pub fn check(fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, "prompt/prompts.json") {
        let path = format!("{root}prompt/prompts.json");
        report.attempt("prompt/prompts", |report| {
            check_prompts(fixtures, &root, &read_json(fixtures, &path)?, report)
        });
    }
    for root in folders_with(fixtures, "e2e/cases.json") {
        report.attempt("prompt/e2e", |report| check_e2e(fixtures, &root, report));
    }
    for file in ["expected.json", "long.json"] {
        for root in folders_with(fixtures, &format!("smollm2/{file}")) {
            let name = format!("prompt/smollm2 {}", file.trim_end_matches(".json"));
            report.attempt(&name, |report| {
                check_chat(fixtures, &root, file, &name, report)
            });
        }
    }
    report
}

#[derive(serde::Deserialize)]
struct Prompts {
    templates: BTreeMap<String, Original>,
    cases: Vec<Case>,
    stopping: Vec<Stopping>,
}

/// A template as the reference has it.
#[derive(serde::Deserialize)]
struct Original {
    system: String,
    roles: [String; 2],
    messages: Vec<[String; 2]>,
    sep: String,
    sep2: Option<String>,
}

#[derive(serde::Deserialize)]
struct Case {
    conv_mode: String,
    name: String,
    turns: Vec<(String, Option<String>)>,
    prompt: String,
    input_ids: Vec<i64>,
    input_ids_nonlegacy: Option<Vec<i64>>,
    #[serde(default)]
    added_tokens: BTreeMap<String, u32>,
}

#[derive(serde::Deserialize)]
struct Stopping {
    conv_mode: String,
    stop_str: String,
    generated_ids: Vec<u32>,
    stop_after_each_token: Vec<bool>,
    final_text: String,
}

fn check_prompts(
    fixtures: &dyn Fixtures,
    root: &str,
    prompts: &Prompts,
    report: &mut Report,
) -> Result<()> {
    for (name, original) in &prompts.templates {
        report.attempt(&format!("prompt/templates {name}"), |report| {
            let empty = conversation(name, &[("".into(), None)])?;
            let messages = original.messages.iter().enumerate().map(|(i, message)| {
                let separators = [Some(&original.sep), original.sep2.as_ref()];
                let separator = separators[i % 2].unwrap_or(&original.sep);
                format!("{}: {}{separator}", message[0], message[1])
            });
            let expected = format!(
                "{}{}{}{}: {}{}:",
                original.system,
                original.sep,
                messages.collect::<String>(),
                original.roles[0],
                original.sep,
                original.roles[1],
            );
            let found = empty.prompt()?.text();
            report.equal_text(format!("prompt/templates {name}"), &found, &expected);
            Ok(())
        });
    }
    all_equal(
        report,
        "prompt/prompts text",
        prompts.cases.iter().map(|case| {
            let written = conversation(&case.conv_mode, &case.turns)
                .and_then(|c| c.prompt())
                .map(|p| p.text());
            let label = format!("{} {}", case.conv_mode, case.name);
            (label, written, case.prompt.clone())
        }),
    );

    let folder = format!("{root}tokenizer/");
    if vocabularies(fixtures, &folder, None)?.is_empty() {
        let what = "prompt/prompts ids: no tokenizer.model, tokenizer.json or GGUF lies beside";
        report.missing.push(format!("{what} {root}prompt"));
        return Ok(());
    }
    for Vocabulary { file, tokenizer } in vocabularies(fixtures, &folder, None)? {
        check_ids(
            &tokenizer,
            &format!("prompt/prompts ids {file}"),
            prompts,
            report,
        );
        check_stopping(
            &tokenizer,
            &format!("prompt/stopping {file}"),
            prompts,
            report,
        );
    }
    for legacy in [true, false] {
        let name = match legacy {
            true => "prompt/prompts ids legacy",
            false => "prompt/prompts ids not legacy",
        };
        check_added(fixtures, &folder, name, legacy, prompts, report)?;
    }
    Ok(())
}

/// Compares the raw prompts' ids with tokens added to the vocabulary where a case has some.
fn check_added(
    fixtures: &dyn Fixtures,
    folder: &str,
    name: &str,
    legacy: bool,
    prompts: &Prompts,
    report: &mut Report,
) -> Result<()> {
    let mut rows = Vec::new();
    let sets: BTreeSet<_> = prompts.cases.iter().map(|c| &c.added_tokens).collect();
    for added in sets {
        for mut vocabulary in vocabularies(fixtures, folder, Some(legacy))? {
            let mut in_order: Vec<_> = added.iter().collect();
            in_order.sort_by_key(|(_, id)| **id);
            for (text, id) in in_order {
                let found = vocabulary.tokenizer.add_token(text)?;
                report.equal(format!("prompt/added token {text}"), &[found], &[*id]);
            }
            let again = Tokenizer::from_gguf(&vocabulary.tokenizer.metadata())?;
            for case in prompts.cases.iter().filter(|c| c.added_tokens == *added) {
                let expected = match legacy {
                    true => Some(&case.input_ids),
                    false => case.input_ids_nonlegacy.as_ref(),
                };
                let Some(expected) = expected else { continue };
                for tokenizer in [&vocabulary.tokenizer, &again] {
                    let found = ids_of(&Prompt::parse(&case.prompt), tokenizer);
                    let mut expected = expected.clone();
                    let found = found.map(|found| without_fault(&found, &mut expected, tokenizer));
                    let label = format!("{} {} {}", case.conv_mode, case.name, vocabulary.file);
                    rows.push((label, found, expected));
                }
            }
        }
    }
    if rows.is_empty() {
        report
            .missing
            .push(format!("{name}: no tokenizer.model in {folder}"));
    } else {
        all_equal(report, name, rows);
    }
    Ok(())
}

/// transformers 4.31 with `legacy: false` gives `<unk>` for a word that follows an added token.
/// That is not copied: from there to the end of its text, what must be equal is what is said.
fn without_fault(found: &[i64], expected: &mut Vec<i64>, tokenizer: &Tokenizer) -> Vec<i64> {
    let Some(at) = expected.iter().position(|&id| id == 0) else {
        return found.to_vec();
    };
    let text = |ids: &[i64]| {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| id.try_into().ok()).collect();
        tokenizer.decode(&ids)
    };
    let same_start = found.get(..at) == expected.get(..at);
    let says = text(&found[at.min(found.len())..]);
    if same_start && !found.contains(&0) && says.ends_with(text(&expected[at + 1..]).trim_start()) {
        *expected = found.to_vec();
    }
    found.to_vec()
}

fn check_ids(tokenizer: &Tokenizer, name: &str, prompts: &Prompts, report: &mut Report) {
    let plain = prompts.cases.iter().filter(|c| c.added_tokens.is_empty());
    all_equal(
        report,
        name,
        plain.flat_map(|case| {
            let label = format!("{} {}", case.conv_mode, case.name);
            let written = conversation(&case.conv_mode, &case.turns).and_then(|c| c.prompt());
            let written = written.and_then(|prompt| ids_of(&prompt, tokenizer));
            let parsed = ids_of(&Prompt::parse(&case.prompt), tokenizer);
            [
                (label.clone(), written, case.input_ids.clone()),
                (format!("{label}, parsed"), parsed, case.input_ids.clone()),
            ]
        }),
    );
}

fn check_stopping(tokenizer: &Tokenizer, name: &str, prompts: &Prompts, report: &mut Report) {
    all_equal(
        report,
        name,
        prompts.stopping.iter().map(|row| {
            let expected_end = row.stop_after_each_token.iter().position(|&stop| stop);
            let found = Template::from_name(&row.conv_mode).map(|template| {
                let (end, text) = answer(tokenizer, &template, &row.generated_ids);
                (template.stop().map(String::from), end, text)
            });
            let expected = (
                Some(row.stop_str.clone()),
                expected_end,
                row.final_text.clone(),
            );
            (format!("{:?}", row.generated_ids), found, expected)
        }),
    );
}

/// What a session makes of generated ids: the index of the token that ended it, and the answer.
fn answer(tokenizer: &Tokenizer, template: &Template, ids: &[u32]) -> (Option<usize>, String) {
    let mut decoder = Decoder::default();
    let mut answer = StopBuffer::new(template.stop());
    let mut given = String::new();
    let mut end = None;
    for (i, &id) in ids.iter().enumerate() {
        given.push_str(answer.push(decoder.push(tokenizer, id)));
        if answer.stopped() || tokenizer.ends_generation(id) {
            end = Some(i);
            break;
        }
    }
    given.push_str(answer.push(decoder.finish()));
    given.push_str(answer.finish());
    debug_assert_eq!(given, answer.text());
    (end, given)
}

/// A conversation whose user texts hold `<image>` markers, each visual followed by a line break,
/// as the demo and the evaluations write them.
fn conversation(template: &str, turns: &[(String, Option<String>)]) -> Result<Conversation> {
    let wraps_visuals = turns.iter().any(|(text, _)| text.contains(IM_START));
    let turns = turns.iter().map(|(text, answer)| {
        let text = text.replace(IM_START, "").replace(IM_END, "");
        let mut parts: Vec<PromptPart> = Vec::new();
        let mut frames = 0;
        for (i, text) in text.split(IMAGE_MARKER).enumerate() {
            frames += usize::from(i > 0);
            if text.is_empty() {
                continue;
            }
            // Here the number of markers counts, not what the reference takes them for.
            let own = match std::mem::take(&mut frames) {
                0 => text,
                frames => {
                    parts.push(PromptPart::Visual(match frames {
                        1 => PromptVisual::Image,
                        frames => PromptVisual::Video { frames },
                    }));
                    text.strip_prefix('\n').unwrap_or(text)
                }
            };
            parts.push(PromptPart::Text(own.to_string()));
        }
        Turn {
            parts,
            answer: answer.clone(),
        }
    });
    Ok(Conversation {
        template: Template::from_name(template)?,
        system: None,
        wraps_visuals,
        turns: turns.collect(),
    })
}

/// A prompt's ids as the reference counts them.
fn ids_of(prompt: &Prompt, tokenizer: &Tokenizer) -> Result<Vec<i64>> {
    let mut ids = Vec::new();
    for slot in prompt.encode(tokenizer)? {
        match slot {
            Slot::Tokens(tokens) => ids.extend(tokens.into_iter().map(i64::from)),
            Slot::Visual(i) => {
                let markers = match prompt.visuals[i] {
                    PromptVisual::Image => 1,
                    PromptVisual::Video { frames } => frames,
                };
                ids.extend(std::iter::repeat_n(IMAGE_ID, markers));
            }
        }
    }
    Ok(ids)
}

#[derive(serde::Deserialize)]
struct EndToEnd {
    cases: Vec<EndToEndCase>,
}

#[derive(serde::Deserialize)]
struct EndToEndCase {
    name: String,
    conv_mode: String,
    images: Vec<String>,
    prompt: String,
    input_ids: Vec<i64>,
    greedy_ids: Vec<u32>,
    decoded: String,
    final_text: String,
}

fn check_e2e(fixtures: &dyn Fixtures, root: &str, report: &mut Report) -> Result<()> {
    let cases: EndToEnd = read_json(fixtures, &format!("{root}e2e/cases.json"))?;
    let all = vocabularies(fixtures, &format!("{root}e2e/checkpoint/"), None)?;
    if all.is_empty() {
        let what = format!("prompt/e2e: no vocabulary in {root}e2e/checkpoint");
        report.missing.push(what);
    }
    for Vocabulary { file, tokenizer } in &all {
        all_equal(
            report,
            &format!("prompt/e2e ids {file}"),
            cases.cases.iter().map(|case| {
                let found = ids_of(&Prompt::parse(&case.prompt), tokenizer);
                (case.name.clone(), found, case.input_ids.clone())
            }),
        );
        all_equal(
            report,
            &format!("prompt/e2e markers {file}"),
            cases.cases.iter().map(|case| {
                let markers = case.prompt.matches(IMAGE_MARKER).count();
                (case.name.clone(), Ok(markers), case.images.len())
            }),
        );
        all_equal(
            report,
            &format!("prompt/e2e answers {file}"),
            cases.cases.iter().map(|case| {
                let found = Template::from_name(&case.conv_mode).map(|template| {
                    let decoded = tokenizer.decode(&case.greedy_ids);
                    (decoded, answer(tokenizer, &template, &case.greedy_ids).1)
                });
                let expected = (case.decoded.clone(), case.final_text.clone());
                (case.name.clone(), found, expected)
            }),
        );
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Chats {
    prompts: BTreeMap<String, Chat>,
}

#[derive(serde::Deserialize)]
struct Chat {
    messages: Vec<Message>,
    text: String,
    prompt_ids: Vec<i64>,
    llamacpp: Generated,
    exact_f32: Generated,
}

#[derive(serde::Deserialize)]
struct Message {
    role: String,
    content: String,
}

#[derive(serde::Deserialize)]
struct Generated {
    greedy: Vec<u32>,
    text: String,
}

/// A real model's own template and vocabulary.
fn check_chat(
    fixtures: &dyn Fixtures,
    root: &str,
    file: &str,
    name: &str,
    report: &mut Report,
) -> Result<()> {
    let chats: Chats = read_json(fixtures, &format!("{root}smollm2/{file}"))?;
    let model: RealModel = read_json(fixtures, &format!("{root}smollm2/expected.json"))?;
    let Some((tokenizer, metadata)) = model.info.read(fixtures, name, report)? else {
        return Ok(());
    };
    let template = Template::from_metadata(&metadata, &tokenizer)?;
    let template = template.unwrap_or(Template::Simple);
    let mut texts = Vec::new();
    let mut ids = Vec::new();
    let mut answers = Vec::new();
    for (label, chat) in &chats.prompts {
        let mut conversation = Conversation {
            template: template.clone(),
            system: None,
            wraps_visuals: false,
            turns: Vec::new(),
        };
        for message in &chat.messages {
            match (message.role.as_str(), conversation.turns.last_mut()) {
                ("system", _) => conversation.system = Some(message.content.clone()),
                ("assistant", Some(turn)) => turn.answer = Some(message.content.clone()),
                _ => conversation.turns.push(Turn {
                    parts: vec![PromptPart::Text(message.content.clone())],
                    answer: None,
                }),
            }
        }
        let prompt = conversation.prompt()?;
        texts.push((label.clone(), Ok(prompt.text()), chat.text.clone()));
        ids.push((
            label.clone(),
            ids_of(&prompt, &tokenizer),
            chat.prompt_ids.clone(),
        ));
        for generated in [&chat.llamacpp, &chat.exact_f32] {
            let found = tokenizer.decode(&generated.greedy);
            answers.push((label.clone(), Ok(found), generated.text.clone()));
        }
    }
    all_equal(report, &format!("{name} text"), texts);
    all_equal(report, &format!("{name} ids"), ids);
    all_equal(report, &format!("{name} answers"), answers);
    Ok(())
}
