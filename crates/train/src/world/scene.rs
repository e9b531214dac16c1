//! Scenes: things on a background, as facts and as pixels.

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use univi::image::Rgb8;

use super::{
    artwork::{Artwork, Drawing, Styles},
    things::THINGS,
};

/// Width and height of every scene.
pub const SIDE_PX: usize = 96;

/// A background's colour by name, and what it looks like in the middle.
pub const COLOURS: [(&str, [f32; 3]); 10] = [
    ("red", [0.82, 0.12, 0.14]),
    ("orange", [0.98, 0.56, 0.10]),
    ("yellow", [0.97, 0.88, 0.22]),
    ("green", [0.20, 0.65, 0.25]),
    ("blue", [0.16, 0.34, 0.86]),
    ("purple", [0.48, 0.20, 0.70]),
    ("pink", [0.97, 0.62, 0.76]),
    ("brown", [0.45, 0.28, 0.15]),
    ("white", [0.94, 0.94, 0.94]),
    ("black", [0.08, 0.08, 0.08]),
];

/// Where a thing is. Lengths are in image widths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// Its number in [`THINGS`].
    pub class: usize,
    /// Its middle, from the top left.
    pub centre: [f32; 2],
    /// Its longer side.
    pub size: f32,
}

/// What there is: all that questions are about.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The background's number in [`COLOURS`].
    pub background: usize,
    /// The things, those further back first.
    pub things: Vec<Thing>,
}

/// A layout that can be looked at.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What there is.
    pub layout: Layout,
    /// What is seen.
    pub pixels: Rgb8,
    /// For each pixel the number of the thing on top, if any.
    owners: Vec<Option<u8>>,
}

/// A patch shows a thing that covers at least so much of it.
const COVERS: f32 = 0.15;
/// Middles of things are at least so many mean sizes apart: none hides another.
const APART: f32 = 0.86;
/// A thing's middle is at least so many sizes away from the border.
const INSIDE: f32 = 0.48;

impl Layout {
    /// Things side by side, as many as there is room for, sizes from `sizes`.
    pub fn random(rng: &mut ChaCha8Rng, classes: &[usize], sizes: [f32; 2]) -> Layout {
        let mut layout = Layout {
            background: rng.random_range(0..COLOURS.len()),
            things: Vec::new(),
        };
        for &class in classes {
            for _ in 0..40 {
                let size = rng.random_range(sizes[0]..sizes[1]);
                let mut place = || rng.random_range(size * INSIDE..1. - size * INSIDE);
                let thing = Thing {
                    class,
                    centre: [place(), place()],
                    size,
                };
                if layout.things.iter().all(|other| apart(&thing, other)) {
                    layout.things.push(thing);
                    break;
                }
            }
        }
        layout
    }
}

/// Whether neither hides the other.
pub(super) fn apart(a: &Thing, b: &Thing) -> bool {
    let [dx, dy] = [a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]];
    dx.hypot(dy) >= APART * (a.size + b.size) / 2.
}

/// How a thing is drawn, the same in all frames of a clip.
#[derive(Clone)]
pub(super) struct Look<'a> {
    drawing: &'a Drawing,
    /// Columns: where the drawing's right and down point to, without its size.
    axes: [[f32; 2]; 2],
    colour: [[f32; 4]; 3],
    /// Fewer pixels than there are, for a blur.
    sharpness: f32,
    /// Where light falls on what is drawn flat as if it were round, and how much of it.
    light: [f32; 2],
    /// A wave down the drawing that bends it sideways, and one across that bends it up and down:
    /// how far, in sides, and its phase, in radians.
    bends: Option<[[f32; 2]; 2]>,
}

/// How many of the drawings that models learn with are altered up to four times as much as the
/// others, and bent. Some are hard to make out, and what to answer about those is to be learned,
/// too.
const STRANGE: f64 = 0.2;

