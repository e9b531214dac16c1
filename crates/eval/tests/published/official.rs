//! Figures of answer files, beside those that the official scripts' algorithms gave for the same
//! answers: each was run in Python 3.11 (POPE's `evaluate.py`, Chat-UniVi's
//! `evaluate_science_qa.py` and `summarize_gpt_review.py`, VQA's `vqaEval.py`, LLaVA's
//! `m4c_evaluator.py`), and prints what stands here with all digits.

use serde_json::json;
use univi_eval::{
    Benchmark, Expected, Figure, Judgement, Judgements, Record, chosen, figures,
    report::{Report, html, markdown},
    requests, verdict, vqa,
};

use crate::{journal::run, record};

/// Answers, and what would be right.
const YES_NO: [(&str, &str); 20] = [
    ("Yes, there is a dog.", "yes"),
    ("No.", "no"),
    ("no", "yes"),
    ("There is not a car in the picture.", "no"),
    ("I see a chair. No table though.", "yes"),
    ("yes", "no"),
    ("Nothing like that", "no"),
    ("No, it is a cat", "no"),
    ("The image shows, no doubt, a bus.", "yes"),
    ("Yes", "yes"),
    ("No", "no"),
    ("", "no"),
    ("Not at all", "no"),
    ("yes", "yes"),
    ("It is a bear, not a dog", "yes"),
    ("Maybe.not", "no"),
    ("Yes", "yes"),
    ("no, none", "no"),
    ("Yes", "no"),
    ("cannot tell", "yes"),
];

fn count(benchmark: &str, records: &[Record]) -> Vec<Figure> {
    let benchmark = Benchmark::find(benchmark).unwrap();
    figures(benchmark, records, &Judgements::default())
}

fn value(figures: &[Figure], name: &str) -> f64 {
    let figure = figures.iter().find(|figure| figure.name == name);
    figure.unwrap_or_else(|| panic!("no {name}")).value.unwrap()
}

#[test]
fn yes_and_no_are_counted_as_popes_script_does() {
    let records: Vec<Record> = YES_NO
        .iter()
        .enumerate()
        .map(|(i, (text, label))| record(i, text, Expected::Text((*label).into())))
        .collect();
    let found = count("pope-random", &records);
    assert_eq!(value(&found, "accuracy"), 0.55);
    assert_eq!(value(&found, "precision"), 0.5);
    assert_eq!(value(&found, "recall"), 0.6666666666666666);
    assert_eq!(value(&found, "F1"), 0.5714285714285715);
    assert_eq!(value(&found, "yes"), 0.6);
    let accuracy = &found[0];
    let interval = accuracy.interval.unwrap();
    assert!((interval.low - 0.34208534245034233).abs() < 1e-12);
    assert!((interval.high - 0.7418021417443758).abs() < 1e-12);
    assert_eq!(
        (accuracy.chance, accuracy.majority),
        (Some(0.5), Some(0.55))
    );
    // Nothing but no: nothing to divide by, and no panic.
    let none: Vec<Record> = (0..3)
        .map(|i| record(i, "no", Expected::Text("no".into())))
        .collect();
    let found = count("pope-random", &none);
    assert_eq!(
        (found[0].value, found[1].value, found[3].value),
        (Some(1.), None, None)
    );
}

