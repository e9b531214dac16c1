//! Draws the sample pictures and clips that the page offers, larger than the model sees them, and
//! prints what is in them: `cargo run --release -p univi-train --example samples -- FOLDER`. A clip
//! is a folder of frames; ffmpeg makes a film of it.

use std::{error::Error, fs, path::Path};

use image::{RgbImage, imageops};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi::image::Rgb8;
use univi_train::world::{Direction, SIDE_PX, Story, Styles, World};

/// How much larger.
const ZOOM: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("name a folder")?;
    let folder = Path::new(&folder);
    let artwork = Path::new(env!("CARGO_MANIFEST_DIR")).join("artwork/node_modules");
    let world = World::open(&artwork)?;
    for seed in 0..24 {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let scene = world.scene(&mut rng, Styles::Seen);
        save(&scene.pixels, &folder.join(format!("scene-{seed}.png")))?;
        for exchange in scene.layout.questions(&mut rng, 20) {
            println!("scene-{seed} {:?}", exchange.turns);
        }
    }
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(2000 + seed);
        let story = match seed % 3 {
            0 => Story::entrances(&mut rng),
            1 => Story::motion(&mut rng, Direction::ALL[(seed / 3 % 4) as usize]),
            _ => Story::cuts(&mut rng),
        };
        let clip = world.film(&mut rng, story, Styles::Seen);
        for (i, frame) in clip.frames.iter().enumerate() {
            save(
                &frame.pixels,
                &folder.join(format!("clip-{seed}/{i:02}.png")),
            )?;
        }
        for exchange in clip.story.questions(&mut rng, 20) {
            println!("clip-{seed} {:?}", exchange.turns);
        }
    }
    Ok(())
}

fn save(picture: &Rgb8, path: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(path.parent().ok_or("a folder")?)?;
    let side = SIDE_PX as u32;
    let small = RgbImage::from_raw(side, side, picture.pixels.clone()).ok_or("a scene")?;
    let large = imageops::resize(
        &small,
        ZOOM * side,
        ZOOM * side,
        imageops::FilterType::CatmullRom,
    );
    Ok(large.save(path)?)
}
