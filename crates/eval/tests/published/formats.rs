//! Question files in the layouts in which they are published, a few lines each, of our own making.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use univi_eval::{
    Benchmark, Data, Expected, Media, Questions, Record, prediction_files, read_predictions,
};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[track_caller]
fn read(benchmark: &str, folder: &Path) -> Questions {
    let benchmark = Benchmark::find(benchmark).unwrap();
    benchmark.read(&Data::new(folder, None)).unwrap()
}

/// Reads files that have nothing wrong.
#[track_caller]
fn clean(benchmark: &str, files: &[(&str, &str)]) -> Questions {
    let folder = folder(files);
    let questions = read(benchmark, folder.path());
    assert_eq!(questions.faults, [], "{benchmark}");
    questions
}

fn text(expected: &Expected) -> &str {
    match expected {
        Expected::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pope() {
    let lines = r#"{"question_id": 1, "image": "COCO_val2014_000000000001.jpg", "text": "Is there a dog in the image?", "label": "yes"}
{"question_id": 2, "image": "COCO_val2014_000000000001.jpg", "text": "Is there a car in the image?", "label": "no"}
"#;
    for (benchmark, file) in [
        ("pope-random", "coco_pope_random.jsonl"),
        ("pope-popular", "coco_pope/coco_pope_popular.jsonl"),
        ("pope-adversarial", "coco/coco_pope_adversarial.json"),
    ] {
        let image = ("val2014/COCO_val2014_000000000001.jpg", "");
        let questions = clean(benchmark, &[(file, lines), image]);
        let [first, second] = &questions.samples[..] else {
            panic!("{questions:?}")
        };
        assert_eq!((&*first.id, text(&first.expected)), ("1", "yes"));
        assert_eq!(second.questions, ["Is there a car in the image?"]);
        assert!(matches!(&first.media, Media::Image(path) if path.ends_with(image.0)));
    }
}

#[test]
fn science_qa() {
    let problems = r#"{
        "4": {"question": "Which?", "choices": ["ice", "fire"], "answer": 1, "hint": "", "image": "image.png",
              "grade": "grade2", "subject": "natural science", "split": "test"},
        "7": {"question": "Why?", "choices": ["a", "b", "c"], "answer": 0, "hint": "Read.", "image": null,
              "grade": "grade10", "subject": "language science", "split": "test"},
        "9": {"question": "Not asked", "choices": ["a", "b"], "answer": 0, "hint": "", "image": null,
              "grade": "grade1", "subject": "social science", "split": "train"}}"#;
    let asked = r#"[
        {"id": "7", "conversations": [{"from": "human", "value": "Why?\nContext: Read.\nOptions: (A) a (B) b (C) c"}, {"from": "gpt", "value": "so"}]},
        {"id": "4", "image": "4/image.png", "conversations": [{"from": "human", "value": "<image>\nWhich?\nContext: N/A\nOptions: (A) ice (B) fire"}, {"from": "gpt", "value": "so"}]}]"#;
    let splits = "{\n  \"train\": [\n    \"9\"\n  ],\n  \"test\": [\n    \"4\",\n    \"7\"\n  ]\n}";
    let questions = clean(
        "science-qa",
        &[
            ("problems.json", problems),
            ("test_QCM-LEA.json", asked),
            ("pid_splits.json", splits),
            ("images/4/image.png", ""),
        ],
    );
    let [four, seven] = &questions.samples[..] else {
        panic!("{questions:?}")
    };
    assert_eq!(
        four.questions,
        ["Which?\nContext: N/A\nOptions: (A) ice (B) fire"]
    );
    assert_eq!(four.groups, ["NAT", "IMG", "G1-6"]);
    assert_eq!(seven.groups, ["LAN", "TXT", "G7-12"]);
    assert!(matches!(four.media, Media::Image(_)));
    assert_eq!(seven.media, Media::None);
    let choices = vec!["ice".into(), "fire".into()];
    assert_eq!(four.expected, Expected::Choice { index: 1, choices });
}

