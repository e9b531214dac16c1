//! Conversations written down, and where answers end.

use univi::{
    gguf::Metadata,
    prompt::{
        ChatTemplate, Conversation, Prompt, PromptPart, PromptVisual, Segment, Slot, StopBuffer,
        Template, Turn,
    },
    tokenizer::Tokenizer,
};
use univi_tests::{assert_report, folder_with_vocabulary};

#[test]
fn prompts_match_the_reference() {
    assert_report(&univi_verify::prompt::check(&folder_with_vocabulary()), 25);
}

fn text(text: &str) -> PromptPart {
    PromptPart::Text(text.into())
}

fn conversation(template: Template, turns: Vec<Turn>) -> Conversation {
    Conversation {
        template,
        system: Some("S".into()),
        wraps_visuals: false,
        turns,
    }
}

fn asks(parts: Vec<PromptPart>) -> Turn {
    Turn {
        parts,
        answer: None,
    }
}

#[test]
fn a_marker_that_a_user_types_is_text() {
    let turn = asks(vec![
        PromptPart::Visual(PromptVisual::Image),
        text("What is <image>?"),
    ]);
    let prompt = conversation(Template::V1, vec![turn]).prompt().unwrap();
    assert_eq!(prompt.visuals, [PromptVisual::Image]);
    assert_eq!(
        prompt.segments,
        [
            Segment::Text("S USER: ".into()),
            Segment::Visual(0),
            Segment::Text("\nWhat is <image>? ASSISTANT:".into()),
        ]
    );
}

#[test]
fn a_clip_of_two_frames_is_a_clip_and_only_a_raw_prompt_can_mistake_it() {
    let clip = PromptVisual::Video { frames: 2 };
    let turn = asks(vec![PromptPart::Visual(clip), text("What?")]);
    let prompt = conversation(Template::V1, vec![turn]).prompt().unwrap();
    assert_eq!(prompt.visuals, [clip]);
    assert_eq!(
        Prompt::parse(&prompt.text()).visuals,
        [PromptVisual::Image; 2]
    );
    let three = Prompt::parse("<image><image><image>");
    assert_eq!(three.visuals, [PromptVisual::Video { frames: 3 }]);
    assert_eq!(Prompt::parse("").segments, []);
}

#[test]
fn visuals_stand_where_their_turns_put_them() {
    let turns = vec![
        Turn {
            parts: vec![PromptPart::Visual(PromptVisual::Image), text("One?")],
            answer: Some("A cat.".into()),
        },
        asks(vec![
            text("And "),
            PromptPart::Visual(PromptVisual::Image),
            PromptPart::Visual(PromptVisual::Video { frames: 4 }),
        ]),
    ];
    let mut conversation = conversation(Template::Simple, turns);
    conversation.wraps_visuals = true;
    let prompt = conversation.prompt().unwrap();
    assert_eq!(
        prompt.text(),
        "S###Human: Hi!###Assistant: Hi there! How can I help you today?###\
         Human: <im_start><image><im_end>\nOne?###Assistant: A cat.###\
         Human: And <im_start><image><im_end>\n\
         <im_start><image><image><image><image><im_end>\n###Assistant:"
    );
}

#[test]
fn a_turn_without_parts_is_a_greeting_of_the_model() {
    let turns = || {
        let greeting = Turn {
            parts: vec![],
            answer: Some("Hello!".into()),
        };
        vec![greeting, asks(vec![text("Hi.")])]
    };
    let written = conversation(Template::V1, turns()).prompt().unwrap();
    assert_eq!(
        written.text(),
        "S ASSISTANT: Hello!</s>USER: Hi. ASSISTANT:"
    );
    let source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    let rendered = conversation(jinja(source).unwrap(), turns()).prompt();
    assert_eq!(
        rendered.unwrap().text(),
        "[system]S[assistant]Hello![user]Hi."
    );
}

/// Letters and spaces as bytes.
fn tokenizer() -> Tokenizer {
    let mut texts = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
    texts.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let kinds = (0..texts.len()).map(|id| match id {
        0 => 2,
        1 | 2 => 3,
        _ => 6,
    });
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.scores", vec![0.0f32; texts.len()]);
    metadata.insert("tokenizer.ggml.token_type", kinds.collect::<Vec<i32>>());
    metadata.insert("tokenizer.ggml.tokens", texts);
    metadata.insert("tokenizer.ggml.add_space_prefix", false);
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    Tokenizer::from_gguf(&metadata).unwrap()
}

#[test]
fn a_begin_token_stands_in_front_once() {
    let tokenizer = tokenizer();
    let tokens = |bos: bool, text: &str| {
        let bytes = text.bytes().map(|b| u32::from(b) + 3);
        Slot::Tokens(bos.then_some(1).into_iter().chain(bytes).collect())
    };
    let slots = |raw: &str| Prompt::parse(raw).encode(&tokenizer).unwrap();
    assert_eq!(
        slots("a<image>b"),
        [tokens(true, "a"), Slot::Visual(0), tokens(false, "b")]
    );
    assert_eq!(slots("<s>a"), [tokens(true, "a")]);
    assert_eq!(slots("<image>"), [tokens(true, ""), Slot::Visual(0)]);
    assert_eq!(slots(""), [tokens(true, "")]);
}

fn jinja(source: &str) -> univi::Result<Template> {
    ChatTemplate::new(source, &tokenizer()).map(Template::Jinja)
}

