//! `univi serve`: the static server of `univi-serve` and the answers of a model, on the command
//! line.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use serde_json::json;
use univi::{Error, Result, backend::KvType};
use univi_serve::{
    Fault, FaultKind, Mount, Origin, Report, RequestRecord, ServeOptions, Server, StatusCode,
};

use crate::{
    args::{DeviceChoice, FrameArgs, KvCacheArg, ModelArgs},
    chat_server::{ChatServer, ChatServerOptions, UrlPrefix},
    files, out,
    values::{share, size_bytes},
};

/// Serve a folder of models and pages to a browser, or answers of a model to OpenAI's clients.
///
/// A folder, as a page wants it that streams weights and takes up where it stopped: byte ranges,
/// strong ETags, CORS for every origin, cross-origin isolation, no compression. Any page that the
/// browser shows may read what is served.
///
/// With --model, chat completions in OpenAI's shapes at /v1/chat/completions, beside /v1/models,
/// /health and /metrics: text, pictures and clips, streamed or not, held to a JSON schema or not.
/// Up to eight requests are answered at a time, those who ask take turns.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi serve models
  univi serve www/dist --mount /models=models --port 8080 --log
  univi serve models --port 0 --json --throttle 100MB --fail 0.1 --corrupt 0.02 --seed 7
  univi serve models --fault 429,retry-after=2,times=1 --fault stall=10MB,path=00002-of,times=1
  univi serve --model models/univi-nano
  univi serve --model models/chat-univi-7b --device gpu --host 0.0.0.0 --api-key \"$KEY\"
  curl http://127.0.0.1:8000/v1/chat/completions -d '{ \"messages\": [{ \"role\": \"user\", \"content\": \"Hello\" }] }'

Faults: KIND, then any of path=TEXT (only files whose addresses hold this), times=N (only the first N requests for each file), rate=R (only that share of requests; the same requests at each run with the same --seed). Rules add up.
  400 .. 599           this status instead of the file; retry-after=S adds that header
  html                 a web page instead of the file, with status 200
  corrupt              one byte of the body is inverted
  shorten=BYTES        the file seems to end after so many bytes
  drop=BYTES           the connection breaks after so many bytes of the body
  stall=BYTES          the connection falls silent after so many bytes of the body, and stays open
  no-length            no Content-Length: the body comes in chunks
  ignore-range         the whole file with status 200, for every range
  etag                 another ETag at each answer, as if the file had changed

With --json, the first line has `url` and `port`; then, for each request that is over, come `method`, `path`, `range`, `status`, `bytes` (of the body, as sent) and `faults`. Read them all: a full pipe stops the server.
Browsers offer WebGPU to pages of this machine, and of others through HTTPS only: --host alone does not bring it to them.

Exit codes: 1 failed, 2 wrong command line, 130 ended with Ctrl-C.")]
pub struct ServeArgs {
    /// The folder that is served at /.
    #[arg(value_name = "DIR", required_unless_present = "model")]
    pub dir: Option<PathBuf>,
    /// A further folder and the address below which it is served; may be given several times.
    #[arg(long = "mount", value_name = "/PATH=DIR", value_parser = mount)]
    pub mounts: Vec<Mount>,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// The address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Serve files and folders whose names begin with a dot, too.
    #[arg(long)]
    pub dotfiles: bool,
    /// A further server that workers of the pages may reach, such as https://models.example; may be
    /// given several times. Without it they reach this one alone.
    #[arg(long, value_name = "ORIGIN", value_parser = Origin::parse)]
    pub connect_src: Vec<Origin>,
    /// Print a line for each request to stderr.
    #[arg(long, conflicts_with = "json")]
    pub log: bool,
    /// Print a line of JSON with the address, and one for each request.
    #[arg(long)]
    pub json: bool,
    /// Send so many bytes per second at most, such as 100MB, over all connections together.
    #[arg(long, value_name = "BYTES", value_parser = size_bytes, help_heading = FAULTS)]
    pub throttle: Option<u64>,
    /// Answer this share of requests with 503: the same as --fault 503,rate=RATE.
    #[arg(long, value_name = "RATE", value_parser = fail, help_heading = FAULTS)]
    pub fail: Option<Fault>,
    /// Invert one byte in this share of answers: the same as --fault corrupt,rate=RATE.
    #[arg(long, value_name = "RATE", value_parser = corrupt, help_heading = FAULTS)]
    pub corrupt: Option<Fault>,
    /// What else goes wrong, see below; may be given several times.
    #[arg(long = "fault", value_name = "KIND[,..]", value_parser = fault, help_heading = FAULTS)]
    pub fault: Vec<Fault>,
    /// Seed of chance: the same seed, files and requests meet the same faults [default: 0].
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub answers: AnswerArgs,
}

