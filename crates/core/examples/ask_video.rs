//! Asks about a video, an animated GIF or WebP, and prints the answer as it is generated:
//! `cargo run --example ask_video -- MODEL VIDEO QUESTION`.

use std::io::Write;

use univi::{
    Device, GenerateOptions, LoadOptions, Model, Part, SessionOptions, VisualOptions,
    frames::FrameOptions, image::Animation,
};

fn main() -> univi::Result<()> {
    let [model, video, question] = [1, 2, 3].map(|i| std::env::args().nth(i).expect("3 arguments"));
    pollster::block_on(async {
        let device = Device::Auto.open().await?;
        let model = Model::open(&device, model, &LoadOptions::default()).await?;
        let vision = model.vision(&VisualOptions::default())?;

        let video = Animation::new(std::fs::read(video).expect("a file that can be read"))?;
        let (_, chosen) = video.sample(&FrameOptions::default())?;
        let crops = video.crops(&chosen, vision.config().clip.image_px)?;
        let frames =
            crops.filter_map(|crop| crop.map(|some| some.map(|(_, frame)| frame)).transpose());
        let video = vision.video(frames).await?;

        let mut session = model.session(SessionOptions::default());
        let question: [Part; 2] = [video.into(), question.into()];
        let mut answer = session.ask(question, &GenerateOptions::greedy()).await?;
        while let Some(text) = answer.next().await? {
            print!("{text}");
            std::io::stdout().flush().expect("stdout is open");
        }
        println!();
        Ok(())
    })
}
