//! `cargo xtask setup`: looks at what the machine has, and installs the rest.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::command::cmd;
use crate::debian::{self, Debian, Version};
use crate::{npm, python, wasm_std};

/// Older releases of Mesa's software Vulkan driver lack what WebGPU implementations ask for.
const MESA_OLDEST: Version = Version(25, 0);

/// Installs everything that the other tasks need and the machine lacks.
pub fn setup(root: &Path) -> Result<()> {
    let debian = Debian::here();
    vulkan(debian.as_ref())?;
    programs(debian.as_ref())?;
    wasm_std::install(debian.as_ref())?;
    // Clients that people have.
    python::install(
        &root.join("tests/web/requirements.txt"),
        &root.join("tests/python"),
    )?;
    npm::install(root, npm::Packages::All)
}

/// Installs what measuring beside others needs besides: a library of C is compiled.
pub fn peers() -> Result<()> {
    let missing: Vec<&str> = ["gcc", "libvulkan-dev"]
        .into_iter()
        .filter(|package| debian::installed(package).is_none())
        .collect();
    match Debian::here() {
        Some(debian) if !missing.is_empty() => debian.install(&missing),
        _ => Ok(()),
    }
}

/// Installs what compiling the WebAssembly module needs and the machine lacks. Building the page
/// needs npm packages besides, and neither a GPU's driver nor a browser: it runs in the visitor's.
pub fn wasm() -> Result<()> {
    wasm_std::install(Debian::here().as_ref())
}

/// A Vulkan driver for the native tests and for Dawn in Node: Mesa's lavapipe, which needs no GPU.
fn vulkan(debian: Option<&Debian>) -> Result<()> {
    let packages = ["mesa-vulkan-drivers", "libvulkan1"];
    let Some(debian) = debian else {
        return Ok(()); // Other systems bring a driver (Metal, D3D12, a vendor's Vulkan), or the tests tell.
    };
    let mesa = debian::installed(packages[0]);
    if mesa >= Some(MESA_OLDEST) && debian::installed(packages[1]).is_some() {
        return Ok(());
    }
    println!("Mesa's software Vulkan driver: installing");
    match debian.offers(packages[0])? >= Some(MESA_OLDEST) {
        true => debian.install(&packages),
        false => debian.install_backports(&packages),
    }
}

/// The programs that tests and demo call.
fn programs(debian: Option<&Debian>) -> Result<()> {
    let mut missing = Vec::new();
    for (package, there) in [
        ("chromium", chromium().is_some()),
        ("firefox-esr", firefox().is_some()),
        // WebKit with its driver, and the display that it needs.
        (
            "webkit2gtk-driver",
            Path::new("/usr/bin/WebKitWebDriver").is_file(),
        ),
        ("xvfb", Path::new("/usr/bin/Xvfb").is_file()),
        ("ffmpeg", cmd("ffmpeg").arg("-version").probe().is_some()),
        (
            "python3-pip",
            cmd("python3")
                .args(["-m", "pip", "--version"])
                .probe()
                .is_some(),
        ),
    ] {
        if !there {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("programs: {} missing", missing.join(", "));
    match debian {
        Some(debian) => debian.install(&missing),
        None => bail!(
            "this is not Debian, so packages are not installed for you\n  what to do: install by hand what \
             Debian calls {} (the variables CHROMIUM and FIREFOX may name the browsers' executables), then run this again",
            missing.join(", ")
        ),
    }
}

/// The browser that most tests drive: what `CHROMIUM` names, or Debian's.
pub fn chromium() -> Option<PathBuf> {
    browser("CHROMIUM", "/usr/bin/chromium")
}

/// The browser that some tests drive as well: what `FIREFOX` names, or Debian's.
pub fn firefox() -> Option<PathBuf> {
    browser("FIREFOX", "/usr/bin/firefox-esr")
}

fn browser(variable: &str, debian: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or(debian.into(), PathBuf::from);
    path.is_file().then_some(path)
}
