//! What is read of published data, and what is skipped.

use serde_json::json;

use super::*;

/// Also where steps are asked for backwards, and across epochs, as threads do.
#[test]
fn every_epoch_has_every_sample_once_and_a_number_is_always_the_same() {
    let samples = (0..10).map(|i| Sample {
        id: i.to_string(),
        media: Vec::new(),
        turns: Vec::new(),
    });
    let dataset = Dataset {
        samples: samples.collect(),
        skipped: Skipped::new(0),
        media: (),
        template: Template::Bare,
        wraps_visuals: false,
        batch: 4,
        seed: 3,
        order: Order::default(),
    };
    let name = |i: usize| {
        dataset.samples[dataset.index(i as u64 / 4, i % 4)]
            .id
            .clone()
    };
    let there: Vec<String> = (0..40).map(name).collect();
    let mut back: Vec<String> = (0..40).rev().map(name).collect();
    back.reverse();
    assert_eq!(there, back);
    for epoch in there.chunks(10) {
        let mut names = epoch.to_vec();
        names.sort();
        assert_eq!(names, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    }
    assert_ne!(there[..10], there[10..20]);
}

/// The only sample of a file, or why it is skipped.
fn one(sample: Value) -> Result<Sample, String> {
    let skipped = Skipped::new(1);
    let json = serde_json::to_vec(&json!([sample])).unwrap();
    let samples = read(&json, &skipped).unwrap();
    let reason = skipped.reasons().into_iter().next();
    samples.into_iter().next().ok_or_else(|| {
        let (id, reason) = reason.unwrap();
        format!("{id}: {reason}")
    })
}

fn says(messages: &[(&str, &str)]) -> Value {
    let message = |(from, value): &(&str, &str)| json!({ "from": from, "value": value });
    messages.iter().map(message).collect()
}

/// The prompt of a sample in Vicuna's words, without what comes before the first question.
fn prompt(sample: &Sample) -> String {
    let visual = |medium: &Medium| match medium {
        Medium::Image(_) => PromptVisual::Image,
        Medium::Video(_) => PromptVisual::Video { frames: 3 },
    };
    let visuals: Vec<PromptVisual> = sample.media.iter().map(visual).collect();
    let conversation = sample.conversation(&visuals, &Template::V1, false);
    let text = conversation.prompt().unwrap().text();
    text[text.find("USER: ").unwrap()..].to_string()
}

fn image(name: &str) -> Medium {
    Medium::Image(name.into())
}

fn video(name: &str) -> Medium {
    Medium::Video(name.into())
}

/// Expected texts are those that the reference's preprocess_multimodal makes.
#[test]
fn questions_about_media_are_joined_as_the_reference_joins_them() {
    let cases = [
        ("<image>\nWhat is it?", "USER: <image>\nWhat is it? "),
        // Moved from the end to the front.
        ("What is it?\n<image>", "USER: <image>\nWhat is it? "),
        ("What is it? <image>", "USER: <image>\nWhat is it? "),
        // Left where it is in the middle.
        ("In <image> what is it?", "USER: In <image>\n what is it? "),
        (
            "<image>\n\nFirst.\n\nThen?",
            "USER: <image>\nFirst.\nThen? ",
        ),
        ("<image>", "USER: <image>\n "),
    ];
    for (question, expected) in cases {
        let sample = one(json!({
            "image": "a.png", "conversations": says(&[("human", question), ("gpt", "A dog.")]),
        }));
        let sample = sample.unwrap();
        assert_eq!(sample.media, [image("a.png")]);
        assert_eq!(
            prompt(&sample),
            format!("{expected}ASSISTANT: A dog.</s>"),
            "{question:?}"
        );
    }
    for question in [
        "<video>\nWhat happens?",
        "What happens?\n<video>",
        "<image>\nWhat happens?",
    ] {
        let sample = one(json!({
            "video": "v.mp4", "conversations": says(&[("human", question), ("gpt", "It\n\nrains.")]),
        }));
        let sample = sample.unwrap();
        assert_eq!(sample.media, [video("v.mp4")]);
        assert_eq!(
            prompt(&sample),
            "USER: <image><image><image>\nWhat happens? ASSISTANT: It\nrains.</s>",
            "{question:?}"
        );
    }
}

#[test]
fn several_media_stand_where_their_markers_do() {
    let sample = one(json!({
        "image": ["a\\1.png", "b.png"],
        "video": "v.mp4",
        "conversations": says(&[
            ("human", "<image>\n<image>\nCompare."), ("gpt", "Alike."),
            ("human", "And <video> now?"), ("gpt", "It moves."),
        ]),
    }));
    let sample = sample.unwrap();
    assert_eq!(
        sample.media,
        [image("a/1.png"), image("b.png"), video("v.mp4")]
    );
    assert_eq!(
        prompt(&sample),
        "USER: <image>\n<image>\nCompare. ASSISTANT: Alike.</s>\
         USER: And <image><image><image>\n now? ASSISTANT: It moves.</s>"
    );
}

#[test]
fn what_is_said_first_by_gpt_and_last_by_a_human_is_not_learned() {
    let sample = one(json!({ "conversations": says(&[
        ("gpt", "Hello."), ("human", "Hi"), ("gpt", "Yes?"), ("human", "Bye"),
    ]) }));
    assert_eq!(prompt(&sample.unwrap()), "USER: Hi ASSISTANT: Yes?</s>");
    // In samples without media, markers and empty lines are words.
    let sample = one(json!({ "conversations": says(&[
        ("user", "What does <image>\n\nmean in HTML?"), ("assistant", "A\n\ntag."),
    ]) }));
    let sample = sample.unwrap();
    assert_eq!(sample.media, []);
    let question = Content::Text("What does <image>\n\nmean in HTML?".into());
    assert_eq!(sample.turns[0].question, [question]);
    assert_eq!(sample.turns[0].answer, "A\n\ntag.");
}

#[test]
fn other_layouts_are_read() {
    let sample = one(json!({ "q": "What happens?", "a": "It rains.", "video_id": "v_1" }));
    let sample = sample.unwrap();
    assert_eq!(sample.media, [video("v_1")]);
    assert_eq!(
        prompt(&sample),
        "USER: <image><image><image>\nWhat happens? ASSISTANT: It rains.</s>"
    );
    // JSON lines, with a byte order mark.
    let line = |id: u32| {
        let sample =
            json!({ "id": id, "conversations": says(&[("human", "Hi"), ("gpt", "Yes?")]) });
        format!("{sample}\n")
    };
    let lines = format!("\u{feff}{}\n{}", line(7), line(8));
    let samples = read(lines.as_bytes(), &Skipped::new(0)).unwrap();
    let ids: Vec<&str> = samples.iter().map(|sample| &*sample.id).collect();
    assert_eq!(ids, ["7", "8"]);
}

#[test]
fn what_can_t_be_learned_from_is_named_and_counted() {
    let talk = says(&[("human", "<image>\nWhat?"), ("gpt", "A dog.")]);
    let reasons = [
        (json!({ "id": "x" }), "x: has no conversation"),
        (
            json!({ "id": 3, "conversations": [] }),
            "3: has no conversation",
        ),
        (
            json!({ "image": ["a", "b"], "conversations": talk }),
            "has 1 <image>",
        ),
        (
            json!({ "image": 7, "conversations": talk }),
            "image is no path",
        ),
        (
            json!({ "conversations": says(&[("human", "Hi"), ("gpt", " ")]) }),
            "an answer is empty",
        ),
        (
            json!({ "conversations": says(&[("human", "Hi")]) }),
            "no answer to learn from",
        ),
        (
            json!({ "conversations": says(&[("gpt", "Hi")]) }),
            "no answer to learn from",
        ),
        (
            json!({ "conversations": says(&[("human", "Hi"), ("human", "Hi"), ("gpt", "Yes?")]) }),
            "twice in a row",
        ),
        (
            json!({ "conversations": says(&[("system", "Be kind.")]) }),
            "from \"system\"",
        ),
        (
            json!({ "conversations": [{ "from": "human", "value": null }] }),
            "no text",
        ),
        (json!(7), "number 0: is no object"),
        (
            json!({ "video_id": "v", "q": "What?" }),
            "has a video_id and no \"a\"",
        ),
    ];
    for (sample, reason) in reasons {
        let found = one(sample).unwrap_err();
        assert!(found.contains(reason), "{found} does not say {reason}");
    }
    let skipped = Skipped::new(1);
    let json = br#"[{"id": "a"}, {"id": "a"}, {"id": "b"}]"#;
    let error = read(json, &skipped).unwrap_err().to_string();
    assert!(
        error.contains("2 samples can't be learned from, at most 1"),
        "{error}"
    );
    for json in [&b"[]"[..], b"", b"[{}", b"{\"id\": 1}\n{\"id\"", b"[7"] {
        assert_eq!(read(json, &Skipped::new(9)).unwrap_err().code(), "bad-file");
    }
}
