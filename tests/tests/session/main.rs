//! Conversations: what is kept, what is computed again, and how an answer ends.

mod choosing;
mod together;

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, rc::Rc};

use choosing::{devices_choose_what_the_host_chooses, reports_what_logits_say, seeds_decide};
use pollster::block_on;
use together::{
    answers_are_what_they_are_alone, answers_come_and_go, prompts_join_one_after_the_other,
};
use univi::{
    Backend, Cpu, Gpu,
    backend::KvType,
    config::MergeMethod,
    gguf::QuantizationPlan,
    gpu::GpuOptions,
    image::Rgb8,
    loader::{LoadOptions, Loader, ModelFile},
    model::{CHUNK_ROWS, ChatUniVi, PromptToken, VisualKind},
    session::{
        Answer, EnginePart, EngineSession, Finish, GenerateOptions, Overflow, SessionOptions, Step,
    },
};
use univi_convert::checkpoint::Checkpoint;
use univi_tests::{files_in, fixtures, on_every_backend};

/// Steps of f32 arithmetic in another order, on values around 1.
const HIDDEN_TOLERANCE: f32 = 1e-4;

/// What keys and values in bytes change of logits, relative to their size; 0.0019 was measured.
const Q8_LOGITS: f32 = 4e-3;

/// What another device changes of them: sums in another order, and here and there a number that
/// rounds the other way.
const DEVICE_LOGITS: f32 = 1e-4;

fn model<B: Backend>(backend: &B, context: usize) -> Rc<ChatUniVi<B>> {
    model_with(backend, context, KvType::F32)
}

fn model_with<B: Backend>(backend: &B, context: usize, kv_cache: KvType) -> Rc<ChatUniVi<B>> {
    let path = fixtures().join("gguf/models/gqa256/gqa256-Q4_1.gguf");
    let mut loader = Loader::new(backend.clone(), ModelFile::set("gqa256-Q4_1.gguf")).unwrap();
    loader.check_upload(1);
    loader
        .push(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .unwrap();
    loader.end_file().unwrap();
    Rc::new(
        block_on(
            loader.finish(
                &LoadOptions::default()
                    .context(Some(context))
                    .kv_cache(kv_cache),
            ),
        )
        .unwrap(),
    )
}

fn session<B: Backend>(model: &Rc<ChatUniVi<B>>) -> EngineSession<B> {
    EngineSession::new(model.clone(), SessionOptions::default())
}

/// Ids without any pattern that are ordinary tokens.
fn ids(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32)
        .map(|i| 3 + (i.wrapping_add(seed).wrapping_mul(2654435761) >> 8) % 300)
        .collect()
}

fn prompt_tokens<B: Backend>(ids: &[u32]) -> Vec<PromptToken<B>> {
    ids.iter().map(|&id| PromptToken::Token(id)).collect()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions::greedy().max_tokens(max_tokens)
}

fn generate<B: Backend>(
    session: &mut EngineSession<B>,
    ids: &[u32],
    options: &GenerateOptions,
) -> univi::Result<Answer> {
    let mut pieces = String::new();
    let mut on_piece = async |piece: &str| {
        pieces.push_str(piece);
        ControlFlow::Continue(())
    };
    let answer = block_on(session.generate(&prompt_tokens(ids), options, &mut on_piece))?;
    assert_eq!(pieces, answer.text);
    Ok(answer)
}

fn answer<B: Backend>(
    session: &mut EngineSession<B>,
    text: &str,
    options: &GenerateOptions,
) -> Answer {
    let mut pieces = String::new();
    let mut on_piece = async |piece: &str| {
        pieces.push_str(piece);
        ControlFlow::Continue(())
    };
    let answer =
        block_on(session.answer(vec![EnginePart::Text(text.into())], options, &mut on_piece))
            .unwrap();
    assert_eq!(pieces, answer.text);
    answer
}

