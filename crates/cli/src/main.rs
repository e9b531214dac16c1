//! The `univi` command.

mod args;
mod ask;
mod bench;
mod chat;
mod chat_server;
mod checkpoint_folder;
mod completions;
mod convert;
mod draw;
mod encode;
mod eval;
mod fetch;
mod figure;
mod files;
mod folder_lock;
mod hub;
mod inspect;
mod interrupt;
mod journal;
mod man;
mod model_folder;
mod models;
mod open;
mod out;
mod progress;
mod pull;
mod serve;
mod synth;
mod temporary;
mod train;
mod typed_path;
mod values;
mod verify;
mod video;
mod visualize;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use univi::Error;

/// Ask questions about images and videos: Chat-UniVi (arXiv 2311.08046) on the GPU or the CPU.
#[derive(Debug, Parser)]
#[command(
    name = "univi",
    version,
    arg_required_else_help = true,
    subcommand_required = true
)]
#[command(after_help = "\
Exit codes:
  0    all went well
  1    something failed; one line on stderr names the cause and the remedy
  2    the command line makes no sense
  130  interrupted with Ctrl-C

Answers go to stdout, everything else to stderr.")]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    Ask(ask::AskArgs),
    Chat(chat::ChatArgs),
    Verify(verify::VerifyArgs),
    Visualize(visualize::VisualizeArgs),
    Convert(convert::ConvertArgs),
    Fetch(fetch::FetchArgs),
    Models(models::ModelsArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Synth(synth::SynthArgs),
    Serve(Box<serve::ServeArgs>),
    Train(train::TrainArgs),
    Eval(Box<eval::EvalArgs>),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Checks what clap's own rules cannot say.
    ///
    /// # Errors
    /// What makes no sense, and what to change.
    fn check(&self) -> Result<(), String> {
        match self {
            Command::Ask(args) => args.check(),
            Command::Chat(args) => args.check(),
            Command::Visualize(args) => args.check(),
            Command::Serve(args) => args.check(),
            Command::Eval(args) => args.check(),
            _ => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(reason) = cli.command.check() {
        let mut command = Cli::command();
        command.error(ErrorKind::ArgumentConflict, reason).exit();
    }
    if let Command::Train(_) = cli.command {
        // candle shares out single additions to threads that wait for each other in a loop; a
        // trainer's threads have work of their own, and lose a third of it to that.
        // SAFETY: there is no other thread yet that could read the environment.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    interrupt::install();
    match pollster::block_on(run(cli)) {
        Ok(code) => code,
        Err(Error::Aborted) if interrupt::heard() => ExitCode::from(interrupt::EXIT_CODE),
        // The reader has gone, or the user stopped the answer: there is nothing to report.
        Err(Error::Aborted) => ExitCode::FAILURE,
        Err(error) => {
            // One line, even where a driver or a file put several into the message.
            let text = error.to_string();
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            out::note(&format!("error: {line}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> univi::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Ask(args) => ask::run(&args).await.map(done),
        Command::Chat(args) => chat::run(&args).await.map(done),
        Command::Verify(args) => verify::run(&args).await,
        Command::Visualize(args) => visualize::run(&args).await.map(done),
        Command::Eval(args) => eval::run(&args).await.map(done),
        Command::Train(args) => train::run(args).map(done),
        Command::Convert(args) => convert::run(args).map(done),
        Command::Fetch(args) => fetch::run(&args).map(done),
        Command::Models(args) => models::run(&args).await.map(done),
        Command::Bench(args) => bench::run(&args).await.map(done),
        Command::Inspect(args) => inspect::run(&args).await.map(done),
        Command::Synth(args) => synth::run(args).map(done),
        Command::Serve(args) => serve::run(&args).map(done),
        Command::Completions(args) => completions::run(Cli::command(), &args).map(done),
        Command::Man(args) => man::run(Cli::command(), &args).map(done),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::args::VisualPath;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn visuals_keep_their_order() {
        let line = [
            "univi", "ask", "-m", "m", "--image", "a", "--video", "b", "--image", "c", "what?",
        ];
        let Command::Ask(ask) = Cli::parse_from(line).command else {
            panic!("not ask")
        };
        let [a, b, c] = ["a", "b", "c"].map(PathBuf::from);
        assert_eq!(
            ask.visuals.0,
            [
                VisualPath::Image(a),
                VisualPath::Video(b),
                VisualPath::Image(c)
            ]
        );
    }
}
