//! Stage 0: the vision encoder: what is where, patch by patch. No words yet.
//!
//! Each patch learns, at the output that later become the features, which thing it shows and where
//! that thing's centre is; the class token behind the last block learns which things a picture
//! shows, and on what.

use candle_core::{Device, Tensor};
use univi::{
    Backend, Result,
    config::ClipConfig,
    image::{Preprocess, Rgb8, patches, preprocess},
    model::clip::{self, Clip},
};

use crate::{
    autograd::{Autograd, Packing, cross_entropy},
    parameters::{Parameters, candle},
    trainer::{Share, Task},
};

/// A picture and what is known about it.
pub struct Labelled {
    /// The picture.
    pub pixels: Rgb8,
    /// For each patch the class of what it shows, if anything, and where the centre of that is, in
    /// image widths.
    pub patches: Vec<Option<(usize, [f32; 2])>>,
    /// Classes of things in the picture, each once.
    pub things: Vec<usize>,
    /// Number of the background's colour.
    pub background: usize,
}

/// Where labelled pictures come from.
pub trait Pictures: Sync {
    /// The picture of this number in the batch of this step: always the same.
    fn picture(&self, step: u64, item: usize) -> Labelled;
}

/// Learning to see, as a [`Task`].
pub struct VisionPretraining<P> {
    /// The encoder, all blocks.
    pub clip: ClipConfig,
    /// The data.
    pub pictures: P,
    /// Classes of things.
    pub classes: usize,
    /// Colours of backgrounds.
    pub colours: usize,
    /// Where it computes.
    pub device: Device,
}

/// Background patches are many and alike.
const NOTHING_WEIGHT: f32 = 0.3;
const CENTRE_WEIGHT: f64 = 4.;
/// A quarter of the sum over classes, and no more than a help to what patches learn.
const THINGS_WEIGHT: f64 = 0.25 * 0.3;
const BACKGROUND_WEIGHT: f64 = 0.2;

/// The heads that only this stage has: names, and rows.
fn heads(classes: usize, colours: usize) -> [(&'static str, usize); 4] {
    [
        ("head.patch", classes + 1),
        ("head.centre", 2),
        ("head.things", classes),
        ("head.background", colours),
    ]
}

/// What the vision encoder says of pictures.
struct HeadOutputs {
    /// `[batch * patches, classes + 1]`: the last is nothing.
    patch: Tensor,
    /// `[batch * patches, 2]`
    centre: Tensor,
    /// `[batch, classes]`
    things: Tensor,
    /// `[batch, colours]`
    background: Tensor,
}

impl<P> VisionPretraining<P> {
    /// Returns the heads, knowing nothing.
    ///
    /// # Errors
    /// `Gpu` where there is no room.
    pub fn heads(&self) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        let width = self.clip.width;
        for (name, rows) in heads(self.classes, self.colours) {
            let weight = format!("{name}.weight");
            parameters.insert(&weight, [rows, width], vec![0.; rows * width], &self.device)?;
            parameters.insert(
                &format!("{name}.bias"),
                [1, rows],
                vec![0.; rows],
                &self.device,
            )?;
        }
        Ok(parameters)
    }

    fn look(
        &self,
        parameters: &Parameters,
        pictures: &[&Labelled],
        learns: bool,
    ) -> Result<HeadOutputs> {
        let b = Autograd::new(&self.device, Packing::default());
        let wanted = clip::tensors(&self.clip);
        let mut weights = parameters.weights(&b, wanted, |_| learns);
        let clip = Clip::new(&mut weights, &self.clip)?;
        let &ClipConfig {
            image_px,
            patch_px,
            mean,
            std,
            ..
        } = &self.clip;
        let options = Preprocess {
            size_px: image_px,
            mean,
            std,
        };
        let mut rows = Vec::new();
        for picture in pictures {
            rows.extend(patches(
                &preprocess(&picture.pixels, &options)?,
                image_px,
                patch_px,
            ));
        }
        let rows = b.tensor(&rows, 3 * patch_px * patch_px);
        let [(class, _), (_, features)] = clip.encode_last_two(&rows, pictures.len());
        let head = |name: &str, x: &Tensor| {
            let part = |part: &str| {
                let var = parameters.var(&format!("{name}.{part}"));
                if learns {
                    var.as_tensor().clone()
                } else {
                    var.as_detached_tensor()
                }
            };
            b.add(&b.matmul(x, &part("weight")), &part("bias"))
        };
        Ok(HeadOutputs {
            patch: head("head.patch", &features),
            centre: head("head.centre", &features),
            things: head("head.things", &class),
            background: head("head.background", &class),
        })
    }

    /// Returns how many patches that show something are told right, and how many there are.
    ///
    /// # Errors
    /// `Gpu` where the device fails.
    pub fn right(&self, parameters: &Parameters, pictures: &[&Labelled]) -> Result<[usize; 2]> {
        let said = self.look(parameters, pictures, false)?;
        let predicted: Vec<u32> = said
            .patch
            .argmax(1)
            .and_then(|x| x.to_vec1())
            .map_err(candle)?;
        let labels = pictures.iter().flat_map(|picture| &picture.patches);
        let mut right = [0; 2];
        for (predicted, label) in predicted.iter().zip(labels) {
            if let Some((class, _)) = label {
                right[0] += usize::from(*predicted as usize == *class);
                right[1] += 1;
            }
        }
        Ok(right)
    }
}