fn keeps_what_prompts_share<B: Backend>(backend: B) {
    let model = model(&backend, 200);
    let (mut kept, mut fresh) = (session(&model), session(&model));
    let first = ids(30, 1);
    let said = generate(&mut kept, &first, &greedy(12)).unwrap();
    assert_eq!(
        (said.usage.prompt, said.usage.reused, said.usage.completion),
        (30, 0, said.ids.len())
    );

    // The last id was chosen, and never fed.
    let longer = [&first[..], &said.ids, &ids(7, 2)].concat();
    let again = generate(&mut kept, &longer, &greedy(12)).unwrap();
    assert_eq!(again.usage.reused, 30 + said.ids.len() - 1);
    let expected = generate(&mut fresh, &longer, &greedy(12)).unwrap();
    assert_eq!((again.ids, again.text), (expected.ids, expected.text));

    // A branch of the conversation keeps the stem alone.
    let branch = [&first[..10], &ids(9, 3)].concat();
    let found = generate(&mut kept, &branch, &greedy(12)).unwrap();
    assert_eq!(found.usage.reused, 10);
    let expected = generate(&mut session(&model), &branch, &greedy(12)).unwrap();
    assert_eq!(found.ids, expected.ids);

    // The same again: only the last place is computed.
    let same = generate(&mut kept, &branch, &greedy(12)).unwrap();
    assert_eq!(
        (same.usage.reused, &same.ids),
        (branch.len() - 1, &found.ids)
    );

    // What comes next was asked for before: the prompt is not read again either.
    let mut asked = session(&model);
    let logits = block_on(asked.logits(&prompt_tokens(&branch))).unwrap();
    let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    assert_eq!(likeliest, Some(found.ids[0] as usize));
    let after = generate(&mut asked, &branch, &greedy(12)).unwrap();
    assert_eq!(
        (after.usage.reused, after.ids),
        (branch.len() - 1, found.ids)
    );
}

fn survives_what_goes_wrong<B: Backend>(backend: B) {
    let model = model(&backend, 600);
    let prompt = ids(CHUNK_ROWS + 30, 4);
    let expected = generate(&mut session(&model), &prompt, &greedy(8)).unwrap();

    let mut session = session(&model);
    let error = generate(&mut session, &ids(600, 5), &greedy(8)).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 1);
    assert_eq!(error.code(), "context-overflow");
    assert_eq!(
        generate(&mut session, &[], &greedy(8)).unwrap_err().code(),
        "bad-request"
    );

    // Broken off between two chunks of the prompt, and after the first words.
    let broken = block_on(session.generate(
        &prompt_tokens(&prompt),
        &greedy(8),
        &mut async |_: &str| ControlFlow::Break(()),
    ))
    .unwrap();
    assert_eq!((broken.finish, broken.ids.len()), (Finish::Aborted, 0));
    let mut after_text = async |piece: &str| match piece {
        "" => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let broken =
        block_on(session.generate(&prompt_tokens(&prompt), &greedy(8), &mut after_text)).unwrap();
    assert_eq!(broken.finish, Finish::Aborted);
    assert!(
        !broken.text.is_empty() && expected.text.starts_with(&broken.text),
        "{:?}",
        broken.text
    );

    let found = generate(&mut session, &prompt, &greedy(8)).unwrap();
    assert_eq!((found.ids, found.finish), (expected.ids, expected.finish));
}

fn ends_where_it_should<B: Backend>(backend: B) {
    let model = model(&backend, 120);
    let mut session = session(&model);
    let prompt = ids(100, 6);
    let none = generate(&mut session, &prompt, &greedy(0)).unwrap();
    assert_eq!((none.ids.len(), none.finish), (0, Finish::Length));
    let three = generate(&mut session, &prompt, &greedy(3)).unwrap();
    assert_eq!((three.ids.len(), three.finish), (3, Finish::Length));
    // Twenty ids find room in the context, and one more is chosen after them.
    let full = generate(&mut session, &prompt, &greedy(50)).unwrap();
    assert_eq!((full.ids.len(), full.finish), (21, Finish::Length));

    let (middle, _) = full
        .text
        .char_indices()
        .nth(5)
        .expect("an answer of some length");
    let stop = full.text[middle..].chars().take(3).collect::<String>();
    let options = greedy(50).stop(vec!["never said".into(), stop.clone()]);
    let stopped = generate(&mut session, &prompt, &options).unwrap();
    let (before, _) = full.text.split_once(&stop).unwrap();
    assert_eq!(
        (stopped.text, stopped.finish),
        (before.trim_end().to_string(), Finish::Stop)
    );
    assert!(full.ids.starts_with(&stopped.ids));
}

