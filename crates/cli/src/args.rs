//! Arguments that several commands share.

use std::{fmt, path::PathBuf};

use clap::{Args, ValueEnum};
use univi::{
    Device, VisualOptions,
    backend::KvType,
    config::{MergeConfig, MergeMethod},
    frames::FrameOptions,
    loader::LoadOptions,
    prompt::Template,
    sampler::Sampling,
    session::{GenerateOptions, SessionOptions},
};

use crate::values::{not_negative, positive_f32, seconds, share};

/// The compute device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The GPU, or the CPU where there is none or only software that plays one.
    Auto,
    /// The GPU (Vulkan, Metal or Direct3D 12), also a software one; fails where there is none.
    Gpu,
    /// The CPU.
    Cpu,
}

impl From<DeviceChoice> for Device {
    fn from(choice: DeviceChoice) -> Device {
        match choice {
            DeviceChoice::Auto => Device::Auto,
            DeviceChoice::Gpu => Device::Gpu,
            DeviceChoice::Cpu => Device::Cpu,
        }
    }
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: a folder with a manifest.json, the manifest, a GGUF file, a split model's first
    /// file, or one on the Hub: hf:OWNER/NAME, hf:OWNER/NAME/FILE.gguf.
    #[arg(long, short, value_name = "MODEL")]
    pub model: PathBuf,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Tokens that a conversation may have, visual ones included [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    #[command(flatten)]
    pub kv_cache: KvCacheArg,
    /// The prompt template, in place of the model's own.
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare"])]
    pub template: Option<String>,
    /// The system text, in place of the template's.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// How the KV cache stores keys and values.
#[derive(Debug, Clone, Args)]
pub struct KvCacheArg {
    /// How the KV cache stores keys and values: f32 exactly, q8 in 9/32 of the memory.
    #[arg(long, value_name = "TYPE", default_value = KvType::NAMES[0], value_parser = KvType::NAMES)]
    kv_cache: String,
}

impl KvCacheArg {
    /// Takes one of [`KvType::NAMES`].
    pub fn new(name: &str) -> KvCacheArg {
        KvCacheArg {
            kv_cache: name.to_owned(),
        }
    }

    /// Returns the name that was given.
    pub fn name(&self) -> &str {
        &self.kv_cache
    }

    /// Returns the library's options.
    pub fn ty(&self) -> KvType {
        KvType::from_name(&self.kv_cache).expect("one of its names")
    }
}

/// How patches become visual tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MergeChoice {
    /// As the model was trained: clusters of like patches.
    Clusters,
    /// Means over rectangles of one size, as many as --visual-tokens allows.
    Pool,
    /// Every patch is a token.
    None,
}

impl From<MergeChoice> for MergeMethod {
    fn from(choice: MergeChoice) -> MergeMethod {
        match choice {
            MergeChoice::Clusters => MergeMethod::AsTrained,
            MergeChoice::Pool => MergeMethod::Pool,
            MergeChoice::None => MergeMethod::None,
        }
    }
}

impl fmt::Display for MergeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MergeChoice::Clusters => "clusters",
            MergeChoice::Pool => "pool",
            MergeChoice::None => "none",
        })
    }
}

/// How much is merged, and how: each combination is measured.
#[derive(Debug, Clone, Args)]
pub struct MergeArgs {
    /// Tokens that each picture, or event of a video, is merged to, about; several with commas
    /// between them are measured one after the other [default: as the model was trained].
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub visual_tokens: Vec<u32>,
    /// How patches become tokens; several with commas between them.
    #[arg(long, value_enum, value_name = "HOW,..", value_delimiter = ',', default_values_t = [MergeChoice::Clusters])]
    pub merge: Vec<MergeChoice>,
}

/// One of the combinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merging {
    /// Tokens, where they were chosen.
    pub tokens: Option<u32>,
    /// How.
    pub method: MergeChoice,
}

impl Merging {
    /// Returns the library's options.
    pub fn options(self) -> VisualOptions {
        VisualOptions::default()
            .tokens(self.tokens.map(|n| n as usize))
            .merge(self.method.into())
    }
}

