//! What each quantization costs and loses, as the tables of `docs/models.md` have it:
//!
//! ```text
//! cargo run --release -p univi-tests --example quantizations
//! cargo run --release -p univi-tests --example quantizations -- compare FOLDER
//! ```
//!
//! The second writes the rows that errors are measured on to `FOLDER/rows.f32` (little-endian,
//! rows of 4,096 numbers), reads `FOLDER/TYPE.bin` for every type where there is one, blocks that
//! another quantizer made of the same rows, and prints their errors beside ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use univi::gguf::{GgmlType, QuantizationPlan};
use univi::manifest::Role;
use univi_convert::checkpoint::Checkpoint;
use univi_convert::{Conversion, ConversionOptions, quantize};
use univi_tests::random_checkpoint::{Shapes, Sizes};

const ROWS: usize = 256;
const COLS: usize = 4096;

/// What storing the rows as a type comes to.
struct Figures {
    /// Root mean square of the error, as a share of that of the numbers.
    error: f64,
    /// The same of another quantizer.
    other_error: Option<f64>,
    nanoseconds_per_weight: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["compare", folder] => Some(PathBuf::from(folder)),
        _ => panic!("quantizations [compare FOLDER]"),
    };
    let rows = weights();
    if let Some(folder) = &folder {
        let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("rows.f32"), bytes).expect("room for the rows");
    }
    let of_types: BTreeMap<GgmlType, Figures> = GgmlType::ALL
        .into_iter()
        .map(|ty| (ty, figures(ty, &rows, folder.as_deref())))
        .collect();

    println!("| type | bits per weight | error | another's | ns per weight |");
    println!("| --- | --- | --- | --- | --- |");
    for (ty, figures) in &of_types {
        let bits = 8. * ty.block_bytes() as f64 / ty.block_len() as f64;
        let other = figures.other_error.map_or("-".into(), percent);
        println!(
            "| `{ty}` | {bits:.2} | {} | {other} | {:.1} |",
            percent(figures.error),
            figures.nanoseconds_per_weight
        );
    }

    println!(
        "\n| `--quant` | 7B, all files | of the language model: error | seconds on one core |"
    );
    println!("| --- | --- | --- | --- |");
    let mut mixes: Vec<_> = QuantizationPlan::ALL
        .into_iter()
        .map(|plan| (plan, mix(plan, &of_types)))
        .collect();
    mixes.sort_by_key(|(_, mix)| mix.bytes);
    for (plan, mix) in mixes {
        println!(
            "| `{}` | {:.2} GB | {} | {:.0} |",
            plan.name(),
            mix.bytes as f64 / 1e9,
            percent(mix.error),
            mix.seconds
        );
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100. * share)
}

/// What a conversion of the 7B model comes to.
struct Mix {
    /// Of all files.
    bytes: u64,
    /// Of all numbers of the language model.
    error: f64,
    seconds: f64,
}

fn mix(plan: QuantizationPlan, of_types: &BTreeMap<GgmlType, Figures>) -> Mix {
    let shapes = Shapes::new(&Sizes::CHAT_UNIVI_7B).expect("shapes");
    let checkpoint = Checkpoint::open(&shapes).expect("a checkpoint");
    let options = ConversionOptions {
        name: "model".into(),
        quantization: plan,
        vision_quantization: QuantizationPlan::F16,
        template: None,
        importance: None,
        shard_bytes: 64 << 20,
    };
    let conversion = Conversion::plan(&checkpoint, None, &options).expect("a plan");
    let (mut bytes, mut numbers, mut squares, mut seconds) = (0, 0., 0., 0.);
    for file in conversion.files {
        bytes += file.bytes;
        for planned in file.tensors {
            let count = (planned.tensor.rows() * planned.tensor.cols()) as f64;
            let figures = &of_types[&planned.ty];
            seconds += count * figures.nanoseconds_per_weight * 1e-9;
            if file.role == Role::Llm {
                numbers += count;
                squares += count * figures.error.powi(2);
            }
        }
    }
    Mix {
        bytes,
        error: f64::sqrt(squares / numbers),
        seconds,
    }
}

fn figures(ty: GgmlType, rows: &[f32], folder: Option<&Path>) -> Figures {
    let mut seconds = f64::INFINITY;
    let mut bytes = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        bytes = quantize(ty, rows).expect("finite numbers");
        seconds = begun.elapsed().as_secs_f64().min(seconds);
    }
    let other = folder.and_then(|folder| std::fs::read(folder.join(format!("{ty}.bin"))).ok());
    Figures {
        error: error(ty, rows, &bytes),
        other_error: other.map(|other| error(ty, rows, &other)),
        nanoseconds_per_weight: seconds * 1e9 / rows.len() as f64,
    }
}

fn error(ty: GgmlType, rows: &[f32], bytes: &[u8]) -> f64 {
    let mut stored = vec![0.; rows.len()];
    ty.dequantize(bytes, &mut stored);
    let squares = |numbers: &mut dyn Iterator<Item = f32>| -> f64 {
        numbers.map(|x| f64::from(x).powi(2)).sum()
    };
    let off = squares(&mut rows.iter().zip(&stored).map(|(a, b)| a - b));
    (off / squares(&mut rows.iter().copied())).sqrt()
}

/// Numbers as the weights of a trained language model are distributed: heavier tails than a normal
/// distribution's (Student's, of eight degrees of freedom), another scale for each row and column,
/// rounded to F16 as checkpoints are.
fn weights() -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut normal = move || {
        let (u, v): (f64, f64) = (random.random(), random.random());
        (-2. * (1. - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut scales = |count: usize, spread: f64| -> Vec<f64> {
        (0..count).map(|_| (spread * normal()).exp()).collect()
    };
    let (of_rows, of_cols) = (scales(ROWS, 0.3), scales(COLS, 0.25));
    let mut student = || {
        let of_squares: f64 = (0..8).map(|_| normal().powi(2)).sum();
        normal() / (of_squares / 8.).sqrt()
    };
    let mut rows = Vec::with_capacity(ROWS * COLS);
    for row in of_rows {
        for col in &of_cols {
            rows.push((0.02 * row * col * student()) as f32);
        }
    }
    let bytes = quantize(GgmlType::F16, &rows).expect("small numbers");
    GgmlType::F16.dequantize(&bytes, &mut rows);
    rows
}
