//! The world is definite, balanced, and always the same. Its artwork is the real one: `cargo xtask
//! artwork` brings it.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use univi_train::world::{
    Artwork, COLOURS, Kind, Layout, Plot, SIDE_PX, Sprite, Story, Style, Styles, THINGS, Thing,
    VisualSample, World,
};

static ARTWORK: LazyLock<Artwork> = LazyLock::new(|| {
    let artwork = Path::new(env!("CARGO_MANIFEST_DIR")).join("artwork/node_modules");
    Artwork::open(&artwork).unwrap_or_else(|error| panic!("{error}"))
});

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(ARTWORK.clone()));

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn named(word: &str) -> Vec<usize> {
    let fits =
        |class: &&usize| THINGS[**class].name == word || THINGS[**class].with_article() == word;
    (0..THINGS.len())
        .collect::<Vec<_>>()
        .iter()
        .filter(fits)
        .copied()
        .collect()
}

/// The thing that a question names: the longest name in it.
fn asked(question: &str) -> usize {
    let words: Vec<&str> = question.split(|c: char| !c.is_alphabetic()).collect();
    let fits = |class: &usize| {
        words.contains(&THINGS[*class].name) || words.contains(&THINGS[*class].plural)
    };
    (0..THINGS.len())
        .find(fits)
        .unwrap_or_else(|| panic!("{question:?} names nothing"))
}

fn count(layout: &Layout, class: usize) -> usize {
    layout
        .things
        .iter()
        .filter(|thing| thing.class == class)
        .count()
}

fn from_left(layout: &Layout) -> Vec<&Thing> {
    let mut things: Vec<&Thing> = layout.things.iter().collect();
    things.sort_by(|a, b| a.centre[0].total_cmp(&b.centre[0]));
    things
}

/// Whether an answer in few words is right, found out anew from what there is.
fn holds(layout: &Layout, kind: Kind, question: &str, answer: &str) -> bool {
    match kind {
        Kind::Name => layout.things.len() == 1 && named(answer) == [layout.things[0].class],
        Kind::Presence => (count(layout, asked(question)) > 0) == (answer == "yes"),
        Kind::Background => COLOURS[layout.background].0 == answer,
        Kind::CountOf => count(layout, asked(question)).to_string() == answer,
        Kind::CountAll => layout.things.len().to_string() == answer,
        Kind::Where => {
            let class = asked(question);
            if answer.starts_with("I can't see") {
                return count(layout, class) == 0;
            }
            let thing = layout
                .things
                .iter()
                .find(|thing| thing.class == class)
                .unwrap();
            let [x, y] = thing.centre;
            count(layout, class) == 1
                && answer
                    == format!(
                        "{} {}",
                        if y < 0.5 { "top" } else { "bottom" },
                        if x < 0.5 { "left" } else { "right" }
                    )
        }
        Kind::List => {
            let said: Vec<usize> = answer
                .replace(" and ", ", ")
                .split(", ")
                .flat_map(named)
                .collect();
            said == from_left(layout)
                .iter()
                .map(|thing| thing.class)
                .collect::<Vec<_>>()
        }
        Kind::Larger => {
            let large = named(answer.strip_prefix("the ").unwrap())[0];
            let size = |class: usize| {
                layout
                    .things
                    .iter()
                    .find(|thing| thing.class == class)
                    .unwrap()
                    .size
            };
            let words: Vec<&str> = question.split(|c: char| !c.is_alphabetic()).collect();
            let mut asked = layout
                .things
                .iter()
                .filter(|thing| words.contains(&THINGS[thing.class].name));
            asked.all(|thing| thing.class == large || size(large) > 1.2 * thing.size)
        }
        _ => true,
    }
}

#[test]
fn every_short_answer_is_right() {
    let mut checked: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut rng = rng(1);
    for _ in 0..800 {
        let layout = World::layout(&mut rng);
        for exchange in layout.questions(&mut rng, usize::MAX) {
            let (question, answer) = &exchange.turns[0];
            if question.contains("Answer in a sentence.") || exchange.turns.len() > 1 {
                continue;
            }
            assert!(
                holds(&layout, exchange.kind, question, answer),
                "{question} {answer} {layout:?}"
            );
            *checked.entry(exchange.kind).or_default() += 1;
        }
    }
    for kind in [
        Kind::Name,
        Kind::Presence,
        Kind::Background,
        Kind::CountOf,
        Kind::CountAll,
        Kind::Where,
        Kind::List,
        Kind::Larger,
    ] {
        assert!(
            checked[&kind] > 50,
            "{kind:?} was asked {:?} times",
            checked.get(&kind)
        );
    }
}

