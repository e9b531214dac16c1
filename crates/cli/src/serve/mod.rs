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
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use univi::{Error, Result};

use crate::{args::ServeArgs, files, out};
use answer::Site;
use body::Pace;
use fault::Rules;
use folders::Folders;
use log::Log;

pub use fault::Fault;
pub use folders::Mount;

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
        folders: Folders::open(std::iter::once(&root).chain(&args.mounts))?,
        rules: Rules::new(args.seed, args.faults()),
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
        .map_err(|e| io_error("cannot tell the address", &e))?;
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
