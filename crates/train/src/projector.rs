//! Projectors that are not part of a checkpoint yet: new ones, and those of a file of their own, as
//! LLaVA's and Chat-UniVi's first stage leaves them (`mm_projector.bin`).

use rand::RngExt;
use univi::{Error, Result};
use univi_convert::checkpoint::{self, Files};

use crate::{export::Tensors, nano::data::rng};

/// What the names of a projector's tensors begin with in a checkpoint.
const PREFIX: &str = "model.mm_projector.";

/// Makes a linear projector that knows nothing, from `tower_width` channels to `llm_width`: uniform
/// within `1 / sqrt(tower_width)`, as PyTorch begins a `Linear`.
pub fn new(tower_width: usize, llm_width: usize, seed: u64) -> Tensors {
    let mut rng = rng(seed, 0, 0);
    let most = 1. / (tower_width as f32).sqrt();
    let mut tensor = |shape: Vec<usize>| {
        let numbers = (0..shape.iter().product()).map(|_| rng.random_range(-most..most));
        let numbers = numbers.collect();
        (shape, numbers)
    };
    Tensors::from([
        (
            format!("{PREFIX}weight"),
            tensor(vec![llm_width, tower_width]),
        ),
        (format!("{PREFIX}bias"), tensor(vec![llm_width])),
    ])
}

/// Reads the projector that a file holds, whatever stands before its names.
///
/// # Errors
/// `BadFile` for what is no projector, or holds more than one.
pub fn read(files: &dyn Files, name: &str) -> Result<Tensors> {
    let mut projector = Tensors::new();
    for (name, tensor) in checkpoint::read_tensors(files, name)? {
        let wrong = |reason: String| Error::BadFile {
            format: "projector",
            reason,
        };
        let (_, rest) = name.rsplit_once("mm_projector.").ok_or_else(|| {
            wrong(format!(
                "holds {name}; expected mm_projector.weight, mm_projector.bias"
            ))
        })?;
        if projector
            .insert(format!("{PREFIX}{rest}"), tensor)
            .is_some()
        {
            return Err(wrong(format!("holds {rest} twice")));
        }
    }
    Ok(projector)
}

/// Returns the type of a projector as `config.json` has it, by its tensors: `linear`, or
/// `mlpNx_gelu`.
pub fn kind(projector: &Tensors) -> String {
    let weights = projector
        .keys()
        .filter(|name| name.ends_with(".weight"))
        .count();
    match projector.contains_key(&format!("{PREFIX}weight")) {
        true => "linear".into(),
        false => format!("mlp{weights}x_gelu"),
    }
}
