//! Runs other programs so that a failure explains itself: the command as typed, the end of what it
//! printed, and what to do about it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

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
    pub fn run(mut self) -> Result<String> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| anyhow!("cannot start `{}`: {e}{}", self.typed, self.advice()))?;
        let (output, in_time) = self.collect(&mut child)?;
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for `{}`", self.typed))?;
        if in_time && status.success() {
            return Ok(output);
        }
        let why = match (in_time, status.code()) {
            (false, _) => format!("ran longer than {:?}", self.time_limit.unwrap_or_default()),
            (true, Some(code)) => format!("exit code {code}"),
            (true, None) => "ended by a signal".to_owned(),
        };
        let lines: Vec<&str> = output.lines().collect();
        let tail = match self.echo {
            true => String::new(), // It has just been shown.
            false => lines[lines.len().saturating_sub(TAIL_LINES)..]
                .iter()
                .map(|line| format!("\n    | {line}"))
                .collect(),
        };
        bail!("`{}` failed ({why}){tail}{}", self.typed, self.advice())
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

    /// Reads both streams until they close or time is up -> (the text, whether it ended in time).
    fn collect(&self, child: &mut Child) -> Result<(String, bool)> {
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
        let mut output = String::new();
        loop {
            let left = match self.time_limit {
                Some(limit) => limit.saturating_sub(started.elapsed()),
                None => Duration::MAX,
            };
            let line = match left {
                Duration::MAX => lines
                    .recv()
                    .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                left => lines.recv_timeout(left),
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
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok((output, true)),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    child
                        .kill()
                        .context("cannot end a command that takes too long")?;
                    return Ok((output, false));
                }
            }
        }
    }
}
