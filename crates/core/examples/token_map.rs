//! Prints which patches of an image were merged into one token, a letter for each token of the
//! coarsest stage: `cargo run --example token_map -- MODEL IMAGE`.

use univi::{Device, LoadOptions, Model, VisualOptions, image::Rgb8};

fn main() -> univi::Result<()> {
    let [model, image] = [1, 2].map(|i| std::env::args().nth(i).expect("2 arguments"));
    let image = Rgb8::decode(&std::fs::read(image).expect("a file that can be read"))?;
    pollster::block_on(async {
        let device = Device::Auto.open().await?;
        let model = Model::open(&device, model, &LoadOptions::default()).await?;
        let vision = model.vision(&VisualOptions::default())?;
        let map = vision.image(&image).await?.token_map().await?;
        let stage = map.events[0].stages.last().expect("a model that merges");
        for row in stage.groups.chunks(map.patches_per_side) {
            let letters = row.iter().map(|&token| char::from(b'A' + token as u8));
            println!("{}", letters.collect::<String>());
        }
        Ok(())
    })
}