#[test]
fn short_answers_about_videos() {
    let list = r#"[
        {"question": "who runs?", "video_name": "abc_1_5", "answer": "dog"},
        {"question": "what is it?", "video_name": "xyz", "answer": "ball", "type": "0", "vid_id": "FRAMEQA1"},
        {"question": "who runs?", "video_name": "abc_1_5", "answer": "dog"}]"#;
    for (benchmark, file) in [
        ("msvd-qa", "msvd_qa.json"),
        ("msrvtt-qa", "msrvtt_qa.json"),
        ("tgif-qa", "video_qa/tgif_qa.json"),
        ("activitynet-qa", "activitynet_qa.json"),
    ] {
        let videos = [("videos/abc_1_5.avi", ""), ("videos/v_xyz.mp4", "")];
        let questions = clean(benchmark, &[(file, list), videos[0], videos[1]]);
        let [dog, ball, again] = &questions.samples[..] else {
            panic!("{questions:?}")
        };
        assert!(matches!(&dog.media, Media::Video(path) if path.ends_with("abc_1_5.avi")));
        assert!(matches!(&ball.media, Media::Video(path) if path.ends_with("v_xyz.mp4")));
        assert_ne!(dog.id, again.id);
        assert_eq!(text(&ball.expected), "ball");
    }
}

#[test]
fn video_chatgpts_five() {
    let list = r#"[{"Q": "What happens?", "A": "A dog runs.", "video_name": "v_a"},
        {"Q": "And then?", "A": "It stops.", "video_name": "v_a"}]"#;
    for (benchmark, file) in [
        ("video-chatgpt-generic", "generic_qa.json"),
        ("video-chatgpt-temporal", "temporal_qa.json"),
    ] {
        let questions = clean(benchmark, &[(file, list), ("v_a.mp4", "")]);
        let ids: Vec<&str> = questions.samples.iter().map(|sample| &*sample.id).collect();
        assert_eq!(ids, ["v_a_0", "v_a_1"]);
    }
    let list =
        r#"[{"Q1": "What runs?", "Q2": "Which animal runs?", "A": "A dog.", "video_name": "v_a"}]"#;
    let files = [("consistency_qa.json", list), ("v_a.mkv", "")];
    let questions = clean("video-chatgpt-consistency", &files);
    assert_eq!(
        questions.samples[0].questions,
        ["What runs?", "Which animal runs?"]
    );
}

#[test]
fn questions_of_llava() {
    let asked = r#"{"question_id": 0, "image": "a.jpg", "text": "What colour?", "category": "conv"}
{"question_id": 1, "image": "a.jpg", "text": "Describe it.", "category": "detail"}
{"question_id": 2, "image": "a.jpg", "text": "Why so?", "category": "complex"}
"#;
    let answers = r#"{"question_id": 0, "text": "Red.", "category": "conv"}
{"question_id": 1, "text": "A red ball.", "category": "detail"}
{"question_id": 2, "text": "It was painted.", "category": "complex"}
"#;
    let boxes = r#"{"id": "1", "image": "a.jpg", "captions": ["A ball.", "A red ball."], "instances": [{"category": "ball", "bbox": [0.1, 0.2, 0.3, 0.4]}]}
"#;
    let questions = clean(
        "llava-90",
        &[
            ("qa90_questions.jsonl", asked),
            ("qa90_gpt4_answer.jsonl", answers),
            ("caps_boxes_coco2014_val_80.jsonl", boxes),
            ("val2014/a.jpg", ""),
        ],
    );
    let sample = &questions.samples[2];
    assert_eq!(
        (&*sample.groups[0], text(&sample.expected)),
        ("reasoning", "It was painted.")
    );
    let context = sample.source["context"].as_str().unwrap();
    assert_eq!(context, "A ball.\nA red ball.\nball: [0.1,0.2,0.3,0.4]");
    let caption = "{\"id\": \"1\", \"image\": \"a.jpg\", \"caption\": \"A red ball.\"}\n";
    let questions = clean(
        "llava-wild",
        &[
            ("questions.jsonl", asked),
            ("answers_gpt4.jsonl", answers),
            ("context.jsonl", caption),
            ("images/a.jpg", ""),
        ],
    );
    assert_eq!(questions.samples[0].source["context"], "A red ball.");
    assert_eq!(questions.samples[0].groups, ["conversation"]);
}

