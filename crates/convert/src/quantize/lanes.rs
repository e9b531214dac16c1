//! Eight numbers that are worked on at once.
//!
//! Each lane belongs to a group of numbers of its own. No lane looks at another, so a group's
//! result is the same to the bit whatever vectors the compiler makes of this. Nothing is fused,
//! for the same reason.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Groups that are worked on at once.
pub const LANES: usize = 8;

/// What is added to a number below 2^22 to round it: then its bits end with the integer.
const ROUNDING: f32 = 12_582_912.;

/// Numbers nearer to zero are as good as zero: half floats, which all scales are, end at 6e-8.
const TINY: f32 = 1e-30;

/// A number of each group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(32))]
pub struct Lanes(pub [f32; LANES]);

macro_rules! operators {
    ($($trait:ident $name:ident $operator:tt;)*) => {$(
        impl $trait for Lanes {
            type Output = Lanes;

            #[inline(always)]
            fn $name(self, other: Lanes) -> Lanes {
                self.zip(other, |a, b| a $operator b)
            }
        }
    )*};
}

operators! {
    Add add +;
    Sub sub -;
    Mul mul *;
    Div div /;
}

impl Neg for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn neg(self) -> Lanes {
        self.map(|x| -x)
    }
}

impl Lanes {
    /// Zeros.
    pub const ZERO: Lanes = Lanes([0.; LANES]);

    /// Returns `x` in every lane.
    #[inline(always)]
    pub const fn splat(x: f32) -> Lanes {
        Lanes([x; LANES])
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Lanes {
        let mut out = Lanes::ZERO;
        for (out, x) in out.0.iter_mut().zip(self.0) {
            *out = f(x);
        }
        out
    }

    #[inline(always)]
    fn zip(self, other: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
        let mut out = Lanes::ZERO;
        for (out, (a, b)) in out.0.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            *out = f(a, b);
        }
        out
    }

    /// Returns the magnitudes.
    #[inline(always)]
    pub fn abs(self) -> Lanes {
        self.map(f32::abs)
    }

    /// Returns the square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Lanes {
        self.map(f32::sqrt)
    }

    /// Returns the smaller ones; those of `other` where one is no number.
    #[inline(always)]
    pub fn min(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    /// Returns the larger ones; those of `other` where one is no number.
    #[inline(always)]
    pub fn max(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// Returns the nearest integers, the even one of two, of numbers below 2^22.
    #[inline(always)]
    pub fn round(self) -> Lanes {
        self.map(|x| (x + ROUNDING) - ROUNDING)
    }

    /// Returns 1 / x, or 0 for what is as good as 0: what has no scale becomes zeros.
    #[inline(always)]
    pub fn inverse(self) -> Lanes {
        self.map(|x| if x.abs() < TINY { 0. } else { 1. / x })
    }

    /// Returns the lanes of `yes` where `self < other`, else those of `no`.
    #[inline(always)]
    pub fn less(self, other: Lanes, yes: Lanes, no: Lanes) -> Lanes {
        let mut out = Lanes::ZERO;
        for i in 0..LANES {
            // By bits: a choice becomes scalar code in too many places.
            let mask = u32::from(self.0[i] < other.0[i]).wrapping_neg();
            let (yes, no) = (yes.0[i].to_bits(), no.0[i].to_bits());
            out.0[i] = f32::from_bits(yes & mask | no & !mask);
        }
        out
    }

    /// Returns integers in `-128..256` as bytes; negative ones in two's complement.
    #[inline(always)]
    pub fn bytes(self) -> [u8; LANES] {
        let mut out = [0; LANES];
        for (out, x) in out.iter_mut().zip(self.0) {
            *out = (x + ROUNDING).to_bits() as u8;
        }
        out
    }
}

/// Returns number `i` of each of eight groups that follow each other, for each `i`.
#[inline(always)]
pub fn gather<const N: usize>(x: &[f32]) -> [Lanes; N] {
    let mut out = [Lanes::ZERO; N];
    for (lane, group) in x.chunks_exact(N).enumerate() {
        for (out, x) in out.iter_mut().zip(group) {
            out.0[lane] = *x;
        }
    }
    out
}

/// Writes integers as bytes, group after group: the way back.
#[inline(always)]
pub fn scatter<const N: usize>(x: &[Lanes; N], out: &mut [u8]) {
    for (i, x) in x.iter().enumerate() {
        for (lane, byte) in x.bytes().into_iter().enumerate() {
            out[lane * N + i] = byte;
        }
    }
}

/// Returns how much the error of each number counts: large numbers matter more, but no number
/// matters nothing. Only ratios within a group mean something.
#[inline(always)]
pub fn weigh<const N: usize>(x: &[Lanes; N], importance: Option<&[Lanes; N]>) -> [Lanes; N] {
    let largest = x.iter().fold(Lanes::ZERO, |m, x| m.max(x.abs()));
    let unit = largest.inverse();
    let mut weights = *x;
    let mut squares = Lanes::ZERO;
    for w in &mut weights {
        *w = (*w * unit).abs();
        squares = squares + *w * *w;
    }
    let rms = (squares * Lanes::splat(1. / N as f32)).sqrt();
    for w in &mut weights {
        *w = *w + rms;
    }
    if let Some(importance) = importance {
        let largest = importance.iter().fold(Lanes::ZERO, |m, x| m.max(*x));
        let unit = largest.inverse();
        for (w, importance) in weights.iter_mut().zip(importance) {
            *w = *w * (*importance * unit);
        }
    }
    weights
}
