//! `univi fetch`: downloads a repository of the Hub.

use std::path::PathBuf;

use clap::Args;
use glob::Pattern;
use univi::{Error, Result};
use univi_hub::{HubAddress, RemoteFile};

use crate::{
    files, hub, out,
    progress::{Progress, Unit, bytes as bytes_text},
};

/// Download a repository of the Hugging Face Hub.
///
/// Files go into the cache that the Hub's own tools use, or into a folder. Large ones are verified
/// by the SHA-256 that the Hub lists. A download that was interrupted goes on where it stopped when
/// the same command is run again. The folder is printed.
///
/// HF_TOKEN is for private and gated repositories, HF_ENDPOINT names a mirror, HF_HOME or
/// HF_HUB_CACHE the cache; HTTPS_PROXY and NO_PROXY are followed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi fetch hf:Chat-UniVi/Chat-UniVi
  univi fetch hf:Chat-UniVi/Chat-UniVi-7B-v1.5@main --out Chat-UniVi-7B-v1.5
  univi fetch hf:openai/clip-vit-large-patch14 --include '*.json' --include model.safetensors

Exit codes: 0 downloaded, 1 failed, 2 wrong command line, 130 interrupted.")]
pub struct FetchArgs {
    /// The repository: hf:OWNER/NAME, hf:OWNER/NAME@REVISION, or a file in one.
    #[arg(value_name = "HF_ADDRESS")]
    pub repository: String,
    /// Files whose paths match: * stands for anything within a name, ** for folders. May be
    /// repeated [default: all].
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub include: Vec<Pattern>,
    /// The folder that files go into, in place of the cache.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|e| e.to_string())
}

/// Downloads what was asked for and prints where it is.
///
/// # Errors
/// `Io` of the Hub or the disk, `BadFile` for a wrong hash, `BadRequest` where nothing matches or
/// there is not enough room.
pub fn run(args: &FetchArgs) -> Result<()> {
    let address = HubAddress::parse(&args.repository)?;
    let repository = hub::open(&address)?;
    let wanted: Vec<&RemoteFile> = repository
        .files()
        .filter(|file| is_wanted(args, &address, &file.path))
        .collect();
    if wanted.is_empty() {
        let reason = match (&address.path, &args.include[..]) {
            (Some(path), _) => format!("there is no {path} in the repository"),
            (None, []) => "the repository is empty".into(),
            (None, _) => "no file of the repository matches --include".into(),
        };
        return Err(Error::BadRequest { reason }.in_file(args.repository.clone()));
    }
    let folder = args.out.clone().unwrap_or_else(|| repository.snapshot());
    let is_there = |file: &&&RemoteFile| match &args.out {
        Some(out) => out.join(&file.path).is_file(),
        None => repository.is_cached(file),
    };
    let missing = wanted.iter().filter(|file| !is_there(file));
    hub::check_room(&folder, missing.map(|file| file.bytes).sum())?;
    let total = wanted.iter().map(|file| file.bytes).sum();
    let label = format!("downloading {address}");
    let mut progress = Progress::new(label, Unit::Bytes, total);
    let mut done = 0;
    for file in &wanted {
        let mut on_progress = hub::counting(&mut progress, done);
        match &args.out {
            Some(out) => repository.download_into(out, file, &mut on_progress)?,
            None => repository.download(file, &mut on_progress)?,
        };
        done += file.bytes;
    }
    drop(progress);
    out::note(&format!(
        "{address} at commit {}: {} in {} files",
        repository.commit(),
        bytes_text(total),
        wanted.len()
    ));
    out::line(&files::name(&folder))
}

/// Whether a file of the repository is asked for.
fn is_wanted(args: &FetchArgs, address: &HubAddress, path: &str) -> bool {
    const OPTIONS: glob::MatchOptions = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let is_below = |folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A pattern without a folder is about names, wherever they are.
    let name = path.rsplit('/').next().unwrap_or(path);
    let matches = |pattern: &Pattern| {
        let is_about_names = !pattern.as_str().contains('/');
        pattern.matches_with(path, OPTIONS) || is_about_names && pattern.matches_with(name, OPTIONS)
    };
    address.path.as_deref().is_none_or(is_below)
        && (args.include.is_empty() || args.include.iter().any(matches))
}
