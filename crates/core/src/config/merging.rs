//! How visual tokens merge.

use super::checks::{bad, count};
use crate::{Error, Result, backend::MAX_NEIGHBOURS, gguf::Metadata};

/// How patches become dynamic visual tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeConfig {
    /// Without, the LLM sees every patch of a picture, and of a clip the means over time and over
    /// space.
    pub use_cluster: bool,
    /// The stages of merging, each on the tokens of the one before.
    pub spatial: [ClusterConfig; 3],
    /// How frames become events.
    pub temporal: ClusterConfig,
    /// What tells the frames of an event apart.
    pub temporal_position: TemporalPosition,
    /// Frames that a clip is thinned out to.
    pub max_frames: usize,
    /// Frames per second that a clip is looked at.
    pub frame_rate: f64,
}

/// One clustering.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterConfig {
    /// How many clusters.
    pub rate: ClusterRate,
    /// Neighbours that make a density, where there are at least as many clusters.
    pub k: usize,
}

/// How many clusters a number of tokens becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClusterRate {
    /// Always as many, as far as there are so many tokens.
    Count(usize),
    /// A share of the tokens, from 0 to 1, rounded up.
    Share(f64),
}

/// How patches become visual tokens, to compare with how the model was trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergeMethod {
    /// As the model was trained: a Chat-UniVi clusters.
    #[default]
    AsTrained,
    /// Means over rectangles of patches, all of one size. A clip becomes the means of each over
    /// time, and of each frame.
    Pool,
    /// Every patch is a token. A clip becomes the same means as with [`MergeMethod::Pool`].
    None,
}

/// Returns the rows and columns that a square of patches is pooled to: as many as `tokens` allow
/// where all rectangles are of one size, and among those the nearest to a square.
pub(crate) fn pooled_grid(patches_per_side: usize, tokens: usize) -> [usize; 2] {
    let divisors = || (1..=patches_per_side).filter(|n| patches_per_side.is_multiple_of(*n));
    let grids = divisors().flat_map(|rows| divisors().map(move |columns| [rows, columns]));
    let fitting = grids.filter(|[rows, columns]| rows <= columns && rows * columns <= tokens);
    let best =
        fitting.max_by_key(|[rows, columns]| (rows * columns, rows + patches_per_side - columns));
    best.unwrap_or([1, 1])
}

/// What is added to the tokens of a frame before the frames of an event merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporalPosition {
    /// Nothing: published checkpoints.
    None,
    /// The sinusoids of the frame's number.
    Sinusoidal,
}

const MAX_CLUSTERS: usize = 1 << 14;
const MAX_FRAMES: usize = 4096;

impl ClusterConfig {
    /// Clusters of `n` tokens, and the neighbours that make a density.
    pub fn clusters_and_k(&self, n: usize) -> (usize, usize) {
        let clusters = match self.rate {
            ClusterRate::Count(count) => count,
            ClusterRate::Share(share) => (n as f64 * share).ceil() as usize,
        };
        let clusters = clusters.clamp(1, n);
        let k = if self.k > clusters {
            (clusters / 2).clamp(1, 3)
        } else {
            self.k
        };
        (clusters, k)
    }
}

impl ClusterRate {
    /// Makes a rate as the reference writes it: above 1 a count, up to 1 a share.
    ///
    /// # Errors
    /// `BadRequest` for anything else.
    pub fn new(rate: f32) -> Result<ClusterRate> {
        if rate > 1. && rate <= MAX_CLUSTERS as f32 {
            return Ok(ClusterRate::Count(rate.ceil() as usize));
        }
        if rate > 0. && rate <= 1. {
            // The decimal number that was meant, not the f32 next to it: a tenth of 10 is 1, not 2.
            return Ok(ClusterRate::Share(
                rate.to_string().parse().unwrap_or(rate as f64),
            ));
        }
        Err(Error::BadRequest {
            reason: format!(
                "a cluster rate of {rate}: expected a share above 0 and up to 1, or a count up to {MAX_CLUSTERS}"
            ),
        })
    }

