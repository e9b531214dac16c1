//! Devices that have little, or are gone.

use pollster::block_on;
use univi::{
    backend::{Backend, Heads, KvType},
    gguf::GgmlType,
    gpu::{Gpu, GpuOptions, LimitsChoice},
};

use crate::{Random, assert_close, clustering::check_dpc_knn, gpu, matmul::product, read};

/// The limits that every WebGPU device has, whatever this one could do.
fn modest_gpu() -> Gpu {
    let options = GpuOptions::default().limits(LimitsChoice::WebGpuDefault);
    block_on(Gpu::new(options)).expect("a GPU, or lavapipe")
}

#[test]
fn weights_beyond_a_binding_are_split() {
    let b = &modest_gpu();
    assert_eq!(b.adapter_info().max_binding_bytes, 128 << 20);
    let random = &mut Random(13);
    // 105 MiB each; rows of 2 bytes more than whole words. Then 150 MiB, in two parts.
    for (rows, cols) in [(3_000, 17_474), (4_501, 17_474)] {
        let bytes: Vec<u8> = (0..rows * cols)
            .flat_map(|i| [i as u8, 0x38 + (i % 7) as u8 % 4])
            .collect();
        let mut w = vec![0.0; rows * cols];
        GgmlType::F16.dequantize(&bytes, &mut w);
        let mut matrix = b.alloc_matrix(GgmlType::F16, rows, cols).expect("room");
        for (i, piece) in bytes.chunks(1 << 22).enumerate() {
            b.write_matrix(&mut matrix, i << 22, piece);
        }
        let x = random.values(cols);
        let y = b.matmul(&b.tensor(&x, cols), &matrix);
        assert_close(&read(b, &y), &product(&x, &w, cols), 1e-4);
        let ids = [0, rows as u32 - 1, 3_500.min(rows as u32 - 1)];
        let want = ids.map(|id| &w[id as usize * cols..][..cols]).concat();
        assert_eq!(read(b, &b.embed(&matrix, &b.ids(&ids))), want);
    }
}

#[test]
fn long_events_are_clustered_in_blocks() {
    let b = &modest_gpu();
    let random = &mut Random(14);
    // 4500 x 4500 distances are more than are kept at once.
    let (n, c) = (4_500, 3);
    let x = random.values(n * c);
    check_dpc_knn(b, random, &x, (1, n, c), 64, 5);
}

#[test]
fn what_does_not_fit_is_refused() {
    let b = &modest_gpu();
    let code = |result: univi::Result<()>| result.expect_err("too large").code();
    assert_eq!(
        code(b.alloc_matrix(GgmlType::F32, 2, 1 << 26).map(drop)),
        "out-of-memory"
    );
    let mut cache = b.kv_cache(4096, 1 << 20, KvType::F32);
    let grown = block_on(b.reserve(&mut cache, 1 << 20));
    assert_eq!(code(grown), "out-of-memory");
    // An intermediate result: the refusal comes with the next read, and the one after that is fine.
    let row = b.tensor(&[1.0; 1 << 20], 1 << 20);
    let large = b.concat(&[&row; 33]);
    assert_eq!(code(block_on(b.read(&large)).map(drop)), "out-of-memory");
    assert_eq!(read(b, &b.slice(&row, 0..1))[7], 1.0);
}

#[test]
fn caches_take_what_they_hold() {
    let b = &gpu();
    let width = 1024;
    let mebibytes = |cache: &mut _, positions| {
        block_on(b.reserve(cache, positions)).expect("room");
        b.memory_bytes() as f64 / f64::from(1 << 20)
    };
    let mut exact = b.kv_cache(width, 4096, KvType::F32);
    let before = b.memory_bytes();
    assert!(mebibytes(&mut exact, 0) == before as f64 / f64::from(1 << 20));
    // 8 KiB a position: 256 of them, then a quarter more than 1,000, then all; the smaller ones are
    // gone.
    for (positions, room) in [
        (1, 256),
        (256, 256),
        (1000, 1250),
        (4000, 4096),
        (4096, 4096),
    ] {
        let found = mebibytes(&mut exact, positions);
        assert!(
            (found - room as f64 / 128.).abs() < 0.1,
            "{found} MiB for {room}"
        );
    }
    drop(exact);
    assert_eq!(b.memory_bytes(), before);
    let mut bytes = b.kv_cache(width, 4096, KvType::Q8);
    assert!((mebibytes(&mut bytes, 4096) - 9.).abs() < 0.1);
    // A copy of a short beginning takes no more than that.
    let copy = block_on(b.copy_kv_cache(&bytes, 300)).expect("room");
    assert!((mebibytes(&mut bytes, 4096) - 9. * (1. + 375. / 4096.)).abs() < 0.1);
    drop((bytes, copy));
}

#[test]
fn a_cache_that_can_not_grow_is_as_it_was() {
    let options = GpuOptions::default().memory_bytes(8 << 20);
    let b = &block_on(Gpu::new(options)).expect("a GPU, or lavapipe");
    let heads = Heads {
        heads: 4,
        kv_heads: 4,
        head_dim: 128,
    };
    let random = &mut Random(17);
    let [q, k, v] = [(); 3].map(|()| b.tensor(&random.values(20 * 512), 512));
    let mut cache = b.kv_cache(512, 1 << 20, KvType::F32);
    block_on(b.reserve(&mut cache, 20)).expect("room");
    b.append(&mut cache, 0, &k, &v);
    let before = read(b, &b.attention_causal(&q, &cache, heads, 0));
    let bytes = b.memory_bytes();
    for _ in 0..2 {
        let error = block_on(b.reserve(&mut cache, 2000)).expect_err("no room");
        assert_eq!(error.code(), "out-of-memory");
        assert_eq!(
            b.memory_bytes(),
            bytes,
            "what was had in vain is given back"
        );
        assert_eq!(before, read(b, &b.attention_causal(&q, &cache, heads, 0)));
    }
    block_on(b.reserve(&mut cache, 700)).expect("room");
    assert_eq!(before, read(b, &b.attention_causal(&q, &cache, heads, 0)));
}

#[test]
fn a_lost_device_is_an_error() {
    let b = &gpu();
    let x = b.tensor(&[1.0, 2.0], 2);
    let before = b.add(&x, &x);
    b.destroy();
    let after = b.add(&before, &x);
    for lost in [block_on(b.read(&before)), block_on(b.read(&after))] {
        assert_eq!(lost.expect_err("no device").code(), "device-lost");
    }
    assert_eq!(
        block_on(b.finish()).expect_err("no device").code(),
        "device-lost"
    );
    let grown = block_on(b.reserve(&mut b.kv_cache(4, 4, KvType::F32), 4));
    assert_eq!(grown.expect_err("no device").code(), "device-lost");
}