impl<'a> Look<'a> {
    pub(super) fn random(
        rng: &mut ChaCha8Rng,
        artwork: &'a Artwork,
        class: usize,
        styles: Styles,
    ) -> Look<'a> {
        let drawings = artwork.of(class, styles.artwork());
        let drawing = *drawings
            .choose(rng)
            .expect("there is a drawing of every thing");
        let augmented = styles == Styles::Training;
        let mut within = |most: f32| rng.random_range(-most..most);
        let tilt = within(22.).to_radians();
        let brightness = 0.95 + within(0.25);
        let (mut shear, mut aspect, mut saturation, mut hue, mut contrast) = (0., 1., 1., 0., 1.);
        let mut sharpness = 1.;
        let mut light = [0.; 2];
        let mut bends = None;
        if augmented {
            shear = within(0.16);
            aspect = within(0.16).exp();
            saturation = 1. + within(0.35);
            hue = within(14.).to_radians();
            contrast = 1. + within(0.2);
            let strange = rng.random_bool(STRANGE);
            if rng.random_bool(if strange { 0.5 } else { 0.25 }) {
                sharpness = rng.random_range(0.4..0.9);
            }
            if strange {
                let far = rng.random_range(0.5..4f32);
                shear *= far.min(2.);
                aspect = aspect.powf(far.min(2.));
                saturation = 1. + (saturation - 1.) * far;
                hue *= far;
                contrast = 1. + (contrast - 1.) * far;
                sharpness /= far.max(1.);
                bends = Some([0; 2].map(|_| {
                    let depth = rng.random_range(0.0..0.03) * far;
                    [depth, rng.random_range(0.0..std::f32::consts::TAU)]
                }));
            }
            // Most light comes from above.
            if rng.random_bool(0.5) {
                let (across, above) = rng.random_range(-1.2..1.2f32).sin_cos();
                let strength = rng.random_range(0.1..0.5);
                light = [across * strength, -above * strength];
            }
        }
        let flipped = if augmented && rng.random_bool(0.3) {
            -1.
        } else {
            1.
        };
        let (sin, cos) = tilt.sin_cos();
        let (wide, high) = (aspect.sqrt() * flipped, aspect.sqrt().recip());
        Look {
            drawing,
            axes: [
                [cos * wide, sin * wide],
                [-sin * high + shear * cos, cos * high + shear * sin],
            ],
            colour: recolour(brightness, contrast, saturation, hue),
            sharpness,
            light,
            bends,
        }
    }
}

/// A colour's red, green, blue and 1 -> what is drawn, as a matrix.
fn recolour(brightness: f32, contrast: f32, saturation: f32, hue: f32) -> [[f32; 4]; 3] {
    let luma = [0.299, 0.587, 0.114];
    // A turn about the grey axis keeps grey as it is.
    let (sin, cos) = hue.sin_cos();
    let third = (1. - cos) / 3.;
    let side = sin / 3f32.sqrt();
    let turn = [
        [cos + third, third - side, third + side],
        [third + side, cos + third, third - side],
        [third - side, third + side, cos + third],
    ];
    let mut matrix = [[0.; 4]; 3];
    for (row, turned) in matrix.iter_mut().zip(turn) {
        for (i, (cell, turned)) in row.iter_mut().zip(turned).enumerate() {
            *cell = (turned * saturation + luma[i] * (1. - saturation)) * contrast * brightness;
        }
        row[3] = 0.5 * (1. - contrast) * brightness;
    }
    matrix
}

/// A picture that is being painted.
#[derive(Clone)]
pub(super) struct Canvas {
    pixels: Vec<[f32; 3]>,
    owners: Vec<Option<u8>>,
}

