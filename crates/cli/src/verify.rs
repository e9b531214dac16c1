//! `univi verify`: the self-test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use sha2::{Digest, Sha256};
use univi::{Backend, BackendWork, Error, Result};
use univi_verify::{Case, Fixtures, Report};

use crate::{
    args::DeviceChoice,
    files, open, out,
    progress::{Progress, Unit},
};

/// Check this machine against the reference's own outputs: one line per case with its error.
///
/// Runs every fixture that it finds under DIR. Fails where a case fails, and where there is none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi verify --fixtures tests/fixtures --device gpu
  univi verify --fixtures tests/fixtures --models models --filter smollm2
  univi verify --fixtures tests/fixtures --device cpu --json > report.json

Exit codes: 0 every case passed, 1 a case failed or none was found, 2 wrong command line, 130 interrupted.")]
pub struct VerifyArgs {
    /// Folder with `golden` and `gguf` fixtures, or one of the two itself.
    #[arg(long, value_name = "DIR")]
    pub fixtures: PathBuf,
    /// Folder with the real models that fixtures name by SHA-256; `cargo xtask models` fills it.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Run only cases whose names contain this: `merge/`, `models/gqa256-Q4_0`, or `logits`.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print one JSON object with all cases instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// Runs the fixtures on the device.
///
/// # Errors
/// Where there are no fixtures at all; failed cases show in the exit code.
pub async fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let device = open::device(args.device.into()).await?;
    let name = &device.name();
    let folder = Folder::new(args)?;
    let mut total = Report::default();
    let mut progress = Progress::new("verifying", Unit::Items, univi_verify::KINDS.len() as u64);
    for kind in univi_verify::KINDS {
        let wanted = |name: &str| {
            args.filter
                .as_ref()
                .is_none_or(|filter| name.contains(filter.as_str()))
        };
        if may_match(kind, args.filter.as_deref()) {
            let mut report = device
                .run(Check {
                    kind,
                    fixtures: &folder,
                })
                .await;
            report.cases.retain(|case| wanted(&case.name));
            report.missing.retain(|name| wanted(name));
            if !args.json {
                progress.aside(|| {
                    report
                        .cases
                        .iter()
                        .try_for_each(|case| out::line(&line(case)))?;
                    report
                        .missing
                        .iter()
                        .try_for_each(|name| out::line(&format!("not run  {name}")))
                })?;
            }
            total.extend(report);
        }
        progress.advance(1);
    }
    drop(progress);

    let failed = total.failures().count();
    let passed = total.cases.len() - failed;
    let success = failed == 0 && passed > 0;
    if args.json {
        out::json(&serde_json::json!({
            "device": name,
            "passed": passed,
            "failed": failed,
            "not_run": total.missing.len(),
            "success": success,
            "cases": total.cases,
            "missing": total.missing,
        }))?;
    } else {
        if !total.missing.is_empty() {
            out::line(&format!(
                "{} not run: a file that they need is not there",
                total.missing.len()
            ))?;
        }
        out::line(&format!("{passed} passed, {failed} failed, on {name}"))?;
    }
    if total.cases.is_empty() {
        let what = match &args.filter {
            Some(filter) => format!("no fixture that can be run matches {filter:?}"),
            None => "no fixtures that can be run; expected the folders `golden` and `gguf`, or one of them".to_string(),
        };
        return Err(Error::Io { reason: what }.in_file(files::name(&args.fixtures)));
    }
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the cases of one kind on any backend.
struct Check<'a> {
    kind: &'a str,
    fixtures: &'a Folder<'a>,
}

impl BackendWork for Check<'_> {
    type Output = Report;

    async fn run<B: Backend>(self, backend: &B) -> Report {
        univi_verify::check(self.kind, backend, self.fixtures).await
    }
}

