//! Tensors on their way from a checkpoint into GGUF files: read, turned into blocks, and handed out
//! in order.
//!
//! ```text
//! streams: bytes of a span -> rows ──▶ workers: rows -> blocks ──▶ Pull::next, in order
//! ```
//!
//! Each stream reads one tensor from its first byte to its last. Several run at once, so that the
//! next tensors are on their way while one is turned into blocks, and a server's time to answer is
//! not waited for. What is read ahead is bounded, and so is the memory.
//!
//! A tensor is found to be damaged at its end, by its checksum, when its blocks are handed out. One
//! that came over a network begins once more then.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use univi::{Error, Result};
use univi_convert::{
    Conversion, Origin, PlannedTensor,
    checkpoint::{Checkpoint, CheckpointTensor, Files, Span, StoredRows},
};

use crate::interrupt::Listener;

/// Tensors that are read at the same time.
const STREAMS: usize = 3;

/// Batches of a tensor that are read ahead.
const WINDOW: usize = 8;

/// How often a wait looks whether Ctrl-C was pressed.
const TICK: Duration = Duration::from_millis(100);

/// Where a checkpoint is: a folder, or a repository of a hub.
pub trait Source: Files + Send {
    /// Reads a range of bytes in order, in chunks of any size.
    ///
    /// # Errors
    /// Those of `on_bytes`; `Io`, named with the file.
    fn stream(&self, span: &Span, on_bytes: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// Returns what is another text for other contents of the file.
    ///
    /// # Errors
    /// `Io`.
    fn stamp(&self, file: &str) -> Result<String>;

    /// Returns an error that names a file of the checkpoint with where the checkpoint is.
    fn explain(&self, error: Error) -> Error;

    /// Returns what a model of this checkpoint is called.
    ///
    /// # Errors
    /// `Io`.
    fn model_name(&self) -> Result<String>;

    /// Returns where it is, for people.
    fn place(&self) -> String;

    /// Returns the folder of the disk that it is, `None` for one that is elsewhere.
    fn folder(&self) -> Option<&Path>;

    /// Returns where it is published.
    fn origin(&self) -> Option<Origin>;

    /// Returns the vision tower that the checkpoint was made with, where it names one that is at
    /// hand.
    ///
    /// # Errors
    /// `Io`.
    fn tower_of(&self, checkpoint: &Checkpoint<'_>) -> Result<Option<Arc<dyn Source>>>;
}

/// A checkpoint, and the vision tower beside it.
#[derive(Clone)]
pub struct Sources {
    /// The checkpoint.
    pub checkpoint: Arc<dyn Source>,
    /// The tower.
    pub tower: Option<Arc<dyn Source>>,
}

impl Sources {
    /// Returns where a tensor is.
    pub fn of(&self, tensor: &CheckpointTensor) -> &Arc<dyn Source> {
        match &self.tower {
            Some(tower) if tensor.is_beside => tower,
            _ => &self.checkpoint,
        }
    }
}

/// A tensor, shared by the threads that work on it.
type Task = Arc<PlannedTensor>;

/// A batch of rows on its way through a worker.
struct Job {
    task: Task,
    rows: StoredRows,
    done: SyncSender<Result<Vec<u8>>>,
}

/// What a stream says about its tensor.
enum Step {
    /// These rows come next, once they are blocks.
    Rows(Receiver<Result<Vec<u8>>>),
    /// All rows so far are damaged, and come again.
    Again,
    /// The tensor was read to its end, and is right.
    End,
    Failed(Error),
}

/// What comes next of a tensor.
#[derive(Debug)]
pub enum Pulled {
    /// The next bytes.
    Blocks(Vec<u8>),
    /// Its bytes so far are wrong. It begins again.
    Again,
    /// Nothing: it is whole.
    End,
}

/// Blocks of tensors, in order.
pub struct Pull {
    tensors: Receiver<Receiver<Step>>,
    current: Option<Receiver<Step>>,
}

impl Pull {
    /// Starts to read tensors. The threads end when all are read, or when this is dropped.
    pub fn start(sources: &Sources, tensors: Vec<PlannedTensor>) -> Pull {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, waiting) = sync_channel::<Job>(threads);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = waiting.clone();
            thread::spawn(move || work(&waiting));
        }
        let (order, tensors_in_order) = sync_channel(STREAMS);
        let tensors = tensors.into_iter().map(Arc::new);
        let queue = Arc::new(Mutex::new((tensors, order)));
        for _ in 0..STREAMS {
            let (sources, queue, jobs) = (sources.clone(), queue.clone(), jobs.clone());
            thread::spawn(move || {
                while let Some((task, steps)) = next_task(&queue) {
                    let last = match stream(&sources, &task, &steps, &jobs) {
                        Ok(()) => Step::End,
                        Err(error) => Step::Failed(error),
                    };
                    if steps.send(last).is_err() {
                        return;
                    }
                }
            });
        }
        Pull {
            tensors: tensors_in_order,
            current: None,
        }
    }