#[test]
fn stories_are_told_as_they_happen() {
    let mut rng = rng(2);
    for _ in 0..400 {
        let story = Story::random(&mut rng);
        let frames = story.frames();
        assert!((4..=32).contains(&frames));
        let first_seen = |class: usize| {
            (0..frames)
                .find(|&frame| count(&story.layout(frame), class) > 0)
                .unwrap()
        };
        for exchange in story.questions(&mut rng, usize::MAX) {
            let (question, answer) = &exchange.turns[0];
            if question.contains("Answer in a sentence.") {
                continue;
            }
            let classes: Vec<usize> = story.actors().map(|actor| actor.class).collect();
            let right = match exchange.kind {
                Kind::First => classes
                    .iter()
                    .all(|&class| named(answer) == [class] || first_seen(class) > 0),
                Kind::Last => {
                    let last = first_seen(named(answer)[0]);
                    classes
                        .iter()
                        .all(|&class| named(answer) == [class] || first_seen(class) < last)
                }
                Kind::Direction => {
                    let at = |frame: usize| {
                        let layout = story.layout(frame);
                        layout
                            .things
                            .iter()
                            .find(|thing| thing.class == asked(question))
                            .unwrap()
                            .centre
                    };
                    let ([x0, y0], [x1, y1]) = (at(0), at(frames - 1));
                    match &**answer {
                        "left" => x1 < x0 - 0.3,
                        "right" => x1 > x0 + 0.3,
                        "up" => y1 < y0 - 0.3,
                        "down" => y1 > y0 + 0.3,
                        other => panic!("{other}"),
                    }
                }
                Kind::ClipPresence => classes.contains(&asked(question)) == (answer == "yes"),
                Kind::Scenes => story.shots.len().to_string() == *answer,
                Kind::New => {
                    let layout = story.layout(frames - 1);
                    story.plot == Plot::Cuts
                        && named(answer) == [layout.things[0].class]
                        && layout.things.len() == 1
                }
                _ => true,
            };
            assert!(right, "{question} {answer} {story:?}");
        }
    }
}

#[test]
fn what_is_measured_is_balanced() {
    let mut answers: BTreeMap<Kind, BTreeMap<String, usize>> = BTreeMap::new();
    let mut rng = rng(3);
    for kind in [
        Kind::Presence,
        Kind::ClipPresence,
        Kind::Direction,
        Kind::Where,
        Kind::CountOf,
    ] {
        for _ in 0..400 {
            let (_, exchange) = WORLD.question(&mut rng, kind, Styles::Seen);
            let answer = exchange.turns[0].1.to_lowercase();
            let key = [
                "yes",
                "no",
                "top left",
                "top right",
                "bottom left",
                "bottom right",
                "left",
                "right",
                "up",
                "down",
            ]
            .into_iter()
            .find(|key| answer.starts_with(key) || answer.contains(&format!(" {key}.")));
            let counted = answer
                .split_whitespace()
                .find(|word| word.parse::<u32>().is_ok());
            let key = key.or(counted).unwrap_or("other").to_string();
            *answers.entry(kind).or_default().entry(key).or_default() += 1;
        }
    }
    let share = |kind: Kind, key: &str| answers[&kind].get(key).copied().unwrap_or(0) as f64 / 400.;
    for kind in [Kind::Presence, Kind::ClipPresence] {
        assert!(
            (0.43..0.57).contains(&share(kind, "yes")),
            "{:?}",
            answers[&kind]
        );
    }
    for key in ["left", "right", "up", "down"] {
        assert!(
            (0.17..0.33).contains(&share(Kind::Direction, key)),
            "{:?}",
            answers[&Kind::Direction]
        );
    }
    for key in ["top left", "top right", "bottom left", "bottom right"] {
        assert!(
            (0.15..0.35).contains(&share(Kind::Where, key)),
            "{:?}",
            answers[&Kind::Where]
        );
    }
    assert!(
        share(Kind::CountOf, "1") < 0.75,
        "{:?}",
        answers[&Kind::CountOf]
    );
}

#[test]
fn the_same_seed_is_the_same_picture_and_the_same_words() {
    let look = |seed: u64, styles| {
        let mut rng = rng(seed);
        let scene = WORLD.scene(&mut rng, styles);
        let clip = WORLD.clip(&mut rng, styles);
        let asked = (
            scene.layout.questions(&mut rng, 8),
            clip.story.questions(&mut rng, 8),
        );
        let frames: Vec<_> = clip.frames.into_iter().map(|frame| frame.pixels).collect();
        (scene.pixels, frames, asked)
    };
    for styles in [Styles::Training, Styles::Seen, Styles::Unseen] {
        assert!(look(5, styles) == look(5, styles));
        assert!(look(5, styles) != look(6, styles));
    }
    assert!(
        look(5, Styles::Seen).0 != look(5, Styles::Unseen).0,
        "another artist"
    );
}

