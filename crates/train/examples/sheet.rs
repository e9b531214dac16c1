//! Draws scenes and clips of the world into one picture, and prints what is asked about them:
//! `cargo run --release -p univi-train --example sheet -- sheet.png`

use std::path::Path;

use image::{RgbImage, imageops};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi::image::Rgb8;
use univi_train::world::{SIDE_PX, Styles, World};

const ACROSS: usize = 14;

fn main() {
    let path = std::env::args().nth(1).unwrap_or("sheet.png".into());
    let artwork = Path::new(env!("CARGO_MANIFEST_DIR")).join("artwork/node_modules");
    let world = World::open(&artwork).unwrap_or_else(|error| panic!("{error}"));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut rows: Vec<Vec<Rgb8>> = Vec::new();
    for styles in [Styles::Training, Styles::Seen, Styles::Unseen] {
        let scenes: Vec<_> = (0..ACROSS).map(|_| world.scene(&mut rng, styles)).collect();
        for scene in &scenes[..2] {
            for exchange in scene.layout.questions(&mut rng, 8) {
                println!("{:?} {:?}", exchange.kind, exchange.turns);
            }
        }
        rows.push(scenes.into_iter().map(|scene| scene.pixels).collect());
        rows.push(
            (0..ACROSS)
                .map(|_| world.mosaic(&mut rng, styles).pixels)
                .collect(),
        );
        for _ in 0..2 {
            let clip = world.clip(&mut rng, styles);
            for exchange in clip.story.questions(&mut rng, 8) {
                println!("{:?} {:?}", exchange.kind, exchange.turns);
            }
            rows.push(
                clip.frames
                    .into_iter()
                    .take(ACROSS)
                    .map(|frame| frame.pixels)
                    .collect(),
            );
        }
    }
    let side = SIDE_PX as u32;
    let mut sheet = RgbImage::new(ACROSS as u32 * side, rows.len() as u32 * side);
    for (y, row) in rows.iter().enumerate() {
        for (x, picture) in row.iter().enumerate() {
            let tile = RgbImage::from_raw(side, side, picture.pixels.clone()).expect("a scene");
            imageops::replace(
                &mut sheet,
                &tile,
                x as i64 * side as i64,
                y as i64 * side as i64,
            );
        }
    }
    sheet
        .save(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
}
