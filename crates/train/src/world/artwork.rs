//! Emoji artwork of several styles, from npm packages.

use std::{fs, path::Path};

use image::{ImageFormat, Rgba32FImage, imageops::FilterType};
use rayon::prelude::*;
use univi::{Error, Result};

use super::{
    icons::{self, Icons},
    things::{Class, THINGS},
};

/// Who drew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Twemoji, CC-BY 4.0.
    Twitter,
    /// Noto Emoji, Apache-2.0.
    Google,
    /// EmojiOne 2, CC-BY 4.0; without the newest things.
    EmojiOne,
    /// Noto Emoji, version 1, Apache-2.0; without the newest things.
    NotoV1,
    /// Firefox OS Emoji, Apache-2.0; without the newer things.
    FirefoxOs,
    /// Streamline Emojis, CC-BY 4.0; without a third of the things.
    Streamline,
    /// Fluent Emoji 3D, MIT: what training never sees.
    Fluent,
}

/// The styles that models learn with.
pub const TRAINING: [Style; 6] = [
    Style::Twitter,
    Style::Google,
    Style::EmojiOne,
    Style::NotoV1,
    Style::FirefoxOs,
    Style::Streamline,
];
/// The style that tells how well they learned what things are.
pub const UNSEEN: [Style; 1] = [Style::Fluent];

/// Whose artwork is shown, and how much it is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Styles {
    /// The styles that models learn with, sheared, bent, recoloured and blurred.
    Training,
    /// The same styles, as they are.
    Seen,
    /// A style that no model has learned with.
    Unseen,
}

impl Styles {
    pub(super) fn artwork(self) -> &'static [Style] {
        match self {
            Styles::Training | Styles::Seen => &TRAINING,
            Styles::Unseen => &UNSEEN,
        }
    }
}