#[test]
fn vqav2_with_and_without_answers() {
    let asked = "{\"question_id\": 262144005, \"image\": \"COCO_test2015_000000262144.jpg\", \
        \"text\": \"Is the ball flying?\\nAnswer the question using a single word or phrase.\", \
        \"category\": \"default\"}\n";
    let files = [
        ("llava_vqav2_mscoco_test-dev2015.jsonl", asked),
        ("test2015/COCO_test2015_000000262144.jpg", ""),
    ];
    let questions = clean("vqav2", &files);
    assert_eq!(questions.samples[0].expected, Expected::Unknown);
    let asked = r#"{"info": {}, "task_type": "Open-Ended", "questions": [{"image_id": 42, "question": "Is it red?", "question_id": 42000}]}"#;
    let given = r#"{"info": {}, "annotations": [{"question_id": 42000, "image_id": 42, "question_type": "is it", "answer_type": "yes/no", "multiple_choice_answer": "yes",
        "answers": [{"answer": "yes", "answer_confidence": "yes", "answer_id": 1}, {"answer": "no", "answer_confidence": "maybe", "answer_id": 2}]}]}"#;
    let questions = clean(
        "vqav2",
        &[
            ("v2_OpenEnded_mscoco_val2014_questions.json", asked),
            ("v2_mscoco_val2014_annotations.json", given),
            ("val2014/COCO_val2014_000000000042.jpg", ""),
        ],
    );
    let sample = &questions.samples[0];
    assert_eq!(
        sample.questions,
        ["Is it red?\nAnswer the question using a single word or phrase."]
    );
    assert_eq!(
        sample.expected,
        Expected::Texts(vec!["yes".into(), "no".into()])
    );
    assert_eq!(sample.groups, ["yes/no"]);
}

#[test]
fn gqa_vizwiz_and_text_vqa() {
    let asked = r#"{"201": {"semantic": [], "question": "Is it red?", "imageId": "n1", "answer": "yes", "isBalanced": true}}"#;
    let files = [
        ("testdev_balanced_questions.json", asked),
        ("images/n1.jpg", ""),
    ];
    let questions = clean("gqa", &files);
    assert_eq!(questions.samples[0].id, "201");
    let asked = r#"[{"image": "VizWiz_val_00000001.jpg", "question": "What is it?", "answers": [{"answer_confidence": "yes", "answer": "can"}], "answer_type": "other", "answerable": 1}]"#;
    let files = [("val.json", asked), ("val/VizWiz_val_00000001.jpg", "")];
    let questions = clean("vizwiz", &files);
    assert_eq!(questions.samples[0].id, "VizWiz_val_00000001.jpg");
    assert!(questions.samples[0].questions[0].contains("'Unanswerable'"));
    let asked = "{\"question_id\": \"i1\", \"image\": \"i1.jpg\", \"text\": \"what does it say?\\n\
        Reference OCR token: STOP\\nAnswer the question using a single word or phrase.\", \
        \"category\": \"default\"}\n";
    let given = r#"{"dataset_type": "val", "data": [{"question": "What does it say?", "image_id": "i1", "answers": ["stop", "stop", "halt"]}]}"#;
    let questions = clean(
        "text-vqa",
        &[
            ("llava_textvqa_val_v051_ocr.jsonl", asked),
            ("TextVQA_0.5.1_val.json", given),
            ("train_images/i1.jpg", ""),
        ],
    );
    let given = ["stop", "stop", "halt"].map(String::from).to_vec();
    assert_eq!(questions.samples[0].expected, Expected::Texts(given));
}

#[test]
fn mmbench_and_mm_vet() {
    let image = STANDARD.encode([1, 2, 3]);
    let table = format!(
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit\n\
         0\tWhich is it?\t\"A \"\"red\"\" thing,\nround.\"\ta ball\ta box\t\t\tA\tobject_localization\t{image}\treasoning\tfinegrained\tnan\tdev\n\
         1\tAnd this?\tnan\tone\ttwo\tthree\tfour\tD\tcounting\t{image}\tx\ty\tnan\tdev\n"
    );
    let questions = clean("mmbench", &[("mmbench_dev_20230712.tsv", &table)]);
    let [first, second] = &questions.samples[..] else {
        panic!("{questions:?}")
    };
    assert_eq!(
        first.questions,
        [
            "A \"red\" thing,\nround.\nWhich is it?\nA. a ball\nB. a box\n\
          Answer with the option's letter from the given choices directly."
        ]
    );
    assert_eq!(first.media, Media::Embedded(vec![1, 2, 3]));
    assert!(matches!(
        &second.expected,
        Expected::Choice { index: 3, .. }
    ));
    let asked = r#"{"v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1 <OR> -5", "imagesource": "x", "capability": ["ocr", "math"]}}"#;
    let questions = clean("mm-vet", &[("mm-vet.json", asked), ("images/v1_0.png", "")]);
    assert_eq!(questions.samples[0].groups, ["ocr", "math"]);
}

#[test]
fn every_benchmark_says_which_file_is_missing() {
    let empty = folder(&[]);
    for benchmark in Benchmark::all() {
        let error = benchmark
            .read(&Data::new(empty.path(), None))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no question file: expected"),
            "{}: {error}",
            benchmark.name
        );
    }
}

