//! A canvas for figures: pictures, rectangles, lines and captions.

use image::{Rgb, RgbImage, imageops};
use spleen_font::{FONT_12X24, PSF2Font};

/// Paper.
pub const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
/// Ink.
pub const BLACK: Rgb<u8> = Rgb([24, 26, 30]);
/// What may be overlooked.
pub const GREY: Rgb<u8> = Rgb([112, 118, 128]);

/// `[width, height]` of a letter in pixels (Spleen, a bitmap font of fixed width).
pub const LETTER_PX: [u32; 2] = [12, 24];

/// As much of `text` as fits into `width_px`, the end replaced by `..` where not all does.
pub fn fit(text: &str, width_px: u32) -> String {
    let room = (width_px / LETTER_PX[0]) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars()
        .take(room.saturating_sub(2))
        .chain("..".chars())
        .take(room)
        .collect()
}

/// An RGB picture that is drawn on. Whatever lies outside is not drawn.
pub struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// White paper.
    pub fn new(width_px: u32, height_px: u32) -> Canvas {
        Canvas {
            image: RgbImage::from_pixel(width_px, height_px, WHITE),
        }
    }

    /// What was drawn.
    pub fn into_image(self) -> RgbImage {
        self.image
    }

    /// Sets one pixel.
    pub fn set(&mut self, x: u32, y: u32, colour: Rgb<u8>) {
        if let Some(pixel) = self.image.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, [x, y]: [u32; 2], [width, height]: [u32; 2], colour: Rgb<u8>) {
        for y in y..y.saturating_add(height).min(self.image.height()) {
            for x in x..x.saturating_add(width).min(self.image.width()) {
                self.image.put_pixel(x, y, colour);
            }
        }
    }

    /// Lays a picture down with its upper left corner at `(x, y)`.
    pub fn paste(&mut self, picture: &RgbImage, [x, y]: [u32; 2]) {
        imageops::replace(&mut self.image, picture, i64::from(x), i64::from(y));
    }

    /// Writes one line with its upper left corner at `(x, y)`; letters that the font lacks become
    /// `?`.
    pub fn text(&mut self, [x, y]: [u32; 2], colour: Rgb<u8>, text: &str) {
        let mut letters = PSF2Font::new(FONT_12X24).expect("the font is part of the program");
        let mut left = x;
        for letter in text.chars() {
            let mut utf8 = [0; 4];
            let known = letters
                .glyph_for_utf8(letter.encode_utf8(&mut utf8).as_bytes())
                .is_some();
            let letter = if known { letter } else { '?' };
            if let Some(glyph) = letters.glyph_for_utf8(letter.encode_utf8(&mut utf8).as_bytes()) {
                for (row, bits) in (y..).zip(glyph) {
                    for (col, on) in (left..).zip(bits) {
                        if on {
                            self.set(col, row, colour);
                        }
                    }
                }
            }
            left = left.saturating_add(LETTER_PX[0]);
        }
    }
}
