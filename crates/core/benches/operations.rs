//! How fast a backend's operations are: `cargo bench -p univi --bench operations [FILTER]`.
//!
//! Prints one line per case: the time of one operation, and the floating-point operations or the
//! bytes of weights per second that it stands for. The first run of a case is not timed: it
//! compiles.

use std::{cell::RefCell, time::Instant};

use pollster::block_on;
use univi::{
    backend::{Backend, Heads, KvType},
    gguf::GgmlType,
    gpu::{Gpu, GpuOptions, KvCache},
};

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with('-'))
        .unwrap_or_default();
    let gpu = block_on(Gpu::new(GpuOptions::default())).expect("a GPU");
    println!("{}", gpu.adapter_info());
    let bench = Bench { gpu, filter };
    for ty in [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Q4_0,
        GgmlType::Q8_0,
        GgmlType::Q4K,
        GgmlType::Q6K,
    ] {
        bench.matmul(ty, 257, 1024, 4096);
    }
    bench.matmul(GgmlType::F16, 257, 4096, 1024);
    bench.matmul(GgmlType::Q4_0, 180, 4096, 4096);
    bench.matmul(GgmlType::Q4_0, 16, 4096, 4096);
    for ty in GgmlType::ALL {
        bench.matmul(ty, 1, 4096, 4096);
    }
    bench.matmul(GgmlType::Q4_0, 1, 4096, 11008);
    bench.matmul(GgmlType::Q4_0, 1, 11008, 4096);
    bench.matmul(GgmlType::Q4_0, 4, 4096, 4096);
    bench.attention(
        1,
        257,
        Heads {
            heads: 16,
            kv_heads: 16,
            head_dim: 64,
        },
    );
    bench.attention(
        1,
        576,
        Heads {
            heads: 16,
            kv_heads: 16,
            head_dim: 64,
        },
    );
    for ty in [KvType::F32, KvType::Q8] {
        for (t, pos, heads, kv_heads, head_dim) in [
            (180, 0, 32, 32, 128),
            (1, 1000, 32, 32, 128),
            (1, 4000, 32, 32, 128),
            (1, 1000, 9, 3, 64),
        ] {
            let heads = Heads {
                heads,
                kv_heads,
                head_dim,
            };
            bench.causal(ty, t, pos, heads);
            bench.append(ty, t, pos, heads);
        }
    }
    bench.cluster(1, 256, 1024, 64);
    bench.cluster(1, 2048, 1024, 64);
}

struct Bench {
    gpu: Gpu,
    filter: String,
}

impl Bench {
    fn matmul(&self, ty: GgmlType, t: usize, k: usize, n: usize) {
        let name = format!("matmul {:7} [{t}, {k}] x [{k}, {n}]", ty.name());
        if !name.contains(&self.filter) {
            return;
        }
        let row_bytes = ty.row_bytes(k).expect("whole blocks");
        // Any bytes will do, as long as they are finite numbers.
        let bytes: Vec<u8> = (0..row_bytes * n)
            .map(|i| (i as u32).wrapping_mul(2654435761).to_be_bytes()[0] & 0x3f)
            .collect();
        let mut w = self.gpu.alloc_matrix(ty, n, k).expect("room");
        self.gpu.write_matrix(&mut w, 0, &bytes);
        let x = self.gpu.tensor(&vec![0.5; t * k], k);
        let work = 2.0 * (t * n * k) as f64;
        let rate = |s: f64| match t {
            1..=4 => format!("{:8.2} GB/s", bytes.len() as f64 / s / 1e9),
            _ => format!("{:8.2} GFLOP/s", work / s / 1e9),
        };
        self.time(&name, rate, || drop(self.gpu.matmul(&x, &w)));
    }

    fn attention(&self, batch: usize, n: usize, heads: Heads) {
        let cols = heads.heads * heads.head_dim;
        let x = self.gpu.tensor(&vec![0.5; batch * n * cols], cols);
        let work = (4 * batch * n * n * cols) as f64;
        let name = format!(
            "attention {batch} x {n}, {} heads of {}",
            heads.heads, heads.head_dim
        );
        self.time(
            &name,
            |s| format!("{:8.2} GFLOP/s", work / s / 1e9),
            || drop(self.gpu.attention(&x, &x, &x, heads, batch)),
        );
    }

    fn causal(&self, ty: KvType, t: usize, pos: usize, heads: Heads) {
        let cols = heads.heads * heads.head_dim;
        let width = heads.kv_heads * heads.head_dim;
        let q = self.gpu.tensor(&vec![0.5; t * cols], cols);
        let cache = self.filled(ty, width, pos + t);
        let name = format!(
            "attention {ty:?} causal {t} at {pos}, {} heads of {}",
            heads.heads, heads.head_dim
        );
        let bytes = (2 * ty.bytes(width as u64) * (pos + t) as u64) as f64;
        let rate = |s: f64| format!("{:8.2} GB/s of cache", bytes / s / 1e9);
        self.time(&name, rate, || {
            drop(self.gpu.attention_causal(&q, &cache, heads, pos))
        });
    }

    fn append(&self, ty: KvType, t: usize, pos: usize, heads: Heads) {
        let width = heads.kv_heads * heads.head_dim;
        let cache = RefCell::new(self.filled(ty, width, pos + t));
        let kv = self.gpu.tensor(&vec![0.5; t * width], width);
        let bytes = (8 * t * width) as f64;
        self.time(
            &format!("append {ty:?} {t} at {pos} of {width}"),
            |s| format!("{:8.2} GB/s of f32", bytes / s / 1e9),
            || self.gpu.append(&mut cache.borrow_mut(), pos, &kv, &kv),
        );
    }

    /// A cache that holds `positions` positions.
    fn filled(&self, ty: KvType, width: usize, positions: usize) -> KvCache {
        let mut cache = self.gpu.kv_cache(width, positions, ty);
        block_on(self.gpu.reserve(&mut cache, positions)).expect("room");
        let kv = self.gpu.tensor(&vec![0.5; positions * width], width);
        self.gpu.append(&mut cache, 0, &kv, &kv);
        cache
    }

    fn cluster(&self, batch: usize, n: usize, c: usize, clusters: usize) {
        let values: Vec<f32> = (0..batch * n * c)
            .map(|i| ((i as u32).wrapping_mul(2654435761) >> 8) as f32 / 16777216.0)
            .collect();
        let x = self.gpu.tensor(&values, c);
        let work = (3 * batch * n * n * c) as f64;
        let name = format!("dpc_knn {batch} x {n} of {c} to {clusters}");
        self.time(
            &name,
            |s| format!("{:8.2} GFLOP/s", work / s / 1e9),
            || drop(self.gpu.dpc_knn(&x, batch, clusters, 5, None)),
        );
    }

    /// Repeats `operation` for about a second.
    fn time(&self, name: &str, rate: impl Fn(f64) -> String, operation: impl Fn()) {
        if !name.contains(&self.filter) {
            return;
        }
        let run = |times: usize| {
            let start = Instant::now();
            (0..times).for_each(|_| operation());
            block_on(self.gpu.finish()).expect("a healthy device");
            start.elapsed().as_secs_f64()
        };
        let first = run(1);
        let once = run(1);
        let times = (1.0 / once.max(1e-6)).clamp(1.0, 1000.0) as usize;
        let s = run(times) / times as f64;
        println!(
            "{name:48} {:10.3} ms {} (first run {:.0} ms)",
            s * 1e3,
            rate(s),
            first * 1e3
        );
    }
}
