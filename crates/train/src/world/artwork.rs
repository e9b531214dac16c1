//! Emoji artwork of several styles, from npm packages.

use std::{fs, path::Path};

use image::{ImageFormat, imageops::FilterType};
use univi::{Error, Result};

use super::things::THINGS;

/// Who drew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Twemoji, CC-BY 4.0.
    Twitter,
    /// Noto Emoji, Apache-2.0.
    Google,
    /// EmojiOne 2, CC-BY 4.0; without the newest things.
    EmojiOne,
    /// Fluent Emoji 3D, MIT: what training never sees.
    Fluent,
}

/// The styles that models learn with.
pub const TRAINING: [Style; 3] = [Style::Twitter, Style::Google, Style::EmojiOne];
/// The style that tells how well they learned what things are.
pub const UNSEEN: [Style; 1] = [Style::Fluent];

impl Style {
    /// The file of a thing below a folder of npm packages.
    fn file(self, code_points: &str) -> String {
        let bare = code_points.trim_end_matches("-fe0f");
        match self {
            Style::Twitter => format!("emoji-datasource-twitter/img/twitter/64/{code_points}.png"),
            Style::Google => format!("emoji-datasource-google/img/google/64/{code_points}.png"),
            Style::EmojiOne => format!("emojione/assets/png_128x128/{bare}.png"),
            Style::Fluent => format!("@lobehub/fluent-emoji-3d/assets/{code_points}.webp"),
        }
    }

    fn package(self) -> &'static str {
        match self {
            Style::Twitter => "emoji-datasource-twitter",
            Style::Google => "emoji-datasource-google",
            Style::EmojiOne => "emojione",
            Style::Fluent => "@lobehub/fluent-emoji-3d",
        }
    }
}

/// A picture with transparency: colours are multiplied by alpha, all from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sprite {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height * width]`: red, green, blue, alpha.
    pub pixels: Vec<[f32; 4]>,
}

/// A thing in one style, in several sizes, the largest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// The same picture, smaller and smaller.
    pub sprites: Vec<Sprite>,
}

/// The longer sides of a drawing's sizes.
const SIDES_PX: [u32; 5] = [64, 44, 30, 21, 14];

/// All drawings of all things.
#[derive(Debug, Clone)]
pub struct Artwork {
    /// For each thing and style what there is of it.
    drawings: Vec<Vec<(Style, Drawing)>>,
}

impl Artwork {
    /// Reads the drawings below `node_modules`.
    ///
    /// # Errors
    /// `Io` where a package is not there; `BadImage` for a file that is no picture.
    pub fn open(node_modules: &Path) -> Result<Artwork> {
        let styles = TRAINING.iter().chain(&UNSEEN);
        for style in styles.clone() {
            if !node_modules.join(style.package()).is_dir() {
                let reason = format!(
                    "the artwork {} is not in {}: `cargo xtask artwork` brings it",
                    style.package(),
                    node_modules.display()
                );
                return Err(Error::Io { reason });
            }
        }
        let mut drawings = Vec::new();
        for class in THINGS {
            let mut of_class = Vec::new();
            for &style in styles.clone() {
                let path = node_modules.join(style.file(class.code_points));
                if path.is_file() {
                    let drawing =
                        Drawing::read(&path).map_err(|e| e.in_file(path.display().to_string()))?;
                    of_class.push((style, drawing));
                }
            }
            drawings.push(of_class);
        }
        Artwork::new(drawings)
    }

    /// Artwork of drawings: for each of [`THINGS`] at least one of a training style and one of an unseen one.
    ///
    /// # Errors
    /// `BadRequest` that names a thing without a drawing.
    pub fn new(drawings: Vec<Vec<(Style, Drawing)>>) -> Result<Artwork> {
        for (class, drawings) in THINGS.iter().zip(&drawings) {
            for styles in [&TRAINING[..], &UNSEEN] {
                if !drawings.iter().any(|(style, _)| styles.contains(style)) {
                    let reason = format!("there is no drawing of a {} in {styles:?}", class.name);
                    return Err(Error::BadRequest { reason });
                }
            }
        }
        Ok(Artwork { drawings })
    }

    /// The drawings of a thing in some styles.
    pub fn of(&self, class: usize, styles: &[Style]) -> Vec<&Drawing> {
        let drawings = self.drawings[class].iter();
        drawings
            .filter(|(style, _)| styles.contains(style))
            .map(|(_, drawing)| drawing)
            .collect()
    }
}

impl Drawing {
    fn read(path: &Path) -> Result<Drawing> {
        let bytes = fs::read(path).map_err(|e| Error::Io {
            reason: e.to_string(),
        })?;
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("webp") => ImageFormat::WebP,
            _ => ImageFormat::Png,
        };
        let picture = image::load_from_memory_with_format(&bytes, format).map_err(bad)?;
        let mut picture = picture.into_rgba32f();
        for pixel in picture.pixels_mut() {
            let alpha = pixel.0[3];
            pixel.0[..3].iter_mut().for_each(|colour| *colour *= alpha);
        }
        // What is drawn, without the empty margin.
        let drawn = picture.enumerate_pixels().filter(|(_, _, p)| p.0[3] > 0.05);
        let bounds = drawn.fold(None, |bounds: Option<[u32; 4]>, (x, y, _)| {
            let [x0, y0, x1, y1] = bounds.unwrap_or([x, y, x, y]);
            Some([x0.min(x), y0.min(y), x1.max(x), y1.max(y)])
        });
        let [x0, y0, x1, y1] = bounds.ok_or_else(|| bad("it is empty"))?;
        let (width, height) = (x1 - x0 + 1, y1 - y0 + 1);
        let cut = image::imageops::crop_imm(&picture, x0, y0, width, height).to_image();
        let sprites = SIDES_PX.map(|side| {
            let scale = side as f32 / width.max(height) as f32;
            let size = |px: u32| ((px as f32 * scale).round() as u32).max(1);
            let small =
                image::imageops::resize(&cut, size(width), size(height), FilterType::Triangle);
            Sprite {
                width: small.width() as usize,
                height: small.height() as usize,
                pixels: small.pixels().map(|pixel| pixel.0).collect(),
            }
        });
        Ok(Drawing {
            sprites: sprites.into(),
        })
    }

    /// The smallest size of at least so many pixels.
    pub fn at_least(&self, side_px: f32) -> &Sprite {
        let large = self.sprites.iter().rev();
        let mut large = large.filter(|sprite| sprite.width.max(sprite.height) as f32 >= side_px);
        large.next().unwrap_or(&self.sprites[0])
    }
}

fn bad(reason: impl ToString) -> Error {
    Error::BadImage {
        reason: reason.to_string(),
    }
}
