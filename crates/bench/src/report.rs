//! What was measured.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::stopwatch::Spread;

/// What a device can do, and what a model does on it. Its text is Markdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The device.
    pub device: String,
    /// What it can do at most.
    pub ceilings: Ceilings,
    /// The products of a token, by type and shape.
    pub products: Vec<Product>,
    /// Prompts of several lengths.
    pub reading: Vec<Stage>,
    /// Answers after contexts of several lengths.
    pub answering: Vec<Decode>,
    /// Pictures and clips.
    pub vision: Vec<Stage>,
    /// Bytes of GPU memory in use at the end; 0 on the CPU.
    pub gpu_memory_bytes: u64,
}

/// What a device can do at most, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ceilings {
    /// Bytes that it reads.
    pub read_bytes_per_second: f64,
    /// Bytes that it reads and writes when it copies.
    pub copy_bytes_per_second: f64,
    /// Multiplications and additions in f32, each counted.
    pub operations_per_second: f64,
}

/// A product of rows of activations with weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Product {
    /// Which tensors, without their layers: `ffn_up`.
    pub tensors: String,
    /// How the weights are stored.
    pub ty: String,
    /// `[rows, cols]` of the weights.
    pub shape: [usize; 2],
    /// Rows of activations.
    pub rows: usize,
    /// Seconds of one product.
    pub seconds: Spread,
    /// Bytes of weights a second, as a share of what the device reads.
    pub read_share: f64,
    /// Operations a second, as a share of what the device does.
    pub operations_share: f64,
}

/// A part of what a question takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stage {
    /// What is done.
    pub what: String,
    /// How many tokens, pictures or frames of it there are.
    pub count: usize,
    /// Seconds of all of it.
    pub seconds: Spread,
}

/// Tokens of answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Decode {
    /// Tokens that stand before each.
    pub context: usize,
    /// Conversations that are answered at a time.
    pub conversations: usize,
    /// Seconds of a token of each.
    pub seconds: Spread,
    /// Bytes of weights and of the KV caches a second, as a share of what the device reads.
    pub read_share: f64,
    /// How often a GPU is spoken to for a token; none on the CPU.
    pub gpu: Option<PerToken>,
}

/// How often a GPU is spoken to for a token of each conversation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PerToken {
    /// Kernels that are run.
    pub dispatches: f64,
    /// Lists of commands.
    pub submits: f64,
    /// Results that are read back.
    pub reads: f64,
    /// Their bytes.
    pub read_bytes: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ceilings {
            read_bytes_per_second: read,
            copy_bytes_per_second: copy,
            operations_per_second: operations,
        } = self.ceilings;
        writeln!(f, "Device: {}", self.device)?;
        writeln!(
            f,
            "It reads {:.1} GB/s, copies {:.1} GB/s (bytes read and written) and computes {:.1} \
             GFLOP/s in f32.",
            read / 1e9,
            copy / 1e9,
            operations / 1e9
        )?;
        if self.gpu_memory_bytes > 0 {
            let megabytes = self.gpu_memory_bytes as f64 / 1e6;
            writeln!(f, "GPU memory in use: {megabytes:.0} MB.")?;
        }
        let mut products = Table::new([
            "product",
            "type",
            "weights",
            "rows",
            "ms",
            "of reading",
            "of computing",
        ]);
        for product in &self.products {
            let [rows, cols] = product.shape;
            products.row([
                product.tensors.clone(),
                product.ty.clone(),
                format!("{rows} x {cols}"),
                product.rows.to_string(),
                milliseconds(product.seconds),
                percent(product.read_share),
                percent(product.operations_share),
            ]);
        }
        write!(f, "\n{products}")?;
        let mut stages = Table::new(["stage", "count", "ms", "a second"]);
        for stage in self.reading.iter().chain(&self.vision) {
            stages.row([
                stage.what.clone(),
                stage.count.to_string(),
                milliseconds(stage.seconds),
                format!("{:.1}", stage.count as f64 / stage.seconds.median),
            ]);
        }
        write!(f, "\n{stages}")?;
        let mut answers = Table::new([
            "answering after",
            "at a time",
            "tokens/s",
            "ms a token",
            "of reading",
            "dispatches",
            "submits",
            "reads",
            "bytes read",
        ]);
        for decode in &self.answering {
            let of_gpu = |count: fn(PerToken) -> f64| match decode.gpu {
                Some(gpu) => format!("{:.0}", count(gpu)),
                None => "-".into(),
            };
            answers.row([
                decode.context.to_string(),
                decode.conversations.to_string(),
                format!("{:.1}", decode.conversations as f64 / decode.seconds.median),
                milliseconds(decode.seconds),
                percent(decode.read_share),
                of_gpu(|gpu| gpu.dispatches),
                of_gpu(|gpu| gpu.submits),
                of_gpu(|gpu| gpu.reads),
                of_gpu(|gpu| gpu.read_bytes),
            ]);
        }
        write!(f, "\n{answers}")
    }
}

/// The median and, where there are several, the ends.
fn milliseconds(seconds: Spread) -> String {
    let of = |seconds: f64| match 1e3 * seconds {
        ms if ms >= 100. => format!("{ms:.0}"),
        ms if ms >= 1. => format!("{ms:.1}"),
        ms => format!("{ms:.3}"),
    };
    match seconds.rounds {
        1 => of(seconds.median),
        _ => format!(
            "{} ({} .. {})",
            of(seconds.median),
            of(seconds.min),
            of(seconds.max)
        ),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100. * share)
}

/// A table in Markdown whose columns are also lined up for a terminal.
struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    fn new(head: [&str; N]) -> Table<N> {
        Table(vec![head.map(String::from)])
    }

    fn row(&mut self, cells: [String; N]) {
        self.0.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.0
                .iter()
                .map(|row| row[column].len())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for (i, row) in self.0.iter().enumerate() {
            let mut line = String::from("|");
            for (cell, width) in row.iter().zip(widths) {
                write!(line, " {cell:width$} |")?;
            }
            writeln!(f, "{line}")?;
            if i == 0 {
                let rule: String = widths.map(|width| "-".repeat(width + 2) + "|").concat();
                writeln!(f, "|{rule}")?;
            }
        }
        Ok(())
    }
}
