//! A conversation, a question a line: `cargo run --example chat -- MODEL [IMAGE]`. The image goes
//! with the first question; each further question costs its own tokens alone.

use univi::{Device, GenerateOptions, LoadOptions, Model, Part, SessionOptions};

fn main() -> univi::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().expect("the path of a model");
    let mut parts: Vec<Part> = args.map(Part::image_file).collect::<univi::Result<_>>()?;
    pollster::block_on(async {
        let device = Device::Auto.open().await?;
        let model = Model::open(&device, model, &LoadOptions::default()).await?;
        let mut session = model.session(SessionOptions::default());
        for question in std::io::stdin().lines() {
            parts.push(question.expect("stdin is text").into());
            let question = std::mem::take(&mut parts);
            let answer = session.ask(question, &GenerateOptions::greedy()).await?;
            let answer = answer.finish().await?;
            let usage = session.context_usage()?;
            println!("{}", answer.text);
            eprintln!(
                "{} of {} prompt tokens reused, {} of {} tokens of context",
                answer.usage.reused, answer.usage.prompt, usage.used, usage.capacity
            );
        }
        Ok(())
    })
}