impl<P: Pictures> Task for VisionPretraining<P> {
    type Item = Labelled;

    fn item(&self, step: u64, number: usize) -> Result<Option<Labelled>> {
        Ok(Some(self.pictures.picture(step, number)))
    }

    /// Each the same.
    fn cost(&self, _: &Labelled) -> f64 {
        1.
    }

    fn loss(&self, parameters: &Parameters, pictures: &[&Labelled]) -> Result<Share> {
        let said = self.look(parameters, pictures, true)?;
        let count = self.clip.patches() as f32;
        let labels = || pictures.iter().flat_map(|picture| &picture.patches);
        let targets: Vec<u32> = labels()
            .map(|label| label.map_or(self.classes, |(class, _)| class) as u32)
            .collect();
        let weights: Vec<f32> = labels()
            .map(|label| if label.is_some() { 1. } else { NOTHING_WEIGHT } / count)
            .collect();
        let b = Autograd::new(&self.device, Packing::default());
        let centres: Vec<f32> = labels()
            .flat_map(|label| label.map_or([0.; 2], |(_, at)| at))
            .collect();
        let there: Vec<f32> = labels()
            .flat_map(|label| [if label.is_some() { 1. / count } else { 0. }; 2])
            .collect();
        let mut shown = vec![0.; pictures.len() * self.classes];
        for (i, picture) in pictures.iter().enumerate() {
            for &class in &picture.things {
                shown[i * self.classes + class] = 1.;
            }
        }
        let backgrounds: Vec<u32> = pictures
            .iter()
            .map(|picture| picture.background as u32)
            .collect();
        let loss = || {
            let patch = cross_entropy(&said.patch, &targets, &weights)?;
            let off = (&said.centre - b.tensor(&centres, 2))?.abs()?;
            let off = (off * b.tensor(&there, 2))?.sum_all()?.reshape(1)?;
            // -log sigmoid of what is there, -log of 1 - sigmoid of what is not, without overflow.
            let (x, y) = (&said.things, b.tensor(&shown, self.classes));
            let soft = (x.abs()?.neg()?.exp()? + 1.)?.log()?;
            let things = ((x.relu()? + soft)? - (x * y)?)?.sum_all()?.reshape(1)?;
            let background =
                cross_entropy(&said.background, &backgrounds, &vec![1.; pictures.len()])?;
            patch
                + (off * CENTRE_WEIGHT)?
                + (things * THINGS_WEIGHT)?
                + (background * BACKGROUND_WEIGHT)?
        };
        Ok(Share {
            loss: loss().map_err(candle)?,
            weight: pictures.len() as f32,
        })
    }
}
