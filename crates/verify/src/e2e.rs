//! A whole small model as it is published: converted in memory, shown the pictures and asked the
//! questions that the original was.

use std::collections::BTreeMap;

use univi::{
    Backend, Error, Result,
    gguf::QuantizationPlan,
    image::{Preprocess, Rgb8, preprocess},
    loader::{Content, LoadOptions, Loader, ModelFile},
    model::{ChatUniVi, EngineVisual, PromptToken},
    prompt::{self, Prompt, Slot},
    session::{EngineSession, GenerateOptions},
};
use univi_convert::checkpoint::Checkpoint;

use crate::{Fixtures, Report, Tensors, check_folders, read_json};

/// Crops are the reference's own, so that only the normalisation's rounding is left.
const PIXELS_TOLERANCE: f64 = 1e-5;

/// Relative to the largest feature: some twenty matrix products deep, summed in another order.
const FEATURES_TOLERANCE: f64 = 1e-3;

/// The fixture's own: the embeddings are of the order of 1.
const EMBEDS_TOLERANCE: f64 = 2e-3;

/// The fixture's own: the smallest lead of a chosen token is above it.
const LOGITS_TOLERANCE: f64 = 1e-2;

#[derive(serde::Deserialize)]
struct Cases {
    vision_tower: String,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    images: Vec<String>,
    prompt: String,
    stop_str: String,
    /// -200 for each marker.
    input_ids: Vec<i64>,
    n_embeds: usize,
    visual_tokens: Option<usize>,
    /// For each clip of the prompt, the frames of each event.
    events: Option<Vec<Vec<Vec<usize>>>>,
    greedy_ids: Vec<u32>,
    decoded: String,
    final_text: String,
}

/// What stands for `<image>` among the reference's ids.
const MARKER_ID: i64 = -200;

/// Compares every `e2e/cases.json`.
pub async fn check<B: Backend>(backend: &B, fixtures: &dyn Fixtures) -> Report {
    check_folders(fixtures, "e2e", "cases.json", async |folder, report| {
        check_folder(backend, fixtures, folder, report).await
    })
    .await
}

async fn check_folder<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    report: &mut Report,
) -> Result<()> {
    let cases: Cases = read_json(fixtures, &format!("{folder}cases.json"))?;
    let expected = Tensors::read(fixtures, &format!("{folder}expected.safetensors"))?;
    let model = std::rc::Rc::new(convert(backend, fixtures, folder, &cases.vision_tower).await?);
    // The length that the reference was given is that of the answers that it did not end itself.
    let max_tokens = cases
        .cases
        .iter()
        .map(|case| case.greedy_ids.len())
        .max()
        .unwrap_or(0);
    let mut session = EngineSession::new(model.clone(), Default::default());
    let name = |case: &&Case| fixtures.wants(&format!("e2e/{}", case.name));
    for case in cases.cases.iter().filter(name) {
        if let Err(error) = check_case(
            &mut session,
            fixtures,
            folder,
            case,
            max_tokens,
            &expected,
            report,
        )
        .await
        {
            report.measured(
                format!("e2e/{}", case.name),
                f64::INFINITY,
                0.0,
                error.to_string(),
            );
        }
    }
    Ok(())
}

/// The model as `univi convert` would write it, without a disk.
async fn convert<B: Backend>(
    backend: &B,
    fixtures: &dyn Fixtures,
    folder: &str,
    tower: &str,
) -> Result<ChatUniVi<B>> {
    let inside = |folder: String| -> Result<BTreeMap<String, Vec<u8>>> {
        let name = |path: &String| {
            path.strip_prefix(&folder)
                .filter(|name| !name.contains('/'))
                .map(String::from)
        };
        let names = fixtures
            .list()
            .into_iter()
            .filter_map(|path| name(&path).map(|name| (name, path)));
        names
            .map(|(name, path)| Ok((name, fixtures.read(&path)?)))
            .collect()
    };
    let checkpoint = inside(format!("{folder}checkpoint/"))?;
    let tower = inside(format!("{folder}{tower}/"))?;
    let checkpoint = Checkpoint::open(&checkpoint)?;
    let tower = Checkpoint::open(&tower)?;
    let parts = [
        (
            "llm.gguf",
            checkpoint.llm()?.to_gguf(QuantizationPlan::F16)?,
        ),
        (
            "vision.gguf",
            checkpoint
                .vision(Some(&tower))?
                .to_gguf(QuantizationPlan::F16)?,
        ),
    ];
    let files = parts.iter().map(|(name, bytes)| ModelFile {
        content: Content::Gguf,
        name: name.to_string(),
        bytes: Some(bytes.len() as u64),
        sha256: None,
    });
    let mut loader = Loader::new(backend.clone(), files.collect())?;
    for (_, bytes) in &parts {
        loader.push(bytes)?;
        loader.end_file()?;
    }
    loader.finish(&LoadOptions::default()).await
}