/// Whether cases whose names begin with `begin` can match: what is before the filter's `/` names
/// kinds, what is behind it how a case's name goes on. A filter without one runs the kinds that it
/// names, or all.
fn may_match(begin: &str, filter: Option<&str>) -> bool {
    let Some(filter) = filter else { return true };
    let (kind, rest) = begin.split_once('/').unwrap_or((begin, ""));
    let (wanted, wanted_rest) = filter.split_once('/').unwrap_or((filter, ""));
    let goes_on = rest.starts_with(wanted_rest) || wanted_rest.starts_with(rest);
    let names_none = !univi_verify::KINDS.iter().any(|kind| kind.contains(wanted));
    (kind.contains(wanted) || names_none) && goes_on
}

/// `ok    preprocess/rgba crop  error 0 (<= 1)`
fn line(case: &Case) -> String {
    let verdict = if case.passed { "ok  " } else { "FAIL" };
    let error = match (case.passed, case.error) {
        (true, 0.0) if case.tolerance == 0.0 => "equal".to_string(),
        (_, error) => format!("error {} (<= {})", short(error), short(case.tolerance)),
    };
    let detail = match case.passed {
        true => String::new(),
        false => format!(
            ": {}",
            case.detail.split_whitespace().collect::<Vec<_>>().join(" ")
        ),
    };
    format!("{verdict}  {}  {error}{detail}", case.name)
}

/// Two digits of a number that may be tiny.
fn short(x: f64) -> String {
    match x {
        _ if x == x.trunc() && x.abs() < 1e6 => format!("{x}"),
        _ => format!("{x:.1e}").replace(".0e", "e"),
    }
}

/// Fixtures below a folder of this machine.
struct Folder<'a> {
    args: &'a VerifyArgs,
    files: BTreeMap<String, PathBuf>,
}

impl Folder<'_> {
    fn new(args: &VerifyArgs) -> Result<Folder<'_>> {
        let mut files = BTreeMap::new();
        collect(&args.fixtures, "", 0, &mut files)?;
        if let Some(models) = &args.models {
            files::list(models)?;
        }
        Ok(Folder { args, files })
    }
}

/// Folders inside folders that are searched; deeper ones are a loop of links.
const MAX_DEPTH: usize = 16;

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeMap<String, PathBuf>,
) -> Result<()> {
    for path in files::list(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = format!("{prefix}{name}");
        if !path.is_dir() {
            found.insert(name, path);
        } else if depth < MAX_DEPTH {
            collect(&path, &format!("{name}/"), depth + 1, found)?;
        }
    }
    Ok(())
}

impl Fixtures for Folder<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        match self.files.get(path) {
            Some(file) => files::read(file),
            None => Err(Error::Io {
                reason: "no such file".into(),
            }
            .in_file(files::name(&self.args.fixtures.join(path)))),
        }
    }

    fn list(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn wants(&self, begin: &str) -> bool {
        may_match(begin, self.args.filter.as_deref())
    }

    fn model(&self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let Some(models) = &self.args.models else {
            return Ok(None);
        };
        let mut found = BTreeMap::new();
        collect(models, "", 0, &mut found)?;
        for path in found.values() {
            if files::metadata(path)?.len() != bytes {
                continue;
            }
            let data = files::read(path)?;
            if hex::encode(Sha256::digest(&data)).eq_ignore_ascii_case(sha256) {
                return Ok(Some(data));
            }
        }
        let reason = format!(
            "no model of {bytes} bytes with SHA-256 {sha256}; `cargo xtask models` brings it there"
        );
        Err(Error::Io { reason }.in_file(files::name(models)))
    }
}

#[cfg(test)]
mod tests {
    use super::may_match;

    #[test]
    fn filters_leave_out_what_cannot_match() {
        let matches = |begin, filter| may_match(begin, Some(filter));
        assert!(may_match("raw", None));
        assert!(matches("models", "models/gqa") && matches("models/gqa256-Q8_0", "models/gqa"));
        assert!(matches("models/gqa256-Q8_0", "models/gqa256-Q8_0 p1"));
        assert!(!matches("models/mha512-Q8_0", "models/gqa") && !matches("raw", "models/gqa"));
        assert!(matches("smollm2", "smol") && !matches("raw", "smol"));
        // A filter that names no kind may match anywhere.
        assert!(matches("raw", "p1 logits") && matches("models/gqa256-Q8_0", "p1 logits"));
    }
}
