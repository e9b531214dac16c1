//! How fast the CPU path is: `cargo bench -p univi --bench cpu [-- FILTER | MODEL.gguf]`.
//!
//! Prints one line per product of stored weights; of a language model what a token of a prompt and
//! one of an answer take. Times are minima or medians, by the clock and by the processor, as other
//! work on the machine disturbs both. `RAYON_NUM_THREADS` sets the threads.

use std::time::Instant;

use pollster::block_on;
use univi::{
    Cpu, Device, GenerateOptions, LoadOptions, Model, SessionOptions, backend::Backend,
    gguf::GgmlType,
};

/// Tokens of an answer that are timed.
const ANSWER_TOKENS: usize = 64;

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with('-'))
        .unwrap_or_default();
    if filter.ends_with(".gguf") {
        return block_on(language_model(&filter));
    }
    for ty in GgmlType::ALL {
        for t in [1, 2, 4, 8, 256] {
            matmul(ty, t, 4096, 1024, &filter);
        }
    }
    for (t, k, n) in [
        (1, 576, 1536),
        (16, 576, 1536),
        (257, 768, 768),
        (257, 3072, 768),
    ] {
        matmul(GgmlType::Q4_1, t, k, n, &filter);
        matmul(GgmlType::F16, t, k, n, &filter);
    }
}

/// Nanoseconds that all threads of this process have run, where the system counts them.
fn processor_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Seconds by the clock and by the processor.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, f64, T) {
    let (start, ns) = (Instant::now(), processor_ns());
    let found = work();
    let ns = processor_ns() - ns;
    (start.elapsed().as_secs_f64(), ns as f64 / 1e9, found)
}

fn matmul(ty: GgmlType, t: usize, k: usize, n: usize, filter: &str) {
    let name = format!("{:7} [{t}, {k}] x [{k}, {n}]", ty.name());
    if !name.contains(filter) {
        return;
    }
    let row_bytes = ty.row_bytes(k).expect("whole blocks");
    // Any bytes will do, as long as they are finite numbers.
    let bytes: Vec<u8> = (0..row_bytes * n)
        .map(|i| (i as u32).wrapping_mul(2654435761).to_be_bytes()[0] & 0x3f)
        .collect();
    let mut w = Cpu.alloc_matrix(ty, n, k).expect("room");
    Cpu.write_matrix(&mut w, 0, &bytes);
    let x = Cpu.tensor(&vec![0.5; t * k], k);
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.3 {
        best = best.min(timed(|| Cpu.matmul(&x, &w)).0);
    }
    let weights = (n * k) as f64;
    println!(
        "{name:36} {:9.3} ms {:7.3} ns/weight {:7.2} GFLOP/s",
        best * 1e3,
        best * 1e9 / weights,
        2. * weights * t as f64 / best / 1e9
    );
}

async fn language_model(path: &str) {
    let device = Device::Cpu.open().await.expect("the CPU");
    let model = Model::open(&device, path, &LoadOptions::default())
        .await
        .expect("a language model");
    let story = "A dragon lives on a hill above the village and has many friends there. ";
    for repeats in [1, 15] {
        let question = story.repeat(repeats) + "How did they meet?";
        let options = GenerateOptions::greedy().max_tokens(ANSWER_TOKENS);
        let (mut prompt, mut tokens) = ([f64::INFINITY; 2], Vec::new());
        let mut usage = None;
        for _ in 0..3 {
            let mut session = model.session(SessionOptions::default());
            let answer = session.ask(question.as_str(), &options).await;
            let mut answer = answer.expect("an answer");
            let (wall, cpu, _) = timed(|| block_on(answer.next()).expect("a token"));
            prompt = [prompt[0].min(wall), prompt[1].min(cpu)];
            loop {
                let (wall, cpu, text) = timed(|| block_on(answer.next()).expect("a token"));
                if text.is_none() {
                    break;
                }
                tokens.push([wall, cpu]);
            }
            usage = Some(answer.finish().await.expect("an answer").usage);
        }
        let usage = usage.expect("a run");
        let median = |which: usize| {
            let mut times: Vec<f64> = tokens.iter().map(|token| token[which]).collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2] * 1e3
        };
        println!(
            "{usage:?}: prompt {:.1} ms, processor {:.1} ms; a token {:.2} ms, processor {:.2} ms",
            prompt[0] * 1e3,
            prompt[1] * 1e3,
            median(0),
            median(1)
        );
    }
}