impl Canvas {
    /// Paints a background in the family of a colour.
    pub(super) fn background(rng: &mut ChaCha8Rng, colour: usize) -> Canvas {
        let [r, g, b] = COLOURS[colour].1;
        let brightness = rng.random_range(0.9..1.08f32);
        let base =
            [r, g, b].map(|c| (c * brightness + rng.random_range(-0.02..0.02)).clamp(0., 1.));
        let mut pixels = vec![base; SIDE_PX * SIDE_PX];
        let side = SIDE_PX as f32;
        match rng.random_range(0..4) {
            0 => {}
            1 => {
                // From darker to lighter, in any direction.
                let (sin, cos) = rng.random_range(0.0..std::f32::consts::TAU).sin_cos();
                let depth = rng.random_range(0.1..0.3);
                for (i, pixel) in pixels.iter_mut().enumerate() {
                    let (x, y) = (
                        (i % SIDE_PX) as f32 / side - 0.5,
                        (i / SIDE_PX) as f32 / side - 0.5,
                    );
                    shade(pixel, 1. + depth * (x * cos + y * sin) * 1.4);
                }
            }
            2 => {
                let cell = rng.random_range(1..5usize);
                let strength = rng.random_range(0.04..0.16f32);
                let across = SIDE_PX.div_ceil(cell);
                let grains: Vec<[f32; 3]> = (0..across * across)
                    .map(|_| [0; 3].map(|_| rng.random_range(-strength..strength)))
                    .collect();
                for (i, pixel) in pixels.iter_mut().enumerate() {
                    let grain = grains[i / SIDE_PX / cell * across + i % SIDE_PX / cell];
                    pixel
                        .iter_mut()
                        .zip(grain)
                        .for_each(|(c, grain)| *c += grain);
                }
            }
            _ => {
                // Like a photograph out of focus: two layers of soft lights, and sometimes stripes.
                for (across, depth) in [(3, 0.22), (7, 0.12)] {
                    let lights: Vec<f32> = (0..(across + 2) * (across + 2))
                        .map(|_| rng.random_range(-depth..depth))
                        .collect();
                    for (i, pixel) in pixels.iter_mut().enumerate() {
                        let at = |px: usize| px as f32 / side * across as f32;
                        let (x, y) = (at(i % SIDE_PX), at(i / SIDE_PX));
                        let (col, row) = (x as usize, y as usize);
                        let light = |row: usize, col: usize| lights[row * (across + 2) + col];
                        let (fx, fy) = (smooth(x.fract()), smooth(y.fract()));
                        let top = light(row, col) * (1. - fx) + light(row, col + 1) * fx;
                        let low = light(row + 1, col) * (1. - fx) + light(row + 1, col + 1) * fx;
                        shade(pixel, 1. + top * (1. - fy) + low * fy);
                    }
                }
                if rng.random_bool(0.4) {
                    let (sin, cos) = rng.random_range(0.0..std::f32::consts::TAU).sin_cos();
                    let waves = rng.random_range(8.0..40.0f32);
                    let depth = rng.random_range(0.03..0.12);
                    for (i, pixel) in pixels.iter_mut().enumerate() {
                        let (x, y) = ((i % SIDE_PX) as f32 / side, (i / SIDE_PX) as f32 / side);
                        shade(pixel, 1. + depth * ((x * cos + y * sin) * waves).sin());
                    }
                }
            }
        }
        Canvas {
            owners: vec![None; pixels.len()],
            pixels,
        }
    }

    /// Paints a thing over what is there.
    pub(super) fn paint(&mut self, thing: &Thing, number: usize, look: &Look) {
        let side = SIDE_PX as f32;
        let size_px = thing.size * side;
        let sprite = look.drawing.at_least(size_px * look.sharpness);
        let scale = size_px / sprite.width.max(sprite.height) as f32;
        let [[a, c], [b, d]] = look.axes;
        // From a pixel's distance to the middle back to the sprite.
        let area = (a * d - b * c) * scale;
        let back = [[d / area, -b / area], [-c / area, a / area]];
        let reach = size_px * 0.9;
        let range = |centre: f32| {
            let middle = centre * side;
            let from = (middle - reach).max(0.) as usize;
            from..((middle + reach).ceil().max(0.) as usize).min(SIDE_PX)
        };
        for y in range(thing.centre[1]) {
            for x in range(thing.centre[0]) {
                let dx = x as f32 + 0.5 - thing.centre[0] * side;
                let dy = y as f32 + 0.5 - thing.centre[1] * side;
                let mut u = back[0][0] * dx + back[0][1] * dy + sprite.width as f32 / 2. - 0.5;
                let mut v = back[1][0] * dx + back[1][1] * dy + sprite.height as f32 / 2. - 0.5;
                if let Some(bends) = look.bends {
                    [u, v] = bend(bends, [sprite.width, sprite.height], [u, v]);
                }
                let Some([r, g, b, alpha]) = bilinear(sprite, u, v) else {
                    continue;
                };
                let at = y * SIDE_PX + x;
                let [right, down] = sprite.slope(u, v);
                let lit = 1. + look.light[0] * right + look.light[1] * down;
                for (channel, row) in self.pixels[at].iter_mut().zip(look.colour) {
                    let colour = row[0] * r + row[1] * g + row[2] * b + row[3] * alpha;
                    // What is dark is lit, too, if less.
                    let colour = colour * lit + (lit - 1.) * 0.15 * alpha;
                    *channel = *channel * (1. - alpha) + colour.clamp(0., alpha);
                }
                if alpha > 0.5 {
                    self.owners[at] = Some(number as u8);
                }
            }
        }
    }

    pub(super) fn finish(self, layout: Layout) -> Scene {
        let bytes = self.pixels.into_iter().flatten();
        let bytes = bytes
            .map(|c| (c.clamp(0., 1.) * 255.).round() as u8)
            .collect();
        Scene {
            layout,
            pixels: Rgb8::new(SIDE_PX, SIDE_PX, bytes).expect("as many pixels as there are"),
            owners: self.owners,
        }
    }
}

fn shade(pixel: &mut [f32; 3], factor: f32) {
    // Black stays black however it is multiplied: a little is added, too.
    pixel
        .iter_mut()
        .for_each(|c| *c = *c * factor + (factor - 1.) * 0.06);
}

