//! `preprocess/`: pictures, their crops and their pixel values.

use crate::{Fixtures, Report, Tensors, folders_with, read_json};
use univi::{
    Result,
    image::{Preprocess, Rgb8, preprocess},
};

/// The crop is integer arithmetic: it is equal or it is wrong.
const CROP_TOLERANCE: f64 = 0.0;

/// Two units in the last place of the largest pixel value, 2.7.
const PIXEL_TOLERANCE: f64 = 1e-6;

/// The reference's sums over 150 528 values are f64 sums of f32 values printed in full.
const SUM_TOLERANCE: f64 = 1e-6;

#[derive(serde::Deserialize)]
struct Index {
    stride: usize,
    images: Vec<Picture>,
}

#[derive(serde::Deserialize)]
struct Picture {
    name: String,
    file: String,
    width: usize,
    height: usize,
    expected_crop_png: String,
    pixel_values_mean: [f64; 3],
    pixel_values_abs_sum: f64,
}

/// Compares every crop with the reference's, and every sample of normalised pixel values.
pub fn check(fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, "preprocess/index.json") {
        let folder = format!("{root}preprocess/");
        report.attempt("preprocess", |report| {
            check_folder(fixtures, &folder, report)
        });
    }
    report
}

fn check_folder(fixtures: &dyn Fixtures, folder: &str, report: &mut Report) -> Result<()> {
    let index: Index = read_json(fixtures, &format!("{folder}index.json"))?;
    let config = format!("{folder}preprocessor_config.json");
    let options = Preprocess::from_json(&fixtures.read(&config)?)?;
    let samples = Tensors::read(fixtures, &format!("{folder}pixel_values.safetensors"))?;
    for picture in &index.images {
        let name = format!("preprocess/{}", picture.name);
        report.attempt(&name, |report| {
            let input = Rgb8::decode(&fixtures.read(&format!("{folder}{}", picture.file))?)?;
            report.equal(
                format!("{name} size"),
                &[input.width_px, input.height_px],
                &[picture.width, picture.height],
            );

            let expected =
                Rgb8::decode(&fixtures.read(&format!("{folder}{}", picture.expected_crop_png))?)?;
            let crop = input.crop(expected.width_px)?;
            let levels = |p: &Rgb8| p.pixels.iter().map(|&v| f32::from(v)).collect::<Vec<_>>();
            report.close(
                format!("{name} crop"),
                &levels(&crop),
                &levels(&expected),
                CROP_TOLERANCE,
            );

            let values = preprocess(&input, &options)?;
            let plane = options.size_px * options.size_px;
            for (channel, expected) in picture.pixel_values_mean.iter().enumerate() {
                let sum: f64 = values[channel * plane..][..plane]
                    .iter()
                    .map(|&v| f64::from(v))
                    .sum();
                report.measured(
                    format!("{name} mean of channel {channel}"),
                    (sum / plane as f64 - expected).abs(),
                    SUM_TOLERANCE,
                    "",
                );
            }
            let sum: f64 = values.iter().map(|&v| f64::from(v.abs())).sum();
            report.measured(
                format!("{name} sum of magnitudes"),
                (sum / picture.pixel_values_abs_sum - 1.0).abs(),
                SUM_TOLERANCE,
                "",
            );

            // `NAME.pixel_values_sample` is of the configured size, `.._336_sample` of another.
            let prefix = format!("{}.pixel_values_", picture.name);
            for tensor in samples.names().filter(|t| t.starts_with(&prefix)) {
                let size_px = tensor[prefix.len()..]
                    .strip_suffix("_sample")
                    .and_then(|size| size.parse().ok())
                    .unwrap_or(options.size_px);
                let values = preprocess(&input, &Preprocess { size_px, ..options })?;
                let sampled: Vec<f32> = values
                    .chunks(size_px)
                    .enumerate()
                    .filter(|(row, _)| row % size_px % index.stride == 0)
                    .flat_map(|(_, row)| row.iter().step_by(index.stride).copied())
                    .collect();
                report.close(
                    format!("preprocess/{tensor}"),
                    &sampled,
                    samples.f32(tensor)?,
                    PIXEL_TOLERANCE,
                );
            }
            Ok(())
        });
    }
    Ok(())
}
