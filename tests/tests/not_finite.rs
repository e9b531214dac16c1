//! What is computed and is no number ends with an error that says where, never in words.

use std::{ops::ControlFlow, rc::Rc};

use pollster::block_on;
use univi::{
    Backend,
    constraint::Schema,
    gguf::{Event, Parser},
    loader::{LoadOptions, Loader, ModelFile},
    model::{ChatUniVi, PromptToken},
    sampler::Sampling,
    session::{EngineSession, GenerateOptions, SessionOptions},
};
use univi_tests::{fixtures, on_every_backend};

/// The model whose second layer is scaled beyond what f32 holds, though each weight is a number.
fn overflowing_model<B: Backend>(backend: &B) -> Rc<ChatUniVi<B>> {
    let path = fixtures().join("gguf/models/gqa256/gqa256-Q4_1.gguf");
    let mut bytes = std::fs::read(path).unwrap();
    let (mut names, mut norm) = (Vec::new(), 0..0);
    let start = bytes.as_ptr() as usize;
    let mut see = |event: Event| {
        match event {
            Event::Header(header) => names = header.tensors.clone(),
            Event::Data { tensor, bytes, .. } if names[tensor].name == "blk.1.ffn_norm.weight" => {
                let at = bytes.as_ptr() as usize - start;
                norm = at..at + bytes.len();
            }
            Event::Data { .. } => {}
        }
        Ok(())
    };
    Parser::new().push(&bytes, &mut see).unwrap();
    assert!(!norm.is_empty());
    for weight in bytes[norm].chunks_exact_mut(4) {
        weight.copy_from_slice(&3e38f32.to_le_bytes());
    }
    let mut loader = Loader::new(backend.clone(), ModelFile::set("gqa256-Q4_1.gguf")).unwrap();
    loader.push(&bytes).unwrap();
    loader.end_file().unwrap();
    Rc::new(block_on(loader.finish(&LoadOptions::default())).unwrap())
}

fn names_the_layer_that_overflows<B: Backend>(backend: B) {
    let model = overflowing_model(&backend);
    let prompt: Vec<PromptToken<B>> = (3..43).map(PromptToken::Token).collect();
    let schema = Schema::parse(r#"{"type":"boolean"}"#).unwrap();
    for (sampling, schema) in [
        (Sampling::greedy(), None),
        (Sampling::default(), None),
        (Sampling::greedy(), Some(schema)),
    ] {
        let options = GenerateOptions::default().sampling(sampling).schema(schema);
        let mut session = EngineSession::new(model.clone(), SessionOptions::default());
        let mut go_on = async |_: &str| ControlFlow::Continue(());
        let answer = block_on(session.generate(&prompt, &options, &mut go_on));
        let error = answer.unwrap_err();
        assert_eq!(error.code(), "bad-file");
        assert!(error.to_string().contains("blk.1 computes NaN"), "{error}");
    }
}

on_every_backend! {
    names_the_layer_that_overflows,
}
