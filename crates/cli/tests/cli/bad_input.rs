//! Damaged and foreign files: one clear line, a non-zero exit, no panic, no giant allocation.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use univi::gguf::{Header, parse};
use univi_convert::{TensorSpec, Writer};

use crate::{complains, e2e, path, refused, scratch, tiny};

/// Memory that a run on a tiny model may reserve: the program, its threads' stacks and the model
/// fit many times, a length from a damaged file does not.
const MEMORY_KIB: u64 = 4 << 20;

/// Runs the program with little memory.
#[cfg(unix)]
fn confined(args: &[&str]) -> Output {
    let script = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_univi")])
        .args(args);
    command.output().unwrap()
}

#[cfg(not(unix))]
fn confined(args: &[&str]) -> Output {
    crate::run(args, "")
}

#[track_caller]
fn ask_refused(model: &Path, says: &str) {
    let args = [
        "ask",
        "-m",
        path(model),
        "--device",
        "cpu",
        "--max-tokens",
        "2",
        "What?",
    ];
    complains(&args, confined(&args), says);
    // Inspecting finds out without a device.
    let args = ["inspect", path(model)];
    complains(&args, confined(&args), says);
}

/// The language model's one file.
fn language() -> PathBuf {
    let mut files = crate::model_folders::files_of(Path::new(tiny()));
    files.retain(|name| name.ends_with(".gguf") && !name.contains("vision"));
    Path::new(tiny()).join(&files[0])
}

/// A place for a damaged copy.
fn copy_to(name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch(&format!("bad-model-{name}")).join(format!("{name}.gguf"));
    fs::write(&file, bytes).unwrap();
    file
}

/// The model with other tensors: `keep` says which stay, and may change their shapes.
fn rewritten(keep: impl FnMut(&mut TensorSpec) -> bool) -> Vec<u8> {
    rewritten_with(|_| (), keep)
}

/// The same, with changed metadata.
fn rewritten_with(
    change: impl FnOnce(&mut univi::gguf::Metadata),
    mut keep: impl FnMut(&mut TensorSpec) -> bool,
) -> Vec<u8> {
    let bytes = fs::read(language()).unwrap();
    let header: Header = parse(&bytes).unwrap();
    let mut metadata = univi::gguf::Metadata::new();
    for (key, value) in header
        .metadata
        .iter()
        .filter(|(key, _)| !key.starts_with("split."))
    {
        metadata.insert(key, value.clone());
    }
    change(&mut metadata);
    let specs = header.tensors.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        ty: tensor.ty,
        shape: tensor.shape.clone(),
    });
    let specs: Vec<TensorSpec> = specs
        .filter_map(|mut spec| keep(&mut spec).then_some(spec))
        .collect();
    let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
    for spec in &specs {
        writer
            .write(&vec![0; spec.bytes().unwrap() as usize])
            .unwrap();
    }
    writer.finish().unwrap()
}

/// Where `text` begins.
fn find(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap()
}

#[test]
fn a_model_without_a_tensor() {
    let missing = "blk.1.ffn_up.weight";
    let bytes = rewritten(|spec| spec.name != missing);
    ask_refused(
        &copy_to("missing", &bytes),
        "tensor blk.1.ffn_up.weight is missing",
    );
}

#[test]
fn a_tensor_of_another_shape() {
    let bytes = rewritten(|spec| {
        if spec.name == "blk.0.attn_q.weight" {
            spec.shape[0] *= 2;
        }
        true
    });
    ask_refused(
        &copy_to("shape", &bytes),
        "tensor blk.0.attn_q.weight has shape",
    );
}

#[test]
fn truncated_files() {
    let bytes = fs::read(language()).unwrap();
    let header = parse(&bytes).unwrap();
    let data = header.data_offset as usize;
    for length in [
        4,
        20,
        100,
        data / 2,
        data,
        data + 1,
        bytes.len() / 2,
        bytes.len() - 1,
    ] {
        let file = copy_to(&format!("cut-{length}"), &bytes[..length]);
        ask_refused(&file, path(&file));
    }
    ask_refused(&copy_to("empty", b""), "empty.gguf");
}