fn smooth(x: f32) -> f32 {
    x * x * (3. - 2. * x)
}

/// From where a pixel of a bent drawing is to where it was.
fn bend(bends: [[f32; 2]; 2], size: [usize; 2], [u, v]: [f32; 2]) -> [f32; 2] {
    let [wide, high] = size.map(|side| side as f32);
    let wave = |[depth, phase]: [f32; 2], along: f32| {
        depth * (along * WAVES * std::f32::consts::TAU + phase).sin()
    };
    [
        u + wide * wave(bends[0], v / high),
        v + high * wave(bends[1], u / wide),
    ]
}

/// Waves along a side of what is bent.
const WAVES: f32 = 1.5;

fn bilinear(sprite: &Sprite, u: f32, v: f32) -> Option<[f32; 4]> {
    let (col, row) = (u.floor(), v.floor());
    if col < -1. || row < -1. || col >= sprite.width as f32 || row >= sprite.height as f32 {
        return None;
    }
    let (fx, fy) = (u - col, v - row);
    let mut sum = [0.; 4];
    for (y, wy) in [(row, 1. - fy), (row + 1., fy)] {
        for (x, wx) in [(col, 1. - fx), (col + 1., fx)] {
            if x < 0. || y < 0. || x >= sprite.width as f32 || y >= sprite.height as f32 {
                continue;
            }
            let pixel = sprite.pixels[y as usize * sprite.width + x as usize];
            sum.iter_mut()
                .zip(pixel)
                .for_each(|(sum, c)| *sum += wx * wy * c);
        }
    }
    (sum[3] > 0.004).then_some(sum)
}

use super::artwork::Sprite;

impl Scene {
    /// Paints a layout.
    pub fn paint(rng: &mut ChaCha8Rng, artwork: &Artwork, layout: Layout, styles: Styles) -> Scene {
        let mut canvas = Canvas::background(rng, layout.background);
        for (number, thing) in layout.things.iter().enumerate() {
            let look = Look::random(rng, artwork, thing.class, styles);
            canvas.paint(thing, number, &look);
        }
        canvas.finish(layout)
    }

    /// For each patch of a grid of `grid` by `grid` the thing that it shows most of, if it shows
    /// any, and the middle of that thing.
    pub fn patch_labels(&self, grid: usize) -> Vec<Option<(usize, [f32; 2])>> {
        let side = SIDE_PX / grid;
        let label = |patch: usize| {
            let mut covered = vec![0; self.layout.things.len()];
            for y in 0..side {
                for x in 0..side {
                    let at = (patch / grid * side + y) * SIDE_PX + patch % grid * side + x;
                    if let Some(owner) = self.owners[at] {
                        covered[owner as usize] += 1;
                    }
                }
            }
            let (most, covers) = covered
                .iter()
                .enumerate()
                .max_by_key(|(i, covers)| (**covers, usize::MAX - i))?;
            let thing = self.layout.things[most];
            (*covers as f32 >= COVERS * (side * side) as f32).then_some((thing.class, thing.centre))
        };
        (0..grid * grid).map(label).collect()
    }
}

/// Classes for a scene of so many things; each is of a kind that is there already with probability
/// `again`.
pub(super) fn classes(rng: &mut ChaCha8Rng, count: usize, again: f64) -> Vec<usize> {
    let mut classes: Vec<usize> = Vec::new();
    while classes.len() < count {
        let again = !classes.is_empty() && rng.random_bool(again);
        classes.push(match again {
            true => *classes.choose(rng).expect("there is one"),
            false => rng.random_range(0..THINGS.len()),
        });
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_bend_a_drawing_by_as_much_as_they_are_deep() {
        // One and a half waves on 120 pixels: their height is at 20 pixels, their depth at 60.
        let sideways = [[0.1, 0.], [0., 0.]];
        let bent = |at| bend(sideways, [200, 120], at);
        for (at, expected) in [
            ([50., 0.], [50., 0.]),
            ([50., 20.], [70., 20.]),
            ([50., 60.], [30., 60.]),
        ] {
            let found = bent(at);
            assert!((found[0] - expected[0]).abs() < 1e-3, "{at:?}: {found:?}");
            assert_eq!(found[1], expected[1]);
        }
        // Half a wave later they go the other way; the other wave moves up and down.
        let other = bend(
            [[0., 0.], [0.1, std::f32::consts::PI]],
            [120, 200],
            [20., 50.],
        );
        assert_eq!(other[0], 20.);
        assert!((other[1] - 30.).abs() < 1e-3, "{other:?}");
    }
}