/// Above what only tests want.
const FAULTS: &str = "Faults, to test what loads a model";

/// The model that answers, and who may ask it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answers, with --model")]
pub struct AnswerArgs {
    /// The model that answers: a folder with a manifest.json, the manifest, a GGUF file, a split
    /// model's first file, or one on the Hub: hf:OWNER/NAME, hf:OWNER/NAME/FILE.gguf.
    #[arg(long, short, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// What clients call the model [default: the name of its file or folder].
    #[arg(long, value_name = "NAME", requires = "model")]
    pub model_name: Option<String>,
    /// The compute device.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto, requires = "model")]
    pub device: DeviceChoice,
    /// Tokens that a conversation may have, visual ones included [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub context: Option<u32>,
    /// How the KV cache stores keys and values: f32 exactly, q8 in 9/32 of the memory.
    #[arg(long, value_name = "TYPE", default_value = KvType::NAMES[0], value_parser = KvType::NAMES, requires = "model")]
    pub kv_cache: String,
    /// The prompt template, in place of the model's own.
    #[arg(long, value_name = "NAME", value_parser = ["simple", "simpleqa", "v1", "bare"], requires = "model")]
    pub template: Option<String>,
    /// The system text of conversations that bring none, in place of the template's.
    #[arg(long, value_name = "TEXT", requires = "model")]
    pub system: Option<String>,
    /// Frames to encode per second of a clip, a whole number [default: the model's].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub frame_rate: Option<u32>,
    /// Frames to encode of a clip, at most [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096), requires = "model")]
    pub max_frames: Option<u32>,
    /// Tokens that each picture, or event of a clip, is merged to, about [default: as the model
    /// was trained].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=4096), requires = "model")]
    pub visual_tokens: Option<u32>,
    /// The key that clients must send, but for /health; may be given several times, so that each of
    /// those who ask has one, and turns of their own [default: the environment's UNIVI_API_KEY,
    /// which other users of the machine can't read, or none].
    #[arg(long, value_name = "KEY", requires = "model")]
    pub api_key: Vec<String>,
    /// An origin whose pages may ask, such as https://page.example, or * for all; may be given
    /// several times. Pages of this server may.
    #[arg(long, value_name = "ORIGIN", value_parser = origin, requires = "model")]
    pub allow_origin: Vec<String>,
    /// A folder whose files requests may name as file: URLs.
    #[arg(long, value_name = "DIR", value_parser = folder, requires = "model")]
    pub message_files: Option<PathBuf>,
    /// The beginning of addresses that pictures and clips are fetched from, such as
    /// https://example.org/pictures/; may be given several times. Without it nothing is fetched.
    #[arg(long, value_name = "PREFIX", value_parser = UrlPrefix::parse, requires = "model")]
    pub allow_url: Vec<UrlPrefix>,
    /// Seconds that fetching a picture or clip may take.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), requires = "allow_url")]
    pub fetch_timeout: u64,
    /// Requests that may wait while others are answered; further ones get 429.
    #[arg(long, value_name = "N", default_value_t = 64, requires = "model")]
    pub queue: u32,
    /// Seconds that a request may take to arrive, and may wait for its turn.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..), requires = "model")]
    pub timeout: u64,
    /// The most bytes of a request, such as 64MiB.
    #[arg(long, value_name = "BYTES", value_parser = size_bytes, default_value = "64MiB", requires = "model")]
    pub max_body: u64,
    /// The most memory that requests take together while they arrive and wait, such as 512MiB;
    /// what has no room gets 503.
    #[arg(long, value_name = "BYTES", value_parser = size_bytes, default_value = "512MiB", requires = "model")]
    pub request_memory: u64,
    /// Conversations whose KV caches stay in memory, so that going on with one costs its own words.
    /// So many are answered at a time, eight at the most.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub conversations: u32,
}

