//! How fast a model is on a device, beside what the device can do.
//!
//! [`measure`] is generic over the backend and asks for the time through a closure, so that a page
//! can measure with the code that the command line has. Everything is measured several times, after
//! one time that is not counted; a [`Spread`] has the median and the ends.

mod ceilings;
mod language;
mod options;
mod report;
mod stopwatch;
mod vision;

use std::collections::BTreeMap;

use univi::{Backend, OpenDevice, Result, gguf::GgmlType, model::ChatUniVi};

pub use self::{
    options::Options,
    report::{Ceilings, Decode, PerToken, Product, Report, Stage},
    stopwatch::{Spread, Stopwatch},
};

/// Measures the device, and the model on it. `types` has the type of each tensor of the language
/// model. What a model has no room for is left out.
///
/// # Errors
/// `OutOfMemory` for conversations of such a length; or what the device reports.
pub async fn measure<B: Backend>(
    device: &OpenDevice,
    model: &ChatUniVi<B>,
    types: &BTreeMap<String, GgmlType>,
    options: &Options,
    stopwatch: &mut Stopwatch<'_>,
) -> Result<Report> {
    let ceilings = ceilings::measure(device, stopwatch).await?;
    let language = language::Language {
        device,
        backend: model.backend(),
        llama: model.llama(),
        types,
        options,
    };
    let products = language.products(&ceilings, stopwatch).await?;
    let reading = language.reading(stopwatch).await?;
    let answering = language.answering(&ceilings, stopwatch).await?;
    let vision = match model.has_vision() {
        true => vision::measure(model, options, stopwatch).await?,
        false => Vec::new(),
    };
    Ok(Report {
        device: device.name(),
        ceilings,
        products,
        reading,
        answering,
        vision,
        gpu_memory_bytes: device.memory_bytes(),
    })
}