impl fmt::Display for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tokens {
            Some(tokens) => write!(f, "{}-{tokens}", self.method),
            None => write!(f, "{}", self.method),
        }
    }
}

impl MergeArgs {
    /// Checks that what is given has an effect.
    ///
    /// # Errors
    /// What has none.
    pub fn check(&self) -> Result<(), String> {
        let merges = self.merge.iter().any(|&how| how != MergeChoice::None);
        if merges || self.visual_tokens.is_empty() {
            return Ok(());
        }
        Err("--visual-tokens does nothing with --merge none, where every patch is a token; leave it \
             out, or add clusters or pool"
            .to_owned())
    }

    /// Returns all combinations. Without merging there is no number to choose.
    pub fn all(&self) -> Vec<Merging> {
        let mut tokens: Vec<Option<u32>> = self.visual_tokens.iter().copied().map(Some).collect();
        if tokens.is_empty() {
            tokens.push(None);
        }
        let mut all = Vec::new();
        for &method in &self.merge {
            let tokens = match method {
                MergeChoice::None => &[None][..],
                _ => &tokens,
            };
            all.extend(tokens.iter().map(|&tokens| Merging { tokens, method }));
        }
        all
    }
}

/// Which frames of a video are encoded.
#[derive(Debug, Clone, Args)]
pub struct FrameArgs {
    /// Where in each video to begin, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub start: Option<f64>,
    /// Where in each video to end, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub end: Option<f64>,
    /// Frames to encode per second of video, a whole number [default: the model's].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub frame_rate: Option<u32>,
    /// Frames to encode, at most [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_frames: Option<u32>,
    /// Tokens that each picture, or event of a video, is merged to, about [default: as the model
    /// was trained].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=4096))]
    pub visual_tokens: Option<u32>,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// Always take the likeliest token: the same answer every time.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    pub greedy: bool,
    /// Tokens of an answer, at most.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Sampling temperature: 0 is greedy, 1 is as the model was trained [default: 0.2].
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f32>,
    /// Choose among the N likeliest tokens only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f32>,
    /// Choose among tokens at least this likely, as a share of the likeliest one's probability.
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f32>,
    /// Divide the scores of tokens seen before by this; 1 does nothing [default: 1].
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub repetition_penalty: Option<f32>,
    /// Seed of the sampler: the same seed gives the same answer on the same device [default: 0].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// Checks that no option is given that others leave without effect.
    ///
    /// # Errors
    /// Which one that is.
    pub fn check(&self) -> Result<(), String> {
        let of_choices = [
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let ignored = of_choices.iter().find(|(_, given)| *given);
        match (self.temperature, ignored) {
            (Some(0.0), Some((option, _))) => Err(format!(
                "--temperature 0 always takes the likeliest token, so {option} has no effect: leave one of them out"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the library's options.
    pub fn generate(&self) -> GenerateOptions {
        let default = Sampling::default();
        let sampling = default
            .repetition_penalty(
                self.repetition_penalty
                    .unwrap_or(default.repetition_penalty),
            )
            .temperature(if self.greedy {
                0.0
            } else {
                self.temperature.unwrap_or(default.temperature)
            })
            .top_k(self.top_k.map_or(default.top_k, |k| k as usize))
            .top_p(self.top_p.unwrap_or(default.top_p))
            .min_p(self.min_p.unwrap_or(default.min_p))
            .seed(self.seed.unwrap_or(default.seed));
        GenerateOptions::default()
            .max_tokens(self.max_tokens as usize)
            .sampling(sampling)
            .stop(self.stop.clone())
    }
}

impl FrameArgs {
    /// Returns how images and videos are encoded.
    pub fn visual_options(&self) -> VisualOptions {
        VisualOptions::default().tokens(self.visual_tokens.map(|n| n as usize))
    }

    /// Checks that every option that was given has something to act on.
    ///
    /// # Errors
    /// What contradicts itself, or would be ignored without `images` or `videos`.
    pub fn check(&self, images: bool, videos: bool) -> Result<(), String> {
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start > end
        {
            return Err(format!(
                "--start {start} lies after --end {end}: give the earlier time to --start"
            ));
        }
        let of_videos = [
            ("--start", self.start.is_some()),
            ("--end", self.end.is_some()),
            ("--frame-rate", self.frame_rate.is_some()),
            ("--max-frames", self.max_frames.is_some()),
        ];
        if let Some((option, _)) = of_videos.iter().find(|(_, given)| *given && !videos) {
            return Err(format!(
                "{option} chooses frames of a video: add --video FILE, or leave it out"
            ));
        }
        if self.visual_tokens.is_some() && !images && !videos {
            let reason = "--visual-tokens is for images and videos: add --image FILE or --video FILE, or leave it out";
            return Err(reason.into());
        }
        Ok(())
    }

    /// Returns the library's options; the model's defaults where an option is absent.
    pub fn options(&self, model: &MergeConfig) -> FrameOptions {
        FrameOptions::default()
            .frame_rate(self.frame_rate.map_or(model.frame_rate, f64::from))
            .max_frames(self.max_frames.map_or(model.max_frames, |n| n as usize))
            .start_s(self.start)
            .end_s(self.end)
    }
}

impl ModelArgs {
    /// Returns the library's options.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions::default()
            .context(self.context.map(|n| n as usize))
            .kv_cache(self.kv_cache.ty())
    }

    /// Returns the library's options.
    ///
    /// # Errors
    /// `BadRequest` for a template of another name.
    pub fn session_options(&self) -> univi::Result<SessionOptions> {
        let template = self
            .template
            .as_deref()
            .map(Template::from_name)
            .transpose()?;
        Ok(SessionOptions::default()
            .system(self.system.clone())
            .template(template))
    }
}

/// Where the artwork of the emoji world lies.
#[derive(Debug, Args)]
pub struct WorldArgs {
    /// The folder of npm packages with the artwork; `cargo xtask artwork` makes it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "crates/train/artwork/node_modules"
    )]
    pub artwork: PathBuf,
}

/// A picture or a video on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisualPath {
    /// `--image FILE`
    Image(PathBuf),
    /// `--video FILE`
    Video(PathBuf),
}

/// Pictures and videos in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Visuals(pub Vec<VisualPath>);

/// The path that stands for stdin.
pub const STDIN: &str = "-";

impl Visuals {
    /// Whether a picture is among them.
    pub fn has_images(&self) -> bool {
        let is_image = |visual: &VisualPath| matches!(visual, VisualPath::Image(_));
        self.0.iter().any(is_image)
    }

