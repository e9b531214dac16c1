//! `univi ask`: one question, one answer.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use univi::{
    Error, Model, Part, Result, Visual, VisualKind,
    image::Rgb8,
    prompt::{self, Prompt},
    session::{Answer, Finish},
};

use crate::{
    args::{FrameArgs, ModelArgs, STDIN, SamplingArgs, VisualPath, Visuals},
    encode::{self, Opened},
    files, open, out, typed_path,
};

/// Ask one question about images, videos, or nothing but words.
///
/// Images and videos stand before the question in the order of the command line.
/// The answer is streamed to stdout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi ask --model models/chat-univi-7b --image sheep.jpg \"How many sheep are there?\"
  univi ask -m models/chat-univi-7b --video clip.mp4 --start 10 --end 30 --greedy \"What happens?\"
  cat question.txt | univi ask -m SmolLM2-135M-Instruct.Q4_1.gguf --json -
  echo '{ \"enum\": [\"yes\", \"no\"] }' > schema.json
  univi ask -m models/univi-nano --image scene.png --json-schema schema.json \"Is there a bee?\"

Videos: a folder of frames (one per second, in natural order of names), an animated GIF, or any file that ffmpeg reads.
Exit codes: 0 answered, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct AskArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub visuals: Visuals,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// QUESTION is the whole prompt, with one <image> for each picture and for each frame of a
    /// video: a run of one or two is pictures, a longer run is one video. No template is
    /// applied.
    #[arg(long, conflicts_with_all = ["template", "system"])]
    pub raw_prompt: bool,
    /// Answer with a JSON value that is valid for the JSON schema in this file.
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Print one JSON object with the answer, usage and timings instead of streaming.
    #[arg(long)]
    pub json: bool,
    /// The question; `-` reads it from stdin.
    #[arg(value_name = "QUESTION")]
    pub question: String,
}

impl AskArgs {
    /// Checks that every option has something to act on.
    ///
    /// # Errors
    /// What contradicts itself or would be ignored.
    pub fn check(&self) -> Result<(), String> {
        self.sampling.check()?;
        self.frames
            .check(self.visuals.has_images(), self.visuals.has_videos())?;
        let from_stdin = self.visuals.stdin_count() + usize::from(self.question == "-");
        match from_stdin {
            0 | 1 => Ok(()),
            _ => Err("`-` reads all of stdin, so it can stand for one thing only".into()),
        }
    }
}

/// Answers the question.
///
/// # Errors
/// What is wrong with the model, the visuals or the question.
pub async fn run(args: &AskArgs) -> Result<()> {
    let device = open::device(args.model.device.into()).await?;
    let question = question(args)?;
    let opened = encode::open_all(&args.visuals.0)?;
    let session_options = args.model.session_options()?;
    let mut generate = args.sampling.generate();
    if let Some(path) = &args.json_schema {
        generate.schema = Some(files::schema(path)?);
    }

    let start = Instant::now();
    let model = open::model(&device, &args.model.model, &args.model.load_options()).await?;
    let loaded = Instant::now();
    let mut session = model.session(session_options);

    let (encoded, mut stream);
    if args.raw_prompt {
        let prompt = Prompt::parse(&question);
        let visuals = raw_visuals(&model, &prompt, &opened, &args.frames).await?;
        encoded = Instant::now();
        stream = session.complete(&prompt, visuals, &generate).await?;
    } else {
        let mut parts: Vec<Part> = Vec::new();
        for visual in &opened {
            let vision = model.vision(&args.frames.visual_options())?;
            parts.push(encode::visual(&vision, visual, &args.frames).await?.into());
        }
        parts.push(question.into());
        encoded = Instant::now();
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
            "encode_s": seconds(loaded, encoded),
            "first_text_s": seconds(encoded, first_text.unwrap_or(end)),
            "answer_s": seconds(encoded, end),
        },
    }))
}

/// The most bytes of a question: more than any context holds.
const MAX_QUESTION_BYTES: u64 = 16 << 20;

/// Returns the question, from stdin for `-`.
fn question(args: &AskArgs) -> Result<String> {
    let mut question = args.question.clone();
    if question == STDIN {
        question = question_on_stdin().map_err(|e| e.in_file("stdin"))?;
    } else if let Some((path, kind)) = typed_path::of_question(&question) {
        let option = match kind {
            typed_path::Kind::Image => "--image",
            typed_path::Kind::Video => "--video",
        };
        let path = typed_path::quoted(&path);
        return Err(Error::BadRequest {
            reason: format!(
                "the question is the path of a file: show the file and ask about it, \
                 {option} {path} \"What is this?\""
            ),
        });
    }
    match question.trim() {
        "" => Err(Error::BadRequest {
            reason: "the question is empty; ask something".into(),
        }),
        _ => Ok(question),
    }
}

fn question_on_stdin() -> Result<String> {
    let read = files::read_up_to(std::io::stdin().lock(), MAX_QUESTION_BYTES);
    let bytes = read.map_err(|e| Error::Io {
        reason: e.to_string(),
    })?;
    let text = bytes
        .map(String::from_utf8)
        .ok_or_else(|| Error::BadRequest {
            reason: format!("the question is longer than {MAX_QUESTION_BYTES} bytes"),
        })?;
    let mut text = text.map_err(|_| Error::BadRequest {
        reason: "the question is no text in UTF-8; a picture on stdin is --image -".into(),
    })?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Reports an end that the answer itself does not show.
pub fn note_end(answer: &Answer) {
    match answer.finish {
        Finish::Stop if answer.text.is_empty() => {
            out::note("(the model gave no answer: try other words)");
        }
        Finish::Stop => {}
        Finish::Length => out::note("(cut off: --max-tokens or the context is used up)"),
        Finish::Aborted => out::note("(stopped)"),
    }
}

/// Returns why the answer ended.
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

/// Encodes what the markers of a raw prompt stand for: each takes the next picture or frame of
/// those that were given, in their order.
async fn raw_visuals(
    model: &Model,
    prompt: &Prompt,
    opened: &[Opened],
    options: &FrameArgs,
) -> Result<Vec<Visual>> {
    if prompt.visuals.is_empty() && opened.is_empty() {
        return Ok(Vec::new());
    }
    let vision = &model.vision(&options.visual_options())?;
    let mut frames: Vec<Rgb8> = Vec::new();
    for visual in opened {
        frames.extend(encode::read(vision, visual, options)?.frames);
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
            prompt::PromptVisual::Video { .. } => {
                encode::video(vision, "the frames", taken).await?
            }
        });
    }
    Ok(seen)
}

/// Returns a visual's kind and path as they are printed and saved.
pub fn path_of(visual: &VisualPath) -> (&'static str, String) {
    match visual {
        VisualPath::Image(path) => ("image", files::name(path)),
        VisualPath::Video(path) => ("video", files::name(path)),
    }
}
