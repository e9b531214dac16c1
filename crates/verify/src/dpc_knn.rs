//! `dpc_knn/`: clusterings, each of a batch of token sets.

use crate::{Fixtures, Report, Tensors, check_folders, read_json};
use univi::{
    Backend, Result,
    backend::Clusters,
    config::{ClusterConfig, ClusterRate},
};

/// The reference sums in another order.
const MERGED_TOLERANCE: f64 = 1e-5;

#[derive(serde::Deserialize)]
struct Index {
    cases: Vec<Row>,
    ctm_rule: Vec<Rule>,
}

#[derive(serde::Deserialize)]
struct Row {
    name: String,
    sample_ratio: f32,
    k: usize,
    compare: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Rule {
    sample_ratio: f32,
    k: usize,
    #[serde(rename = "N")]
    n: usize,
    cluster_num: usize,
    k_effective: usize,
}

/// Compares the number of clusters and of neighbours, and every clustering that is well defined.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    check_folders(fixtures, "dpc_knn", "cases.json", async |folder, report| {
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
    let index: Index = read_json(fixtures, &format!("{folder}cases.json"))?;
    let tensors = Tensors::read(fixtures, &format!("{folder}cases.safetensors"))?;
    for (i, rule) in index.ctm_rule.iter().enumerate() {
        let found = ClusterConfig {
            rate: ClusterRate::new(rule.sample_ratio)?,
            k: rule.k,
        }
        .clusters_and_k(rule.n);
        // The reference may ask for more clusters than there are tokens, and then fails.
        if rule.cluster_num <= rule.n {
            report.equal(
                format!("{folder}rule {i}"),
                &[found],
                &[(rule.cluster_num, rule.k_effective)],
            );
        }
    }
    for row in &index.cases {
        if let Err(error) = check_row(b, &tensors, folder, row, report).await {
            report.failed(&format!("{folder}{}", row.name), &error);
        }
    }
    Ok(())
}

async fn check_row<B: Backend>(
    b: &B,
    tensors: &Tensors,
    folder: &str,
    row: &Row,
    report: &mut Report,
) -> Result<()> {
    let tensor = |part: &str| format!("{}.{part}", row.name);
    let &[batch, n, channels] = tensors.shape(&tensor("x"))? else {
        return Err(crate::wrong_layout(
            &tensor("x"),
            "[batch, tokens, channels]",
        ));
    };
    let x = b.tensor(tensors.f32(&tensor("x"))?, channels);
    let noise = match tensors.f32(&tensor("rand")) {
        Ok(noise) => Some(b.tensor(noise, n)),
        Err(_) => None,
    };
    let (clusters, k) = ClusterConfig {
        rate: ClusterRate::new(row.sample_ratio)?,
        k: row.k,
    }
    .clusters_and_k(n);

    let Clusters { centres, groups } = b.dpc_knn(&x, batch, clusters, k, noise.as_ref());
    let merged = b.merge(&x, &groups, batch, clusters);
    let (centres, groups, merged) = (
        b.read_ids(&centres).await?,
        b.read_ids(&groups).await?,
        b.read(&merged).await?,
    );

    for what in &row.compare {
        let name = format!("{folder}{} {what}", row.name);
        match what.as_str() {
            "index_down" => report.equal(name, &integers(&centres), tensors.i64(&tensor(what))?),
            "idx_cluster" => report.equal(name, &integers(&groups), tensors.i64(&tensor(what))?),
            "merged_x" => {
                report.close(name, &merged, tensors.f32(&tensor(what))?, MERGED_TOLERANCE)
            }
            // Densities and distances are steps on the way, which no backend shows.
            _ => {}
        }
    }
    Ok(())
}

fn integers(ids: &[u32]) -> Vec<i64> {
    ids.iter().map(|&id| id.into()).collect()
}