async fn check_case<B: Backend>(
    session: &mut EngineSession<B>,
    fixtures: &dyn Fixtures,
    folder: &str,
    case: &Case,
    max_tokens: usize,
    expected: &Tensors,
    report: &mut Report,
) -> Result<()> {
    let model = session.model().clone();
    let b = model.backend();
    let name = |what: &str| format!("e2e/{} {what}", case.name);
    let tensor = |what: &str| expected.f32(&format!("{}.{what}", case.name));

    let pictures = case.images.iter();
    let pictures = pictures.map(|image| Rgb8::decode(&fixtures.read(&format!("{folder}{image}"))?));
    let pictures: Vec<Rgb8> = pictures.collect::<Result<_>>()?;
    if !pictures.is_empty() {
        let shape = expected.shape(&format!("{}.pixel_values_sample", case.name))?;
        report.close(
            name("pixels"),
            &sampled_pixels(&model, &pictures, shape)?,
            tensor("pixel_values_sample")?,
            PIXELS_TOLERANCE,
        );
        let shape = expected.shape(&format!("{}.features_sample", case.name))?;
        let features = b
            .read(
                &model
                    .vision()?
                    .features(pictures.iter().cloned().map(Ok))
                    .await?,
            )
            .await?;
        let features = first_patches(&features, shape)?;
        let wanted = tensor("features_sample")?;
        let largest = wanted.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        report.close(
            name("features"),
            &features,
            wanted,
            FEATURES_TOLERANCE * f64::from(largest),
        );
    }

    let prompt = Prompt::parse(&case.prompt);
    let mut ids = Vec::new();
    for slot in prompt.encode(model.tokenizer())? {
        match slot {
            Slot::Tokens(tokens) => ids.extend(tokens.into_iter().map(i64::from)),
            Slot::Visual(i) => ids.extend(std::iter::repeat_n(
                MARKER_ID,
                pictures_of(&prompt.visuals[i]),
            )),
        }
    }
    report.equal(name("prompt ids"), &ids, &case.input_ids);

    let visuals = look(&model, &prompt, pictures).await?;
    let clips = prompt.visuals.iter().zip(&visuals);
    let clips = clips.filter(|(kind, _)| matches!(kind, prompt::PromptVisual::Video { .. }));
    let events: Vec<Vec<Vec<usize>>> = clips
        .map(|(_, seen)| seen.event_frames().to_vec())
        .collect();
    if let Some(expected) = &case.events {
        report.equal(name("events"), &events, expected);
    }

    let prompt_tokens = as_spliced_by_reference(&model.prompt_tokens(&prompt, &visuals)?);
    let visual_tokens: usize = visuals.iter().map(EngineVisual::tokens).sum();
    if let Some(expected) = case.visual_tokens {
        report.equal(name("visual tokens"), &[visual_tokens], &[expected]);
    }
    report.equal(name("embeddings"), &[prompt_tokens.len()], &[case.n_embeds]);
    let embeds = model.embed(&prompt_tokens);
    report.close(
        name("inputs_embeds"),
        &b.read(&embeds).await?,
        tensor("inputs_embeds")?,
        EMBEDS_TOLERANCE,
    );
    let llama = model.llama();
    let mut caches = llama.caches();
    llama.reserve(&mut caches, prompt_tokens.len()).await?;
    let hidden = llama.prefill(&embeds, &mut caches, 0);
    let logits = b.read(&llama.logits(&hidden)).await?;
    report.close(
        name("last_logits"),
        &logits,
        tensor("last_logits")?,
        LOGITS_TOLERANCE,
    );

    let generate = GenerateOptions::greedy()
        .max_tokens(max_tokens)
        .stop(vec![case.stop_str.clone()]);
    let mut go_on = async |_: &str| std::ops::ControlFlow::Continue(());
    let answer = session
        .generate(&prompt_tokens, &generate, &mut go_on)
        .await?;
    report.equal(name("greedy ids"), &answer.ids, &case.greedy_ids);
    report.equal_text(
        name("decoded"),
        &model.tokenizer().decode(&answer.ids),
        &case.decoded,
    );
    report.equal_text(name("answer"), &answer.text, &case.final_text);
    Ok(())
}

