//! What goes along with a model that was converted, so that it can be published as it is: a model
//! card, and the licence of the weights.

use std::fmt::Write;

use univi::{
    Result,
    manifest::{MANIFEST_NAME, Manifest, Role},
};

use crate::checkpoint::Checkpoint;

/// The name of a model card.
pub const CARD_NAME: &str = "README.md";

/// A line of every card that is written here, and of no other.
pub const CARD_MARK: &str = "<!-- written by univi convert -->";

/// Where the terms of weights stand, beside them.
const LICENSE_NAMES: [&str; 12] = [
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE",
    "LICENCE.txt",
    "LICENCE.md",
    "COPYING",
    "NOTICE",
    "NOTICE.txt",
    "NOTICE.md",
    "Notice",
    "USE_POLICY.md",
];

/// A checkpoint in a repository of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `OWNER/NAME`.
    pub repository: String,
    /// The commit, in hexadecimal digits.
    pub commit: String,
}

/// The files of a checkpoint that say under which terms its weights are used.
pub(crate) fn license_files(checkpoint: &Checkpoint<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for name in LICENSE_NAMES {
        // A disk that does not tell capital letters apart finds one file under two names.
        let is_known = |known: &(String, Vec<u8>)| known.0.eq_ignore_ascii_case(name);
        if !found.iter().any(is_known)
            && let Some(bytes) = checkpoint.small_file(name)?
        {
            found.push((name.to_string(), bytes));
        }
    }
    Ok(found)
}

/// What a card is about.
pub(crate) struct CardFacts<'a> {
    /// Lacks its files.
    pub manifest: &'a Manifest,
    /// What each file is for, and its length.
    pub files: Vec<(Role, u64)>,
    pub license_names: Vec<&'a str>,
    pub origin: Option<&'a Origin>,
}

/// Returns the model card.
pub(crate) fn card(facts: &CardFacts<'_>) -> String {
    let CardFacts {
        manifest,
        files,
        license_names,
        origin,
    } = facts;
    let name = one_line(&manifest.name);
    let quantization = manifest.quantization.as_deref().unwrap_or("unknown");
    let has_vision = files.iter().any(|&(role, _)| role == Role::Vision);
    let mut card = String::from("---\n");
    // Writing to a String cannot fail.
    if let Some(license) = &manifest.license {
        let _ = writeln!(card, "license: {}", yaml(license));
    }
    let task = match has_vision {
        true => "image-text-to-text",
        false => "text-generation",
    };
    let _ = writeln!(card, "library_name: univi\npipeline_tag: {task}");
    if let Some(origin) = origin {
        let repository = &origin.repository;
        let _ = writeln!(
            card,
            "base_model: {repository}\nbase_model_relation: quantized"
        );
    }
    let _ = writeln!(
        card,
        "tags:\n  - univi\n  - gguf\n---\n\n{CARD_MARK}\n\n# {name}, {quantization}\n"
    );
    let made_of = match origin {
        Some(Origin { repository, commit }) => {
            format!("[{repository}](https://huggingface.co/{repository}) at commit `{commit}`")
        }
        None => "a checkpoint of that name".to_string(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        card,
        "A model for [UniVi](https://github.com/univi/univi), which runs it in web pages, in \
         Node and on the command line.\n`univi convert` {version} made it of {made_of}.\n"
    );

    let _ = writeln!(card, "| | |\n|---|---|");
    let mut row = |what: &str, value: String| {
        let _ = writeln!(card, "| {what} | {value} |");
    };
    row("language model", format!("`{quantization}`"));
    if let Some(parameters) = manifest.parameters {
        row(
            "parameters",
            format!("{:.2} billion", parameters as f64 / 1e9),
        );
    }
    if let Some(context) = manifest.context_length {
        row("context", format!("{context} tokens"));
    }
    if let Some(image_px) = manifest.image_px {
        row("pictures", format!("{image_px} × {image_px} pixels"));
    }
    for (what, role) in [
        ("language model's files", Role::Llm),
        ("vision encoder's file", Role::Vision),
        ("tokenizer", Role::Tokenizer),
    ] {
        let of_role = files.iter().filter(|file| file.0 == role);
        let (count, bytes) = of_role.fold((0, 0), |(n, sum), file| (n + 1, sum + file.1));
        if count > 0 {
            row(what, format!("{count}, {bytes} bytes"));
        }
    }
    let all: u64 = files.iter().map(|file| file.1).sum();
    row("all files", format!("{all} bytes"));

    let ask = match has_vision {
        true => " --image photo.jpg \"What can you see?\"",
        false => " \"What is a hub?\"",
    };
    let asked = match has_vision {
        true => "[photo, \"What can you see?\"]",
        false => "\"What is a hub?\"",
    };
    let _ = writeln!(
        card,
        "\n`{MANIFEST_NAME}` lists the files with their lengths and SHA-256.\n\
         \n## In a web page\n\n\
         ```ts\n\
         import {{ Univi }} from \"univi\";\n\n\
         const host = \"https://HOST/models/NAME\";\n\
         const univi = await Univi.create({{ model: `${{host}}/{MANIFEST_NAME}` }});\n\
         for await (const piece of univi.ask({asked})) out.append(piece);\n\
         ```\n\
         \n## On the command line\n\n\
         ```\n\
         univi ask --model hf:OWNER/NAME{ask}\n\
         ```\n\n\
         `OWNER/NAME` is where this folder was uploaded to; `--model` takes a folder of the \
         disk as well.\n\
         \n## Publishing\n\n\
         One command puts the folder on the Hub, and another one on a static host:\n\n\
         ```\n\
         hf upload OWNER/NAME .\n\
         rsync --archive ./ HOST:/var/www/models/NAME\n\
         ```\n\
         \n## Licence\n"
    );
    let named = match &manifest.license {
        Some(license) => format!(
            "The checkpoint names its licence as `{}`.",
            one_line(license)
        ),
        None => "The checkpoint names no licence.".to_string(),
    };
    let linked: Vec<String> = license_names
        .iter()
        .map(|name| format!("[{name}]({name})"))
        .collect();
    let terms = match &linked[..] {
        [] => {
            "It came without a file of its terms: look for them where it is published.".to_string()
        }
        linked => format!("Its terms: {}.", linked.join(", ")),
    };
    let _ = writeln!(
        card,
        "The weights were only stored in another way, so the terms of the checkpoint hold for \
         them.\n{named} {terms}"
    );
    card
}

/// A text out of a file, as one line of Markdown.
fn one_line(text: &str) -> String {
    let safe = |c: char| match c {
        '`' | '|' | '<' | '>' | '[' | ']' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// A text out of a file, as a value of YAML.
fn yaml(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect()
}