    /// Whether a video is among them.
    pub fn has_videos(&self) -> bool {
        let is_video = |visual: &VisualPath| matches!(visual, VisualPath::Video(_));
        self.0.iter().any(is_video)
    }

    /// How many of them are pictures on stdin.
    pub fn stdin_count(&self) -> usize {
        let is_stdin = |visual: &&VisualPath| matches!(visual, VisualPath::Image(path) if path.as_os_str() == STDIN);
        self.0.iter().filter(is_stdin).count()
    }
}

/// The two options as clap sees them; it loses their order among each other.
#[derive(Debug, Args)]
struct UnorderedVisuals {
    /// A picture (PNG, JPEG, WebP, GIF or BMP), `-` for one on stdin; may be given several times.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A video: a file, an animated GIF, or a folder of frames; may be given several times.
    #[arg(long, value_name = "FILE|DIR")]
    video: Vec<PathBuf>,
}

impl Args for Visuals {
    fn augment_args(command: clap::Command) -> clap::Command {
        UnorderedVisuals::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        UnorderedVisuals::augment_args_for_update(command)
    }
}

impl clap::FromArgMatches for Visuals {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Visuals, clap::Error> {
        let given = |id: &str, visual: fn(PathBuf) -> VisualPath| -> Vec<(usize, VisualPath)> {
            let indices = matches.indices_of(id).into_iter().flatten();
            let paths = matches
                .get_many::<PathBuf>(id)
                .into_iter()
                .flatten()
                .cloned();
            indices.zip(paths.map(visual)).collect()
        };
        let mut all = given("image", VisualPath::Image);
        all.extend(given("video", VisualPath::Video));
        all.sort_by_key(|&(index, _)| index);
        Ok(Visuals(all.into_iter().map(|(_, visual)| visual).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Visuals::from_arg_matches(matches)?;
        Ok(())
    }
}