/// How many markers a visual takes.
fn pictures_of(visual: &prompt::PromptVisual) -> usize {
    match *visual {
        prompt::PromptVisual::Image => 1,
        prompt::PromptVisual::Video { frames } => frames,
    }
}

/// Where visuals are parted by text, the reference repeats all that stands before the first of
/// them, begin token included, before each group, and loses the text between groups. This library
/// keeps the text; to be compared, a prompt is spliced as there. Any other prompt stays as it is.
fn as_spliced_by_reference<B: Backend>(prompt_tokens: &[PromptToken<B>]) -> Vec<PromptToken<B>> {
    let is_row = |prompt_token: &PromptToken<B>| matches!(prompt_token, PromptToken::Row(..));
    let Some(first) = prompt_tokens.iter().position(is_row) else {
        return prompt_tokens.to_vec();
    };
    let last = prompt_tokens.iter().rposition(is_row).unwrap_or(first);
    let (before, after) = (&prompt_tokens[..first], &prompt_tokens[last + 1..]);
    let groups = prompt_tokens[first..=last].split(|prompt_token| !is_row(prompt_token));
    let groups = groups.filter(|group| !group.is_empty());
    let spliced = groups.flat_map(|group| [before, group].concat());
    spliced.chain(after.iter().cloned()).collect()
}

/// Looks at `pictures` as the prompt's markers group them.
async fn look<B: Backend>(
    model: &ChatUniVi<B>,
    prompt: &Prompt,
    pictures: Vec<Rgb8>,
) -> Result<Vec<EngineVisual<B>>> {
    let mut pictures = pictures.into_iter();
    let mut visuals = Vec::new();
    for visual in &prompt.visuals {
        let mut taken = pictures.by_ref().take(pictures_of(visual));
        visuals.push(match visual {
            prompt::PromptVisual::Image => {
                let missing = || Error::BadFile {
                    format: "fixture",
                    reason: "fewer images than markers".into(),
                };
                model
                    .vision()?
                    .image(&taken.next().ok_or_else(missing)?)
                    .await?
            }
            prompt::PromptVisual::Video { .. } => model.vision()?.video(taken.map(Ok)).await?,
        });
    }
    Ok(visuals)
}

/// `[n, 3, s, s]`: every so many'th pixel of what the encoder is given.
fn sampled_pixels<B: Backend>(
    model: &ChatUniVi<B>,
    pictures: &[Rgb8],
    shape: &[usize],
) -> Result<Vec<f32>> {
    let clip = &model.vision()?.config().clip;
    let options = Preprocess {
        size_px: clip.image_px,
        mean: clip.mean,
        std: clip.std,
    };
    let side = match shape {
        &[_, 3, rows, cols] if rows == cols && rows > 0 => rows,
        _ => return Err(odd_shape("pixel_values_sample", shape)),
    };
    let stride = clip.image_px.div_ceil(side);
    let mut sampled = Vec::new();
    for picture in pictures {
        let planar = preprocess(picture, &options)?;
        for row in planar
            .chunks(clip.image_px)
            .collect::<Vec<_>>()
            .chunks(clip.image_px)
        {
            let rows = row.iter().step_by(stride);
            sampled.extend(rows.flat_map(|row| row.iter().step_by(stride).copied()));
        }
    }
    Ok(sampled)
}

/// `[n, patches, c]`: the first patches of each picture's features.
fn first_patches(features: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
    let &[pictures, patches, channels] = shape else {
        return Err(odd_shape("features_sample", shape));
    };
    let each = features.len() / pictures.max(1);
    let first = features
        .chunks(each.max(1))
        .flat_map(|features| features.iter().take(patches * channels));
    Ok(first.copied().collect())
}

fn odd_shape(what: &str, shape: &[usize]) -> Error {
    Error::BadFile {
        format: "fixture",
        reason: format!("{what} has shape {shape:?}"),
    }
}
