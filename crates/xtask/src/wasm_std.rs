//! The standard library for wasm32: from rustup where it can be downloaded, else built once from
//! the source that Debian packages beside its own recent Rust.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, cmd};
use crate::debian::{Debian, as_root};

/// The target of the web module.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Without a network rustup tries again and again; with one it is done in seconds.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(120);

/// The rustup toolchain that Debian's Rust is linked as.
const DEBIAN_TOOLCHAIN: &str = "debian";

/// Which Rust compiles for wasm32.
#[derive(Clone, Copy, Debug)]
pub enum Toolchain {
    /// The one that compiles everything else.
    Default,
    /// Debian's, linked into rustup.
    Debian,
}

impl Toolchain {
    /// The first that really compiles for wasm32: a directory of the right name proves nothing,
    /// since an upgrade of the compiler makes the libraries in it useless.
    pub fn find() -> Option<Self> {
        [Self::Default, Self::Debian]
            .into_iter()
            .find(|t| t.compiles())
    }

    /// `cargo` or `rustc` of this toolchain.
    pub fn command(self, program: &str) -> Cmd {
        match self {
            Self::Default => cmd(program),
            Self::Debian => cmd(program).arg(format!("+{DEBIAN_TOOLCHAIN}")),
        }
    }

    /// Links an empty module (from an empty standard input) with the standard library, and
    /// optimizes across both as the real build does: that wants more of the library than its
    /// presence.
    fn compiles(self) -> bool {
        let Ok(dir) = tempfile::tempdir() else {
            return false;
        };
        self.command("rustc")
            .args([
                "--target",
                TARGET,
                "--crate-type=cdylib",
                "--crate-name=probe",
            ])
            .args(["-Clto=thin", "-Cpanic=abort", "-"])
            .arg("--out-dir")
            .arg(dir.path())
            .probe()
            .is_some()
    }
}

/// Makes [`Toolchain::find`] succeed.
pub fn install(debian: Option<&Debian>) -> Result<()> {
    if Toolchain::find().is_some() {
        return Ok(());
    }
    println!("the standard library for {TARGET}: installing");
    println!("  rustup target add {TARGET}");
    let added = cmd("rustup")
        .args(["target", "add", TARGET])
        .env("RUST_BACKTRACE", "0")
        .time_limit(DOWNLOAD_LIMIT)
        .run();
    if let Err(error) = added {
        println!("  rustup could not: {error:#}");
        let Some(debian) = debian else {
            bail!(
                "no standard library for {TARGET}\n  what to do: install it by hand (`rustup target add {TARGET}`, \
                 or your system's package of it), then run this again"
            );
        };
        println!("  instead: Debian's own Rust, which comes with the library's source");
        build_from_debian(debian)?;
    }
    match Toolchain::find() {
        Some(_) => Ok(()),
        None => bail!(
            "the standard library for {TARGET} was installed, and rustc still does not find it\n  \
             what to do: look at what `rustc --target {TARGET} --crate-type=lib` says about an empty file"
        ),
    }
}

/// Builds std for wasm32 with Debian's toolchain and puts it where that toolchain looks for it.
fn build_from_debian(debian: &Debian) -> Result<()> {
    debian.install(&["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"])?;
    debian.install(&[&matching_linker()?])?;

    // An empty library outside of this workspace: with build-std its build leaves every library of
    // std behind.
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = |name: &str| dir.path().join(name);
    fs::write(
        file("Cargo.toml"),
        "[package]\nname = \"empty\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n",
    )?;
    fs::write(file("lib.rs"), "#![no_std]\n")?;
    println!("  building std (a minute or two)");
    cmd("/usr/bin/cargo")
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "-Zbuild-std=std,panic_abort,test",
        ])
        .arg("--target-dir")
        .arg(file("target"))
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Cembed-bitcode=yes") // For link-time optimization with the module.
        .dir(dir.path())
        .remedy(
            "the sources come with the package rust-web-src and the crates registry: check both",
        )
        .run()?;

    let sysroot = cmd("/usr/bin/rustc").args(["--print", "sysroot"]).run()?;
    let into = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib");
    println!("  copying it to {}", into.display());
    as_root("rm")?
        .args(["--recursive", "--force"])
        .arg(&into)
        .run()?;
    as_root("mkdir")?.arg("--parents").arg(&into).run()?;
    let built = file("target").join(TARGET).join("release/deps");
    let mut copy = as_root("cp")?;
    for entry in fs::read_dir(&built).with_context(|| format!("cannot list {}", built.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty") {
            copy = copy.arg(&path);
        }
    }
    copy.arg(&into).run()?;

    println!("  rustup toolchain link {DEBIAN_TOOLCHAIN} /usr");
    cmd("rustup")
        .args(["toolchain", "link", DEBIAN_TOOLCHAIN, "/usr"])
        .run()?;
    Ok(())
}

/// The package with the linker of the LLVM that Debian's rustc is built on: `llvm-22` -> `lld-22`.
fn matching_linker() -> Result<String> {
    let depends = cmd("apt-cache").args(["depends", "rust-web-llvm"]).run()?;
    let version = depends
        .lines()
        .find_map(|l| l.trim().strip_prefix("Depends: llvm-"));
    let version = version.context("the package rust-web-llvm names no llvm it depends on")?;
    Ok(format!("lld-{}", version.trim()))
}
