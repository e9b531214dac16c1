//! Merging alike tokens into dynamic visual tokens (arXiv 2311.08046, section 3.2). No weights are
//! involved: DPC-KNN groups the tokens, and each group becomes its mean.

use crate::{
    Backend, Result,
    config::{MergeConfig, TemporalPosition},
};

/// A picture or a clip as a short list of tokens, and how they came about.
pub struct Merged<B: Backend> {
    /// `[tokens, c]`, event after event; in each the tokens of stage 0, then 1, then 2, each by
    /// falling score of their centre.
    pub tokens: B::Tensor,
    /// What was merged: a picture is one event of one frame.
    pub trace: Trace<B>,
}

/// How merged tokens came about, still on the device.
pub struct Trace<B: Backend> {
    patches: usize,
    /// Frames of each event, in rising order; events in the order of their first frame.
    events: Vec<Vec<usize>>,
    /// For each stage: the group of each token that entered it, frame by frame, one batch of
    /// frames after the other. Empty without merging.
    frames: Vec<Vec<Groups<B>>>,
    /// The same for the merge inside each event of a clip. Empty for pictures.
    merges: Vec<Vec<Groups<B>>>,
}

/// The groups of `batch` sets, each of `clusters`.
struct Groups<B: Backend> {
    ids: B::Ids,
    clusters: usize,
}

impl<B: Backend> Clone for Groups<B> {
    fn clone(&self) -> Self {
        Groups {
            ids: self.ids.clone(),
            clusters: self.clusters,
        }
    }
}

/// Frames that were looked at, each by itself: what a clip is made of, and all that has to be kept
/// of them.
pub struct Frames<B: Backend> {
    count: usize,
    patches: usize,
    /// `[count, c]`: the mean of each.
    means: B::Tensor,
    /// The stages of each frame's own merging: tokens `[count * clusters, c]`, and the groups that
    /// they come from.
    stages: Vec<(B::Tensor, Vec<Groups<B>>)>,
    /// `[count * patches, c]`, where the model does not merge.
    whole: Option<B::Tensor>,
}

impl<B: Backend> Frames<B> {
    /// Features of frames `[count * patches, c]`.
    pub fn new(b: &B, x: &B::Tensor, count: usize, config: &MergeConfig) -> Frames<B> {
        let patches = b.shape(x)[0] / count;
        let stages = match config.use_cluster {
            true => spatial(b, x, count, config),
            false => Vec::new(),
        };
        Frames {
            count,
            patches,
            means: b.mean(x, patches),
            stages: stages
                .into_iter()
                .map(|(tokens, groups)| (tokens, vec![groups]))
                .collect(),
            whole: (!config.use_cluster).then(|| x.clone()),
        }
    }

    /// Returns whether each frame became as many tokens as those of `other`.
    pub fn is_like(&self, other: &Frames<B>) -> bool {
        let clusters = |frames: &Frames<B>| -> Vec<usize> {
            let stages = frames.stages.iter();
            stages.map(|(_, groups)| groups[0].clusters).collect()
        };
        clusters(self) == clusters(other)
    }

    /// Joins frames, one after the other.
    ///
    /// # Panics
    /// Without any, or where they are not [alike](Frames::is_like).
    pub fn join(b: &B, all: &[&Frames<B>]) -> Frames<B> {
        let concat = |part: &dyn Fn(&Frames<B>) -> B::Tensor| {
            let parts: Vec<B::Tensor> = all.iter().map(|frames| part(frames)).collect();
            b.concat(&parts.iter().collect::<Vec<_>>())
        };
        let stage = |i: usize| {
            let groups = all.iter().flat_map(|frames| frames.stages[i].1.clone());
            (
                concat(&|frames| frames.stages[i].0.clone()),
                groups.collect(),
            )
        };
        let first = all.first().expect("a clip has frames");
        Frames {
            count: all.iter().map(|frames| frames.count).sum(),
            patches: first.patches,
            means: concat(&|frames| frames.means.clone()),
            stages: (0..first.stages.len()).map(stage).collect(),
            whole: first.whole.as_ref().map(|_| {
                concat(&|frames| {
                    let whole = frames.whole.as_ref();
                    whole.expect("either all merge or none").clone()
                })
            }),
        }
    }
}

