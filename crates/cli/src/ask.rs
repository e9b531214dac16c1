//! `univi ask`: one question, one answer.

use std::{io::Read, time::Instant};

use univi::{
    Error, Model, Part, Result, Visual,
    image::Rgb8,
    model::VisualKind,
    prompt::{self, Prompt},
    session::{Answer, Finish},
};

use crate::{
    args::{AskArgs, VisualPath},
    files, look, open, out,
};

/// Answers the question.
///
/// # Errors
/// Whatever is wrong with the model, the visuals or the question.
pub async fn run(args: &AskArgs) -> Result<()> {
    let device = open::device(args.model.device.into()).await?;
    let question = question(&args.question)?;
    look::check(&args.visuals.0)?;
    let session_options = args.model.session_options()?;
    let mut generate = args.sampling.generate();
    if let Some(path) = &args.json_schema {
        generate.schema = Some(files::schema(path)?);
    }

    let start = Instant::now();
    let model = open::model(&device, &args.model.model, &args.model.load_options()).await?;
    let loaded = Instant::now();
    let mut session = model.session(session_options);

    let (looked, mut stream);
    if args.raw_prompt {
        let prompt = Prompt::parse(&question);
        let visuals = raw_visuals(&model, &prompt, args).await?;
        looked = Instant::now();
        stream = session.complete(&prompt, visuals, &generate).await?;
    } else {
        let mut parts: Vec<Part> = Vec::new();
        for visual in &args.visuals.0 {
            let vision = model.vision(&args.frames.visual_options())?;
            parts.push(look::show(&vision, visual, &args.frames).await?.into());
        }
        parts.push(question.into());
        looked = Instant::now();
        stream = session.ask(parts, &generate).await?;
    }
    let mut first_text = None;
    while let Some(text) = stream.next().await? {
        if !text.is_empty() {
            first_text.get_or_insert_with(Instant::now);
        }
        if !args.json {
            out::write(&text)?;
        }
    }
    let end = Instant::now();
    let visuals = stream.visuals().to_vec();
    let answer = stream.stop();

    if !args.json {
        out::line("")?;
        note_end(&answer);
        return Ok(());
    }
    let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
    out::json(&serde_json::json!({
        "answer": answer.text,
        "finish": finish(&answer),
        "device": device.name(),
        "seed": generate.sampling.seed,
        "visuals": visuals.iter().map(describe).collect::<Vec<_>>(),
        "usage": {
            "prompt_tokens": answer.usage.prompt,
            "visual_tokens": answer.usage.visual,
            "answer_tokens": answer.usage.completion,
            "context_tokens": model.context(),
        },
        "timings": {
            "load_s": seconds(start, loaded),
            "look_s": seconds(loaded, looked),
            "first_text_s": seconds(looked, first_text.unwrap_or(end)),
            "answer_s": seconds(looked, end),
        },
    }))
}

/// The question, from stdin for `-`.
fn question(argument: &str) -> Result<String> {
    let mut question = argument.to_owned();
    if question == "-" {
        question.clear();
        let read = std::io::stdin().read_to_string(&mut question);
        read.map_err(|e| {
            Error::Io {
                reason: e.to_string(),
            }
            .in_file("stdin")
        })?;
        question.truncate(question.trim_end_matches(['\r', '\n']).len());
    }
    match question.trim() {
        "" => Err(Error::BadRequest {
            reason: "the question is empty; ask something".into(),
        }),
        _ => Ok(question),
    }
}

/// Tells a person of an end that the answer does not show.
pub fn note_end(answer: &Answer) {
    match answer.finish {
        Finish::Stop if answer.text.is_empty() => {
            out::note("(the model said nothing: try other words)");
        }
        Finish::Stop => {}
        Finish::Length => out::note("(cut off: --max-tokens or the context is used up)"),
        Finish::Aborted => out::note("(stopped)"),
    }
}

/// Why there is no more.
fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Aborted => "aborted",
    }
}

fn describe(visual: &Visual) -> serde_json::Value {
    match visual.kind() {
        VisualKind::Image => serde_json::json!({ "kind": "image", "tokens": visual.tokens() }),
        VisualKind::Video => {
            serde_json::json!({ "kind": "video", "tokens": visual.tokens(), "events": visual.event_frames() })
        }
    }
}

/// What the markers of a raw prompt stand for: each takes the next picture or frame of those that
/// were given, in their order.
async fn raw_visuals(model: &Model, prompt: &Prompt, args: &AskArgs) -> Result<Vec<Visual>> {
    if prompt.visuals.is_empty() && args.visuals.0.is_empty() {
        return Ok(Vec::new());
    }
    let vision = &model.vision(&args.frames.visual_options())?;
    let mut frames: Vec<Rgb8> = Vec::new();
    for visual in &args.visuals.0 {
        frames.extend(look::read(vision, visual, &args.frames)?.frames);
    }
    let count = |visual: &prompt::PromptVisual| match *visual {
        prompt::PromptVisual::Image => 1,
        prompt::PromptVisual::Video { frames } => frames,
    };
    let markers: usize = prompt.visuals.iter().map(count).sum();
    if markers != frames.len() {
        let reason = format!(
            "the prompt has {markers} markers {}, the images and videos have {} pictures and frames; \
             write one marker for each",
            prompt::IMAGE_MARKER,
            frames.len()
        );
        return Err(Error::BadRequest { reason });
    }
    let mut frames = frames.into_iter();
    let mut seen = Vec::new();
    for visual in &prompt.visuals {
        let taken: Vec<Rgb8> = frames.by_ref().take(count(visual)).collect();
        seen.push(match visual {
            prompt::PromptVisual::Image => vision.image(&taken[0]).await?,
            prompt::PromptVisual::Video { .. } => look::video(vision, "the frames", taken).await?,
        });
    }
    Ok(seen)
}

/// How a visual stands in what is written for programs and people.
pub fn path_of(visual: &VisualPath) -> (&'static str, String) {
    match visual {
        VisualPath::Image(path) => ("image", files::name(path)),
        VisualPath::Video(path) => ("video", files::name(path)),
    }
}