#[test]
fn a_quantization_that_nobody_knows() {
    let bytes = fs::read(language()).unwrap();
    let tensor = "blk.0.attn_q.weight";
    // After the name: the number of dimensions, two of them, and the type.
    let at = find(&bytes, tensor) + tensor.len() + 4 + 16;
    for ty in [4u32, 99, u32::MAX] {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&ty.to_le_bytes());
        ask_refused(&copy_to(&format!("type-{ty}"), &bytes), tensor);
    }
}

#[test]
fn absurd_lengths() {
    let bytes = fs::read(language()).unwrap();
    let tensor = "blk.0.attn_q.weight";
    let dimension = find(&bytes, tensor) + tensor.len() + 4;
    let key = "tokenizer.ggml.tokens";
    // After an array's key: its type, the type of its elements, and how many they are.
    let elements = find(&bytes, key) + key.len() + 8;
    let places = [
        ("tensors", 8),
        ("keys", 16),
        ("key-length", 24),
        ("array-length", elements),
        ("name-length", dimension - 4 - tensor.len() - 8),
        ("rows", dimension + 8),
        ("columns", dimension),
        ("offset", dimension + 16 + 4),
    ];
    for (name, at) in places {
        for length in [1u64 << 28, 1 << 40, u64::MAX / 2, u64::MAX] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let file = copy_to(&format!("{name}-{length}"), &bytes);
            ask_refused(&file, path(&file));
        }
    }
}

