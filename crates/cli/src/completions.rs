//! `univi completions`: what a shell completes with the tab key.

use clap::{Args, Command};
use clap_complete::Shell;
use univi::Result;

use crate::out;

/// Print a script that completes `univi` commands and options in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi completions bash > ~/.local/share/bash-completion/completions/univi
  univi completions zsh > \"${fpath[1]}/_univi\"
  univi completions fish > ~/.config/fish/completions/univi.fish
  univi completions powershell >> $PROFILE

Exit codes: 0 printed, 1 failed, 2 wrong command line.")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script for `command`, the whole of `univi`.
///
/// # Errors
/// As [`out::write`].
pub fn run(mut command: Command, args: &CompletionsArgs) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out::write(&String::from_utf8_lossy(&script))
}