/// Where the key is looked for that is not on the command line.
const API_KEY_VARIABLE: &str = "UNIVI_API_KEY";

impl AnswerArgs {
    /// Returns the server's options, where there is a model.
    ///
    /// # Errors
    /// `BadRequest` for an empty key.
    fn options(&self, takes_all: bool) -> Result<Option<ChatServerOptions>> {
        let Some(model) = &self.model else {
            return Ok(None);
        };
        let api_keys = match &self.api_key[..] {
            [] => std::env::var(API_KEY_VARIABLE).into_iter().collect(),
            keys => keys.to_vec(),
        };
        if api_keys.iter().any(|key| key.trim().is_empty()) {
            return Err(Error::BadRequest {
                reason: format!(
                    "the API key is empty: give --api-key KEY, or unset {API_KEY_VARIABLE}"
                ),
            });
        }
        Ok(Some(ChatServerOptions {
            model: ModelArgs {
                model: model.clone(),
                device: self.device,
                context: self.context,
                kv_cache: KvCacheArg::new(&self.kv_cache),
                template: self.template.clone(),
                system: self.system.clone(),
            },
            frames: FrameArgs {
                start: None,
                end: None,
                frame_rate: self.frame_rate,
                max_frames: self.max_frames,
                visual_tokens: self.visual_tokens,
            },
            model_name: self.model_name.clone().unwrap_or_else(|| name_of(model)),
            api_keys,
            allow_origins: self.allow_origin.clone(),
            message_files: self.message_files.clone(),
            allow_urls: self.allow_url.clone(),
            fetch_timeout: Duration::from_secs(self.fetch_timeout),
            queue: self.queue as usize,
            max_body_bytes: self.max_body,
            request_memory: self.request_memory,
            timeout: Duration::from_secs(self.timeout),
            conversations: self.conversations as usize,
            takes_all,
        }))
    }
}

/// Reads an origin: `null` is that of files, `*` stands for all.
fn origin(text: &str) -> Result<String, String> {
    let (scheme, host) = text.split_once("://").unwrap_or_default();
    let host = host.strip_suffix('/').unwrap_or(host);
    let is_origin = !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', ' ']);
    match is_origin || ["*", "null"].contains(&text) {
        true => Ok(text.to_owned()),
        false => Err("expected a scheme and a host, as in https://page.example, or *".into()),
    }
}

/// Reads the path of a folder that is there.
fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_dir() {
        true => Ok(path),
        false => Err("there is no such folder".into()),
    }
}

/// The name of a model's file or folder.
fn name_of(model: &std::path::Path) -> String {
    let path = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    // A manifest is called after its folder.
    let is_manifest = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let path = match path.parent().filter(|_| is_manifest) {
        Some(folder) => folder,
        None => &path,
    };
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "model".into());
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

impl ServeArgs {
    /// Checks that every option has something to act on.
    ///
    /// # Errors
    /// What would be ignored.
    pub fn check(&self) -> Result<(), String> {
        if self.dir.is_none() && self.mounts.is_empty() && self.acts_on_files() {
            return Err(
                "--dotfiles, --connect-src, --throttle and faults are about files: give a folder, \
                 or leave them out"
                    .into(),
            );
        }
        match self.seed {
            Some(_) if self.faults().is_empty() => Err(
                "--seed is for faults: add --fail, --corrupt or --fault, or leave it out".into(),
            ),
            _ => Ok(()),
        }
    }

