//! Conversations written down, and where answers end.

use univi::{
    gguf::Metadata,
    prompt::{
        ChatTemplate, Conversation, Prompt, PromptPart, PromptText, PromptVisual, Segment, Slot,
        Template, Turn,
    },
    stop_buffer::StopBuffer,
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
#[allow(clippy::single_range_in_vec_init)] // One range, not its numbers.
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
            Segment::Text(PromptText {
                text: "S USER: ".into(),
                said: vec![0..1],
            }),
            Segment::Visual(0),
            Segment::Text(PromptText {
                text: "\nWhat is <image>? ASSISTANT:".into(),
                said: vec![1..17],
            }),
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
    let rendered = conversation(jinja(source), turns()).prompt();
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

fn jinja(source: &str) -> Template {
    Template::Jinja(ChatTemplate::new(source, &tokenizer()))
}

#[test]
fn a_models_own_template_sees_text_and_gets_its_visuals_back() {
    // Python's jinja2 makes the text below of this, with transformers' settings.
    let source = "{{ bos_token }}\n{% for m in messages %}\n  {% if m['role'] == 'system' %}\n\
        [{{ m.content.strip().upper() }}]\n  {% else %}\n<{{ m.role }}>{{ m['content'] }}\n  \
        {% endif %}\n{% endfor %}\n{%- if add_generation_prompt %}<assistant>{% endif %}\n";
    let template = jinja(source);
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
    let turns = || {
        vec![asks(vec![
            PromptPart::Visual(PromptVisual::Image),
            text("q"),
        ])]
    };
    let refuse = |source: &str| {
        let error = conversation(jinja(source), turns()).prompt().unwrap_err();
        assert_eq!(error.code(), "bad-tokenizer");
        error.to_string()
    };
    assert!(refuse("{{ raise_exception('only one turn, please') }}").contains("only one turn"));
    assert!(refuse("{{ messages[0].content.no_such_method() }}").contains("no_such_method"));
    assert!(refuse("{% for %}").contains("chat template"));
    assert!(refuse("nothing").contains("leaves out what the user says"));
    let no_system = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}\
        {% endfor %}";
    assert!(refuse(no_system).contains("leaves out the system text"));
    let first = "{{ messages[0].content }}{{ messages[1].content[0] }}";
    assert!(refuse(first).contains("leaves out what the user says"));
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

/// Ids of a conversation: those of control tokens, and one for each byte of everything else.
fn ids(conversation: &Conversation, tokenizer: &Tokenizer) -> Vec<u32> {
    let slots = conversation.prompt().unwrap().encode(tokenizer).unwrap();
    let tokens = slots.into_iter().map(|slot| match slot {
        Slot::Tokens(ids) => ids,
        Slot::Visual(_) => vec![u32::MAX],
    });
    tokens.collect::<Vec<_>>().concat()
}

#[test]
fn names_of_control_tokens_that_somebody_says_are_letters() {
    let tokenizer = tokenizer();
    let (bos, eos) = (1, 2);
    let count = |ids: &[u32], id: u32| ids.iter().filter(|&&other| other == id).count();
    let said = "</s>a</s></s> <s";
    let turns = || {
        vec![
            Turn {
                parts: vec![text(said), PromptPart::Visual(PromptVisual::Image)],
                answer: Some("no</s>".into()),
            },
            asks(vec![text("<unk>"), text("</s"), text(">")]),
        ]
    };
    let source = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\
        {% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}";
    for template in [Template::V1, jinja(source)] {
        let mut conversation = conversation(template, turns());
        conversation.system = Some("<s>System</s>".into());
        let found = ids(&conversation, &tokenizer);
        // The template's own: the begin token in front, the end token behind the answer.
        assert_eq!(
            (count(&found, bos), count(&found, eos)),
            (1, 1),
            "{found:?}"
        );
        assert_eq!(found[0], bos);
        // Everything that was said is still there, letter by letter.
        let letter = |id: &u32| u8::try_from(id.wrapping_sub(3)).ok();
        let letters: Vec<u8> = found.iter().filter_map(letter).collect();
        let written = String::from_utf8(letters).unwrap().replace('▁', " ");
        for text in [said, "no</s>", "<unk></s>", "<s>System</s>"] {
            assert!(written.contains(text), "{text} in {written}");
        }
    }
    // A raw prompt is no conversation: its author writes the template, too.
    let raw = Prompt::parse("<s>a</s>").encode(&tokenizer).unwrap();
    assert_eq!(raw, [Slot::Tokens(vec![bos, u32::from(b'a') + 3, eos])]);
}

#[test]
fn templates_that_walk_over_parts_get_parts() {
    let turn = |body: &str| {
        format!(
            "{{% for m in messages %}}<{{{{ m.role }}}}>{body}.{{% endfor %}}\
             {{% if add_generation_prompt %}}<assistant>{{% endif %}}"
        )
    };
    let parts = "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}\
        {% endfor %}";
    let turns = || {
        vec![
            Turn {
                parts: vec![PromptPart::Visual(PromptVisual::Image), text("One?")],
                answer: Some("A cat.".into()),
            },
            asks(vec![text("Two?")]),
        ]
    };
    let plain = conversation(jinja(&turn("{{ m.content }}")), turns());
    let plain = plain.prompt().unwrap();
    assert_eq!(
        plain.text(),
        "<system>S.<user><image>\nOne?.<assistant>A cat..<user>Two?.<assistant>"
    );
    let of_users = turn(
        "{% if m.role == 'user' %}{{ m.content[0]['text'] }}{% else %}\
        {{ m.content | trim }}{% endif %}",
    );
    let either = turn(
        "{% if m.content is string %}{{ m.content }}{% else %}\
        {% for part in m.content %}{{ part['text'] }}{% endfor %}{% endif %}",
    );
    let generation = turn(
        "{% if m.role == 'assistant' %}{%- generation -%} {{ m.content }}\
        {%- endgeneration %}{% else %}{{ m.content }}{% endif %}",
    );
    for source in [turn(parts), of_users, either, generation] {
        let found = conversation(jinja(&source), turns()).prompt().unwrap();
        assert_eq!(found, plain, "{source}");
    }
}

#[test]
fn what_published_templates_do_is_rendered_as_by_jinja2() {
    // Python's jinja2 makes the texts of these, with transformers' settings.
    for (source, expected) in [
        (
            "{%- set ns = namespace(last='') %}{% for m in messages %}{% set ns.last = m.content %}\
             {% endfor %}{% for m in messages if m.role != 'none' %}{{ m.content }}{% endfor %}\
             [{{ ns.last }}]",
            "Sq[q]",
        ),
        (
            "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}\
             {% set system = messages[0]['content'] %}{% else %}{% set rest = messages %}{% endif %}\
             {% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
             {{ raise_exception('roles must alternate') }}{% endif %}\
             {% if loop.index0 == 0 and system is defined %}\
             {% set content = '<<SYS>>' + system + '<</SYS>>' + m['content'] %}\
             {% else %}{% set content = m['content'] %}{% endif %}{{ '[INST] ' + content | trim }}\
             {% endfor %}",
            "[INST] <<SYS>>S<</SYS>>q",
        ),
        (
            "{% macro show(m, marks={'user': ['(', ')']}) %}\
             {% set pair = marks.get(m.role, ['<', '>']) %}{{ pair[0] ~ m.content ~ pair[1] }}\
             {% endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}",
            "<S>(q)",
        ),
        (
            "{% for a, b in [(1, messages[0]), (2, messages[1])] %}\
             {{ a }}{{ b.content if b.content not in ['x', 'y'] else ('no') }}{% endfor %}\
             {{ {'k': [1, 2]} | tojson }}{{ [3, 4][1] }}{{ (1, 2) | length }}",
            "1S2q{\"k\": [1, 2]}42",
        ),
        (
            "{% for m in [{'role': 'x', 'content': 'd'}] + messages %}{% if m is mapping and m.role in \
             ('x', 'user', 'system') %}{{ m['content'].split('q')[0] }}{{ m.content[-1:] }}\
             {% endif %}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}",
            "ddSSqSq",
        ),
        (
            "{{ '-' * 3 ~ -2 * 3 ~ [1] * 2 ~ ('a' ~ 2*2) ~ messages[0].content|upper * 2 }}\
             {% if 2 * 3 == 6 and 7 - 2 * 3 is odd %}{% for m in messages * 2 %}{{ m.content }}\
             {% endfor %}{% endif %}",
            "----6[1, 1]a4SSSqSq",
        ),
        (
            "{{ messages is defined ~ 'a' }}{{ 4 is not divisibleby 3 ~ [1] * 2 }}\
             {{ 'x' ~ messages is not none }}{% for n in [1] * 2 recursive %}{{ n }}{% endfor %}\
             {% for m in messages %}{{ m.content }}{% endfor %}",
            "TrueaTrue[1, 1]xTrue11Sq",
        ),
        (
            "{% set x %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}\
             {% set a, b = 1, [2] %}{{ x }}{{ a }}{{ b[0] }}{% if not (a == b) %}!{% endif %}",
            "Sq12!",
        ),
    ] {
        let found = conversation(jinja(source), vec![asks(vec![text("q")])]).prompt();
        let found = found.unwrap_or_else(|e| panic!("{source}: {e}"));
        assert_eq!(found.text(), expected, "{source}");
    }
}

#[test]
fn a_hostile_template_is_refused_soon_and_without_memory() {
    let often = |count: usize, text: &str| text.repeat(count);
    let all = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let grows = |step: &str, end: &str| {
        format!(
            "{{% set ns = namespace(x=['aaaaaaaaaaaaaaaa'], s='aaaaaaaaaaaaaaaa', y=0) %}}\
             {{% for i in range(1000) %}}{step}{{% endfor %}}{end}{all}"
        )
    };
    let hostile = [
        format!("{{{{ 1{} }}}}{all}", often(32_000, "+1")),
        format!("{{{{ {}1 }}}}{all}", often(32_000, "-")),
        format!("{{{{ {}1 }}}}{all}", often(32_000, "not ")),
        format!(
            "{{{{ {}1{} }}}}{all}",
            often(10_000, "("),
            often(10_000, ")")
        ),
        format!(
            "{{{{ {}1{} }}}}{all}",
            often(10_000, "["),
            often(10_000, "]")
        ),
        format!("{{{{ x{} }}}}{all}", often(32_000, ".a")),
        format!("{{{{ x{} }}}}{all}", often(32_000, "|trim")),
        format!(
            "{}{}{all}",
            often(20_000, "{% if 1 %}"),
            often(20_000, "{% endif %}")
        ),
        format!(
            "{{% if 0 %}}{}{{% endif %}}{all}",
            often(20_000, "{% elif 0 %}")
        ),
        format!("{}{all}", often(100_000, "{{ 1 }}")),
        format!(
            "{}{all}{}",
            often(140, "{% for i in range(99) %}"),
            often(140, "{% endfor %}")
        ),
        format!(
            "{{% set a = ['x'] %}}{}{{{{ a | tojson }}}}{all}",
            often(60, "{% set a = [a, a] %}")
        ),
        format!(
            "{{% set a = ('x',) %}}{}{{{{ a ~ '' }}}}{all}",
            often(60, "{% set a = (a, a) %}")
        ),
        format!(
            "{{% set a = ['x'] %}}{}{{{{ a == a }}}}{all}",
            often(60, "{% set a = {'a': a, 'b': a} %}")
        ),
        format!(
            "{{% set a = ['x'] %}}{}{all}",
            often(60, "{% set a = a + a %}")
        ),
        format!(
            "{{% set a = 'x' %}}{}{all}",
            often(60, "{% set a = a ~ a %}")
        ),
        // Shared by a list or by fields, and written out by `~`.
        format!("{{% set a = 'a' * 1000000 %}}{{{{ [a] * 500 ~ '' }}}}{all}"),
        format!("{{% set a = 'a' * 1000000 %}}{{{{ '' ~ 500 * [a] }}}}{all}"),
        format!("{{% set a = 'a' * 1000000 %}}{{% set b=[a]*500~00 %}}{{{{ b }}}}{all}"),
        format!(
            "{{% set a = 'a' * 1000000 %}}{{% set ns = namespace() %}}{}{{{{ ns ~ '' }}}}{all}",
            (0..500)
                .map(|i| format!("{{% set ns.f{i} = a %}}"))
                .collect::<String>()
        ),
        format!(
            "{}{{{{ a0 | tojson }}}}{}{all}",
            (0..100)
                .rev()
                .map(|i| format!("{{% with a{i} = (a{0}, a{0}) %}}", i + 1))
                .collect::<String>(),
            often(100, "{% endwith %}")
        ),
        grows("{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x | tojson }}"),
        grows("{% set ns.x = [ns.x] %}", "{{ ns.x }}"),
        grows(
            "{% set ns.x = ns.x | batch(1) | list %}",
            "{{ ns.x | string }}",
        ),
        grows("{% set ns.x = {'a': ns.x} %}", "{{ ns.x == ns.x }}"),
        grows("{% set ns.x = ns.x + ns.x %}", "{{ ns.x | join }}"),
        grows("{% set ns.x = dict(a=ns.x) %}", "{{ ns.x | pprint }}"),
        grows(
            "{% set ns.s = ns.s.replace('a', 'aaaaaaaaaaaaaaaa') %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = ns.s | replace('a', 'aaaaaaaaaaaaaaaa') %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = ns.s.join([ns.s, ns.s, ns.s]) %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = '{0}{0}{0}'.format(ns.s) %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = '{:>99999999}'.format(ns.s) %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = '%s%s' % (ns.s, ns.s) %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = '%099999999d' | format(1) %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = ns.s | indent(99999999, true) %}",
            "{{ ns.s | length }}",
        ),
        grows("{% set ns.s = ns.s * 99999999 %}", "{{ ns.s | length }}"),
        grows(
            "{% set ns.s = ns.s | tojson %}{% set ns.s = ns.s ~ ns.s %}",
            "{{ ns.s | length }}",
        ),
        grows(
            "{% set ns.s = ns.s.upper().title() ~ ns.s.strip(ns.s ~ 'b') %}",
            "{{ ns.s }}",
        ),
        grows("{% set ns.self = ns %}", "{{ ns | tojson }}"),
        grows("{% set ns.x = [ns] %}", "{{ ns ~ '' }}"),
        grows("{% set ns.x = namespace(a=ns) %}", "{{ ns == ns.x }}"),
        grows(
            "{% set other = namespace(a=1) %}{% set other.b = ns %}{% set ns.y = other %}",
            "{{ ns }}",
        ),
        format!("{{% macro f(x) %}}{{{{ f([x, x]) }}}}{{% endmacro %}}{{{{ f(1) }}}}{all}"),
        format!(
            "{{% macro f(x) %}}{{{{ f((x, x)) }}}}{{{{ f(x) }}}}{{% endmacro %}}{{{{ f(1) }}}}{all}"
        ),
        format!("{{% for x in [1] recursive %}}{{{{ loop([x, x]) }}}}{{% endfor %}}{all}"),
        format!("{all}{}", often(300_000, "a")),
        "{".repeat(100_000),
        "{{".repeat(100_000),
        "{%".repeat(100_000),
    ];
    for source in hostile {
        let start = std::time::Instant::now();
        let turns = vec![asks(vec![text("q")])];
        let outcome = conversation(jinja(&source), turns).prompt();
        let took = start.elapsed();
        let shown: String = source.chars().take(120).collect();
        assert!(took.as_secs_f32() < 5., "{took:?}: {shown}");
        match outcome {
            Ok(prompt) => assert!(prompt.text().len() < 10_000_000, "{shown}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.len() < 1_000 && !error.contains('\n'),
                    "{shown}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_template_that_nobody_uses_is_not_read() {
    let turns = || vec![asks(vec![text("q")])];
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.chat_template", "{% no such tag %}");
    let found = Template::from_metadata(&metadata, &tokenizer())
        .unwrap()
        .unwrap();
    let Template::Jinja(template) = &found else {
        panic!("{found:?}");
    };
    assert!(template.check().is_err());
    assert!(conversation(found, turns()).prompt().is_err());
    assert!(conversation(Template::V1, turns()).prompt().is_ok());
}