#[test]
fn what_is_no_model() {
    let folder = scratch("no-model");
    ask_refused(&folder, "manifest.json");
    let text = folder.join("notes.gguf");
    fs::write(&text, "just some words").unwrap();
    ask_refused(&text, "notes.gguf");
    ask_refused(&folder.join("absent.gguf"), "absent.gguf");
    let manifest = folder.join("manifest.json");
    fs::write(&manifest, "{").unwrap();
    ask_refused(&folder, "manifest.json");
    // A file of the manifest that leaves the folder.
    let entry = r#"{"role":"llm","path":"../x.gguf","bytes":1,"sha256":"00"}"#;
    fs::write(
        &manifest,
        format!(r#"{{"format":"univi","version":1,"name":"x","files":[{entry}]}}"#),
    )
    .unwrap();
    ask_refused(&folder, "../x.gguf");
}

/// What `git clone` leaves in place of a file, and what servers send in place of one.
#[test]
fn files_that_are_well_known_to_be_something_else() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98362432\n";
    let safetensors = b"\x02\0\0\0\0\0\0\0{}";
    let cases: [(&str, &[u8], &str); 7] = [
        ("pointer", pointer.as_bytes(), "git lfs pull"),
        ("page", b"<!DOCTYPE html>\n<html><body>404", "web page"),
        ("error", b"{\"error\":\"Repository not found\"}", "is JSON"),
        ("packed", b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        ("weights", safetensors, "univi convert"),
        ("torch", b"PK\x03\x04\0\0\0\0", "univi convert"),
        ("zeros", &[0; 4096], "nothing but zeros"),
    ];
    for (name, bytes, says) in cases {
        ask_refused(&copy_to(&format!("impostor-{name}"), bytes), says);
    }
    let folder = scratch("impostors");
    for (name, says) in [
        ("image.png", "git lfs pull"),
        ("manifest.json", "git lfs pull"),
    ] {
        fs::write(folder.join(name), pointer).unwrap();
        match name {
            "image.png" => shown_refused("--image", &folder.join(name), says),
            _ => ask_refused(&folder, says),
        }
    }
}

/// Metadata that would change what is computed, and tensors that would.
#[test]
fn a_model_that_computes_something_else() {
    for (name, key, value) in [
        ("logits", "llama.logit_scale", univi::gguf::Value::F32(0.25)),
        (
            "window",
            "llama.attention.sliding_window_pattern",
            4u32.into(),
        ),
        ("yarn", "llama.rope.scaling.type", "yarn".into()),
    ] {
        let bytes = rewritten_with(|metadata| metadata.insert(key, value.clone()), |_| true);
        ask_refused(&copy_to(name, &bytes), key.rsplit('.').next().unwrap());
    }
    let key_length = "llama.attention.key_length";
    let bytes = rewritten_with(|metadata| metadata.insert(key_length, 6u32), |_| true);
    ask_refused(&copy_to("heads", &bytes), "a multiple of 4");
    let mut first = true;
    let bytes = rewritten(|spec| {
        if spec.name == "blk.0.attn_norm.weight" && std::mem::take(&mut first) {
            spec.name = "blk.0.attn_q_norm.weight".into();
        }
        true
    });
    ask_refused(
        &copy_to("norm", &bytes),
        "tensor blk.0.attn_q_norm.weight has no place",
    );
}

#[track_caller]
fn shown_refused(option: &str, file: &Path, says: &str) {
    let args = [
        "ask",
        "-m",
        tiny(),
        "--device",
        "cpu",
        "--max-tokens",
        "2",
        option,
        path(file),
        "What?",
    ];
    complains(&args, confined(&args), says);
    let out = scratch(&format!("unseen{option}")).join("out.png");
    let args = [
        "visualize",
        "-m",
        tiny(),
        "--device",
        "cpu",
        option,
        path(file),
        "--out",
        path(&out),
    ];
    complains(&args, confined(&args), says);
    assert!(!out.exists());
}

#[test]
fn pictures_that_are_none() {
    let folder = scratch("no-pictures");
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    shown_refused("--image", &file("empty.png", b""), "empty.png");
    shown_refused(
        "--image",
        &file("text.png", b"this is no picture"),
        "text.png",
    );
    shown_refused("--image", &folder.join("absent.png"), "absent.png");
    shown_refused("--image", &folder, "no-pictures");
    let whole = fs::read(e2e().join("image.png")).unwrap();
    shown_refused(
        "--image",
        &file("half.png", &whole[..whole.len() / 2]),
        "half.png",
    );
    // A header that promises more pixels than any memory holds.
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    shown_refused("--image", &file("huge.png", &huge), "huge.png");
}

#[test]
fn videos_that_are_none() {
    let folder = scratch("no-videos");
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let frameless = folder.join("frameless");
    fs::create_dir(&frameless).unwrap();
    shown_refused("--video", &frameless, "no frames");
    fs::write(frameless.join("notes.txt"), "no frame").unwrap();
    shown_refused("--video", &frameless, "no frames");
    fs::write(frameless.join("1.png"), "no frame either").unwrap();
    shown_refused("--video", &frameless, "1.png");
    shown_refused(
        "--video",
        &file("empty.mp4", b""),
        "empty.mp4: video: the file is empty",
    );
    shown_refused(
        "--video",
        &file("text.mp4", b"this is no video"),
        "text.mp4: video: ",
    );
    shown_refused(
        "--video",
        &file("cut.gif", b"GIF89a\x01\x00"),
        "cut.gif: video: ",
    );
    shown_refused("--video", &folder.join("absent.mp4"), "absent.mp4");
    // ffmpeg would open the files that a list names, whatever the list is called.
    let list = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n";
    shown_refused("--video", &file("list.mp4", list), "is a playlist");
    let list = b"ffconcat version 1.0\nfile '/etc/passwd'\n";
    shown_refused("--video", &file("list.mkv", list), "is text, not a video");
    shown_refused(
        "--image",
        &file("clip.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0"),
        "is a video",
    );
}

#[test]
fn a_video_needs_ffmpeg_and_says_how_to_get_it() {
    let file = scratch("no-ffmpeg").join("clip.mp4");
    fs::write(&file, b"\0\0\0\x18ftypmp42\xff\xfe\xfd").unwrap();
    let args = [
        "ask",
        "-m",
        tiny(),
        "--device",
        "cpu",
        "--video",
        path(&file),
        "What?",
    ];
    let output = crate::command(&args)
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    complains(&args, output, "install ffmpeg");
}

#[test]
fn questions_that_cannot_be_answered() {
    let ask = |more: &[&str], says: &str| {
        let mut args = vec!["ask", "-m", tiny(), "--device", "cpu", "--max-tokens", "2"];
        args.extend(more);
        complains(&args, confined(&args), says);
    };
    let long = "and why is that so? ".repeat(600);
    ask(&[&long], "the context holds 2048");
    ask(
        &["--context", "64", "--template", "v1", &"why? ".repeat(50)],
        "the context holds 64",
    );
    ask(&["--context", "1000000", "What?"], "context");
    ask(&["  "], "the question is empty");
    let image = e2e().join("image.png");
    ask(
        &[
            "--context",
            "100",
            "--template",
            "v1",
            "--image",
            path(&image),
            "What?",
        ],
        "the context holds 100",
    );
    ask(
        &[
            "--raw-prompt",
            "--image",
            path(&image),
            "USER: What? ASSISTANT:",
        ],
        "0 markers",
    );
    ask(
        &["--raw-prompt", "USER: <image><image>\nWhat? ASSISTANT:"],
        "2 markers",
    );
    // The language model alone has no vision encoder.
    let language = language();
    let args = [
        "ask",
        "-m",
        path(&language),
        "--device",
        "cpu",
        "--image",
        path(&image),
        "What?",
    ];
    refused(&args, "no vision side");
    let out = scratch("blind").join("out.png");
    let args = [
        "visualize",
        "-m",
        path(&language),
        "--device",
        "cpu",
        "--image",
        path(&image),
        "--out",
        path(&out),
    ];
    refused(&args, "no vision side");
}

#[test]
fn a_figure_that_cannot_be_written() {
    let image = e2e().join("image.png");
    let args = [
        "visualize",
        "-m",
        tiny(),
        "--device",
        "cpu",
        "--image",
        path(&image),
        "--out",
        "/nonexistent/out.png",
    ];
    refused(&args, "/nonexistent/out.png");
}

#[test]
fn files_of_gigabytes_are_told_by_their_first_bytes() {
    let folder = scratch("gigabytes");
    let huge = |name: &str, begins: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, begins).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // Sparse: it takes no room.
        file.set_len(64 << 30).unwrap();
        path
    };
    shown_refused("--image", &huge("zeros.png", b""), "zeros.png");
    // It begins as a picture does; reading it ends where no picture is as long.
    let png = fs::read(e2e().join("image.png")).unwrap();
    shown_refused(
        "--image",
        &huge("long.png", &png),
        "longer than any picture",
    );
    let schema = huge("schema.json", b"{");
    let args = [
        "ask",
        "--device",
        "cpu",
        "-m",
        tiny(),
        "--json-schema",
        path(&schema),
        "What?",
    ];
    complains(&args, confined(&args), "schema.json: ");
}

