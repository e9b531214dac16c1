//! A real language model that others made: its own template and vocabulary, and the answers that
//! exact arithmetic gives.
//!
//! The model is too large to lie among the fixtures, which name it by length and SHA-256.

use std::{collections::BTreeMap, ops::ControlFlow, rc::Rc};

use univi::{
    Backend, Error, Result,
    loader::{Content, LoadOptions, Loader, ModelFile},
    model::{ChatUniVi, PromptToken},
    prompt::{Conversation, PromptPart, Turn},
    session::{EngineSession, Finish, GenerateOptions},
};

use crate::{
    Fixtures, Report, Tensors, check_folders,
    gguf_models::{Errors, LOGITS_TOLERANCE, MARGIN},
    read_json,
};

/// `expected.json`.
#[derive(serde::Deserialize)]
struct Expected {
    info: Info,
    prompts: BTreeMap<String, Asked>,
}

/// Further files of the same folder.
#[derive(serde::Deserialize)]
struct More {
    prompts: BTreeMap<String, Asked>,
}

/// Which model it is about.
#[derive(serde::Deserialize)]
struct Info {
    size: u64,
    sha256: String,
}

/// A conversation, and what the model says.
#[derive(serde::Deserialize)]
struct Asked {
    messages: Vec<Message>,
    /// The conversation as the model's template writes it.
    text: String,
    prompt_ids: Vec<u32>,
    exact_f32: Exact,
}

#[derive(serde::Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// What exact arithmetic gives.
#[derive(serde::Deserialize)]
struct Exact {
    /// The likeliest first tokens with their logits.
    top10: Vec<(u32, f32)>,
    greedy: Vec<u32>,
    margins: Vec<f64>,
    text: String,
    /// Whether the model ended its answer itself.
    stopped_at_eog: bool,
}

/// Compares every `smollm2/expected.json` and what lies beside it.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    check_folders(
        fixtures,
        "smollm2",
        "expected.json",
        async |folder, report| check_folder(backend, fixtures, folder, report).await,
    )
    .await
}

async fn check_folder<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    report: &mut Report,
) -> Result<()> {
    let Expected { info, mut prompts } = read_json(fixtures, &format!("{folder}expected.json"))?;
    let mut logits = Tensors::default();
    for path in fixtures.list() {
        match path.strip_prefix(folder) {
            Some("first_step_logits.safetensors") => logits = Tensors::read(fixtures, &path)?,
            Some("expected.json") | None => {}
            Some(name) if name.ends_with(".json") => {
                prompts.extend(read_json::<More>(fixtures, &path)?.prompts);
            }
            Some(_) => {}
        }
    }
    prompts.retain(|name, _| fixtures.wants(&format!("smollm2/{name}")));
    let Some(bytes) = fixtures.model(info.size, &info.sha256)? else {
        let missing = format!(
            "smollm2: {} prompts, for want of the model of SHA-256 {}",
            prompts.len(),
            info.sha256
        );
        report.missing.push(missing);
        return Ok(());
    };
    let model = load(backend, bytes).await?;
    let mut session = EngineSession::new(Rc::new(model), Default::default());
    for (name, asked) in &prompts {
        let exact = logits.f32(&format!("{name}.exact")).ok();
        if let Err(error) = ask(&mut session, name, asked, exact, report).await {
            report.measured(
                format!("smollm2/{name}"),
                f64::INFINITY,
                0.0,
                error.to_string(),
            );
        }
    }
    Ok(())
}

/// The hash was checked by whoever found the file by it.
async fn load<B: Backend>(backend: &B, bytes: Vec<u8>) -> Result<ChatUniVi<B>> {
    let file = ModelFile {
        content: Content::Gguf,
        name: "smollm2".into(),
        bytes: Some(bytes.len() as u64),
        sha256: None,
    };
    let mut loader = Loader::new(backend.clone(), vec![file])?;
    loader.push(&bytes)?;
    drop(bytes);
    loader.end_file()?;
    loader.finish(&LoadOptions::default()).await
}

async fn ask<B: Backend>(
    session: &mut EngineSession<B>,
    name: &str,
    asked: &Asked,
    logits: Option<&[f32]>,
    report: &mut Report,
) -> Result<()> {
    let case = |what: &str| format!("smollm2/{name} {what}");
    let model = session.model().clone();
    let prompt = conversation(&model, &asked.messages)?.prompt()?;
    report.equal_text(case("prompt"), &prompt.text(), &asked.text);
    let prompt_tokens = model.prompt_tokens(&prompt, &[])?;
    let token = |prompt_token: &PromptToken<B>| match prompt_token {
        PromptToken::Token(id) => Some(*id),
        PromptToken::Row(..) => None,
    };
    let ids: Vec<u32> = prompt_tokens.iter().filter_map(token).collect();
    report.equal(case("prompt ids"), &ids, &asked.prompt_ids);

    let found = session.logits(&prompt_tokens).await?;
    if let Some(exact) = logits {
        let mut errors = Errors::default();
        errors.rows(&found, exact);
        errors.report(report, &case("first logits"));
    }
    let at = |&(id, _): &(u32, f32)| found.get(id as usize).copied().unwrap_or(f32::NAN);
    let best: Vec<f32> = asked.exact_f32.top10.iter().map(at).collect();
    let expected: Vec<f32> = asked
        .exact_f32
        .top10
        .iter()
        .map(|&(_, logit)| logit)
        .collect();
    report.close(case("ten likeliest"), &best, &expected, LOGITS_TOLERANCE);

    let exact = &asked.exact_f32;
    // An answer that the model ends is given room to go on, so that it is seen to end.
    let max_tokens = exact.greedy.len() + usize::from(exact.stopped_at_eog);
    let generate = GenerateOptions::greedy().max_tokens(max_tokens);
    let mut go_on = async |_: &str| ControlFlow::Continue(());
    let answer = session
        .generate(&prompt_tokens, &generate, &mut go_on)
        .await?;
    match exact.margins.iter().position(|&margin| margin <= MARGIN) {
        // From a near-tie on, either way is right.
        Some(tie) => {
            let upto = |ids: &[u32]| ids[..tie.min(ids.len())].to_vec();
            report.equal(case("greedy ids"), &upto(&answer.ids), &upto(&exact.greedy));
        }
        None => {
            report.equal(case("greedy ids"), &answer.ids, &exact.greedy);
            report.equal_text(case("answer"), &answer.text, exact.text.trim());
            let ended = answer.finish == Finish::Stop;
            report.equal(case("ends by itself"), &[ended], &[exact.stopped_at_eog]);
        }
    }
    Ok(())
}

/// The messages as turns.
fn conversation<B: Backend>(model: &ChatUniVi<B>, messages: &[Message]) -> Result<Conversation> {
    let mut conversation = Conversation {
        template: model.template().clone(),
        system: None,
        wraps_visuals: model.wraps_visuals(),
        turns: Vec::new(),
    };
    for message in messages {
        let content = message.content.clone();
        match (&message.role[..], conversation.turns.last_mut()) {
            ("system", None) => conversation.system = Some(content),
            ("user", _) => {
                let parts = vec![PromptPart::Text(content)];
                conversation.turns.push(Turn {
                    parts,
                    answer: None,
                });
            }
            ("assistant", Some(turn)) => turn.answer = Some(content),
            (role, _) => {
                let reason = format!("a message of {role:?} at a prompt_token that has none");
                return Err(Error::BadFile {
                    format: "fixture",
                    reason,
                });
            }
        }
    }
    Ok(conversation)
}
