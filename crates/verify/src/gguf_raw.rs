//! Blocks of every storage type against what ggml makes of them: through this library's own
//! dequantization, and through the device's gathering of stored rows.

use univi::{Backend, Result, gguf::GgmlType};

use crate::{Fixtures, Report, Tensors};

/// Products of the same scale and quant are the same f32 on every machine: nothing but equality
/// will do.
const BITS_TOLERANCE: f64 = 0.0;

/// A device may fuse the multiplication with the addition of a minimum: off by one unit in the
/// last place of the larger of the two terms.
const FUSED_TOLERANCE_ULP: f64 = 1.0;

/// Compares every `raw/TYPE.safetensors`.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for path in fixtures.list() {
        let Some((folder, name)) = path.rsplit_once('/') else {
            continue;
        };
        let Some(name) = name.strip_suffix(".safetensors") else {
            continue;
        };
        // What the types were made from lies beside them.
        if !(folder == "raw" || folder.ends_with("/raw")) || name == "original" {
            continue;
        }
        let case = format!("raw/{name}");
        if let Err(error) = blocks(backend, fixtures, &path, name, &mut report).await {
            report.measured(case, f64::INFINITY, BITS_TOLERANCE, error.to_string());
        }
    }
    report
}

async fn blocks<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    path: &str,
    name: &str,
    report: &mut Report,
) -> Result<()> {
    let tensors = Tensors::read(fixtures, path)?;
    let Some(ty) = GgmlType::parse(name) else {
        report.measured(
            format!("raw/{name}"),
            f64::INFINITY,
            BITS_TOLERANCE,
            "no such storage type",
        );
        return Ok(());
    };
    // "quantized" and "dequantized", each also with a prefix such as "random.".
    for quantized in tensors
        .names()
        .filter(|name| name.ends_with("quantized") && !name.ends_with("dequantized"))
    {
        let prefix = quantized.trim_end_matches("quantized");
        let bytes = tensors.u8(quantized)?;
        let wanted = format!("{prefix}dequantized");
        let expected = tensors.f32(&wanted)?;
        let &[rows, cols] = tensors.shape(&wanted)? else {
            return Err(univi::Error::WrongShape {
                name: wanted.clone(),
                found: tensors.shape(&wanted)?.to_vec(),
                expected: vec![0, 0],
            });
        };
        let case = |what: &str| format!("raw/{name} {}{what}", prefix.replace('.', " "));
        let row_bytes = ty.row_bytes(cols)?;
        if bytes.len() != rows * row_bytes {
            let detail = format!("{} bytes, expected {rows} rows of {row_bytes}", bytes.len());
            report.measured(case("dequantize"), f64::INFINITY, BITS_TOLERANCE, detail);
            continue;
        }

        let mut found = vec![0.0; expected.len()];
        ty.dequantize(bytes, &mut found);
        let differ = found
            .iter()
            .zip(expected)
            .filter(|(f, e)| f.to_bits() != e.to_bits())
            .count();
        let detail = if differ > 0 {
            "values whose bits differ"
        } else {
            ""
        };
        report.measured(case("dequantize"), differ as f64, BITS_TOLERANCE, detail);

        let mut matrix = backend.alloc_matrix(ty, rows, cols)?;
        backend.write_matrix(&mut matrix, 0, bytes);
        // Out of order, so that a row's place matters.
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        let embedded = backend
            .read(&backend.embed(&matrix, &backend.ids(&ids)))
            .await?;
        let scale = larger_terms(ty, bytes, expected);
        let (mut error, mut detail) = (0.0, String::new());
        for (row, found) in embedded.chunks(cols).enumerate() {
            let at = (rows - 1 - row) * cols;
            for (col, &found) in found.iter().enumerate() {
                let expected = expected[at + col];
                let ulps = f64::from(found - expected).abs() / ulp(scale[at + col]);
                if ulps > error || ulps.is_nan() {
                    error = if ulps.is_nan() { f64::INFINITY } else { ulps };
                    detail = format!(
                        "row {}, column {col}: {found:e}, expected {expected:e}",
                        rows - 1 - row
                    );
                }
            }
        }
        if embedded.len() != expected.len() {
            (error, detail) = (
                f64::INFINITY,
                format!("{} values, expected {}", embedded.len(), expected.len()),
            );
        }
        report.measured(
            case("rows on the device, in ulp"),
            error,
            FUSED_TOLERANCE_ULP,
            detail,
        );
    }
    Ok(())
}

/// The larger of the terms that make each number: `scale * quant` and, in types that have one, the
/// minimum that is added to it.
fn larger_terms(ty: GgmlType, bytes: &[u8], values: &[f32]) -> Vec<f32> {
    // Where a block keeps the f16 that scales its minima.
    let minimum_at = match ty {
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => 2,
        GgmlType::Q2K => 82,
        _ => return values.iter().map(|x| x.abs()).collect(),
    };
    let mut without = bytes.to_vec();
    for block in without.chunks_mut(ty.block_bytes()) {
        block[minimum_at..minimum_at + 2].fill(0);
    }
    let mut products = vec![0.0; values.len()];
    ty.dequantize(&without, &mut products);
    products
        .iter()
        .zip(values)
        .map(|(product, x)| product.abs().max((x - product).abs()))
        .collect()
}

/// The distance from `|x|` to the next larger f32.
fn ulp(x: f32) -> f64 {
    let x = x.abs();
    f64::from(x.next_up()) - f64::from(x)
}