    fn acts_on_files(&self) -> bool {
        self.dotfiles
            || !self.connect_src.is_empty()
            || self.throttle.is_some()
            || self.seed.is_some()
            || !self.faults().is_empty()
    }

    /// All rules, whichever way they were given.
    pub fn faults(&self) -> Vec<Fault> {
        let shares = self.fail.iter().chain(&self.corrupt);
        shares.chain(&self.fault).cloned().collect()
    }
}

fn fail(rate: &str) -> Result<Fault, String> {
    fault(&format!("503,rate={rate}"))
}

fn corrupt(rate: &str) -> Result<Fault, String> {
    fault(&format!("corrupt,rate={rate}"))
}

/// Parses `/models=DIR`.
fn mount(text: &str) -> Result<Mount, String> {
    let split = text
        .split_once('=')
        .filter(|(address, dir)| address.starts_with('/') && !dir.is_empty());
    let (address, dir) = split.ok_or("expected an address and a folder, such as /models=models")?;
    Mount::new(address, dir).map_err(|e| e.to_string())
}

/// Parses `KIND[=BYTES][,path=TEXT][,times=N][,rate=R][,retry-after=S]`. The log names the rule
/// as it was written.
fn fault(text: &str) -> Result<Fault, String> {
    let mut parts = text.split(',');
    let kind = fault_kind(parts.next().unwrap_or_default())?;
    let whole = |value: &str| {
        let number = value.parse::<u64>();
        number.map_err(|_| format!("{value:?} is no whole number"))
    };
    let mut fault = Fault::new(kind).name(text);
    for part in parts {
        fault = match part.split_once('=') {
            Some(("path", value)) => fault.path(value),
            Some(("times", value)) => fault.times(whole(value)?),
            Some(("rate", value)) => fault.rate(share(value)?.into()),
            Some(("retry-after", value)) if matches!(kind, FaultKind::Status(_)) => {
                fault.retry_after_s(whole(value)?)
            }
            _ => {
                return Err(format!(
                    "{part:?} is none of path=TEXT, times=N, rate=R, and for a status retry-after=S"
                ));
            }
        };
    }
    Ok(fault)
}

fn fault_kind(text: &str) -> Result<FaultKind, String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("html", "") => Ok(FaultKind::Html),
        ("corrupt", "") => Ok(FaultKind::Corrupt),
        ("no-length", "") => Ok(FaultKind::NoLength),
        ("ignore-range", "") => Ok(FaultKind::IgnoreRange),
        ("etag", "") => Ok(FaultKind::Etag),
        ("shorten", size) => size_bytes(size).map(FaultKind::Shorten),
        ("drop", size) => size_bytes(size).map(FaultKind::Drop),
        ("stall", size) => size_bytes(size).map(FaultKind::Stall),
        (status, "") => status
            .parse()
            .ok()
            .filter(|status: &StatusCode| status.is_client_error() || status.is_server_error())
            .map(FaultKind::Status)
            .ok_or_else(|| {
                format!(
                    "{text:?} is no fault; there are a status from 400 to 599, html, corrupt, shorten=BYTES, \
                     drop=BYTES, stall=BYTES, no-length, ignore-range and etag"
                )
            }),
        (kind, _) => Err(format!("{kind} takes no value")),
    }
}

