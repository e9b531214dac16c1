//! `clip/`: what a vision tower sees in two pictures.

use crate::{Fixtures, Report, Tensors, check_folders, files_of_folder, weights_of_part};
use univi::{Backend, Result, config::VisionConfig, image::Rgb8, model::Vision};
use univi_convert::checkpoint::Checkpoint;

/// The reference sums in another order; its features are around 1.
const FEATURES_TOLERANCE: f64 = 2e-4;

/// Compares the features of the pictures `input_0.png`, `input_1.png`, ..
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    check_folders(
        fixtures,
        "clip",
        "io.safetensors",
        async |folder, report| check_folder(backend, fixtures, folder, report).await,
    )
    .await
}

async fn check_folder<B: Backend>(
    b: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    report: &mut Report,
) -> Result<()> {
    let files = files_of_folder(fixtures, &format!("{folder}model/"))?;
    let part = Checkpoint::open(&files)?.tower()?;
    let config = VisionConfig::from_metadata(&part.metadata)?;
    let vision = Vision::new(&mut weights_of_part(b, &part)?, &config)?;

    let io = Tensors::read(fixtures, &format!("{folder}io.safetensors"))?;
    let expected = io.f32("features_patch")?;
    let pictures = io.shape("features_patch")?[0];
    let picture = |i: usize| Rgb8::decode(&fixtures.read(&format!("{folder}input_{i}.png"))?);
    let features = b
        .read(&vision.features((0..pictures).map(picture)).await?)
        .await?;
    report.close(
        format!("{folder}features"),
        &features,
        expected,
        FEATURES_TOLERANCE,
    );
    Ok(())
}
