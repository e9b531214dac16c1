//! `llama/`: small language models, fed with ids and with embeddings.

use crate::{
    Fixtures, Report, Tensors, files_of_folder, folders_with, read_json, weights_of_part,
    wrong_layout,
};
use univi::{Backend, Result, backend::KvType, config::LlamaConfig, model::Llama};
use univi_convert::checkpoint::Checkpoint;

/// The reference's own difference between using a cache and not is below this.
const LOGITS_TOLERANCE: f64 = 1e-3;

/// Of normed hidden states, which are around 1.
const HIDDEN_TOLERANCE: f64 = 1e-3;

/// Embeddings are looked up, not computed.
const EMBEDDINGS_TOLERANCE: f64 = 0.;

#[derive(serde::Deserialize)]
struct Row {
    name: String,
}

/// Compares hidden states, logits and greedy ids of every model.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, "llama/index.json") {
        let folder = format!("{root}llama/");
        match read_json::<Vec<Row>>(fixtures, &format!("{folder}index.json")) {
            Err(error) => report.failed(&folder, &error),
            Ok(rows) => {
                for row in rows {
                    let folder = format!("{folder}{}/", row.name);
                    if let Err(error) = check_model(backend, fixtures, &folder, &mut report).await {
                        report.failed(&folder, &error);
                    }
                }
            }
        }
    }
    report
}

async fn check_model<B: Backend>(
    b: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    report: &mut Report,
) -> Result<()> {
    let files = files_of_folder(fixtures, folder)?;
    let part = Checkpoint::open(&files)?.llm()?;
    let config = LlamaConfig::from_metadata(&part.metadata)?;
    let mut llama = Llama::new(
        &mut weights_of_part(b, &part)?,
        &config,
        config.context,
        KvType::F32,
    )?;
    llama.stack_matrices().await?;

    let io = Tensors::read(fixtures, &format!("{folder}io.safetensors"))?;
    let ids: Vec<u32> = io
        .i64("input_ids")?
        .iter()
        .filter_map(|&id| id.try_into().ok())
        .collect();
    if ids.is_empty() || ids.iter().any(|&id| id as usize >= config.vocabulary) {
        return Err(wrong_layout("input_ids", "ids of the vocabulary"));
    }
    let prompts = [
        ("", llama.embed(&b.ids(&ids))),
        ("embeds_", b.tensor(io.f32("inputs_embeds")?, config.width)),
    ];
    for (kind, x) in prompts {
        let mut caches = llama.caches();
        llama.reserve(&mut caches, b.shape(&x)[0]).await?;
        let hidden = llama.forward(&x, &mut caches, 0);
        let logits = b.read(&llama.logits(&hidden)).await?;
        let (x_read, hidden) = (b.read(&x).await?, b.read(&hidden).await?);

        let greedy: Vec<i64> = io.i64(&format!("{kind}greedy_ids"))?.to_vec();
        let (found, steps) = llama.greedy(&x, greedy.len()).await?;
        let found: Vec<i64> = found.into_iter().map(i64::from).collect();
        report.equal(format!("{folder}{kind}greedy_ids"), &found, &greedy);

        // Of some tensors the fixture holds the first rows, of others the last.
        let first = steps.concat();
        let compared = [
            ("hidden_after_embed", &x_read[..], EMBEDDINGS_TOLERANCE),
            ("hidden_final_norm", &hidden, HIDDEN_TOLERANCE),
            ("logits", &logits, LOGITS_TOLERANCE),
            ("logits_last8", &logits, LOGITS_TOLERANCE),
            ("greedy_step_logits_first4", &first, LOGITS_TOLERANCE),
            ("greedy_step_logits_last", &first, LOGITS_TOLERANCE),
        ];
        for (what, found, tolerance) in compared {
            let name = format!("{kind}{what}");
            let Ok(expected) = io.f32(&name) else {
                continue;
            };
            let len = expected.len().min(found.len());
            let found = if what.contains("last") {
                &found[found.len() - len..]
            } else {
                &found[..len]
            };
            report.close(format!("{folder}{name}"), found, expected, tolerance);
        }
    }
    Ok(())
}