impl Style {
    fn package(self) -> &'static str {
        match self {
            Style::Twitter => "emoji-datasource-twitter",
            Style::Google => "emoji-datasource-google",
            Style::EmojiOne => "emojione",
            Style::NotoV1 => "@iconify-json/noto-v1",
            Style::FirefoxOs => "@iconify-json/fxemoji",
            Style::Streamline => "@iconify-json/streamline-emojis",
            Style::Fluent => "@lobehub/fluent-emoji-3d",
        }
    }

    /// All drawings of a style, in the order of [`THINGS`], from its package.
    fn read(self, package: &Path) -> Result<Vec<Vec<Drawing>>> {
        let pictures = |file: fn(&Class) -> String| {
            let read = |class| {
                Ok(Drawing::read(&package.join(file(class)))?
                    .into_iter()
                    .collect())
            };
            THINGS.par_iter().map(read).collect()
        };
        let icons = |names: fn(&'static str) -> Vec<&'static str>| {
            let icons = Icons::open(&package.join("icons.json"))?;
            let draw = |class: &Class| {
                let names = names(class.name).into_iter();
                names.map(|name| Drawing::of(icons.draw(name)?)).collect()
            };
            THINGS.par_iter().map(draw).collect()
        };
        match self {
            Style::Twitter => pictures(|class| format!("img/twitter/64/{}.png", class.code_points)),
            Style::Google => pictures(|class| format!("img/google/64/{}.png", class.code_points)),
            Style::EmojiOne => pictures(|class| {
                let bare = class.code_points.trim_end_matches("-fe0f");
                format!("assets/png_128x128/{bare}.png")
            }),
            Style::NotoV1 => icons(icons::in_noto_v1),
            Style::FirefoxOs => icons(icons::in_firefox_os),
            Style::Streamline => icons(icons::in_streamline),
            Style::Fluent => pictures(|class| format!("assets/{}.webp", class.code_points)),
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
    /// `[height * width]`: how steeply a cushion of this outline would fall to the right and down,
    /// about 1 at its edges.
    pub slopes: Vec<[f32; 2]>,
}

impl Sprite {
    /// A sprite of `[height * width]` pixels.
    pub fn new(width: usize, height: usize, pixels: Vec<[f32; 4]>) -> Sprite {
        let reach = (width.max(height) / 7).max(1);
        let mut raised: Vec<f32> = pixels.iter().map(|pixel| pixel[3]).collect();
        // Three averages one after the other are nearly a Gaussian.
        for _ in 0..3 {
            raised = averages(&raised, width, height, reach as isize);
        }
        // From one neighbour to the other (at a border there is one alone), so that a straight edge
        // falls by about 1.
        let fall = |at: usize, count: usize, raised: &dyn Fn(usize) -> f32| {
            let (before, behind) = (at.saturating_sub(1), (at + 1).min(count - 1));
            let apart = (behind - before).max(1) as f32;
            (raised(before) - raised(behind)) / apart * reach as f32 * 2.5
        };
        let slope = |i: usize| {
            let (x, y) = (i % width, i / width);
            [
                fall(x, width, &|x| raised[y * width + x]),
                fall(y, height, &|y| raised[y * width + x]),
            ]
        };
        let slopes = (0..pixels.len()).map(slope).collect();
        Sprite {
            width,
            height,
            pixels,
            slopes,
        }
    }

    /// The slope nearest to a place, in columns and rows.
    pub(super) fn slope(&self, col: f32, row: f32) -> [f32; 2] {
        let within = |at: f32, count: usize| (at.round().max(0.) as usize).min(count - 1);
        self.slopes[within(row, self.height) * self.width + within(col, self.width)]
    }
}

/// The mean around each pixel, of those up to `reach` away in rows and columns; nothing is outside.
fn averages(pixels: &[f32], width: usize, height: usize, reach: isize) -> Vec<f32> {
    let line = |pixels: &[f32], across: usize, step: usize, along: usize, next: usize| {
        let mut means = vec![0.; pixels.len()];
        for start in (0..across).map(|i| i * step) {
            let at = |i: isize| match usize::try_from(i) {
                Ok(i) if i < along => pixels[start + i * next],
                _ => 0.,
            };
            let mut sum: f32 = (0..reach).map(at).sum();
            for i in 0..along as isize {
                sum += at(i + reach) - at(i - reach - 1);
                means[start + i as usize * next] = sum / (2 * reach + 1) as f32;
            }
        }
        means
    };
    let rows = line(pixels, height, width, width, 1);
    line(&rows, width, 1, height, width)
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
        let mut all = vec![Vec::new(); THINGS.len()];
        for &style in TRAINING.iter().chain(&UNSEEN) {
            let package = node_modules.join(style.package());
            if !package.is_dir() {
                let reason = format!(
                    "the artwork {} is not in {}: `cargo xtask artwork` brings it",
                    style.package(),
                    node_modules.display()
                );
                return Err(Error::Io { reason });
            }
            for (of_class, drawings) in all.iter_mut().zip(style.read(&package)?) {
                of_class.extend(drawings.into_iter().map(|drawing| (style, drawing)));
            }
        }
        Artwork::new(all)
    }

    /// Artwork of drawings: for each of [`THINGS`] at least one of a training style and one of an
    /// unseen one.
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

    /// Returns the drawings of a thing in some styles.
    pub fn of(&self, class: usize, styles: &[Style]) -> Vec<&Drawing> {
        let drawings = self.drawings[class].iter();
        drawings
            .filter(|(style, _)| styles.contains(style))
            .map(|(_, drawing)| drawing)
            .collect()
    }
}

impl Drawing {
    /// Reads a picture, if there is such a file.
    fn read(path: &Path) -> Result<Option<Drawing>> {
        if !path.is_file() {
            return Ok(None);
        }
        let in_file = |e: Error| e.in_file(path.display().to_string());
        let bytes = fs::read(path).map_err(|e| Error::Io {
            reason: format!("{}: {e}", path.display()),
        })?;
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("webp") => ImageFormat::WebP,
            _ => ImageFormat::Png,
        };
        let picture = image::load_from_memory_with_format(&bytes, format)
            .map_err(bad)
            .map_err(in_file)?;
        let mut picture = picture.into_rgba32f();
        for pixel in picture.pixels_mut() {
            let alpha = pixel.0[3];
            pixel.0[..3].iter_mut().for_each(|colour| *colour *= alpha);
        }
        Drawing::of(picture).map(Some).map_err(in_file)
    }

    /// A picture, colours multiplied by alpha, in all sizes.
    fn of(picture: Rgba32FImage) -> Result<Drawing> {
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
            let pixels = small.pixels().map(|pixel| pixel.0).collect();
            Sprite::new(small.width() as usize, small.height() as usize, pixels)
        });
        Ok(Drawing {
            sprites: sprites.into(),
        })
    }

    /// Returns the smallest size of at least so many pixels.
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