#[test]
fn what_is_wrong_with_a_question_is_named_and_costs_nothing_else() {
    let lines = r#"{"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"}
{"question_id": 2, "image": "a.jpg", "text": "Is there
{"question_id": 3, "image": "gone.jpg", "text": "Is there a car in the image?", "label": "no"}
{"question_id": 1, "image": "a.jpg", "text": "Is there a cat in the image?", "label": "no"}
{"question_id": 4, "image": "a.jpg", "text": "Is there a bus in the image?", "label": "perhaps"}
{"question_id": 5, "image": "../a.jpg", "text": "Is there a bee in the image?", "label": "no"}
17
"#;
    let folder = folder(&[("coco_pope_random.jsonl", lines), ("a.jpg", "")]);
    let questions = read("pope-random", folder.path());
    let ids: Vec<&str> = questions.samples.iter().map(|sample| &*sample.id).collect();
    assert_eq!(ids, ["1", "3", "5"]);
    assert_eq!(
        questions.samples[1].media,
        Media::Missing("gone.jpg".into())
    );
    // A name does not lead out of the folder.
    assert_eq!(
        questions.samples[2].media,
        Media::Missing("../a.jpg".into())
    );
    let faults: Vec<&str> = questions
        .faults
        .iter()
        .map(|fault| &*fault.sample)
        .collect();
    let expected = [
        "coco_pope_random.jsonl:2",
        "coco_pope_random.jsonl:7",
        "coco_pope_random.jsonl:5",
        "1",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn an_id_that_stands_twice_in_an_object_is_named_and_the_first_one_counts() {
    let problem = |choice: &str| {
        format!(
            r#"{{"choices": ["{choice}"], "answer": 0, "grade": "grade1", "subject": "social science"}}"#
        )
    };
    let problems = format!(r#"{{"4": {}, "4": {}}}"#, problem("ice"), problem("fire"));
    let asked = r#"[{"id": "4", "conversations": [{"from": "human", "value": "Which?"}]}]"#;
    let gqa =
        |answer: &str| format!(r#"{{"question": "?", "imageId": "n", "answer": "{answer}"}}"#);
    let gqa = format!(
        r#"{{"7": {}, "3": {}, "7": {}}}"#,
        gqa("a"),
        gqa("b"),
        gqa("c")
    );
    let vet = r#"{"v1_0": {"imagename": "n", "question": "?", "answer": "a"},
        "v1_0": {"imagename": "n", "question": "?", "answer": "b"}}"#;
    for (benchmark, files, place, right) in [
        (
            "gqa",
            &[("testdev_balanced_questions.json", &*gqa)][..],
            "testdev_balanced_questions.json[\"7\"]",
            vec![Expected::Text("b".into()), Expected::Text("a".into())],
        ),
        (
            "science-qa",
            &[
                ("problems.json", &*problems),
                ("test_QCM-LEA.json", asked),
                ("pid_splits.json", r#"{"test": ["4"]}"#),
            ],
            "problems.json[\"4\"]",
            vec![Expected::Choice {
                index: 0,
                choices: vec!["ice".into()],
            }],
        ),
        (
            "mm-vet",
            &[("mm-vet.json", vet)],
            "mm-vet.json[\"v1_0\"]",
            vec![Expected::Text("a".into())],
        ),
    ] {
        let questions = read(benchmark, folder(files).path());
        let [fault] = &questions.faults[..] else {
            panic!("{benchmark}: {:?}", questions.faults)
        };
        assert_eq!(fault.sample, place);
        assert!(fault.reason.contains("twice"), "{}", fault.reason);
        let found = questions.samples.into_iter().map(|sample| sample.expected);
        assert_eq!(found.collect::<Vec<_>>(), right, "{benchmark}");
    }
}

#[test]
fn answers_of_the_reference_that_contradict_each_other_are_named() {
    let asked = r#"{"question_id": 1, "image": "a.jpg", "text": "?", "category": "conv"}"#;
    let answer = |text: &str| format!(r#"{{"question_id": 1, "text": "{text}"}}"#) + "\n";
    let context = r#"{"image": "a.jpg", "caption": "c"}"#;
    for (answers, faults) in [
        (answer("yes") + &answer("no"), &["answers_gpt4.jsonl:2"][..]),
        (answer("yes") + &answer("yes"), &[]),
        (answer("yes") + "{\n", &["answers_gpt4.jsonl:2"]),
    ] {
        let folder = folder(&[
            ("questions.jsonl", asked),
            ("answers_gpt4.jsonl", &answers),
            ("context.jsonl", context),
        ]);
        let questions = read("llava-wild", folder.path());
        assert_eq!(text(&questions.samples[0].expected), "yes");
        let found = questions.faults.iter().map(|fault| &*fault.sample);
        assert_eq!(found.collect::<Vec<_>>(), faults);
    }
}

#[test]
fn folders_that_are_not_there_are_named_and_pictures_are_found_below_media() {
    let line = r#"{"question_id": 1, "image": "a.jpg", "text": "?", "label": "yes"}"#;
    let folder = folder(&[
        ("coco_pope_random.jsonl", line),
        ("media/val2014/a.jpg", ""),
    ]);
    let pope = Benchmark::find("pope-random").unwrap();
    let read = |media: &str| pope.read(&Data::new(folder.path(), Some(folder.path().join(media))));
    let found = read("media").unwrap().samples.remove(0).media;
    assert!(matches!(&found, Media::Image(path) if path.ends_with("media/val2014/a.jpg")));
    assert_eq!(pope.media(&folder.path().join("media"), "a.jpg"), found);
    let error = read("nowhere").unwrap_err().to_string();
    assert!(
        error.contains("nowhere: there is no such folder"),
        "{error}"
    );
}

#[test]
fn a_file_that_holds_nothing_is_told_from_one_that_can_not_be_read() {
    for (text, says) in [
        ("", "the file is empty"),
        ("\n", "is empty"),
        ("{", "neither JSON"),
    ] {
        let folder = folder(&[("coco_pope_random.jsonl", text)]);
        let pope = Benchmark::find("pope-random").unwrap();
        let error = pope.read(&Data::new(folder.path(), None)).unwrap_err();
        assert!(error.to_string().contains(says), "{text:?}: {error}");
    }
}

/// Records of the questions in a folder, each answered `answer`.
fn answered(benchmark: &str, files: &[(&str, &str)], answer: &str) -> Vec<Record> {
    let questions = clean(benchmark, files);
    let records = questions
        .samples
        .iter()
        .enumerate()
        .map(|(i, sample)| Record {
            texts: vec![answer.into(); sample.questions.len()],
            ..Record::of(i, sample)
        });
    records.collect()
}

#[test]
fn predictions_are_written_and_read_in_official_formats() {
    let lines = r#"{"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"}
{"question_id": 2, "image": "a.jpg", "text": "Is there a car in the image?", "label": "no"}
"#;
    let files = [("coco_pope_random.jsonl", lines), ("a.jpg", "")];
    let records = answered("pope-random", &files, "Yes");
    let benchmark = Benchmark::find("pope-random").unwrap();
    let written = prediction_files(benchmark, "model", &records);
    let line: serde_json::Value =
        serde_json::from_str(written[0].text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["question_id"], &line["text"], &line["label"]),
        (&1.into(), &"Yes".into(), &"yes".into())
    );
    let other = folder(&[
        ("own.jsonl", &written[0].text),
        (
            "pope.jsonl",
            "{\"question\": \"Is there a car in the image?\", \"image\": \"a.jpg\", \"answer\": \"no\"}\n\
                        {\"question\": \"Is there a dog in the image?\", \"image\": \"a.jpg\", \"answer\": \"yes\"}\n",
        ),
        ("foreign.jsonl", "{\"question_id\": 99, \"text\": \"no\"}\n"),
    ]);
    let read = read_predictions(&other.path().join("own.jsonl"), &records).unwrap();
    assert_eq!(read, records);
    let read = read_predictions(&other.path().join("pope.jsonl"), &records).unwrap();
    let texts: Vec<&str> = read.iter().map(Record::text).collect();
    assert_eq!(texts, ["yes", "no"]);
    let error = read_predictions(&other.path().join("foreign.jsonl"), &records).unwrap_err();
    assert!(error.to_string().contains("answers none"), "{error}");

    let list =
        r#"[{"Q1": "What runs?", "Q2": "Which animal runs?", "A": "A dog.", "video_name": "v_a"}]"#;
    let files = [("consistency_qa.json", list), ("v_a.mkv", "")];
    let records = answered("video-chatgpt-consistency", &files, "A dog");
    let benchmark = Benchmark::find("video-chatgpt-consistency").unwrap();
    let written = prediction_files(benchmark, "model", &records);
    assert_eq!(written[1].name, "video_chatgpt_predictions.json");
    let other = folder(&[("a.jsonl", &written[0].text), ("b.json", &written[1].text)]);
    for name in ["a.jsonl", "b.json"] {
        let read = read_predictions(&other.path().join(name), &records).unwrap();
        assert_eq!(read, records, "{name}");
    }
}