fn turns_follow_each_other<B: Backend>(backend: B) {
    let model = model(&backend, 1000);
    let mut spoken = session(&model);
    let first = answer(&mut spoken, "Who are you?", &greedy(6));
    let second = answer(&mut spoken, "And who am I?", &greedy(6));
    assert!(second.usage.prompt > first.usage.prompt + first.ids.len());
    // The template's text and the first question, at the least, are not read again.
    assert!(
        second.usage.reused + 1 >= first.usage.prompt,
        "{:?}",
        second.usage
    );

    // A turn that is broken off before a word, or that finds no room, was never there.
    let parts = |text: &str| vec![EnginePart::Text(text.into())];
    let broken = block_on(spoken.answer(
        parts(&"more ".repeat(100)),
        &greedy(6),
        &mut async |_: &str| ControlFlow::Break(()),
    ));
    assert_eq!(broken.unwrap().finish, Finish::Aborted);
    let overflow = block_on(spoken.answer(
        parts(&"more ".repeat(900)),
        &greedy(6),
        &mut async |_: &str| ControlFlow::Break(()),
    ));
    assert_eq!(overflow.unwrap_err().code(), "context-overflow");
    let third = answer(&mut spoken, "Why?", &greedy(6));

    let mut anew = session(&model);
    for (question, expected) in [
        ("Who are you?", first),
        ("And who am I?", second),
        ("Why?", third),
    ] {
        let found = answer(&mut anew, question, &greedy(6));
        assert_eq!(
            (found.ids, found.text, found.usage.prompt),
            (expected.ids, expected.text, expected.usage.prompt)
        );
    }
    anew.clear();
    let found = answer(&mut anew, "Who are you?", &greedy(6));
    assert_eq!(found.usage.reused, found.usage.prompt - 1);
}

fn forks_go_their_own_ways<B: Backend>(backend: B) {
    let model = model(&backend, 600);
    let mut stem = session(&model);
    let first = answer(&mut stem, "Who are you?", &greedy(6));
    let mut branch = block_on(stem.fork()).unwrap();
    let said = answer(&mut branch, "And who am I?", &greedy(6));
    assert!(
        said.usage.reused + 1 >= first.usage.prompt,
        "{:?}",
        said.usage
    );
    // What the branch has read and said is not in the way of the stem.
    let other = answer(&mut stem, "Why?", &greedy(6));
    assert!(other.usage.reused + 1 >= first.usage.prompt);
    drop(stem);
    let again = answer(&mut branch, "Why not?", &greedy(6));

    let expect = |questions: &[&str]| {
        let mut anew = session(&model);
        let answers = questions.iter().map(|q| answer(&mut anew, q, &greedy(6)));
        answers.last().unwrap().ids
    };
    assert_eq!(expect(&["Who are you?", "Why?"]), other.ids);
    assert_eq!(
        expect(&["Who are you?", "And who am I?", "Why not?"]),
        again.ids
    );
}

fn oldest_turns_make_room<B: Backend>(backend: B) {
    let model = model(&backend, 400);
    let options = SessionOptions::default().overflow(Overflow::DropOldest);
    let mut session = EngineSession::new(model.clone(), options);
    assert_eq!(session.context_usage().unwrap().used, 0);
    let mut dropped = 0;
    for number in 0..8 {
        let said = answer(&mut session, &format!("Question {number}?"), &greedy(6));
        dropped += said.usage.dropped_turns;
        let used = session.context_usage().unwrap();
        assert_eq!(used.capacity, 400);
        // What was computed is counted, and nothing is computed to count it.
        assert_eq!(used.used, said.usage.prompt + said.usage.completion);
    }
    assert!(dropped > 0, "eight turns found room: the test is too small");

    // What has no room even alone is refused, and costs nothing of the conversation.
    let before = session.context_usage().unwrap();
    let long = vec![EnginePart::Text("more ".repeat(400))];
    let mut on_piece = async |_: &str| ControlFlow::Continue(());
    let refused = block_on(session.answer(long.clone(), &greedy(6), &mut on_piece));
    assert_eq!(refused.unwrap_err().code(), "context-overflow");
    let mut on_chunk = async || ControlFlow::Continue(());
    let refused = block_on(session.append(long, &mut on_chunk));
    assert_eq!(refused.unwrap_err().code(), "context-overflow");
    assert_eq!(session.context_usage().unwrap(), before);
}