#[test]
fn names_from_files_cannot_command_a_terminal() {
    let bytes = fs::read(language()).unwrap();
    let header: Header = parse(&bytes).unwrap();
    let mut metadata = univi::gguf::Metadata::new();
    let own = |key: &&str| !key.starts_with("split.");
    for (key, value) in header.metadata.iter().filter(|(key, _)| own(key)) {
        metadata.insert(key, value.clone());
    }
    metadata.insert("general.name", "\x1b]0;owned\x07\x1b[2Jred\nerror: forged");
    let specs = header.tensors.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        ty: tensor.ty,
        shape: tensor.shape.clone(),
    });
    let specs: Vec<TensorSpec> = specs.collect();
    let mut writer = Writer::new(Vec::new(), &metadata, &specs).unwrap();
    for spec in &specs {
        let data = vec![0; spec.bytes().unwrap() as usize];
        writer.write(&data).unwrap();
    }
    let file = copy_to("control", &writer.finish().unwrap());
    for more in [&[][..], &["--verbose", "--tensors"]] {
        let said = crate::univi(&[&["inspect", path(&file)][..], more].concat());
        assert!(said.contains("\\u{1b}[2Jred\\nerror: forged"), "{said}");
        assert!(
            !said.contains(|c: char| c.is_control() && c != '\n'),
            "{said}"
        );
        assert!(
            !said.lines().any(|line| line.starts_with("error")),
            "{said}"
        );
    }
    let args = ["inspect", "/no\x1b[2Jwhere\u{202e}gpj"];
    let output = crate::run(&args, "");
    assert!(!output.stderr.contains(&0x1b));
    complains(&args, output, "/no\\u{1b}[2Jwhere\\u{202e}gpj");
}

#[test]
fn inspecting_is_short_unless_more_is_asked_for() {
    let said = crate::univi(&["inspect", tiny()]);
    assert!(said.lines().count() <= 8, "{said}");
    let more = crate::univi(&["inspect", tiny(), "--verbose"]);
    assert!(more.starts_with(&said), "{more}");
    assert!(more.contains("metadata  general.architecture"), "{more}");
}

#[test]
fn secrets_of_an_address_are_not_repeated() {
    let address = "https://me:secret@models.example/m.gguf?token=secret#secret";
    let args = ["inspect", address];
    let output = crate::run(&args, "");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    complains(&args, output, "https://models.example/m.gguf: ");
}
