//! `univi man`: the help texts as man pages.

use std::path::PathBuf;

use clap::{Args, Command};
use univi::{Error, Result};

use crate::{files, out};

/// Print a man page, or write all of them into a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi man | man -l -
  univi man train nano | man -l -
  univi man --out ~/.local/share/man/man1

Exit codes: 0 printed or written, 1 failed, 2 wrong command line.")]
pub struct ManArgs {
    /// The command that the page is about, such as `ask` or `train nano` [default: univi itself].
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints or writes pages about `command`, the whole of `univi`.
///
/// # Errors
/// `BadRequest` for a command that does not exist, `Io` where a page can't be written.
pub fn run(mut command: Command, args: &ManArgs) -> Result<()> {
    command.build();
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|e| files::io_error(folder, &e))?;
        return write_all(&command, folder);
    }
    let mut about = &command;
    for name in &args.command {
        about = about
            .find_subcommand(name)
            .ok_or_else(|| Error::BadRequest {
                reason: format!(
                    "there is no command `{} {name}`; `univi help` lists them",
                    about.get_name()
                ),
            })?;
    }
    out::write(&String::from_utf8_lossy(&page(about)?))
}

fn write_all(command: &Command, folder: &std::path::Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    files::write(&folder.join(format!("{name}.1")), &page(command)?)?;
    let is_help = |command: &&Command| command.get_name() != "help";
    let mut subcommands = command.get_subcommands().filter(is_help);
    subcommands.try_for_each(|subcommand| write_all(subcommand, folder))
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(|e| Error::Io {
        reason: e.to_string(),
    })?;
    Ok(page)
}
