//! Asks about an image: `cargo run --example ask_image -- MODEL IMAGE QUESTION`.

use univi::{Device, GenerateOptions, LoadOptions, Model, Part, SessionOptions};

fn main() -> univi::Result<()> {
    let [model, image, question] = [1, 2, 3].map(|i| std::env::args().nth(i).expect("3 arguments"));
    pollster::block_on(async {
        let device = Device::Auto.open().await?;
        let model = Model::open(&device, model, &LoadOptions::default()).await?;
        let mut session = model.session(SessionOptions::default());
        let question = [Part::image_file(image)?, question.into()];
        let answer = session.ask(question, &GenerateOptions::greedy()).await?;
        println!("{}", answer.finish().await?.text);
        Ok(())
    })
}