fn conversations_may_begin_with_a_past<B: Backend>(backend: B) {
    let model = model(&backend, 600);
    let mut lived = session(&model);
    let first = answer(&mut lived, "Who are you?", &greedy(6));
    let second = answer(&mut lived, "Why?", &greedy(6));
    let past = vec![(vec![EnginePart::Text("Who are you?".into())], first.text)];
    let mut restarted = session(&model);
    answer(&mut restarted, "Something else", &greedy(6));
    restarted.restart(SessionOptions::default(), past);
    let found = answer(&mut restarted, "Why?", &greedy(6));
    assert_eq!(
        (found.ids, found.usage.prompt),
        (second.ids, second.usage.prompt)
    );
}

fn conversations_can_be_taken_back<B: Backend>(backend: B) {
    let model = model(&backend, 600);
    let mut straight = session(&model);
    answer(&mut straight, "Who are you?", &greedy(6));
    let expected = answer(&mut straight, "Why?", &greedy(6));
    let mut wandering = session(&model);
    answer(&mut wandering, "Who are you?", &greedy(6));
    answer(&mut wandering, "What?", &greedy(6));
    answer(&mut wandering, "Where?", &greedy(6));
    wandering.rewind(1);
    let found = answer(&mut wandering, "Why?", &greedy(6));
    assert_eq!(found.ids, expected.ids);
    assert!(
        found.usage.reused > 0,
        "the first turn is not read once more"
    );
    wandering.rewind(9);
    assert_eq!(
        wandering.context_usage().unwrap(),
        straight.context_usage().unwrap()
    );
    wandering.rewind(0);
    assert_eq!(wandering.context_usage().unwrap().used, 0);
}

/// The files right in a folder of fixtures.
fn files(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let files = files_in(&fixtures().join(folder), "");
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), std::fs::read(path).unwrap()))
        .collect()
}

/// A small Chat-UniVi, converted in memory.
fn model_with_vision<B: Backend>(backend: &B) -> Rc<ChatUniVi<B>> {
    let (model, tower) = (
        files("golden/e2e/checkpoint"),
        files("golden/e2e/openai/clip-vit-tiny-random-patch14"),
    );
    let (model, tower) = (
        Checkpoint::open(&model).unwrap(),
        Checkpoint::open(&tower).unwrap(),
    );
    let sides = [model.llm().unwrap(), model.vision(Some(&tower)).unwrap()];
    let names = ["llm.gguf", "vision.gguf"].map(ModelFile::set).concat();
    let mut loader = Loader::new(backend.clone(), names).unwrap();
    for side in sides {
        loader
            .push(&side.to_gguf(QuantizationPlan::F16).unwrap())
            .unwrap();
        loader.end_file().unwrap();
    }
    Rc::new(block_on(loader.finish(&LoadOptions::default())).unwrap())
}

fn visuals_stand_where_their_turn_put_them<B: Backend>(backend: B) {
    let model = model_with_vision(&backend);
    let picture = |name: &str| {
        let path = fixtures().join("golden/e2e").join(name);
        Rgb8::decode(&std::fs::read(path).unwrap())
    };
    let vision = model.vision().unwrap();
    let image = block_on(vision.image(&picture("image.png").unwrap())).unwrap();
    let clip =
        block_on(vision.video((0..5).map(|i| picture(&format!("video/frame_00{i}.png"))))).unwrap();
    assert_eq!((image.tokens(), image.kind()), (112, VisualKind::Image));
    assert_eq!(
        (clip.tokens(), clip.kind(), clip.event_frames()),
        (112, VisualKind::Video, &[vec![0, 1, 2, 3, 4]][..])
    );

    let turns = || {
        let text = |text: &str| EnginePart::Text(text.into());
        [
            vec![
                EnginePart::Visual(image.clone()),
                text("Describe the image."),
            ],
            vec![text("And now?")],
            vec![
                text("Compare it with this clip:"),
                EnginePart::Visual(clip.clone()),
                text("Well?"),
            ],
        ]
    };
    let say = |session: &mut EngineSession<B>, parts| {
        block_on(session.answer(parts, &greedy(6), &mut async |_: &str| {
            ControlFlow::Continue(())
        }))
        .unwrap()
    };
    let mut kept = session(&model);
    let answers = turns().map(|parts| say(&mut kept, parts));
    assert_eq!(
        answers.each_ref().map(|answer| answer.usage.visual),
        [112, 112, 224]
    );
    // A further question reads neither the image nor what was said about it again.
    assert!(
        answers[1].usage.reused >= answers[0].usage.prompt - 1,
        "{:?}",
        answers[1].usage
    );
    assert!(
        answers[2].usage.reused >= answers[1].usage.prompt - 1,
        "{:?}",
        answers[2].usage
    );

    // Without anything kept, the same is said.
    let mut anew = session(&model);
    for (parts, expected) in turns().into_iter().zip(&answers) {
        // Something else in between: all but the beginning of the template is gone.
        generate(&mut anew, &[1, 9, 9], &greedy(0)).unwrap();
        let found = say(&mut anew, parts);
        assert_eq!(
            (&found.ids, found.usage.prompt),
            (&expected.ids, expected.usage.prompt)
        );
        assert!(found.usage.reused <= 1);
    }
    let frames: [univi::Result<Rgb8>; 0] = [];
    assert_eq!(
        block_on(vision.video(frames)).err().map(|e| e.code()),
        Some("bad-video")
    );
}

