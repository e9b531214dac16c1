//! `univi chat`: a conversation, line by line.

use std::{
    io::{BufRead, IsTerminal},
    ops::ControlFlow,
    path::Path,
};

use clap::Args;
use rustyline::{Config, DefaultEditor, error::ReadlineError};
use univi::{Error, Part, Result, Session, Visual, session::Finish};

use crate::{
    args::{FrameArgs, ModelArgs, STDIN, SamplingArgs, VisualPath, Visuals},
    ask,
    encode::{self, Opened},
    files,
    interrupt::Listener,
    open, out, typed_path,
};

/// Talk in several turns, with images and videos at any turn.
///
/// Reads one message per line, from the terminal or from a pipe. Ctrl-C stops an answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi chat --model models/chat-univi-7b
  univi chat -m models/chat-univi-7b --image sheep.jpg
  printf '/image sheep.jpg\\nWhat is this?\\nAnd what is behind it?\\n' | univi chat -m models/chat-univi-7b --greedy

In the conversation:
  /image FILE     show a picture with the next message
  /video FILE     show a video (or a folder of frames) with the next message
  /reset          start over
  /save FILE      write the conversation as JSON
  /help, /quit

Exit codes: 0 ended by /quit or the end of input, 1 failed, 2 wrong command line.")]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub visuals: Visuals,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

impl ChatArgs {
    /// Checks that every option has something to act on.
    ///
    /// # Errors
    /// What contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        self.sampling.check()?;
        // Images and videos may come with any message.
        self.frames.check(true, true)?;
        match self.visuals.stdin_count() {
            0 => Ok(()),
            _ => Err("stdin is the conversation: give --image the path of a file".into()),
        }
    }
}

const HELP: &str = "\
/image FILE   show a picture with the next message (drag a file here to write its path)
/video FILE   show a video, or a folder of frames, with the next message
/reset        start over
/save FILE    write the conversation as JSON
/quit         leave (or Ctrl-D)
Ctrl-C stops an answer.";

const COMMANDS: [&str; 7] = [
    "/image", "/video", "/reset", "/save", "/help", "/quit", "/exit",
];

/// Answers line by line until the input ends.
///
/// # Errors
/// What is wrong with the model. An error in a turn is printed, and the conversation goes on; where
/// the input is no terminal, it ends there.
pub async fn run(args: &ChatArgs) -> Result<()> {
    let device = open::device(args.model.device.into()).await?;
    let opened = encode::open_all(&args.visuals.0)?;
    let options = args.model.session_options()?;
    let model = open::model(&device, &args.model.model, &args.model.load_options()).await?;
    let mut chat = Chat {
        session: model.session(options),
        args,
        shown: Vec::new(),
        turns: Vec::new(),
    };
    for visual in opened {
        chat.show(visual).await?;
    }
    let mut input = Input::new()?;
    if input.is_terminal() {
        out::note("Ask something. /help lists the commands.");
    }
    while let Some(line) = input.next()? {
        match chat.line(line.trim()).await {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(Error::Aborted) => return Err(Error::Aborted),
            Err(error) if input.is_terminal() => out::note(&format!("error: {error}")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lines from a terminal, with editing and a history, or from a pipe.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe(std::io::Lines<std::io::StdinLock<'static>>),
}

impl Input {
    fn new() -> Result<Input> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe(std::io::stdin().lock().lines()));
        }
        let config = Config::builder().auto_add_history(true).build();
        let editor = DefaultEditor::with_config(config).map_err(|e| unreadable(&e))?;
        Ok(Input::Terminal(Box::new(editor)))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Input::Pipe(lines) => lines.next().transpose().map_err(|e| unreadable(&e)),
            Input::Terminal(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => return Ok(Some(line)),
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(ReadlineError::Interrupted) => out::note("/quit or Ctrl-D leaves"),
                    Err(error) => return Err(unreadable(&error)),
                }
            },
        }
    }
}

fn bad_request(reason: String) -> Error {
    Error::BadRequest { reason }
}

/// Makes the error for a command that does not exist, with the nearest one that does.
fn unknown(command: &str) -> Error {
    let nearest = COMMANDS
        .iter()
        .map(|known| (strsim::damerau_levenshtein(command, known), known))
        .min_by_key(|&(edits, _)| edits)
        .filter(|&(edits, _)| edits <= 2);
    let tip = match nearest {
        Some((_, known)) => format!("did you mean {known}?"),
        None => format!("the commands are {}", COMMANDS.join(", ")),
    };
    bad_request(format!("there is no command {command}; {tip}"))
}

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file("stdin")
}

