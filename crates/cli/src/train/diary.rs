//! What a stage tells while it runs, and keeps of it: lines on stderr, `NAME.csv`, and `NAME.svg`
//! at the end.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use univi::Result;
use univi_train::{curve, trainer::Report};

use crate::{files, out};

const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// The first line of each `NAME.csv`.
const HEADER: &str = "step,loss,gradient\n";

/// Returns whether `path` is the diary of a run.
pub fn is_diary(path: &Path) -> bool {
    let mut start = [0; HEADER.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == HEADER.as_bytes()
}

/// The losses of a stage.
pub struct Diary {
    name: String,
    svg: PathBuf,
    csv: PathBuf,
    file: File,
    losses: Vec<f32>,
    steps: u64,
    batch: usize,
    /// When this run began, and at which step.
    began: Option<(Instant, u64)>,
    last_line: Instant,
    since: usize,
}

impl Diary {
    /// Goes on with the diary of a stage in `folder`, from step `step`.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(folder: &Path, name: &str, step: u64, steps: u64, batch: usize) -> Result<Diary> {
        let csv = folder.join(format!("{name}.csv"));
        // What was told after the state that the stage goes on from is told again.
        let before = fs::read_to_string(&csv).unwrap_or_default();
        let kept: Vec<&str> = before.lines().skip(1).take(step as usize).collect();
        let losses = kept.iter().map(|line| {
            line.split(',')
                .nth(1)
                .and_then(|x| x.parse().ok())
                .unwrap_or(f32::NAN)
        });
        let losses = losses.collect();
        let mut text = String::from(HEADER);
        kept.iter().for_each(|line| text += &format!("{line}\n"));
        files::write(&csv, text.as_bytes())?;
        let file = File::options()
            .append(true)
            .open(&csv)
            .map_err(|e| files::io_error(&csv, &e))?;
        Ok(Diary {
            name: name.to_string(),
            svg: folder.join(format!("{name}.svg")),
            csv,
            file,
            since: step as usize,
            losses,
            steps,
            batch,
            began: None,
            last_line: Instant::now(),
        })
    }

    /// Takes a step down.
    ///
    /// # Errors
    /// `Io`.
    pub fn step(&mut self, report: Report) -> Result<()> {
        writeln!(self.file, "{},{},{}", report.step, report.loss, report.norm)
            .map_err(|e| files::io_error(&self.csv, &e))?;
        self.losses.push(report.loss);
        let &mut (began, first) = self.began.get_or_insert((Instant::now(), report.step + 1));
        let last = report.step + 1 == self.steps;
        if self.last_line.elapsed() < BETWEEN_LINES && !last {
            return Ok(());
        }
        self.last_line = Instant::now();
        let recent = &self.losses[self.since.min(self.losses.len() - 1)..];
        // A step of which all samples were skipped has no loss.
        let known: Vec<f32> = recent
            .iter()
            .copied()
            .filter(|loss| loss.is_finite())
            .collect();
        let loss = known.iter().sum::<f32>() / known.len() as f32;
        self.since = self.losses.len();
        let mut line = format!(
            "{} {}/{}: loss {loss:.4}",
            self.name,
            report.step + 1,
            self.steps
        );
        // What came before the first step's end was loading, too.
        let timed = (report.step + 1).saturating_sub(first);
        if timed > 0 {
            let seconds_a_step = began.elapsed().as_secs_f64() / timed as f64;
            let left = seconds_a_step * (self.steps - report.step - 1) as f64;
            let rate = self.batch as f64 / seconds_a_step;
            line += &format!(", {rate:.1} samples/s, {} left", time(left));
        }
        out::note(&line);
        Ok(())
    }

    /// Draws the curve.
    ///
    /// # Errors
    /// `Io`.
    pub fn draw(&self) -> Result<()> {
        let title = format!("{}: loss", self.name);
        files::write(&self.svg, curve::svg(&title, &self.losses).as_bytes())
    }
}

fn time(seconds: f64) -> String {
    match seconds as u64 {
        s @ 0..100 => format!("{s} s"),
        s @ 100..6000 => format!("{} min", s.div_ceil(60)),
        s => format!("{:.1} h", s as f64 / 3600.),
    }
}
