//! Debian packages: which are there, and how to get the others.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, cmd};

/// Where the stanza for backports goes; ours alone, so that it can be taken away again.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/univi-backports.sources";

/// A Debian system on which packages may be installed.
pub struct Debian {
    codename: String,
    indexes_are_fresh: Cell<bool>,
}

impl Debian {
    /// This system, where it is Debian itself: its derivatives name, age and split packages
    /// in other ways, so there the user is asked to install by hand.
    pub fn here() -> Option<Self> {
        let release = fs::read_to_string("/etc/os-release").ok()?;
        let field = |name: &str| {
            let line = release
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        (field("ID")? == "debian").then_some(())?;
        Some(Self {
            codename: field("VERSION_CODENAME")?,
            indexes_are_fresh: Cell::new(false),
        })
    }

    /// Installs packages of the release.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        self.install_with(&[], packages)
    }

    /// Installs packages of the backports suite, which is added to apt's sources where missing.
    pub fn install_backports(&self, packages: &[&str]) -> Result<()> {
        let suite = format!("{}-backports", self.codename);
        let policy = cmd("apt-cache").arg("policy").run()?;
        if !policy.contains(&format!("n={suite}")) && !Path::new(BACKPORTS_FILE).exists() {
            println!("  adding the suite {suite} to apt's sources ({BACKPORTS_FILE})");
            let stanza = backports_stanza(&apt_sources()?, &self.codename).with_context(|| {
                format!(
                    "no apt source offers the suite {0}, so none can be copied for {suite}\n  \
                     what to do: add {suite} to /etc/apt/sources.list.d and run this again",
                    self.codename
                )
            })?;
            let draft = std::env::temp_dir().join("univi-backports.sources");
            fs::write(&draft, stanza)
                .with_context(|| format!("cannot write {}", draft.display()))?;
            as_root("install")?
                .args(["-m", "644"])
                .arg(&draft)
                .arg(BACKPORTS_FILE)
                .run()?;
            self.indexes_are_fresh.set(false);
        }
        self.install_with(&["--target-release", &suite], packages)
    }

    /// The newest version of a package that the release itself offers.
    pub fn offers(&self, package: &str) -> Result<Option<Version>> {
        self.refresh_indexes()?;
        let table = cmd("apt-cache").args(["policy", package]).run()?;
        let candidate = table
            .lines()
            .find_map(|l| l.trim().strip_prefix("Candidate: "));
        Ok(candidate.and_then(Version::parse))
    }

    fn install_with(&self, options: &[&str], packages: &[&str]) -> Result<()> {
        self.refresh_indexes()?;
        println!(
            "  apt-get install {}",
            [options, packages].concat().join(" ")
        );
        as_root("apt-get")?
            .args(["install", "--yes", "--no-install-recommends"])
            .args(options)
            .args(packages)
            .remedy("run that command yourself, mend what it complains about, and run this again")
            .run()?;
        Ok(())
    }

    fn refresh_indexes(&self) -> Result<()> {
        if self.indexes_are_fresh.replace(true) {
            return Ok(());
        }
        println!("  apt-get update");
        // A source that has nothing to do with us may be down: the install tells what is missing.
        if let Err(error) = as_root("apt-get")?.arg("update").run() {
            println!("  warning: {error}");
        }
        Ok(())
    }
}

/// The leading numbers of a package's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// `25.0.7-2~bpo12+1` -> `25.0`, with an epoch (`1:25.0`) left out.
    fn parse(text: &str) -> Option<Self> {
        let upstream = text.split_once(':').map_or(text, |(_epoch, rest)| rest);
        let mut numbers = upstream
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// The version of a package that is installed; none too where dpkg itself is missing.
pub fn installed(package: &str) -> Option<Version> {
    let answer = cmd("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${db:Status-Status} ${Version}",
            package,
        ])
        .probe()?;
    Version::parse(answer.strip_prefix("installed ")?)
}

/// A command that needs root: as it is for root, through sudo for others.
pub fn as_root(program: &str) -> Result<Cmd> {
    if cmd("id").arg("-u").run()?.trim() == "0" {
        return Ok(cmd(program).env("DEBIAN_FRONTEND", "noninteractive"));
    }
    if cmd("sudo").arg("--version").probe().is_none() {
        bail!(
            "installing packages needs root, and there is no sudo\n  what to do: run this as root once: cargo xtask setup"
        );
    }
    Ok(cmd("sudo")
        .args([
            "--non-interactive",
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            program,
        ])
        .remedy("if sudo asks for a password: run `sudo -v` first, then this again"))
}

/// The text of all of apt's source files.
fn apt_sources() -> Result<String> {
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let dir = "/etc/apt/sources.list.d";
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {dir}"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|e| e == "sources" || e == "list")
        {
            text.push_str("\n\n");
            text += &fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(text)
}

/// The stanza of the backports suite: that of the release, with the suite's name replaced, so that
/// mirror and key stay what the machine's owner chose.
fn backports_stanza(sources: &str, codename: &str) -> Option<String> {
    let backports = format!("{codename}-backports");
    for stanza in sources.split("\n\n") {
        let lines = || {
            stanza
                .lines()
                .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        };
        let suites = lines().find_map(|l| l.strip_prefix("Suites:"));
        if suites.is_some_and(|s| s.split_whitespace().any(|suite| suite == codename)) {
            let copy = lines().map(|l| match l.starts_with("Suites:") {
                true => format!("Suites: {backports}\n"),
                false => format!("{l}\n"),
            });
            return Some(copy.collect());
        }
    }
    // The older form, one line per source: deb [options] uri suite components.
    let line = sources.lines().find(|line| {
        line.starts_with("deb ") && line.split_whitespace().any(|word| word == codename)
    })?;
    let (options, rest) = match line["deb ".len()..].trim().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", &line["deb ".len()..]),
    };
    let mut words = rest.split_whitespace();
    let (uri, _suite) = (words.next()?, words.next()?);
    let components: Vec<&str> = words.collect();
    let mut stanza = format!(
        "Types: deb\nURIs: {uri}\nSuites: {backports}\nComponents: {}\n",
        components.join(" ")
    );
    if let Some(key) = options
        .split_whitespace()
        .find_map(|o| o.strip_prefix("signed-by="))
    {
        stanza += &format!("Signed-By: {key}\n");
    }
    Some(stanza)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_copy_the_release_stanza() {
        let sources = "Types: deb\nURIs: http://other.example\nSuites: stable\nComponents: main\n\n\
                       # a comment\nTypes: deb\nURIs: http://mirror.example/debian\n\
                       Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n";
        assert_eq!(
            backports_stanza(sources, "bookworm").unwrap(),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n\
             Components: main\nSigned-By: /k.gpg\n"
        );
        assert_eq!(backports_stanza(sources, "trixie"), None);
    }

    #[test]
    fn backports_copy_the_release_line() {
        let sources = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n";
        assert_eq!(
            backports_stanza(sources, "bookworm").unwrap(),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n\
             Components: main contrib\nSigned-By: /k.gpg\n"
        );
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(Version::parse("25.0.7-2~bpo12+1"), Some(Version(25, 0)));
        assert_eq!(Version::parse("1:9.10"), Some(Version(9, 10)));
        assert!(Version(9, 10) > Version(9, 9));
        assert_eq!(Version::parse("(none)"), None);
    }
}
