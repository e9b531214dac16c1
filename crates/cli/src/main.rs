//! The `univi` command.

mod args;
mod ask;
mod chat;
mod checkpoint_folder;
mod convert;
mod draw;
mod eval;
mod figure;
mod files;
mod folder_lock;
mod inspect;
mod interrupt;
mod look;
mod model_folder;
mod open;
mod out;
mod progress;
mod serve;
mod synth;
mod train;
mod verify;
mod video;
mod visualize;

use std::process::ExitCode;

use clap::Parser;
use univi::Error;

use args::{Cli, Command, EvalSet};

fn main() -> ExitCode {
    let cli = Cli::parse();
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
        // Nobody reads the answer any more, or the user stopped it: there is nothing to tell.
        Err(Error::Aborted) => ExitCode::FAILURE,
        Err(error) => {
            // One line, whatever a driver or a file put into the message.
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
        Command::Eval(args) => {
            let EvalSet::Nano(args) = args.set;
            eval::nano(&args).await.map(done)
        }
        Command::Train(args) => train::run(args).map(done),
        Command::Convert(args) => convert::run(args).map(done),
        Command::Inspect(args) => inspect::run(&args).await.map(done),
        Command::Synth(args) => synth::run(args).map(done),
        Command::Serve(args) => serve::run(&args).map(done),
    }
}