/// Serves until the program is ended.
///
/// # Errors
/// `Io` where a folder can't be read or the address can't be listened on, `BadRequest` where a
/// folder is none, or two have the same address; what is wrong with the model.
pub fn run(args: &ServeArgs) -> Result<()> {
    let has_files = args.dir.is_some() || !args.mounts.is_empty();
    let answers = args.answers.options(!has_files)?;
    let options = match &args.dir {
        Some(dir) => ServeOptions::new(dir),
        None => ServeOptions::without_files(),
    };
    let mut options = options
        .host(args.host)
        .port(args.port)
        .dotfiles(args.dotfiles)
        .seed(args.seed.unwrap_or_default());
    options = args
        .mounts
        .iter()
        .cloned()
        .fold(options, ServeOptions::mount);
    options = args
        .connect_src
        .iter()
        .cloned()
        .fold(options, ServeOptions::connect_src);
    options = args.faults().into_iter().fold(options, ServeOptions::fault);
    if let Some(bytes_per_s) = args.throttle {
        options = options.throttle(bytes_per_s);
    }
    let (log, json) = (args.log, args.json);
    options = options.report(move |report| match report {
        // Where the reader has gone, pages are still served.
        Report::Request(record) if json => drop(out::line(&json_line(&record))),
        Report::Request(record) if log => out::note(&log_line(&record)),
        Report::NotAccepted(error) => out::note(&format!("a connection was not accepted: {error}")),
        _ => {}
    });
    let mut server = Server::bind(options).map_err(|e| match e {
        univi_serve::Error::NotAFolder { .. } | univi_serve::Error::SameMount { .. } => {
            Error::BadRequest {
                reason: e.to_string(),
            }
        }
        e => Error::Io {
            reason: e.to_string(),
        },
    })?;
    let mut served: Vec<String> = args.dir.iter().map(|dir| files::name(dir)).collect();
    if let Some(answers) = answers {
        if answers.api_keys.is_empty() && !args.host.is_loopback() {
            out::note("whoever reaches this address may ask: --api-key KEY demands a key");
        }
        let answers = ChatServer::start(answers)?;
        served.push(format!("the answers of {}", answers.model_name()));
        server = server.endpoints(Arc::new(answers));
    }
    announce(&served.join(" and "), &server, json)?;
    server.run()
}

fn announce(served: &str, server: &Server, json: bool) -> Result<()> {
    let address = server.address();
    let url = format!("http://{address}/");
    match json {
        true => out::line(&json!({ "url": url, "port": address.port() }).to_string()),
        false => out::line(&format!("serving {served} at {url} (Ctrl-C ends it)")),
    }
}

/// Writes a request that is over as programs read it.
fn json_line(record: &RequestRecord) -> String {
    json!({
        "method": record.method,
        "path": record.path,
        "range": record.range,
        "status": record.status,
        "bytes": record.bytes,
        "faults": record.faults,
    })
    .to_string()
}

/// Writes a request that is over as people read it.
fn log_line(record: &RequestRecord) -> String {
    let range = record.range.as_deref().unwrap_or("whole");
    let mut line = format!(
        "{} {} {range}: {}, {} bytes in {} ms",
        record.method,
        record.path,
        record.status,
        record.bytes,
        record.duration.as_millis()
    );
    for fault in &record.faults {
        line += &format!(" [{fault}]");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        for text in [
            "",
            "404.5",
            "200",
            "600",
            "503=1",
            "html=3",
            "drop",
            "stall=0",
            "shorten=x",
            "corrupt,rate=2",
            "corrupt,times=-1",
            "corrupt,retry-after=2",
            "corrupt,path",
            "corrupt,often=1",
        ] {
            assert!(fault(text).is_err(), "{text}");
        }
        let text = "429,retry-after=2,path=b,times=1";
        let status = FaultKind::Status(StatusCode::TOO_MANY_REQUESTS);
        let refusal = Fault::new(status).retry_after_s(2).path("b").times(1);
        assert_eq!(fault(text), Ok(refusal.name(text)));
        let stall = Fault::new(FaultKind::Stall(64 << 10)).rate(0.5);
        assert_eq!(
            fault("stall=64KiB,rate=0.5"),
            Ok(stall.name("stall=64KiB,rate=0.5"))
        );
    }
}
