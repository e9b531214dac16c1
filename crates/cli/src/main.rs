//! The `univi` command.

mod args;
mod draw;
mod figure;
mod files;
mod interrupt;
mod out;
mod progress;
mod verify;
mod video;

use std::process::ExitCode;

use clap::Parser;
use univi::Error;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::install();
    match pollster::block_on(run(cli)) {
        Ok(code) => code,
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
    match cli.command {
        Command::Verify(args) => verify::run(&univi::Cpu, "cpu", &args).await,
        _ => Err(Error::BadRequest { reason: "this command is not there yet".into() }),
    }
}