fn picture(name: &str) -> Rgb8 {
    let path = fixtures().join("golden/e2e").join(name);
    Rgb8::decode(&std::fs::read(path).unwrap()).unwrap()
}

fn what_is_appended_is_read_ahead<B: Backend>(backend: B) {
    let model = model_with_vision(&backend);
    let image = block_on(model.vision().unwrap().image(&picture("image.png"))).unwrap();
    let look = || EnginePart::Visual(image.clone());
    let ask = || EnginePart::Text("Describe the image.".into());
    let mut on_piece = async |_: &str| ControlFlow::Continue(());
    let mut on_chunk = async || ControlFlow::Continue(());

    let mut plain = session(&model);
    let expected = block_on(plain.answer(vec![look(), ask()], &greedy(6), &mut on_piece)).unwrap();
    let mut ahead = session(&model);
    assert!(block_on(ahead.append(vec![look()], &mut on_chunk)).unwrap());
    let used = ahead.context_usage().unwrap().used;
    assert!(used > 112 && used < expected.usage.prompt, "{used}");
    let found = block_on(ahead.answer(vec![ask()], &greedy(6), &mut on_piece)).unwrap();
    assert_eq!(
        (&found.ids, found.usage.prompt),
        (&expected.ids, expected.usage.prompt)
    );
    // All up to the picture had been read.
    assert!(found.usage.reused >= 112, "{:?}", found.usage);

    // Broken off in the middle, it was never said.
    let mut broken = session(&model);
    let mut leave = async || ControlFlow::Break(());
    let long = || {
        let words = EnginePart::Text("more ".repeat(CHUNK_ROWS));
        vec![words, look()]
    };
    assert!(!block_on(broken.append(long(), &mut leave)).unwrap());
    assert_eq!(broken.context_usage().unwrap().used, 0);
    assert!(block_on(broken.append(vec![look()], &mut on_chunk)).unwrap());
    let found = block_on(broken.answer(vec![ask()], &greedy(6), &mut on_piece)).unwrap();
    assert_eq!(found.ids, expected.ids);
}

fn frames_that_were_seen_one_by_one_are_a_clip<B: Backend>(backend: B) {
    let model = model_with_vision(&backend);
    let vision = model.vision().unwrap();
    let frames: Vec<Rgb8> = (0..5)
        .map(|i| picture(&format!("video/frame_00{i}.png")))
        .collect();
    let glimpses: Vec<_> = frames
        .iter()
        .map(|frame| block_on(vision.encode_frame(frame)).unwrap())
        .collect();
    for range in [0..5, 1..4, 4..5] {
        let at_once =
            block_on(vision.video(frames[range.clone()].iter().cloned().map(Ok))).unwrap();
        let recalled = block_on(vision.merge_frames(&glimpses[range])).unwrap();
        assert_eq!(recalled.event_frames(), at_once.event_frames());
        assert_eq!(
            block_on(recalled.events()).unwrap(),
            block_on(at_once.events()).unwrap()
        );
        let [found, expected] =
            [&recalled, &at_once].map(|seen| block_on(backend.read(seen.embeds())).unwrap());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < HIDDEN_TOLERANCE,
                "{found}, expected {expected}"
            );
        }
    }
    let nothing = block_on(vision.merge_frames(&[]))
        .err()
        .map(|error| error.code());
    assert_eq!(nothing, Some("bad-video"));
}

