//! The GPUs that are compiled for, and how their drivers are chosen.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::Statistics;

/// The variable that names Mesa's stub of the kernel's interface for Intel.
const SHIM_VARIABLE: &str = "UNIVI_DRM_SHIM";
/// Where the loader finds the descriptions of drivers.
const DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/// How the stub is made; it is in no package.
const HOW_TO_BUILD: &str = "build libintel_noop_drm_shim.so from Mesa's sources (apt-get source \
    --download-only mesa; meson setup build -Dtools=drm-shim,intel -Dvulkan-drivers= \
    -Dgallium-drivers= -Dplatforms= -Dllvm=disabled; ninja -C build \
    src/intel/tools/libintel_noop_drm_shim.so) and name it by UNIVI_DRM_SHIM or --shim";

/// A GPU that need not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gpu {
    /// Mesa's name of it.
    pub name: &'static str,
    /// What people call it.
    pub family: &'static str,
    /// Who made it.
    pub vendor: Vendor,
}

/// Whose compiler it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// RADV.
    Amd,
    /// ANV.
    Intel,
}

/// The GPUs that budgets hold for: of desktops and laptops, of each vendor.
pub const GPUS: [Gpu; 4] = [
    Gpu {
        name: "navi31",
        family: "RDNA 3",
        vendor: Vendor::Amd,
    },
    Gpu {
        name: "renoir",
        family: "Vega, in laptops",
        vendor: Vendor::Amd,
    },
    Gpu {
        name: "tgl",
        family: "Xe, in laptops",
        vendor: Vendor::Intel,
    },
    Gpu {
        name: "dg2",
        family: "Arc",
        vendor: Vendor::Intel,
    },
];

/// Why nothing is known of a GPU on this machine, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Gpu {
    /// Compiles every shader in a process of its own, `program --compile`, since a driver reads its
    /// environment once. Only kernels whose names contain `filter`. `shim` is Mesa's stub for
    /// Intel; without, the environment may name it.
    ///
    /// # Errors
    /// Where the driver is there and fails. Where it is not, the inner result says why.
    pub fn compile(
        self,
        program: &Path,
        shim: Option<&Path>,
        filter: &str,
    ) -> Result<Result<Vec<Statistics>, Unavailable>> {
        let mut command = Command::new(program);
        command.args(["--compile", filter]);
        let driver = match self.vendor {
            Vendor::Amd => "radeon_icd",
            Vendor::Intel => "intel_icd",
        };
        let Some(driver) = description(driver) else {
            return Ok(Err(Unavailable(format!(
                "there is no {driver}*.json in {}; install mesa-vulkan-drivers",
                DRIVERS.join(" or ")
            ))));
        };
        command
            .env("VK_DRIVER_FILES", &driver)
            .env("VK_ICD_FILENAMES", &driver);
        match self.vendor {
            Vendor::Amd => {
                command.env("RADV_FORCE_FAMILY", self.name);
            }
            Vendor::Intel => {
                let named = std::env::var_os(SHIM_VARIABLE).map(PathBuf::from);
                let Some(shim) = shim.map(Path::to_owned).or(named) else {
                    return Ok(Err(Unavailable(HOW_TO_BUILD.into())));
                };
                if !shim.is_file() {
                    bail!(
                        "there is no {}\n  what to do: {HOW_TO_BUILD}",
                        shim.display()
                    );
                }
                command
                    .env("LD_PRELOAD", &shim)
                    .env("INTEL_STUB_GPU", "1")
                    .env("INTEL_STUB_GPU_PLATFORM", self.name);
            }
        }
        let output = command.output().context("cannot start the compiler")?;
        if !output.status.success() {
            bail!(
                "{} for {} failed ({}):\n{}",
                driver.display(),
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let statistics = serde_json::from_slice(&output.stdout).context("unreadable statistics")?;
        Ok(Ok(statistics))
    }
}

/// The description of the driver whose file begins with `name`: distributions add the architecture.
fn description(name: &str) -> Option<PathBuf> {
    DRIVERS
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.path())
        .find(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(&format!("{name}.")) && file.ends_with(".json")
        })
}