#[test]
fn science_qa_is_counted_by_subject_modality_and_grade() {
    let all: [(&str, &str, usize, usize, &[&str]); 8] = [
        (
            "Because it melts.\n The answer is A.",
            "B",
            0,
            3,
            &["NAT", "TXT", "IMG", "G1-6"],
        ),
        (
            "Rocks.\n The answer is B",
            "C",
            2,
            3,
            &["NAT", "NO", "G7-12"],
        ),
        (
            "The answer is A. No, The answer is C.",
            "B",
            1,
            4,
            &["SOC", "TXT", "G1-6"],
        ),
        ("The answer is D.", "A", 0, 3, &["LAN", "NO", "G7-12"]),
        ("Hmm", "A", 0, 2, &["LAN", "IMG", "G1-6"]),
        (
            "x\n The answer is C. Done",
            "A",
            2,
            5,
            &["SOC", "NO", "G7-12"],
        ),
        (
            "The answer is b.",
            "B",
            1,
            2,
            &["NAT", "TXT", "IMG", "G1-6"],
        ),
        (
            "The answer is B\nThe answer is C?",
            "D",
            3,
            4,
            &["NAT", "TXT", "G1-6"],
        ),
    ];
    let records = all
        .iter()
        .enumerate()
        .map(|(i, (text, choice, index, of, groups))| {
            let expected = Expected::Choice {
                index: *index,
                choices: (0..*of).map(|n| n.to_string()).collect(),
            };
            Record {
                choice: Some((*choice).into()),
                groups: groups.iter().map(|group| (*group).into()).collect(),
                ..record(i, text, expected)
            }
        });
    let found = count("science-qa", &records.collect::<Vec<_>>());
    for (part, expected) in [
        ("accuracy", 75.0),
        ("accuracy, NAT", 75.0),
        ("accuracy, SOC", 100.0),
        ("accuracy, LAN", 50.0),
        ("accuracy, TXT", 75.0),
        ("accuracy, IMG", 100.0),
        ("accuracy, NO", 66.66666666666666),
        ("accuracy, G1-6", 80.0),
        ("accuracy, G7-12", 66.66666666666666),
    ] {
        assert_eq!(value(&found, part), expected, "{part}");
    }
}

/// (answer, what ten people said, as it is handed in, VQA's share, TextVQA's share)
fn soft() -> Vec<(&'static str, Vec<String>, &'static str, f64, f64)> {
    let yes = ["yes"; 10];
    let all: [(&str, [&str; 10], &str, f64, f64); 15] = [
        ("Yes", yes, "yes", 1.0, 1.0),
        ("Yes.", yes, "yes", 1.0, 1.0),
        (
            "two",
            ["2", "2", "two", "3", "2", "2", "2", "4", "2", "2"],
            "2",
            1.0,
            1.0,
        ),
        (
            "the red bus",
            [
                "red bus", "bus", "red bus", "Red bus", "bus", "red", "a bus", "red bus", "truck",
                "van",
            ],
            "red bus",
            1.0,
            1.0,
        ),
        (
            "1,000",
            [
                "1000", "1,000", "1,000", "1000", "100", "1000", "1000", "10", "1,00", "1000",
            ],
            "1000",
            1.0,
            1.0,
        ),
        (
            "dont know",
            [
                "don't know",
                "don't know",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
            ],
            "don't know",
            0.6,
            0.6,
        ),
        (
            "black & white",
            [
                "black and white",
                "black and white",
                "black and white",
                "black and white",
                "black and white",
                "black & white",
                "black & white",
                "black & white",
                "black & white",
                "black & white",
            ],
            "black & white",
            1.0,
            1.0,
        ),
        (
            "t-shirt",
            [
                "t shirt",
                "t-shirt",
                "tshirt",
                "T-Shirt",
                "shirt",
                "t shirt",
                "t-shirt",
                "jacket",
                "t - shirt",
                "tee",
            ],
            "t shirt",
            1.0,
            1.0,
        ),
        (
            "3.5",
            [
                "3.5", "3.5.", "3.5", "35", "3.5 ", "3.5", "4", "3 .5", "3.5", "3.5",
            ],
            "3.5",
            1.0,
            1.0,
        ),
        (
            "john's",
            [
                "john's", "johns", "john 's", "John's", "john", "jon", "john's", "john", "jane",
                "x",
            ],
            "john 's",
            0.3,
            1.0,
        ),
        (
            "left\tside",
            [
                "left side",
                "left",
                "left side",
                "Left Side",
                "side",
                "left  side",
                "right",
                "on left",
                "left side.",
                "left",
            ],
            "left side",
            1.0,
            1.0,
        ),
        (
            "no?",
            [
                "no", "no", "yes", "no", "yes", "yes", "yes", "yes", "yes", "yes",
            ],
            "no",
            0.9,
            0.9,
        ),
        (
            "none",
            ["0", "none", "zero", "0", "1", "2", "3", "4", "5", "6"],
            "0",
            1.0,
            1.0,
        ),
        (
            "a.b.c.",
            [
                "abc", "a.b.c", "a b c", "abc.", "ab", "c", "d", "e", "f", "g",
            ],
            "abc",
            0.9,
            0.9,
        ),
        (
            "shes an artist",
            [
                "she's artist",
                "she's an artist",
                "artist",
                "x",
                "y",
                "z",
                "w",
                "v",
                "u",
                "t",
            ],
            "shes artist",
            0.0,
            0.0,
        ),
    ];
    let owned = |given: [&str; 10]| given.map(String::from).to_vec();
    let all = all.into_iter();
    all.map(|(text, given, as_in, vqa, text_vqa)| (text, owned(given), as_in, vqa, text_vqa))
        .collect()
}

