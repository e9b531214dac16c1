//! Products with stored weights, and rows of them.

use univi::{backend::Backend, gguf::GgmlType};

use crate::{Random, TOLERANCE, assert_close, matrix, read, weights};

/// `x [t, k]` times the transpose of `w [n, k]`.
pub fn product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| {
        x.iter()
            .zip(w)
            .map(|(x, w)| f64::from(*x) * f64::from(*w))
            .sum()
    };
    x.chunks(k)
        .flat_map(|x| w.chunks(k).map(move |w| dot(x, w)))
        .collect()
}

pub fn check_matmul<B: Backend>(b: &B, ty: GgmlType, t: usize, n: usize, k: usize) {
    let random = &mut Random((t * n * k) as u64);
    let (bytes, w) = weights(random, ty, n, k);
    let x = random.values(t * k);
    let y = b.matmul(&b.tensor(&x, k), &matrix(b, ty, n, k, &bytes));
    assert_eq!(b.shape(&y), [t, n]);
    assert_close(&read(b, &y), &product(&x, &w, k), TOLERANCE);
}

pub fn check_matmuls<B: Backend>(b: &B) {
    for ty in GgmlType::ALL {
        let k = if ty.block_len() == 256 { 512 } else { 96 };
        for t in [1, 3, 9, 70] {
            check_matmul(b, ty, t, 67, k);
        }
        check_matmul(b, ty, 1, 1, k);
        check_matmul(b, ty, 65, 1, k);
    }
    // A patch of 14 x 14 pixels in three colours, and widths that no vector divides.
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::BF16] {
        for (t, k) in [(1, 588), (40, 588), (1, 7), (9, 33), (2, 1), (16, 147)] {
            check_matmul(b, ty, t, 65, k);
        }
    }
    // More rows than a workgroup's worth of 32 columns, and an odd number of blocks per row.
    check_matmul(b, GgmlType::Q4_0, 2, 301, 32);
    check_matmul(b, GgmlType::Q8_0, 100, 301, 160);
}

pub fn check_embed<B: Backend>(b: &B) {
    let random = &mut Random(2);
    for ty in GgmlType::ALL {
        let cols = if ty.block_len() == 256 { 512 } else { 96 };
        let (bytes, table) = weights(random, ty, 51, cols);
        let ids: Vec<u32> = (0..40)
            .map(|_| random.below(51) as u32)
            .chain([0, 50])
            .collect();
        let y = b.embed(&matrix(b, ty, 51, cols, &bytes), &b.ids(&ids));
        assert_eq!(b.shape(&y), [ids.len(), cols]);
        let want: Vec<f64> = ids
            .iter()
            .flat_map(|&id| {
                table[id as usize * cols..][..cols]
                    .iter()
                    .map(|&x| f64::from(x))
            })
            .collect();
        // A fused multiply-add may differ in the last place of the larger product.
        assert_close(&read(b, &y), &want, 2e-7);
    }
    let (bytes, table) = weights(random, GgmlType::F32, 5, 7);
    let y = b.embed(&matrix(b, GgmlType::F32, 5, 7, &bytes), &b.ids(&[4, 1]));
    assert_eq!(read(b, &y), [&table[28..], &table[7..14]].concat());
}

/// Bytes that a quantizer never writes: every scale, subnormal ones too, every quant.
pub fn check_random_blocks<B: Backend>(b: &B) {
    let random = &mut Random(3);
    for ty in GgmlType::ALL
        .into_iter()
        .filter(|ty| *ty != GgmlType::F32 && *ty != GgmlType::BF16)
    {
        let cols = if ty.is_quantized() {
            ty.block_len() * 2
        } else {
            64
        };
        let rows = 64;
        let row_bytes = ty.row_bytes(cols).expect("whole blocks");
        let bytes: Vec<u8> = loop {
            // The high byte of halves is kept below infinity's by masking a bit of every odd byte.
            let bytes: Vec<u8> = (0..rows * row_bytes)
                .map(|_| random.bits() as u8 & 0xbf)
                .collect();
            if ty.first_not_finite(&bytes).is_none() {
                break bytes;
            }
        };
        let mut table = vec![0.0; rows * cols];
        ty.dequantize(&bytes, &mut table);
        let ids: Vec<u32> = (0..rows as u32).collect();
        let got = read(
            b,
            &b.embed(&matrix(b, ty, rows, cols, &bytes), &b.ids(&ids)),
        );
        // Relative to the block, since products of different sizes are added there.
        for (got, want) in got.chunks(16).zip(table.chunks(16)) {
            let largest = want
                .iter()
                .fold(0f32, |a, x| a.max(x.abs()))
                .max(f32::MIN_POSITIVE);
            for (got, want) in got.iter().zip(want) {
                assert!(
                    (got - want).abs() <= 1e-6 * largest,
                    "{}: {got} instead of {want}",
                    ty.name()
                );
            }
        }
    }
}
