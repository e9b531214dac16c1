//! Merging alike tokens into dynamic visual tokens (arXiv 2311.08046, section 3.2). No weights are
//! involved: DPC-KNN groups the tokens, and each group becomes its mean.

use crate::{
    Backend, Result,
    config::{MergeConfig, TemporalPosition},
};

/// A picture or a clip as a short list of tokens, and how they came about.
pub struct Merged<B: Backend> {
    /// `[tokens, c]`, event after event; in each the tokens of stage 0, then 1, then 2, each by falling
    /// score of their centre.
    pub tokens: B::Tensor,
    /// What was merged: a picture is one event of one frame.
    pub trace: Trace<B>,
}

/// How merged tokens came about, still on the device.
pub struct Trace<B: Backend> {
    patches: usize,
    /// Frames of each event, in rising order; events in the order of their first frame.
    events: Vec<Vec<usize>>,
    /// For each stage: the group of each token that entered it, frame by frame. Empty without merging.
    frames: Vec<Groups<B>>,
    /// The same for the merge inside each event of a clip. Empty for pictures.
    merges: Vec<Vec<Groups<B>>>,
}

/// The groups of `batch` sets, each of `clusters`.
struct Groups<B: Backend> {
    ids: B::Ids,
    clusters: usize,
}

/// Frames that were told as one, and what became of their patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Numbers of the frames among those that were shown, rising.
    pub frames: Vec<usize>,
    /// The three stages, the finest first; empty where the model does not merge.
    pub stages: Vec<Stage>,
}

/// One stage of merging inside one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `[frames * patches]`: the merged token that each patch ended in, counted inside stage and event.
    pub groups: Vec<u32>,
    /// Patches in each merged token.
    pub sizes: Vec<u32>,
}

/// The features of one picture `[patches, c]` -> its tokens.
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
    trace.frames = stages.into_iter().map(|stage| stage.1).collect();
    Merged { tokens, trace }
}

/// The features of the frames of a clip `[frames * patches, c]` -> its tokens.
///
/// `noise [1, frames]` breaks ties between the densities of frames, see [`Backend::dpc_knn`]; without it
/// the earlier frame wins.
///
/// # Errors
/// As [`Backend::read`]: which frames belong together decides what is computed next.
pub async fn video<B: Backend>(
    b: &B,
    x: &B::Tensor,
    frames: usize,
    config: &MergeConfig,
    noise: Option<&B::Tensor>,
) -> Result<Merged<B>> {
    let patches = b.shape(x)[0] / frames;
    if !config.use_cluster {
        // Every patch over time, then every frame over space.
        let by_patch: Vec<u32> = (0..patches)
            .flat_map(|patch| (0..frames).map(move |frame| (frame * patches + patch) as u32))
            .collect();
        let tokens = b.concat(&[
            &b.mean(&b.gather(x, &b.ids(&by_patch)), frames),
            &b.mean(x, patches),
        ]);
        let trace = Trace {
            patches,
            events: vec![(0..frames).collect()],
            frames: Vec::new(),
            merges: Vec::new(),
        };
        return Ok(Merged { tokens, trace });
    }

    let (clusters, k) = config.temporal.clusters_and_k(frames);
    let found = b.dpc_knn(&b.mean(x, patches), 1, clusters, k, noise);
    let stages = spatial(b, x, frames, config);
    let events = events(&b.read_ids(&found.groups).await?);

    let (mut tokens, mut merges) = (Vec::new(), Vec::new());
    for event in &events {
        let mut groups = Vec::new();
        for ((stage_tokens, stage_groups), stage) in stages.iter().zip(&config.spatial) {
            let each = stage_groups.clusters;
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
    let frames = stages.into_iter().map(|stage| stage.1).collect();
    Ok(Merged {
        tokens,
        trace: Trace {
            patches,
            events,
            frames,
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

/// The sinusoidal position (arXiv 1706.03762, section 3.5) of each frame, once for each of its tokens:
/// `[frames * each, channels]`.
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

    /// The frames of each event, as [`Event::frames`].
    pub fn event_frames(&self) -> &[Vec<usize>] {
        &self.events
    }

    /// Reads back what became of every patch.
    ///
    /// # Errors
    /// As [`Backend::read`].
    pub async fn events(&self, b: &B) -> Result<Vec<Event>> {
        // For each stage, the group inside its frame of every patch of every frame.
        let mut in_frame: Vec<Vec<u32>> = Vec::new();
        let mut tokens = self.patches;
        for groups in &self.frames {
            let ids = b.read_ids(&groups.ids).await?;
            let stage = match in_frame.last() {
                None => ids,
                Some(before) => before
                    .iter()
                    .enumerate()
                    .map(|(i, &group)| ids[i / self.patches * tokens + group as usize])
                    .collect(),
            };
            tokens = groups.clusters;
            in_frame.push(stage);
        }

        let mut events = Vec::new();
        for (number, frames) in self.events.iter().enumerate() {
            let mut stages = Vec::new();
            for (stage, (in_frame, groups)) in in_frame.iter().zip(&self.frames).enumerate() {
                let patches = frames
                    .iter()
                    .map(|frame| &in_frame[frame * self.patches..(frame + 1) * self.patches]);
                let (groups, clusters) = match self.merges.get(number) {
                    None => (patches.flatten().copied().collect(), groups.clusters),
                    Some(merge) => {
                        let merge = &merge[stage];
                        let ids = b.read_ids(&merge.ids).await?;
                        let group = |(frame, patches): (usize, &[u32])| {
                            patches
                                .iter()
                                .map(|&group| ids[frame * groups.clusters + group as usize])
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
                stages.push(Stage { groups, sizes });
            }
            events.push(Event {
                frames: frames.clone(),
                stages,
            });
        }
        Ok(events)
    }
}
