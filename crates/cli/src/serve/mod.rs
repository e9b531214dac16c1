//! `univi serve`: a static server for models and pages, with faults on demand for testing what
//! loads from it.

mod answer;
mod body;
mod fault;
mod folders;
mod log;

use std::{
    convert::Infallible,
    io::Error as IoError,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use univi::{Error, Result};

use crate::{files, out, values::size_bytes};
use answer::{Origin, Site, script_policy};
use body::Pace;
use fault::Rules;
use folders::Folders;
use log::Log;

pub use fault::Fault;
pub use folders::Mount;

/// Serve a folder of models and pages to a browser.
///
/// As a page wants it that streams weights and takes up where it stopped: byte ranges, strong
/// ETags, CORS for every origin, cross-origin isolation, no compression. Any page that the browser
/// shows may read what is served.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  univi serve models
  univi serve www/dist --mount /models=models --port 8080 --log
  univi serve models --port 0 --json --throttle 100MB --fail 0.1 --corrupt 0.02 --seed 7
  univi serve models --fault 429,retry-after=2,times=1 --fault stall=10MB,path=00002-of,times=1

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
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// A further folder and the address below which it is served; may be given several times.
    #[arg(long = "mount", value_name = "/PATH=DIR", value_parser = Mount::parse)]
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
    #[arg(long = "fault", value_name = "KIND[,..]", value_parser = Fault::parse, help_heading = FAULTS)]
    pub fault: Vec<Fault>,
    /// Seed of chance: the same seed, files and requests meet the same faults [default: 0].
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub seed: Option<u64>,
}

/// Above what only tests want.
const FAULTS: &str = "Faults, to test what loads a model";

impl ServeArgs {
    /// Checks that every option has something to act on.
    ///
    /// # Errors
    /// What would be ignored.
    pub fn check(&self) -> Result<(), String> {
        match self.seed {
            Some(_) if self.faults().is_empty() => Err(
                "--seed is for faults: add --fail, --corrupt or --fault, or leave it out".into(),
            ),
            _ => Ok(()),
        }
    }

    /// All rules, whichever way they were given.
    pub fn faults(&self) -> Vec<Fault> {
        let shares = self.fail.iter().chain(&self.corrupt);
        shares.chain(&self.fault).cloned().collect()
    }
}

fn fail(rate: &str) -> Result<Fault, String> {
    Fault::parse(&format!("503,rate={rate}"))
}

fn corrupt(rate: &str) -> Result<Fault, String> {
    Fault::parse(&format!("corrupt,rate={rate}"))
}

/// How long nobody is let in after that failed, for instance because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Threads that may wait for a disk while others serve.
const DISK_THREADS: usize = 16;

/// Serves until the program is ended.
///
/// # Errors
/// `Io` where a folder can't be read or the address can't be listened on, `BadRequest` where a
/// folder is none.
pub fn run(args: &ServeArgs) -> Result<()> {
    let root = Mount::root(args.dir.clone());
    let site = Site {
        folders: Folders::open(std::iter::once(&root).chain(&args.mounts), args.dotfiles)?,
        script_policy: script_policy(&args.connect_src),
        rules: Rules::new(args.seed.unwrap_or_default(), args.faults()),
        pace: args
            .throttle
            .map(|bytes_per_s| Arc::new(Pace::new(bytes_per_s))),
        log: match (args.json, args.log) {
            (true, _) => Log::Programs,
            (false, true) => Log::People,
            (false, false) => Log::Nobody,
        },
    };
    let runtime = Builder::new_multi_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|e| io_error("cannot start threads", &e))?;
    runtime.block_on(serve(args, site))
}

async fn serve(args: &ServeArgs, site: Site) -> Result<()> {
    let listener = listen(args.host, args.port).await?;
    let address = listener
        .local_addr()
        .map_err(|e| io_error("cannot read the address", &e))?;
    announce(&args.dir, address, site.log)?;
    let site = Arc::new(site);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, Arc::clone(&site)));
            }
            Err(e) => {
                out::note(&format!("a connection was not accepted: {e}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.map_err(|e| {
        let what = format!(
            "cannot listen on {address} (--port names another port, 0 any free one; --host another address)"
        );
        io_error(&what, &e)
    })
}

fn announce(dir: &Path, address: SocketAddr, log: Log) -> Result<()> {
    match log {
        Log::Programs => out::line(
            &serde_json::json!({ "url": format!("http://{address}/"), "port": address.port() })
                .to_string(),
        ),
        Log::People | Log::Nobody => out::line(&format!(
            "serving {} at http://{address}/ (Ctrl-C ends it)",
            files::name(dir)
        )),
    }
}

/// Answers the requests of one connection, one after the other, until it ends.
async fn converse(stream: TcpStream, site: Arc<Site>) {
    // Answers are written in large pieces: waiting for more would only delay the last one.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let site = &site;
        async move {
            // Finding and opening a file may wait for a disk, and other connections should not.
            let response = tokio::task::block_in_place(|| site.answer(&request));
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // A browser that leaves in the middle of a file, or talks nonsense, is no fault of the server.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn io_error(what: &str, error: &IoError) -> Error {
    Error::Io {
        reason: format!("{what}: {error}"),
    }
}