#[test]
fn soft_accuracy_is_that_of_the_scripts() {
    for (answer, given, handed_in, share, text_share) in soft() {
        let processed = vqa::processed(answer);
        assert_eq!(processed, handed_in, "{answer}");
        assert_eq!(vqa::accuracy(&processed, &given), share, "{answer}");
        assert_eq!(vqa::text_accuracy(answer, &given), text_share, "{answer}");
    }
    let records = soft().into_iter().enumerate();
    let records = records.map(|(i, (text, given, ..))| record(i, text, Expected::Texts(given)));
    let records: Vec<Record> = records.collect();
    assert_eq!(
        value(&count("vqav2", &records), "accuracy"),
        0.8466666666666668
    );
    assert_eq!(
        value(&count("text-vqa", &records), "accuracy"),
        0.8933333333333333
    );
}

#[test]
fn spelling_is_made_alike_as_the_scripts_do() {
    for (text, alike) in [
        ("Ive two (2) dogs/cats!", "ive 2 2 dogs cats"),
        ("it's 5 o'clock", "it 's 5 o'clock"),
        ("e.g. the 3,5 and 4", "eg 35 and 4"),
        ("wont", "won't"),
        ("youd've", "you'd've"),
        ("U.S.A. 1.5", "usa 1.5"),
        ("What's up, doc?", "what 's up doc"),
        ("\"Stop\" - sign", "stop sign"),
        ("A   the an apple", "apple"),
        ("none of them", "0 of them"),
        ("ten/two", "10 2"),
        ("shouldntve y'alld've", "shouldntve y'all'd've"),
    ] {
        assert_eq!(vqa::processed(text), alike, "{text}");
    }
}

#[test]
fn a_letter_is_found_however_it_is_written() {
    let choices = ["a dog", "a cat", "B"].map(String::from);
    for (text, index) in [
        ("A", Some(0)),
        ("B.", Some(1)),
        ("(C) B", Some(2)),
        ("C: B", Some(2)),
        ("A cat", Some(1)),
        ("a dog.", Some(0)),
        ("D", None),
        ("Both", None),
        ("", None),
    ] {
        assert_eq!(chosen(text, &choices), index, "{text:?}");
    }
}

fn judgement(id: &str, aspect: &str, metric_of: &str, reply: &str) -> Judgement {
    let metric = Benchmark::find(metric_of).unwrap().metric;
    let verdict = verdict(metric, reply);
    Judgement {
        id: id.into(),
        aspect: aspect.into(),
        request: String::new(),
        judge: String::new(),
        reply: reply.into(),
        error: verdict.as_ref().err().cloned(),
        verdict: verdict.ok(),
    }
}