/// A turn as it is saved.
#[derive(serde::Serialize)]
struct SavedTurn {
    /// `{"image": FILE}` or `{"video": FILE}`
    visuals: Vec<serde_json::Value>,
    user: String,
    assistant: String,
}

struct Chat<'a> {
    session: Session,
    args: &'a ChatArgs,
    /// What the next message shows.
    shown: Vec<(VisualPath, Visual)>,
    turns: Vec<SavedTurn>,
}

impl Chat<'_> {
    /// Carries out a line; breaks at `/quit`.
    async fn line(&mut self, line: &str) -> Result<ControlFlow<()>> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let paths = || match typed_path::parse(rest) {
            _ if rest.is_empty() => Err(bad_request(format!("{word} needs a file: {word} FILE"))),
            paths if paths.iter().any(|path| path.as_os_str() == STDIN) => Err(bad_request(
                format!("stdin is the conversation: {word} FILE"),
            )),
            paths => Ok(paths),
        };
        match word {
            "" => {}
            "/quit" | "/exit" => return Ok(ControlFlow::Break(())),
            "/help" => out::note(HELP),
            "/image" => {
                for path in paths()? {
                    self.show(encode::open(&VisualPath::Image(path))?).await?;
                }
            }
            "/video" => {
                for path in paths()? {
                    self.show(encode::open(&VisualPath::Video(path))?).await?;
                }
            }
            "/reset" => {
                self.session.clear();
                self.shown.clear();
                self.turns.clear();
                out::note("started over");
            }
            "/save" => match &paths()?[..] {
                [path] => self.save(path)?,
                _ => return Err(bad_request("/save takes one file".into())),
            },
            _ => {
                if let Some((path, kind)) = typed_path::of_question(line) {
                    let command = match kind {
                        typed_path::Kind::Image => "/image",
                        typed_path::Kind::Video => "/video",
                    };
                    return Err(bad_request(format!(
                        "that is a file, not a question: {command} {} shows it with your next message",
                        typed_path::quoted(&path)
                    )));
                }
                // A path that is asked about is no command.
                if word.starts_with('/') && !word[1..].contains('/') {
                    return Err(unknown(word));
                }
                self.say(line).await?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn show(&mut self, visual: Opened) -> Result<()> {
        let model = self.session.model().clone();
        let vision = model.vision(&self.args.frames.visual_options())?;
        let seen = encode::visual(&vision, &visual, &self.args.frames).await?;
        let (_, name) = ask::path_of(&visual.path);
        out::note(&format!(
            "{name}: {} tokens; it goes with the next message",
            seen.tokens()
        ));
        self.shown.push((visual.path, seen));
        Ok(())
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        let visuals = self.shown.iter().map(|(_, visual)| visual.into());
        let parts: Vec<Part> = visuals.chain([text.into()]).collect();
        let listener = Listener::new();
        let options = self.args.sampling.generate();
        let mut stream = self.session.ask(parts, &options).await?;
        while let Some(text) = stream.next().await? {
            out::write(&text)?;
            if listener.pressed() {
                break;
            }
        }
        let answer = stream.stop();
        drop(listener);
        out::line("")?;
        ask::note_end(&answer);
        if answer.finish == Finish::Aborted && answer.text.is_empty() {
            // The turn left no trace; what it showed goes with the next one.
            return Ok(());
        }
        let visual = |(visual, _): (VisualPath, Visual)| {
            let (kind, path) = ask::path_of(&visual);
            serde_json::json!({ kind: path })
        };
        let visuals = std::mem::take(&mut self.shown)
            .into_iter()
            .map(visual)
            .collect();
        self.turns.push(SavedTurn {
            visuals,
            user: text.to_owned(),
            assistant: answer.text,
        });
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        let value = serde_json::json!({
            "model": files::name(&self.args.model.model),
            "system": self.args.model.system,
            "turns": self.turns,
        });
        files::write(path, format!("{value:#}\n").as_bytes())?;
        out::note(&format!(
            "{}: {} turns saved",
            files::name(path),
            self.turns.len()
        ));
        Ok(())
    }
}