/// Frames that were told as one, and what became of their patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoEvent {
    /// Numbers of the frames among those that were shown, rising.
    pub frames: Vec<usize>,
    /// The three stages, the finest first; empty where the model does not merge.
    pub stages: Vec<MergeStage>,
}

/// One stage of merging inside one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeStage {
    /// `[frames * patches]`: the merged token that each patch ended in, counted inside stage and
    /// event.
    pub groups: Vec<u32>,
    /// Patches in each merged token.
    pub sizes: Vec<u32>,
}

/// Merges the features of one picture `[patches, c]` -> its tokens.
pub fn image<B: Backend>(b: &B, x: &B::Tensor, config: &MergeConfig) -> Merged<B> {
    let [patches, _] = b.shape(x);
    let mut trace = Trace {
        patches,
        events: vec![vec![0]],
        frames: Vec::new(),
        merges: Vec::new(),
    };
    if !config.use_cluster {
        return Merged {
            tokens: x.clone(),
            trace,
        };
    }
    let stages = spatial(b, x, 1, config);
    let tokens = b.concat(&stages.iter().map(|stage| &stage.0).collect::<Vec<_>>());
    trace.frames = stages.into_iter().map(|stage| vec![stage.1]).collect();
    Merged { tokens, trace }
}

/// Merges the frames of a clip -> its tokens. Frames keep their numbers for as long as they are
/// told together.
///
/// `noise [1, frames]` breaks ties between the densities of frames, see [`Backend::dpc_knn`];
/// without it the earlier frame wins.
///
/// # Errors
/// As [`Backend::read`]: which frames belong together decides what is computed next.
pub async fn video<B: Backend>(
    b: &B,
    frames: &Frames<B>,
    config: &MergeConfig,
    noise: Option<&B::Tensor>,
) -> Result<Merged<B>> {
    let (count, patches) = (frames.count, frames.patches);
    if let Some(x) = &frames.whole {
        // Every patch over time, then every frame over space.
        let by_patch: Vec<u32> = (0..patches)
            .flat_map(|patch| (0..count).map(move |frame| (frame * patches + patch) as u32))
            .collect();
        let tokens = b.concat(&[
            &b.mean(&b.gather(x, &b.ids(&by_patch)), count),
            &frames.means,
        ]);
        let trace = Trace {
            patches,
            events: vec![(0..count).collect()],
            frames: Vec::new(),
            merges: Vec::new(),
        };
        return Ok(Merged { tokens, trace });
    }

    let (clusters, k) = config.temporal.clusters_and_k(count);
    let found = b.dpc_knn(&frames.means, 1, clusters, k, noise);
    let events = events(&b.read_ids(&found.groups).await?);

    let (mut tokens, mut merges) = (Vec::new(), Vec::new());
    for event in &events {
        let mut groups = Vec::new();
        for ((stage_tokens, stage_groups), stage) in frames.stages.iter().zip(&config.spatial) {
            let each = stage_groups[0].clusters;
            let rows: Vec<u32> = event
                .iter()
                .flat_map(|frame| (frame * each..(frame + 1) * each).map(|row| row as u32))
                .collect();
            let mut x = b.gather(stage_tokens, &b.ids(&rows)); // [event's frames * each, c]
            if config.temporal_position == TemporalPosition::Sinusoidal {
                x = b.add(&x, &sinusoids(b, event, each, b.shape(&x)[1]));
            }
            let (clusters, k) = stage.clusters_and_k(rows.len());
            let found = b.dpc_knn(&x, 1, clusters, k, None);
            tokens.push(b.merge(&x, &found.groups, 1, clusters));
            groups.push(Groups {
                ids: found.groups,
                clusters,
            });
        }
        merges.push(groups);
    }
    let tokens = b.concat(&tokens.iter().collect::<Vec<_>>());
    Ok(Merged {
        tokens,
        trace: Trace {
            patches,
            events,
            frames: frames.stages.iter().map(|stage| stage.1.clone()).collect(),
            merges,
        },
    })
}