    /// Returns what comes next of the current tensor. After its end the next call is about the next
    /// tensor.
    ///
    /// # Errors
    /// Whatever is wrong with the tensor; `Aborted` where Ctrl-C was pressed.
    pub fn next(&mut self, interrupt: &Listener) -> Result<Pulled> {
        let steps = match self.current.take() {
            Some(steps) => steps,
            None => wait(&self.tensors, interrupt)?,
        };
        // Rows that could not be turned into blocks: whether the network or the checkpoint is to
        // blame is known at the tensor's end.
        let mut refused = None;
        loop {
            match wait(&steps, interrupt)? {
                Step::Rows(blocks) => match (wait(&blocks, interrupt)?, &refused) {
                    (Ok(blocks), None) => {
                        self.current = Some(steps);
                        return Ok(Pulled::Blocks(blocks));
                    }
                    (Err(error), None) => refused = Some(error),
                    (_, Some(_)) => {}
                },
                Step::Again => {
                    self.current = Some(steps);
                    return Ok(Pulled::Again);
                }
                Step::End => return refused.map_or(Ok(Pulled::End), Err),
                Step::Failed(error) => return Err(error),
            }
        }
    }
}

/// Returns all tensors of those files of a conversion that are not `finished`.
pub fn tensors_of(conversion: &Conversion, finished: impl Fn(&str) -> bool) -> Vec<PlannedTensor> {
    let files = conversion.files.iter();
    let missing = files.filter(|file| !finished(&file.name));
    missing.flat_map(|file| file.tensors.clone()).collect()
}

fn wait<T>(from: &Receiver<T>, interrupt: &Listener) -> Result<T> {
    loop {
        if interrupt.pressed() {
            return Err(Error::Aborted);
        }
        match from.recv_timeout(TICK) {
            Ok(received) => return Ok(received),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let reason = "a thread that converts ended early; this is a bug of univi".into();
                return Err(Error::Io { reason });
            }
        }
    }
}

/// The tensors that are still to be read, and where their steps are announced, in the same order.
type Queue<I> = Mutex<(I, SyncSender<Receiver<Step>>)>;

fn next_task<I: Iterator<Item = Task>>(queue: &Queue<I>) -> Option<(Task, SyncSender<Step>)> {
    let mut queue = queue.lock().unwrap_or_else(|e| e.into_inner());
    let task = queue.0.next()?;
    let (steps, receiver) = sync_channel(WINDOW);
    queue.1.send(receiver).ok()?;
    Some((task, steps))
}

/// Reads a tensor and hands its rows to the workers.
fn stream(
    sources: &Sources,
    task: &Task,
    steps: &SyncSender<Step>,
    jobs: &SyncSender<Job>,
) -> Result<()> {
    let source = sources.of(&task.tensor);
    let mut may_retry = source.origin().is_some();
    loop {
        let mut reader = task.tensor.reader();
        let span = reader.span().clone();
        let mut on_rows = |rows| {
            let (done, blocks) = sync_channel(1);
            let task = task.clone();
            // Whoever waited for them has given up.
            let gone = |_| Error::Aborted;
            steps.send(Step::Rows(blocks)).map_err(gone)?;
            let job = Job { task, rows, done };
            jobs.send(job).map_err(|_| Error::Aborted)
        };
        let mut on_bytes = |bytes: &[u8]| reader.push(bytes, &mut on_rows);
        let read = source.stream(&span, &mut on_bytes);
        match read.and_then(|()| reader.finish()) {
            Err(error) if may_retry && error.code() == "bad-file" => {
                may_retry = false;
                steps.send(Step::Again).map_err(|_| Error::Aborted)?;
            }
            result => return result.map_err(|e| source.explain(e)),
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(|e| e.into_inner()).recv();
        let Ok(Job { task, rows, done }) = job else {
            return;
        };
        let blocks = task.encode(rows.rows, &rows.bytes);
        // Whoever waited for them has given up.
        let _ = done.send(blocks);
    }
}
