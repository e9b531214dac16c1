//! The vision encoder: pictures, and the frames of clips.

use univi::{Backend, Result, Rgb8, model::ChatUniVi};

use crate::{options::Options, report::Stage, stopwatch::Stopwatch};

/// Different frames of a clip. More would take long to encode, and merging does not see more.
const SCENES: usize = 4;
/// Tokens of a question beside its picture.
const QUESTION: usize = 32;

pub(crate) async fn measure<B: Backend>(
    model: &ChatUniVi<B>,
    options: &Options,
    stopwatch: &mut Stopwatch<'_>,
) -> Result<Vec<Stage>> {
    let (b, llama, vision) = (model.backend(), model.llama(), model.vision()?);
    let side = vision.config().clip.image_px;
    let mut stages = Vec::new();
    for &count in &options.pictures {
        stopwatch.begins(&format!("encoding, pictures at once: {count}"));
        let pictures: Vec<Rgb8> = (0..count).map(|i| picture(side, i)).collect();
        let seconds = stopwatch
            .time(async || {
                vision.features(pictures.iter().cloned().map(Ok)).await?;
                b.finish().await
            })
            .await?;
        stages.push(Stage {
            what: "encoding, pictures at once".into(),
            count,
            seconds,
        });
    }
    stopwatch.begins("encoding and merging a picture");
    let one = picture(side, 0);
    let seconds = stopwatch
        .time(async || vision.image(&one).await.map(drop))
        .await?;
    stages.push(Stage {
        what: "encoding and merging, pictures".into(),
        count: 1,
        seconds,
    });
    stopwatch.begins("the first token about a picture");
    let ids: Vec<u32> = (0..QUESTION as u32).collect();
    let seconds = stopwatch
        .time(async || {
            let visual = vision.image(&one).await?;
            let x = b.concat(&[&llama.embed(&b.ids(&ids)), visual.embeds()]);
            let mut caches = llama.caches();
            llama.reserve(&mut caches, b.shape(&x)[0]).await?;
            let hidden = llama.prefill(&x, &mut caches, 0);
            b.read(&llama.logits(&hidden)).await.map(drop)
        })
        .await?;
    stages.push(Stage {
        what: "first token about a picture".into(),
        count: 1,
        seconds,
    });
    if options.frames > 0 {
        stopwatch.begins(&format!("merging a clip of {} frames", options.frames));
        let mut scenes = Vec::new();
        for i in 0..SCENES.min(options.frames) {
            scenes.push(vision.encode_frame(&picture(side, i)).await?);
        }
        let frames: Vec<_> = (0..options.frames)
            .map(|i| scenes[i * scenes.len() / options.frames].clone())
            .collect();
        let seconds = stopwatch
            .time(async || vision.merge_frames(&frames).await.map(drop))
            .await?;
        stages.push(Stage {
            what: "merging a clip, frames".into(),
            count: options.frames,
            seconds,
        });
    }
    Ok(stages)
}

/// A picture of nothing, each another one.
fn picture(side: usize, seed: usize) -> Rgb8 {
    let pixels = (0..3 * side * side).map(|i| (i * (seed + 3) / (side / 4 + 1) * 37) as u8);
    Rgb8 {
        width_px: side,
        height_px: side,
        pixels: pixels.collect(),
    }
}