#[test]
fn verdicts_are_averaged_as_the_scripts_do() {
    let replies = [
        (9., 8.5),
        (10., 7.),
        (8., 9.),
        (7., 6.),
        (9., 9.),
        (10., 8.),
        (8., 5.5),
    ];
    let records: Vec<Record> = (0..replies.len())
        .map(|i| record(i, "text", Expected::Text("right".into())))
        .collect();
    let judgements: Judgements = replies
        .iter()
        .enumerate()
        .map(|(i, (first, second))| {
            let reply = json!({ "first": first, "second": second }).to_string();
            judgement(&format!("q{i}"), "pair", "llava-90", &reply)
        })
        .collect();
    let benchmark = Benchmark::find("llava-90").unwrap();
    assert_eq!(
        value(&figures(benchmark, &records, &judgements), "relative"),
        86.9
    );

    // Fractions are cut off, Python's quotes are read, words around the object don't matter.
    let replies = [
        r#"{"match": "yes", "score": 4.8}"#,
        "{'match': 'no', 'score': 1}",
        r#"I think: {"match": "Yes", "score": "3"} since .."#,
    ];
    let judgements: Judgements = replies
        .iter()
        .enumerate()
        .map(|(i, reply)| judgement(&format!("q{i}"), "match", "msvd-qa", reply))
        .collect();
    let benchmark = Benchmark::find("msvd-qa").unwrap();
    let found = figures(benchmark, &records, &judgements);
    assert_eq!(value(&found, "accuracy"), 2. / 3.);
    assert_eq!(value(&found, "score"), 8. / 3.);
    assert_eq!(found[0].n, 3);
}

#[test]
fn nonsense_of_a_judge_is_no_verdict() {
    let metric = Benchmark::find("msvd-qa").unwrap().metric;
    for reply in [
        "",
        "yes",
        "{",
        "{}",
        r#"{"match": "perhaps", "score": 3}"#,
        r#"{"match": "yes", "score": 9}"#,
        r#"{"match": "yes", "score": "many"}"#,
    ] {
        assert!(verdict(metric, reply).is_err(), "{reply}");
    }
}

#[test]
fn a_judge_is_asked_once_for_each_aspect_and_not_about_failures() {
    let benchmark = Benchmark::find("video-chatgpt-generic").unwrap();
    let mut record = record(0, "A dog runs.", Expected::Text("A dog jumps.".into()));
    let asked = requests(benchmark, &record);
    let aspects: Vec<&str> = asked.iter().map(|request| request.aspect).collect();
    assert_eq!(aspects, ["correctness", "detail", "context"]);
    for request in &asked {
        assert!(request.user.contains("A dog runs.") && request.user.contains("A dog jumps."));
    }
    assert_ne!(asked[0].identity("a"), asked[0].identity("b"));
    record.error = Some("no video".into());
    assert!(requests(benchmark, &record).is_empty());
}

#[test]
fn wrong_answers_that_are_not_shown_are_counted() {
    let benchmark = Benchmark::find("pope-random").unwrap();
    let (run, judgements) = (run(None), Judgements::default());
    for (wrong, head) in [
        (20, "Wrong answers\n"),
        (23, "Wrong answers, the first 20 of 23\n"),
    ] {
        let says = |i: usize| if i < wrong { "no" } else { "yes" };
        let records: Vec<Record> = (0..30)
            .map(|i| record(i, says(i), Expected::Text("yes".into())))
            .collect();
        let report = Report::new(benchmark, &run, &records, &judgements, Vec::new());
        assert_eq!(report.wrong().len(), 20);
        let text = markdown(&report);
        assert!(text.contains(&format!("## {head}")), "{text}");
        let page = html(&report, &|_| None).replace("</h2>", "");
        assert!(page.contains(&format!("<h2>{head}")), "{page}");
    }
}
