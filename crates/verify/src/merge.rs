//! `merge/`: whole pictures and clips, from features to projected tokens.

use crate::{Fixtures, Report, Tensors, check_folders, read_json};
use univi::{
    Backend, Result,
    config::{ClusterConfig, ClusterRate, MergeConfig, ProjectorConfig, TemporalPosition},
    gguf::GgmlType,
    model::{
        Weights,
        merge::{self, Merged},
        projector::{self, Projector},
    },
};

/// Embeddings stored as f32, and as f16.
const EMBEDS_TOLERANCE: f64 = 1e-4;
const F16_EMBEDS_TOLERANCE: f64 = 4e-3;

#[derive(serde::Deserialize)]
struct Index {
    cluster_config: Rates,
    cases: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Rates {
    spatial_cluster_rate0: f32,
    spatial_cluster_rate1: f32,
    spatial_cluster_rate2: f32,
    temporal_cluster_rate: f32,
}

#[derive(serde::Deserialize)]
struct Row {
    name: String,
    kind: Kind,
    features: String,
    /// First frame and number of frames; of pictures, the whole batch.
    frames: [usize; 2],
    noise: String,
    #[serde(default)]
    events: Vec<Vec<usize>>,
    #[serde(default = "yes")]
    use_cluster: bool,
    #[serde(default)]
    informational_only: bool,
}

#[derive(serde::Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Image,
    Video,
}

fn yes() -> bool {
    true
}

/// Compares the events and the projected tokens of every case that the reference's noise does not
/// decide.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    check_folders(fixtures, "merge", "merge.json", async |folder, report| {
        check_folder(backend, fixtures, folder, report).await
    })
    .await
}

async fn check_folder<B: Backend>(
    b: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    report: &mut Report,
) -> Result<()> {
    let index: Index = read_json(fixtures, &format!("{folder}merge.json"))?;
    let tensors = Tensors::read(fixtures, &format!("{folder}merge.safetensors"))?;
    let projector = linear(b, &tensors)?;
    for row in index.cases.iter().filter(|row| !row.informational_only) {
        if let Err(error) = check_row(
            b,
            &tensors,
            &projector,
            &index.cluster_config,
            folder,
            row,
            report,
        )
        .await
        {
            report.failed(&format!("{folder}{}", row.name), &error);
        }
    }
    Ok(())
}

/// The reference's projector, one linear layer.
fn linear<B: Backend>(b: &B, tensors: &Tensors) -> Result<Projector<B>> {
    let (weight, bias) = ("mm_projector.weight", "mm_projector.bias");
    let &[width, channels] = tensors.shape(weight)? else {
        return Err(crate::wrong_layout(weight, "[width, channels]"));
    };
    let config = ProjectorConfig::Mlp { layers: 1 };
    let wanted = projector::tensors(config, channels, width);
    let mut weights = Weights::new(b.clone(), wanted.clone());
    for (wanted, source) in wanted.iter().zip([weight, bias]) {
        weights.begin(&wanted.name, GgmlType::F32, tensors.shape(source)?)?;
        weights.write(&wanted.name, 0, bytemuck::cast_slice(tensors.f32(source)?));
    }
    Projector::new(&mut weights, config)
}

async fn check_row<B: Backend>(
    b: &B,
    tensors: &Tensors,
    projector: &Projector<B>,
    rates: &Rates,
    folder: &str,
    row: &Row,
    report: &mut Report,
) -> Result<()> {
    let &[all, patches, channels] = tensors.shape(&row.features)? else {
        return Err(crate::wrong_layout(
            &row.features,
            "[frames, patches, channels]",
        ));
    };
    let [first, count] = row.frames;
    if count == 0 || first.checked_add(count).is_none_or(|end| end > all) {
        return Err(crate::wrong_layout(
            &row.name,
            "frames inside the tensor of features",
        ));
    }
    let frame = patches * channels;
    let x = b.tensor(
        &tensors.f32(&row.features)?[first * frame..(first + count) * frame],
        channels,
    );
    let config = merge_config(rates, row.use_cluster)?;

    let (found, events) = match row.kind {
        Kind::Image => {
            let image = |i: usize| {
                merge::image(b, &b.slice(&x, i * patches..(i + 1) * patches), &config).tokens
            };
            (
                b.concat(
                    &(0..count)
                        .map(image)
                        .collect::<Vec<_>>()
                        .iter()
                        .collect::<Vec<_>>(),
                ),
                Vec::new(),
            )
        }
        Kind::Video => {
            let noise = match row.noise.as_str() {
                "injected" => {
                    Some(b.tensor(tensors.f32(&format!("{}.temporal_rand", row.name))?, count))
                }
                _ => None,
            };
            let Merged { tokens, trace } = merge::video(
                b,
                &merge::Frames::new(b, &x, count, &config),
                &config,
                noise.as_ref(),
            )
            .await?;
            (tokens, trace.event_frames().to_vec())
        }
    };
    if row.kind == Kind::Video && row.use_cluster {
        report.equal(format!("{folder}{} events", row.name), &events, &row.events);
    }
    let embeds = b.read(&projector.forward(&found)).await?;
    let expected = tensors.f32(&format!("{}.embeds", row.name))?;
    // f16 is recognised by its values: the fixtures store long clips so.
    let stored_as_f16 = expected
        .iter()
        .all(|&x| half::f16::from_f32(x).to_f32() == x);
    let tolerance = if stored_as_f16 {
        F16_EMBEDS_TOLERANCE
    } else {
        EMBEDS_TOLERANCE
    };
    report.close(
        format!("{folder}{} embeds", row.name),
        &embeds,
        expected,
        tolerance,
    );
    Ok(())
}

/// The published models' neighbours, with the fixture's rates.
fn merge_config(rates: &Rates, use_cluster: bool) -> Result<MergeConfig> {
    let stage = |rate, k| {
        Ok(ClusterConfig {
            rate: ClusterRate::new(rate)?,
            k,
        })
    };
    Ok(MergeConfig {
        use_cluster,
        spatial: [
            stage(rates.spatial_cluster_rate0, 5)?,
            stage(rates.spatial_cluster_rate1, 3)?,
            stage(rates.spatial_cluster_rate2, 3)?,
        ],
        temporal: stage(rates.temporal_cluster_rate, 5)?,
        temporal_position: TemporalPosition::None,
        max_frames: 64,
        frame_rate: 1.,
    })
}