    pub(super) fn from_metadata(key: &str, rate: f32) -> Result<ClusterRate> {
        ClusterRate::new(rate).or_else(|error| bad(key, error.to_string()))
    }
}

impl MergeConfig {
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<MergeConfig> {
        let (rate_key, k_key) = ("univi.spatial_cluster_rate", "univi.spatial_cluster_k");
        let (rates, ks) = (metadata.f32s(rate_key)?, metadata.ints(k_key)?);
        let (&[a, b, c], &[i, j, k]) = (rates, &ks[..]) else {
            return bad(
                rate_key,
                format!("is {rates:?} and {k_key} is {ks:?}, expected three stages"),
            );
        };
        let stage = |rate, k| {
            Ok(ClusterConfig {
                rate: ClusterRate::from_metadata(rate_key, rate)?,
                k: neighbours(k_key, k)?,
            })
        };
        let (rate_key, k_key) = ("univi.temporal_cluster_rate", "univi.temporal_cluster_k");
        let temporal = ClusterConfig {
            rate: ClusterRate::from_metadata(rate_key, metadata.f32(rate_key)?)?,
            k: count(metadata, k_key, MAX_NEIGHBOURS)?,
        };
        let position_key = "univi.temporal_position";
        let temporal_position = match metadata.opt_str(position_key)? {
            None | Some("none") => TemporalPosition::None,
            Some("sinusoidal") => TemporalPosition::Sinusoidal,
            Some(other) => {
                return bad(
                    position_key,
                    format!("is {other:?}, expected \"none\" or \"sinusoidal\""),
                );
            }
        };
        let frame_rate_key = "univi.frame_rate";
        let frame_rate = metadata.f32(frame_rate_key)? as f64;
        if frame_rate <= 0. {
            return bad(
                frame_rate_key,
                format!("is {frame_rate}, expected more than 0 frames per second"),
            );
        }
        Ok(MergeConfig {
            use_cluster: metadata.bool("univi.use_cluster")?,
            spatial: [stage(a, i)?, stage(b, j)?, stage(c, k)?],
            temporal,
            temporal_position,
            max_frames: count(metadata, "univi.max_frames", MAX_FRAMES)?,
            frame_rate,
        })
    }
}

impl MergeConfig {
    /// Returns the same, but merging to about `tokens` tokens a picture of `patches` patches, or an
    /// event of a clip: shared out over the three stages as the model does. For more or less detail
    /// than it was trained with.
    ///
    /// # Errors
    /// `BadRequest` where the model does not merge, or can't to so many.
    pub fn with_tokens(&self, tokens: usize, patches: usize) -> Result<MergeConfig> {
        let refuse = |reason| Err(Error::BadRequest { reason });
        if !self.use_cluster {
            return refuse("this model does not merge its visual tokens".to_owned());
        }
        let mut own = [0; 3];
        let mut n = patches;
        for (count, stage) in own.iter_mut().zip(&self.spatial) {
            n = stage.clusters_and_k(n).0;
            *count = n;
        }
        let total: usize = own.iter().sum();
        let most = patches * total / own[0];
        if !(own.len()..=most).contains(&tokens) {
            return refuse(format!(
                "{tokens} visual tokens a picture, expected {} to {most}",
                own.len()
            ));
        }
        let mut config = self.clone();
        for (stage, count) in config.spatial.iter_mut().zip(own) {
            let share = count as f64 / total as f64;
            stage.rate = ClusterRate::Count(((tokens as f64 * share).round() as usize).max(1));
        }
        Ok(config)
    }
}

fn neighbours(key: &str, k: i64) -> Result<usize> {
    match usize::try_from(k) {
        Ok(k) if (1..=MAX_NEIGHBOURS).contains(&k) => Ok(k),
        _ => bad(key, format!("holds {k}, expected 1 to {MAX_NEIGHBOURS}")),
    }
}