fn a_picture_becomes_as_many_tokens_as_it_may<B: Backend>(backend: B) {
    let model = model_with_vision(&backend);
    let vision = model.vision().unwrap();
    let image = picture("image.png");
    let own = block_on(vision.image(&image)).unwrap().tokens();
    for tokens in [3, 28, own, 2 * own] {
        let seen = block_on(
            vision
                .merging_to(Some(tokens), MergeMethod::AsTrained)
                .unwrap()
                .image(&image),
        )
        .unwrap();
        assert!(
            seen.tokens().abs_diff(tokens) <= 1,
            "{} tokens, asked for {tokens}",
            seen.tokens()
        );
        let stages = &block_on(seen.events()).unwrap()[0].stages;
        let counts: Vec<usize> = stages.iter().map(|stage| stage.sizes.len()).collect();
        assert!(
            counts.is_sorted_by(|a, b| a >= b),
            "{counts:?}: each stage merges"
        );
    }
    let patches = vision.config().clip.patches();
    let tokens = |tokens, method| {
        let other = vision.merging_to(tokens, method).unwrap();
        let seen = block_on(other.image(&image)).unwrap();
        assert_eq!(seen.tokens(), other.image_tokens());
        seen.tokens()
    };
    assert_eq!(tokens(None, MergeMethod::None), patches);
    assert_eq!(tokens(Some(patches), MergeMethod::Pool), patches);
    assert_eq!(tokens(Some(1), MergeMethod::Pool), 1);
    let pooled = tokens(Some(patches / 2), MergeMethod::Pool);
    assert!((2..=patches / 2).contains(&pooled), "{pooled}");
    let frame = picture("video/frame_000.png");
    let coarse = vision.merging_to(Some(14), MergeMethod::AsTrained).unwrap();
    let glimpses = [
        block_on(coarse.encode_frame(&frame)).unwrap(),
        block_on(vision.encode_frame(&frame)).unwrap(),
    ];
    assert_eq!(
        block_on(coarse.merge_frames(&glimpses[..1]))
            .unwrap()
            .tokens(),
        14
    );
    for refused in [
        vision.merging_to(Some(2), MergeMethod::AsTrained).err(),
        vision.merging_to(Some(7), MergeMethod::None).err(),
        vision.merging_to(Some(0), MergeMethod::Pool).err(),
        vision
            .merging_to(Some(patches + 1), MergeMethod::Pool)
            .err(),
        vision
            .merging_to(Some(100_000), MergeMethod::AsTrained)
            .err(),
        block_on(vision.merge_frames(&glimpses)).err(),
    ] {
        assert_eq!(refused.map(|error| error.code()), Some("bad-request"));
    }
}

fn a_blind_model_says_so<B: Backend>(backend: B) {
    let model = model(&backend, 100);
    assert!(!model.has_vision());
    assert_eq!(
        model.vision().err().map(|error| error.code()),
        Some("bad-request")
    );
}

fn chunks_change_nothing<B: Backend>(b: B) {
    let model = model(&b, 700);
    let llama = model.llama();
    let x = llama.embed(&b.ids(&ids(2 * CHUNK_ROWS + 100, 8)));
    let [t, _] = b.shape(&x);
    let caches = || {
        let mut caches = llama.caches();
        block_on(llama.reserve(&mut caches, t)).unwrap();
        caches
    };
    let whole = llama.forward(&x, &mut caches(), 0);
    let whole = block_on(b.read(&b.slice(&whole, t - 1..t))).unwrap();
    let chunked = llama.prefill(&x, &mut caches(), 0);
    let chunked = block_on(b.read(&chunked)).unwrap();
    for (chunked, whole) in chunked.iter().zip(&whole) {
        assert!(
            (chunked - whole).abs() < HIDDEN_TOLERANCE,
            "{chunked}, expected {whole}"
        );
    }
}

