//! Runs other programs so that a failure explains itself: the command as typed, the end of what it
//! printed, and what to do about it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How many of the last lines of output a failure repeats.
const TAIL_LINES: usize = 30;

/// A program with its arguments, and the advice to give when it fails.
pub struct Cmd {
    command: Command,
    typed: String,
    remedy: Option<String>,
    time_limit: Option<Duration>,
    echo: bool,
}

/// Starts the description of a command; nothing runs before [`Cmd::run`].
pub fn cmd(program: impl AsRef<Path>) -> Cmd {
    let program = program.as_ref();
    Cmd {
        command: Command::new(program),
        typed: program.display().to_string(),
        remedy: None,
        time_limit: None,
        echo: false,
    }
}

impl Cmd {
    /// Appends one argument.
    pub fn arg(mut self, arg: impl AsRef<Path>) -> Self {
        let arg = arg.as_ref();
        write!(self.typed, " {}", arg.display()).expect("a String takes any text");
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        args.into_iter().fold(self, Cmd::arg)
    }

    /// Sets an environment variable of the child.
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.typed = format!("{name}={} {}", value.as_ref().display(), self.typed);
        self.command.env(name, value.as_ref());
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What the user should do when this command fails.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Ends the command, as a failure, when it runs longer than this.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Shows the output while it is produced, besides keeping it.
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Runs to the end -> everything the program printed, both streams as they came.
    pub fn run(self) -> Result<String> {
        let (output, result) = self.run_to_end();
        result.map(|()| output)
    }

    /// Like [`Cmd::run`], for output that matters even where the command failed.
    pub fn run_to_end(mut self) -> (String, Result<()>) {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut output = String::new();
        let ended = match self.command.spawn() {
            Ok(mut child) => self.collect(&mut child, &mut output),
            Err(error) => Err(error.into()),
        };
        let why = match ended {
            Ok(Some(status)) if status.success() => return (output, Ok(())),
            Ok(Some(status)) => status.to_string(),
            Ok(None) => format!("ran longer than {:?}", self.time_limit.unwrap_or_default()),
            Err(error) => error.to_string(),
        };
        let lines: Vec<&str> = output.lines().collect();
        let shown = if self.echo {
            lines.len()
        } else {
            lines.len().saturating_sub(TAIL_LINES)
        };
        let tail: String = lines[shown..]
            .iter()
            .map(|line| format!("\n    | {line}"))
            .collect();
        let failure = anyhow!("`{}` failed ({why}){tail}{}", self.typed, self.advice());
        (output, Err(failure))
    }

    /// Runs to the end -> the output where the program exists and succeeds. For questions whose
    /// negative answer is an answer ("is this installed?").
    pub fn probe(self) -> Option<String> {
        self.run().ok()
    }

    fn advice(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("\n  what to do: {remedy}"),
            None => String::new(),
        }
    }

    /// Reads both streams until they close or time is up -> how it ended; `None`: not in time.
    fn collect(&self, child: &mut Child, output: &mut String) -> Result<Option<ExitStatus>> {
        let (sender, lines) = mpsc::channel();
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().context("no stdout")?);
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().context("no stderr")?);
        for stream in [stdout, stderr] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n') {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let started = Instant::now();
        loop {
            let line = match self.time_limit {
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(limit) => lines.recv_timeout(limit.saturating_sub(started.elapsed())),
            };
            match line {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line);
                    if self.echo {
                        println!("{line}");
                    }
                    output.push_str(&line);
                    output.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(child.wait()?)),
                Err(RecvTimeoutError::Timeout) => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(None);
                }
            }
        }
    }
}
