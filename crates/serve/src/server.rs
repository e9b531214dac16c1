//! The server: its options, its connections, its threads.

use std::{
    convert::Infallible,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

use super::{
    answer::Site,
    body::Pace,
    endpoints::{Endpoints, Peer, ServedBody},
    error::{Error, Result},
    fault::{Fault, Rules},
    folders::{Folders, Mount},
    origin::{Origin, script_policy},
    report::{Pending, Report, Reporter, RequestRecord},
};

/// How long no connection is accepted after one could not be, for instance because too many files
/// are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Threads that may wait for a disk while others serve.
const DISK_THREADS: usize = 16;

/// What is reported of a request whose client left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// What is served, where, and how.
#[derive(Clone)]
pub struct ServeOptions {
    mounts: Vec<Mount>,
    host: IpAddr,
    port: u16,
    dotfiles: bool,
    connect_src: Vec<Origin>,
    bytes_per_s: Option<u64>,
    faults: Vec<Fault>,
    seed: u64,
    report: Reporter,
}

impl ServeOptions {
    /// Serves `dir` at `/`, to this machine alone, at any free port.
    pub fn new(dir: impl Into<PathBuf>) -> ServeOptions {
        ServeOptions {
            mounts: vec![Mount::root(dir)],
            ..ServeOptions::without_files()
        }
    }

    /// Serves no folder, but [`Server::endpoints`]; further as [`ServeOptions::new`].
    pub fn without_files() -> ServeOptions {
        ServeOptions {
            mounts: Vec::new(),
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            dotfiles: false,
            connect_src: Vec::new(),
            bytes_per_s: None,
            faults: Vec::new(),
            seed: 0,
            report: Arc::new(drop),
        }
    }

    /// Serves a further folder. Where several fit an address, the longest mount wins.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> ServeOptions {
        self.mounts.push(mount);
        self
    }

    /// Sets the address to listen on; `0.0.0.0` lets other machines in.
    #[must_use]
    pub fn host(mut self, host: IpAddr) -> ServeOptions {
        self.host = host;
        self
    }

    /// Sets the port to listen on; 0, the default, takes any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> ServeOptions {
        self.port = port;
        self
    }

    /// Sets whether files and folders whose names begin with a dot are served; they are not by
    /// default.
    #[must_use]
    pub fn dotfiles(mut self, dotfiles: bool) -> ServeOptions {
        self.dotfiles = dotfiles;
        self
    }

    /// Lets workers of the pages reach a further server, besides this one.
    #[must_use]
    pub fn connect_src(mut self, origin: Origin) -> ServeOptions {
        self.connect_src.push(origin);
        self
    }

    /// Limits the bytes that are sent in a second, over all connections together. At least 1.
    #[must_use]
    pub fn throttle(mut self, bytes_per_s: u64) -> ServeOptions {
        self.bytes_per_s = Some(bytes_per_s.max(1));
        self
    }

    /// Adds a rule of what goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> ServeOptions {
        self.faults.push(fault);
        self
    }

    /// Sets the seed of chance: with the same seed, files and requests meet the same faults.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> ServeOptions {
        self.seed = seed;
        self
    }

    /// Sets what is called with each report, on the threads that serve: it should not take long.
    #[must_use]
    pub fn report(mut self, report: impl Fn(Report) + Send + Sync + 'static) -> ServeOptions {
        self.report = Arc::new(report);
        self
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("mounts", &self.mounts)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("dotfiles", &self.dotfiles)
            .field("connect_src", &self.connect_src)
            .field("bytes_per_s", &self.bytes_per_s)
            .field("faults", &self.faults)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A server that listens: connections wait until [`Server::run`].
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
    endpoints: Option<Arc<dyn Endpoints>>,
}

impl Server {
    /// Checks the folders and begins to listen.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::NotAFolder`] and [`Error::SameMount`] about folders,
    /// [`Error::Listen`] about the address, [`Error::Threads`].
    pub fn bind(options: ServeOptions) -> Result<Server> {
        let site = Site {
            folders: Folders::open(&options.mounts, options.dotfiles)?,
            script_policy: script_policy(&options.connect_src),
            rules: Rules::new(options.seed, options.faults),
            pace: options
                .bytes_per_s
                .map(|bytes_per_s| Arc::new(Pace::new(bytes_per_s))),
            report: options.report,
        };
        let runtime = Builder::new_multi_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(DISK_THREADS)
            .build()
            .map_err(Error::Threads)?;
        let address = SocketAddr::new(options.host, options.port);
        let failed = |source: io::Error| Error::Listen { address, source };
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(failed)?;
        Ok(Server {
            address: listener.local_addr().map_err(failed)?,
            site: Arc::new(site),
            runtime,
            listener,
            endpoints: None,
        })
    }

    /// Answers the addresses of `endpoints` by them, before files are looked for.
    #[must_use]
    pub fn endpoints(mut self, endpoints: Arc<dyn Endpoints>) -> Server {
        self.endpoints = Some(endpoints);
        self
    }

    /// Returns the address that is listened on, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the program ends.
    pub fn run(self) -> ! {
        self.runtime.block_on(async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        let endpoints = self.endpoints.clone();
                        let peer = Peer(peer.ip());
                        tokio::spawn(converse(stream, peer, Arc::clone(&self.site), endpoints));
                    }
                    Err(error) => {
                        (self.site.report)(Report::NotAccepted(error));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }
}

/// Answers the requests of one connection, one after the other, until it ends.
async fn converse(
    stream: TcpStream,
    peer: Peer,
    site: Arc<Site>,
    endpoints: Option<Arc<dyn Endpoints>>,
) {
    // Answers are written in large pieces: waiting for more would only delay the last one.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|mut request: Request<Incoming>| {
        let site = &site;
        let endpoints = endpoints.clone();
        async move {
            let endpoints = endpoints.filter(|endpoints| endpoints.has(request.uri().path()));
            let response = match endpoints {
                Some(endpoints) => {
                    request.extensions_mut().insert(peer);
                    answer_by(endpoints, request, &site.report).await
                }
                // Finding and opening a file may wait for a disk, and other connections should not.
                None => tokio::task::block_in_place(|| site.answer(&request)).map(ServedBody::File),
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // A browser that leaves in the middle of a file, or talks nonsense, is no fault of the server.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// Answers a request by `endpoints`, and reports it once it is over.
async fn answer_by(
    endpoints: Arc<dyn Endpoints>,
    request: Request<Incoming>,
    report: &Reporter,
) -> Response<ServedBody> {
    let record = RequestRecord {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        range: None,
        status: CLIENT_LEFT,
        bytes: 0,
        duration: Duration::ZERO,
        faults: Vec::new(),
    };
    let mut record = Pending::new(record, Instant::now(), Arc::clone(report));
    let response = endpoints.answer(request).await;
    record.set_status(response.status().as_u16());
    response.map(|body| ServedBody::Endpoint(body, record))
}