#[test]
fn a_models_own_template_sees_text_and_gets_its_visuals_back() {
    // Python's jinja2 makes the text below of this, with transformers' settings.
    let source = "{{ bos_token }}\n{% for m in messages %}\n  {% if m['role'] == 'system' %}\n\
        [{{ m.content.strip().upper() }}]\n  {% else %}\n<{{ m.role }}>{{ m['content'] }}\n  \
        {% endif %}\n{% endfor %}\n{%- if add_generation_prompt %}<assistant>{% endif %}\n";
    let template = jinja(source).unwrap();
    let turns = vec![
        Turn {
            parts: vec![
                PromptPart::Visual(PromptVisual::Image),
                text("a \u{10fffd} b"),
            ],
            answer: Some("c".into()),
        },
        asks(vec![
            text("d"),
            PromptPart::Visual(PromptVisual::Video { frames: 9 }),
        ]),
    ];
    let prompt = conversation(template, turns).prompt().unwrap();
    assert_eq!(
        prompt.visuals,
        [PromptVisual::Image, PromptVisual::Video { frames: 9 }]
    );
    let expected = Prompt::parse(
        "<s>\n[S]\n<user><image>\na \u{10fffd} b\n<assistant>c\n<user>d\
         <image><image><image><image><image><image><image><image><image>\n\n<assistant>",
    );
    assert_eq!(prompt.text(), expected.text());
    assert_eq!(prompt, expected);
}

#[test]
fn a_template_that_cannot_be_used_is_refused_with_the_reason() {
    assert!(
        jinja("{% for %}")
            .unwrap_err()
            .to_string()
            .contains("chat template")
    );
    let turns = || {
        vec![asks(vec![
            PromptPart::Visual(PromptVisual::Image),
            text("q"),
        ])]
    };
    let refuse = |source: &str| {
        let error = conversation(jinja(source).unwrap(), turns())
            .prompt()
            .unwrap_err();
        assert_eq!(error.code(), "bad-tokenizer");
        error.to_string()
    };
    assert!(refuse("{{ raise_exception('only one turn, please') }}").contains("only one turn"));
    assert!(refuse("{{ messages[0].content.no_such_method() }}").contains("no_such_method"));
    assert!(refuse("nothing").contains("leaves out"));
    let twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}";
    assert!(refuse(twice).contains("repeats"));
    // It would run for years.
    let nested = "{% for a in range(99999) %}".repeat(3) + "x" + &"{% endfor %}".repeat(3);
    assert!(refuse(&nested).contains("fuel"), "{}", refuse(&nested));
}

#[test]
fn templates_are_found_by_name_or_in_the_metadata() {
    assert_eq!(Template::from_name("default").unwrap(), Template::Simple);
    assert_eq!(
        Template::from_name("phi").unwrap_err().code(),
        "bad-request"
    );
    let tokenizer = tokenizer();
    let of = |key: &str, value: &str| {
        let mut metadata = Metadata::new();
        metadata.insert(key, value);
        Template::from_metadata(&metadata, &tokenizer)
    };
    assert_eq!(of("univi.template", "v1").unwrap(), Some(Template::V1));
    assert_eq!(
        of("univi.template", "v9").unwrap_err().code(),
        "bad-metadata"
    );
    assert!(matches!(
        of("tokenizer.chat_template", "x").unwrap(),
        Some(Template::Jinja(_))
    ));
    assert_eq!(of("other", "x").unwrap(), None);
}

/// What comes out of an answer piece by piece, and what is left at the end.
fn streamed(stops: &[&str], segments: &[&str]) -> (Vec<String>, String, bool) {
    let mut answer = StopBuffer::new(stops.iter().copied());
    let given: Vec<String> = segments
        .iter()
        .map(|p| answer.push(p).to_string())
        .collect();
    let rest = answer.finish().to_string();
    assert_eq!(given.concat() + &rest, answer.text());
    (given, rest, answer.stopped())
}

#[test]
fn an_answer_ends_at_the_stop_text_however_it_arrives() {
    let (given, rest, stopped) = streamed(&["###"], &[" A", " dog.", " #", "#", "#Human", ": x"]);
    assert_eq!(given, ["A", " dog.", "", "", "", ""]);
    assert!(rest.is_empty() && stopped);

    // What only looked like it comes as soon as that is certain; white space waits for text.
    let (given, rest, stopped) = streamed(&["###"], &["a #", "# ", "b", " \n", "c##"]);
    assert_eq!(given, ["a", " ##", " b", "", " \nc"]);
    assert_eq!((rest.as_str(), stopped), ("##", false));

    // The longest possible beginning is held back, not the first one.
    let (given, ..) = streamed(&["aab"], &["aa", "a", "b"]);
    assert_eq!(given, ["", "a", ""]);
    // The earliest of several ends it; none is no reason to hold anything back.
    let (given, _, stopped) = streamed(&["</s>", "USER:"], &["x USER: y</s>"]);
    assert_eq!((given[0].as_str(), stopped), ("x", true));
    let (given, rest, stopped) = streamed(&[], &["#", "é"]);
    assert_eq!((given.concat() + &rest, stopped), ("#é".to_string(), false));
    // White space alone is no answer.
    assert_eq!(streamed(&["###"], &[" ", "\n"]).1, "");
}

#[test]
fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    let whole = "  one ## two # three \n\n é###four###";
    for width in 1..9 {
        let characters: Vec<char> = whole.chars().collect();
        let segments: Vec<String> = characters
            .chunks(width)
            .map(|c| c.iter().collect())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (given, rest, stopped) = streamed(&["###"], &segments);
        assert_eq!(given.concat() + &rest, "one ## two # three \n\n é");
        assert!(stopped);
    }
}
