//! `univi chat`: a conversation, line by line.

use std::{
    io::{BufRead, IsTerminal},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use rustyline::{Config, DefaultEditor, error::ReadlineError};
use univi::{Error, Part, Result, Session, Visual, session::Finish};

use crate::{
    args::{ChatArgs, VisualPath},
    ask, files,
    interrupt::Listener,
    look, open, out,
};

const HELP: &str = "\
/image FILE   show a picture with the next message
/video FILE   show a video, or a folder of frames, with the next message
/reset        start over
/save FILE    write the conversation as JSON
/quit         leave (or Ctrl-D)
Ctrl-C stops an answer.";

/// Talks until the input ends.
///
/// # Errors
/// Whatever is wrong with the model. What goes wrong in a turn is told and the conversation goes
/// on; where the input is no terminal nobody can react, and it ends there.
pub async fn run(args: &ChatArgs) -> Result<()> {
    let device = open::device(args.model.device.into()).await?;
    look::check(&args.visuals.0)?;
    let options = args.model.session_options()?;
    let model = open::model(&device, &args.model.model, &args.model.load_options()).await?;
    let mut chat = Chat {
        session: model.session(options),
        args,
        shown: Vec::new(),
        turns: Vec::new(),
    };
    for visual in &args.visuals.0 {
        chat.show(visual.clone()).await?;
    }
    let mut input = Input::new()?;
    if input.is_terminal() {
        out::note("Ask something. /help tells what else there is.");
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

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::Io {
        reason: error.to_string(),
    }
    .in_file("stdin")
}

/// What was said, as it is saved.
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
    /// Does what a line says; breaks where it says to leave.
    async fn line(&mut self, line: &str) -> Result<ControlFlow<()>> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let file = || match rest {
            "" => Err(Error::BadRequest {
                reason: format!("{word} needs a file; /help tells more"),
            }),
            path => Ok(PathBuf::from(path)),
        };
        match word {
            "" => {}
            "/quit" | "/exit" => return Ok(ControlFlow::Break(())),
            "/help" => out::note(HELP),
            "/image" => self.show(VisualPath::Image(file()?)).await?,
            "/video" => self.show(VisualPath::Video(file()?)).await?,
            "/reset" => {
                self.session.clear();
                self.shown.clear();
                self.turns.clear();
                out::note("started over");
            }
            "/save" => self.save(&file()?)?,
            // A path that is asked about is no command.
            word if word.starts_with('/') && !word[1..].contains('/') => {
                let reason = format!("there is no command {word}; /help tells which there are");
                return Err(Error::BadRequest { reason });
            }
            _ => self.say(line).await?,
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn show(&mut self, visual: VisualPath) -> Result<()> {
        let model = self.session.model().clone();
        let vision = model.vision(&self.args.frames.visual_options())?;
        let seen = look::show(&vision, &visual, &self.args.frames).await?;
        let (_, name) = ask::path_of(&visual);
        out::note(&format!(
            "{name}: {} tokens; it goes with the next message",
            seen.tokens()
        ));
        self.shown.push((visual, seen));
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
        std::fs::write(path, format!("{value:#}\n")).map_err(|e| files::io_error(path, &e))?;
        out::note(&format!(
            "{}: {} turns saved",
            files::name(path),
            self.turns.len()
        ));
        Ok(())
    }
}
