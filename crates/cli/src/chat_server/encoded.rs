//! Pictures and clips that were encoded lately, found by what they are made of.

use univi::{Error, Model, Result, Visual, VisualKind, VisualOptions};

use super::{
    media::{DecodedVisual, Reading, SentVisual},
    metrics::Metrics,
};

/// Tokens of visuals that are kept on the device: some 70 pictures, 128 MB for a model of 7B.
const KEPT_TOKENS: usize = 8192;

/// Encoded pictures and clips, the latest last.
#[derive(Default)]
pub struct EncodedVisuals(Vec<([u8; 32], Visual)>);

impl EncodedVisuals {
    /// Returns the visual, encoded; without encoding it where it is here.
    ///
    /// # Errors
    /// As [`SentVisual::decode`], and what the device reports.
    pub async fn get(
        &mut self,
        sent: &SentVisual,
        decoded: Option<DecodedVisual>,
        model: &Model,
        options: &VisualOptions,
        reading: &Reading,
        metrics: &Metrics,
    ) -> Result<Visual> {
        let found = self.0.iter().position(|(hash, _)| *hash == sent.hash);
        metrics.visual(found.is_some());
        let visual = match found {
            Some(index) => self.0.remove(index).1,
            None => {
                let decoded = match decoded {
                    Some(decoded) => decoded,
                    None => sent.decode(reading)?,
                };
                encode(decoded, model, options).await?
            }
        };
        self.0.push((sent.hash, visual.clone()));
        let mut tokens: usize = self.0.iter().map(|(_, visual)| visual.tokens()).sum();
        while tokens > KEPT_TOKENS && self.0.len() > 1 {
            tokens -= self.0.remove(0).1.tokens();
        }
        Ok(visual)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the hashes of those that are here.
    pub fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        self.0.iter().map(|(hash, _)| *hash)
    }
}

async fn encode(decoded: DecodedVisual, model: &Model, options: &VisualOptions) -> Result<Visual> {
    let vision = model.vision(options)?;
    match decoded.kind {
        VisualKind::Video => vision.video(decoded.frames.into_iter().map(Ok)).await,
        VisualKind::Image => {
            let square = decoded.frames.first().ok_or(Error::BadImage {
                reason: "no pixels".into(),
            })?;
            vision.image(square).await
        }
    }
}