#[test]
fn patches_know_what_they_show() {
    let mut rng = rng(7);
    let (mut labelled, mut near) = (0, 0);
    for _ in 0..50 {
        let scene = WORLD.scene(&mut rng, Styles::Seen);
        let grid = 8;
        let labels = scene.patch_labels(grid);
        assert_eq!(labels.len(), grid * grid);
        for (patch, label) in labels.iter().enumerate() {
            let Some((class, centre)) = label else {
                continue;
            };
            let thing = scene
                .layout
                .things
                .iter()
                .find(|thing| thing.class == *class && thing.centre == *centre);
            let thing = thing.expect("a label is of a thing that is there");
            let at = [patch % grid, patch / grid].map(|i| (i as f32 + 0.5) / grid as f32);
            let off = (at[0] - centre[0]).hypot(at[1] - centre[1]);
            labelled += 1;
            near += usize::from(off < thing.size * 0.75 + 1. / grid as f32);
        }
        // Every thing shows somewhere.
        for thing in &scene.layout.things {
            assert!(
                labels
                    .iter()
                    .flatten()
                    .any(|(class, _)| *class == thing.class),
                "{thing:?}"
            );
        }
    }
    assert!(
        labelled > 300 && near == labelled,
        "{near} of {labelled} labels lie on their things"
    );
}

#[test]
fn views_are_what_kinds_are_about() {
    let mut rng = rng(8);
    for kind in Kind::ALL {
        let (view, exchange) = WORLD.question(&mut rng, kind, Styles::Unseen);
        assert_eq!(exchange.kind, kind);
        assert_eq!(matches!(view, VisualSample::Clip(_)), kind.of_clip());
        if let VisualSample::Scene(scene) = view {
            assert_eq!(scene.pixels.pixels.len(), 3 * SIDE_PX * SIDE_PX);
        }
    }
}

#[test]
fn every_style_draws_things_its_own_way() {
    // How many of the hundred each of them knows.
    let all = [
        (Style::Twitter, 100),
        (Style::Google, 100),
        (Style::EmojiOne, 95),
        (Style::NotoV1, 95),
        (Style::FirefoxOs, 78),
        (Style::Streamline, 66),
        (Style::Fluent, 100),
    ];
    for (style, known) in all {
        let draws = |class: &usize| !ARTWORK.of(*class, &[style]).is_empty();
        let drawn = (0..THINGS.len()).filter(draws).count();
        assert_eq!(drawn, known, "{style:?}");
    }
    for (class, thing) in THINGS.iter().enumerate() {
        let drawings = ARTWORK.of(class, &all.map(|(style, _)| style));
        for (i, drawing) in drawings.iter().enumerate() {
            assert!(
                drawings[..i].iter().all(|other| other != drawing),
                "a {} is drawn twice",
                thing.name
            );
            let sprite = &drawing.sprites[0];
            assert_eq!(sprite.width.max(sprite.height), 64, "{}", thing.name);
            // Colours are multiplied by alpha: none is above it.
            let sound = |p: &[f32; 4]| p[..3].iter().all(|c| *c >= 0. && *c <= p[3] + 1e-3);
            assert!(sprite.pixels.iter().all(sound), "{}", thing.name);
        }
    }
}

#[test]
fn a_disc_falls_away_from_its_middle() {
    let side = 41;
    let from_middle = |i: usize| [i % side, i / side].map(|at| at as f32 - 20.);
    let disc = |i: usize| {
        let [x, y] = from_middle(i);
        [f32::from(x.hypot(y) <= 20.5); 4]
    };
    let sprite = Sprite::new(side, side, (0..side * side).map(disc).collect());
    let mut steepest: f32 = 0.;
    for (i, slope) in sprite.slopes.iter().enumerate() {
        let [x, y] = from_middle(i);
        let outward = (slope[0] * x + slope[1] * y) / x.hypot(y).max(1.);
        match x.hypot(y) {
            far if far > 20.5 => continue,
            far if far > 17. => assert!(outward > 0.5, "{outward} at {x}, {y}"),
            far if far < 3. => assert!(outward.abs() < 0.1, "{outward} at {x}, {y}"),
            _ => assert!(outward > -0.01, "{outward} at {x}, {y}"),
        }
        steepest = steepest.max(outward);
    }
    assert!((0.7..1.4).contains(&steepest), "{steepest}");
}
