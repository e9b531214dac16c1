//! Every set of instructions against plain loops.

use std::fmt::Debug;

use super::{
    portable::Portable,
    vectors::{LANES, Simd},
};

/// Bits without any pattern.
fn scattered(seed: u32) -> impl Iterator<Item = u32> {
    (0..).map(move |i: u32| {
        (i.wrapping_add(seed))
            .wrapping_mul(2654435761)
            .rotate_left(13)
            .wrapping_mul(2246822519)
            >> 8
    })
}

fn bytes<const N: usize>(seed: u32) -> [u8; N] {
    let mut bits = scattered(seed);
    std::array::from_fn(|_| bits.next().expect("no end") as u8)
}

fn f32s(seed: u32) -> [f32; LANES] {
    bytes::<LANES>(seed).map(|x| f32::from(x as i8) / 64.)
}

fn stored<S: Simd>(simd: S, x: S::F32s) -> [u32; LANES] {
    let mut out = [0.; LANES];
    simd.store(x, &mut out);
    out.map(f32::to_bits)
}

#[track_caller]
fn assert_equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) {
    assert!(
        found == expected,
        "{what}: {found:?}, expected {expected:?}"
    );
}

/// Compares all operations, bit by bit where the order of additions is none.
fn check<S: Simd>(simd: S) {
    for seed in 0..200 {
        let [a, b, c] = [f32s(seed), f32s(seed + 1), f32s(seed + 2)];
        let (x, y, z) = (simd.load(&a), simd.load(&b), simd.load(&c));
        let p = Portable;
        assert_equal(
            "splat",
            stored(simd, simd.splat(a[0])),
            stored(p, p.splat(a[0])),
        );
        assert_equal("add", stored(simd, simd.add(x, y)), stored(p, p.add(a, b)));
        assert_equal("mul", stored(simd, simd.mul(x, y)), stored(p, p.mul(a, b)));
        // Few bits: both roundings are exact.
        let found = stored(simd, simd.mul_add(x, y, z));
        assert_equal("mul_add", found, stored(p, p.mul_add(a, b, c)));
        assert_equal("sum", simd.sum(x), p.sum(a));

        let from = std::array::from_fn(|i| f32s(seed + i as u32));
        let mut to = [[[0.; LANES]; LANES]; 2];
        simd.transpose(&from, &mut to[0]);
        p.transpose(&from, &mut to[1]);
        assert_equal("transpose", to[0], to[1]);

        let halves: [u8; 2 * LANES] = bytes(seed);
        // Finite ones: what a NaN carries is the processor's.
        let finite = std::array::from_fn(|i| halves[i] & if i % 2 == 1 { 0xbb } else { 0xff });
        assert_equal(
            "halves",
            stored(simd, simd.halves(&finite)),
            stored(p, p.halves(&finite)),
        );
        assert_equal(
            "half",
            simd.half([finite[0], finite[1]]),
            p.half([finite[0], finite[1]]),
        );
        let found = stored(simd, simd.brain_floats(&halves));
        assert_equal("brain_floats", found, stored(p, p.brain_floats(&halves)));

        let (a, b): ([u8; LANES], [u8; LANES]) = (bytes(seed), bytes(seed + 1));
        let (x, y) = (simd.bytes(&a), simd.bytes(&b));
        let same = |what: &str, found: S::Bytes, expected: [u8; LANES]| {
            assert_equal(
                what,
                stored(simd, simd.widen(found)),
                stored(p, p.widen(expected)),
            );
        };
        same("bytes", x, a);
        let found = stored(simd, simd.widen_unsigned(x));
        assert_equal("widen_unsigned", found, stored(p, p.widen_unsigned(a)));
        for shift in 0..8 {
            let mask = b[0] & 0xff >> shift;
            same("field", simd.field(x, shift, mask), p.field(a, shift, mask));
            let few = 0xff >> shift;
            let (x, a) = (simd.field(x, 0, few), p.field(a, 0, few));
            same(
                "shift_left",
                simd.shift_left(x, shift),
                p.shift_left(a, shift),
            );
        }
        same("or", simd.or(x, y), p.or(a, b));
        same("sub", simd.sub(x, b[0]), p.sub(a, b[0]));
        let bits = u16::from_le_bytes([a[0], a[1]]);
        same(
            "where_set",
            simd.where_set(bits, b[0]),
            p.where_set(bits, b[0]),
        );
        let table = b.map(|x| x as i8);
        let (x, a) = (simd.field(x, 0, 15), p.field(a, 0, 15));
        same("look_up", simd.look_up(&table, x), p.look_up(&table, a));
    }
}

#[test]
fn portable_values_are_right() {
    let p = Portable;
    let mut halves = [0; 2 * LANES];
    // 1, -2, the largest, the smallest normal and the smallest of all, infinity.
    for (i, half) in [0x3c00u16, 0xc000, 0x7bff, 0x0400, 0x0001, 0x7c00]
        .into_iter()
        .enumerate()
    {
        halves[2 * i..][..2].copy_from_slice(&half.to_le_bytes());
    }
    let expected = [
        1.,
        -2.,
        65504.,
        2f32.powi(-14),
        2f32.powi(-24),
        f32::INFINITY,
    ];
    assert_eq!(p.halves(&halves)[..6], expected);
    assert_eq!(p.widen([0xff; LANES]), [-1.; LANES]);
    assert_eq!(p.widen_unsigned([0xff; LANES]), [255.; LANES]);
    assert_eq!(p.field([0b1011_0110; LANES], 2, 7), [0b101; LANES]);
    assert_eq!(p.where_set(1 << 3, 16)[..5], [0, 0, 0, 16, 0]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x86_computes_as_loops_do() {
    use super::x86::{Avx2, Avx512};

    if let Some(simd) = Avx2::try_new() {
        check(simd);
    }
    if let Some(simd) = Avx512::try_new() {
        check(simd);
    }
}
