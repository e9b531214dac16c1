//! Checks of metadata, each of which names the key.

use crate::{Error, Result, gguf::Metadata};

/// Everything from 1 to a bound that no real model comes near.
pub(super) fn count(metadata: &Metadata, key: &str, most: usize) -> Result<usize> {
    in_range(key, metadata.u32(key)?, most)
}

/// As [`count`]; `None` where the key is absent.
pub(super) fn opt_count(metadata: &Metadata, key: &str, most: usize) -> Result<Option<usize>> {
    metadata
        .opt_u32(key)?
        .map(|n| in_range(key, n, most))
        .transpose()
}

/// As [`opt_count`]; `None` also for 0.
pub(super) fn opt_count_or_none(metadata: &Metadata, key: &str) -> Result<Option<usize>> {
    Ok(metadata
        .opt_u32(key)?
        .filter(|&n| n > 0)
        .map(|n| n as usize))
}

pub(super) fn in_range(key: &str, n: u32, most: usize) -> Result<usize> {
    let n = n as usize;
    if (1..=most).contains(&n) {
        Ok(n)
    } else {
        bad(key, format!("is {n}, expected 1 to {most}"))
    }
}

pub(super) fn bad<T>(key: &str, reason: impl Into<String>) -> Result<T> {
    Err(Error::BadMetadata {
        key: key.to_string(),
        reason: reason.into(),
    })
}

pub(super) const MAX_LAYERS: usize = 1024;
pub(super) const MAX_WIDTH: usize = 1 << 16;
pub(super) const MAX_FFN: usize = 1 << 18;
pub(super) const MAX_HEADS: usize = 1024;
pub(super) const MAX_HEAD_DIM: usize = 1024;

pub(super) fn architecture(metadata: &Metadata, expected: &str) -> Result<()> {
    let (key, type_key) = ("general.architecture", "general.type");
    if metadata.opt_str(type_key)? == Some("adapter") {
        return bad(
            type_key,
            "is \"adapter\": this is a LoRA adapter, not a model; merge it into its base model first",
        );
    }
    match metadata.str(key)? {
        found if found == expected => Ok(()),
        found => bad(key, format!("is {found:?}, expected {expected:?}")),
    }
}

pub(super) fn eps(metadata: &Metadata, key: &str) -> Result<f32> {
    match metadata.f32(key)? {
        eps if eps > 0. && eps < 1. => Ok(eps),
        eps => bad(key, format!("is {eps}, expected a number between 0 and 1")),
    }
}

/// Kernels of attention take the columns of a head four at a time.
pub(super) fn check_head_dim(key: &str, head_dim: usize) -> Result<()> {
    match head_dim % 4 {
        0 => Ok(()),
        _ => bad(
            key,
            format!("makes heads of {head_dim} columns, expected a multiple of 4"),
        ),
    }
}
