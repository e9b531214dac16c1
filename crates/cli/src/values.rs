//! Parses numbers, shares, times and sizes of the command line.

use univi::gguf::QuantizationPlan;

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&n| fits(n))
        .ok_or_else(|| format!("expected {expected}"))
}

/// Parses a number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |n| n > 0.0 && n.is_finite())
}

/// Parses a number above 0 that single precision holds.
pub fn positive_f32(text: &str) -> Result<f32, String> {
    let fits = |n: f64| n as f32 > 0.0 && (n as f32).is_finite();
    number(text, "a number above 0", fits).map(|n| n as f32)
}

/// Parses a number of at least 0 that single precision holds.
pub fn not_negative(text: &str) -> Result<f32, String> {
    let fits = |n: f64| n >= 0.0 && (n as f32).is_finite();
    number(text, "a number of at least 0", fits).map(|n| n as f32)
}

/// Parses a time in seconds, of at least 0.
pub fn seconds(text: &str) -> Result<f64, String> {
    number(text, "a number of seconds, at least 0", |n| {
        n >= 0.0 && n.is_finite()
    })
}

/// Parses a share or a probability above 0, up to 1.
pub fn share(text: &str) -> Result<f32, String> {
    let fits = |n: f64| n as f32 > 0.0 && n <= 1.0;
    number(text, "a number above 0, up to 1", fits).map(|n| n as f32)
}

/// Parses the name of a quantization.
pub fn quantization_plan(text: &str) -> Result<QuantizationPlan, String> {
    QuantizationPlan::parse(text).map_err(|e| e.to_string())
}

/// Parses a number of bytes, with a decimal or a binary unit.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        unit => {
            return Err(format!(
                "unknown unit {unit:?}; there are B, kB, MB, GB, KiB, MiB and GiB"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a whole number and a unit, such as 64MiB".to_string())?;
    match number.checked_mul(unit) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected more than 0 and less than 2^64 bytes".to_string()),
    }
}