/// Conversations in a cache of bytes go on, are kept and are forked like others.
fn bytes_are_kept_like_numbers<B: Backend>(backend: B) {
    let model = model_with(&backend, 700, KvType::Q8);
    let (mut kept, mut fresh) = (session(&model), session(&model));
    let first = ids(250, 1);
    let said = generate(&mut kept, &first, &greedy(12)).unwrap();
    let longer = [&first[..], &said.ids, &ids(300, 2)].concat();
    let mut fork = block_on(kept.fork()).unwrap();
    for session in [&mut kept, &mut fork] {
        let again = generate(session, &longer, &greedy(12)).unwrap();
        assert_eq!(again.usage.reused, 250 + said.ids.len() - 1);
        let expected = generate(&mut fresh, &longer, &greedy(12)).unwrap();
        assert_eq!(again.ids, expected.ids);
    }
}

/// Logits of the last of `t` ids.
fn last_logits<B: Backend>(b: &B, kv_cache: KvType, t: usize) -> Vec<f32> {
    let model = model_with(b, t + 1, kv_cache);
    block_on(session(&model).logits(&prompt_tokens(&ids(t, 9)))).unwrap()
}

#[test]
fn logits_hardly_know_how_keys_and_values_are_kept() {
    let (cpu, gpu) = (Cpu, block_on(Gpu::new(GpuOptions::default())).unwrap());
    let t = 600;
    let (exact, rounded) = (
        last_logits(&cpu, KvType::F32, t),
        last_logits(&cpu, KvType::Q8, t),
    );
    let rounded_on_gpu = last_logits(&gpu, KvType::Q8, t);
    let size = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let apart = |a: &[f32], b: &[f32]| {
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        size(&difference) / size(a)
    };
    let (by_rounding, by_device) = (apart(&exact, &rounded), apart(&rounded, &rounded_on_gpu));
    assert!((1e-6..Q8_LOGITS).contains(&by_rounding), "{by_rounding}");
    assert!(by_device < DEVICE_LOGITS, "{by_device}");
}

#[test]
fn a_conversation_that_can_not_grow_stays_usable() {
    let on_gpu = |memory_bytes| {
        let options = GpuOptions::default().memory_bytes(memory_bytes);
        let model = model(&block_on(Gpu::new(options)).unwrap(), 1000);
        let mut session = session(&model);
        let said = generate(&mut session, &ids(200, 1), &greedy(20)).unwrap();
        (model, session, said)
    };
    let (model, _session, _) = on_gpu(None);
    let enough = model.backend().memory_bytes() + (1 << 16);
    let (model, mut session, said) = on_gpu(Some(enough));
    let code = |result: univi::Result<Answer>| result.unwrap_err().code();
    let prompt = ids(200, 1);
    let longer = [&prompt[..], &ids(700, 2)].concat();
    for _ in 0..2 {
        // In a prompt, and in the middle of an answer.
        let error = generate(&mut session, &longer, &greedy(20)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the KV cache of a conversation of 900 tokens"),
            "{error}"
        );
        assert_eq!(code(Err(error)), "out-of-memory");
        assert_eq!(
            code(generate(&mut session, &prompt, &greedy(400))),
            "out-of-memory"
        );
        let again = generate(&mut session, &prompt, &greedy(20)).unwrap();
        assert_eq!((again.ids, again.usage.reused), (said.ids.clone(), 199));
    }
    // A copy has no room either, until the other is gone.
    assert_eq!(
        block_on(session.fork()).err().map(|e| e.code()),
        Some("out-of-memory")
    );
    drop(session);
    let mut other = EngineSession::new(model.clone(), SessionOptions::default());
    assert_eq!(
        generate(&mut other, &prompt, &greedy(20)).unwrap().ids,
        said.ids
    );
}

on_every_backend! {
    keeps_what_prompts_share,
    reports_what_logits_say,
    bytes_are_kept_like_numbers,
    survives_what_goes_wrong,
    ends_where_it_should,
    turns_follow_each_other,
    forks_go_their_own_ways,
    oldest_turns_make_room,
    conversations_may_begin_with_a_past,
    conversations_can_be_taken_back,
    a_picture_becomes_as_many_tokens_as_it_may,
    visuals_stand_where_their_turn_put_them,
    what_is_appended_is_read_ahead,
    frames_that_were_seen_one_by_one_are_a_clip,
    a_blind_model_says_so,
    seeds_decide,
    devices_choose_what_the_host_chooses,
    chunks_change_nothing,
    answers_are_what_they_are_alone,
    answers_come_and_go,
    prompts_join_one_after_the_other,
}