/// The stages in a row on each of `batch` equal runs of rows: each stage's tokens
/// `[batch * clusters, c]` and the groups that they come from.
fn spatial<B: Backend>(
    b: &B,
    x: &B::Tensor,
    batch: usize,
    config: &MergeConfig,
) -> Vec<(B::Tensor, Groups<B>)> {
    let mut stages: Vec<(B::Tensor, Groups<B>)> = Vec::new();
    for stage in &config.spatial {
        let x = stages.last().map_or(x, |stage| &stage.0);
        let (clusters, k) = stage.clusters_and_k(b.shape(x)[0] / batch);
        let found = b.dpc_knn(x, batch, clusters, k, None);
        let tokens = b.merge(x, &found.groups, batch, clusters);
        stages.push((
            tokens,
            Groups {
                ids: found.groups,
                clusters,
            },
        ));
    }
    stages
}

/// The frames of each event, from the group of each frame: in the order of their first frames.
fn events(groups: &[u32]) -> Vec<Vec<usize>> {
    let mut events: Vec<(u32, Vec<usize>)> = Vec::new();
    for (frame, &group) in groups.iter().enumerate() {
        match events.iter_mut().find(|event| event.0 == group) {
            Some(event) => event.1.push(frame),
            None => events.push((group, vec![frame])),
        }
    }
    events.into_iter().map(|event| event.1).collect()
}

/// The sinusoidal position (arXiv 1706.03762, section 3.5) of each frame, once for each of its
/// tokens: `[frames * each, channels]`.
fn sinusoids<B: Backend>(b: &B, frames: &[usize], each: usize, channels: usize) -> B::Tensor {
    let mut table = Vec::with_capacity(frames.len() * each * channels);
    for &frame in frames {
        let position: Vec<f32> = (0..channels)
            .map(|channel| {
                let angle =
                    frame as f64 / 10000f64.powf((channel / 2 * 2) as f64 / channels as f64);
                (if channel % 2 == 0 {
                    angle.sin()
                } else {
                    angle.cos()
                }) as f32
            })
            .collect();
        table.extend(position.repeat(each));
    }
    b.tensor(&table, channels)
}

impl<B: Backend> Trace<B> {
    /// Patches of one frame.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Returns the frames of each event, as [`VideoEvent::frames`].
    pub fn event_frames(&self) -> &[Vec<usize>] {
        &self.events
    }

    /// Reads back what became of every patch.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn events(&self, b: &B) -> Result<Vec<VideoEvent>> {
        // For each stage, the group inside its frame of every patch of every frame.
        let mut in_frame: Vec<Vec<u32>> = Vec::new();
        let mut tokens = self.patches;
        for batches in &self.frames {
            let mut ids = Vec::new();
            for groups in batches {
                ids.extend(b.read_ids(&groups.ids).await?);
            }
            let stage = match in_frame.last() {
                None => ids,
                Some(before) => before
                    .iter()
                    .enumerate()
                    .map(|(i, &group)| ids[i / self.patches * tokens + group as usize])
                    .collect(),
            };
            tokens = batches[0].clusters;
            in_frame.push(stage);
        }

        let mut events = Vec::new();
        for (number, frames) in self.events.iter().enumerate() {
            let mut stages = Vec::new();
            for (stage, (in_frame, batches)) in in_frame.iter().zip(&self.frames).enumerate() {
                let each = batches[0].clusters;
                let patches = frames
                    .iter()
                    .map(|frame| &in_frame[frame * self.patches..(frame + 1) * self.patches]);
                let (groups, clusters) = match self.merges.get(number) {
                    None => (patches.flatten().copied().collect(), each),
                    Some(merge) => {
                        let merge = &merge[stage];
                        let ids = b.read_ids(&merge.ids).await?;
                        let group = |(frame, patches): (usize, &[u32])| {
                            patches
                                .iter()
                                .map(|&group| ids[frame * each + group as usize])
                                .collect::<Vec<_>>()
                        };
                        (
                            patches.enumerate().flat_map(group).collect::<Vec<_>>(),
                            merge.clusters,
                        )
                    }
                };
                let mut sizes = vec![0; clusters];
                groups.iter().for_each(|&group| sizes[group as usize] += 1);
                stages.push(MergeStage { groups, sizes });
            }
            events.push(VideoEvent {
                frames: frames.clone(),
                stages,
            });
        }
        Ok(events)
    }
}
