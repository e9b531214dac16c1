//! Frames of whatever ffmpeg reads.
//!
//! ffprobe lists when frames are shown, moments are chosen from that, and ffmpeg decodes the frames
//! of these moments. Rates that a header names are not used: they may be missing, wrong or an
//! average. Sizes are those of each frame: a recording changes them with its window.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
};

use univi::{
    Result,
    frames::{FrameOptions, TIME_ROUNDING_S, frame_at, sample_times},
    image::{MAX_PIXELS, Rgb8},
};

use super::clip::{Clip, bad};
use super::matroska;
use crate::{
    files,
    progress::{Progress, Unit},
};

/// The most frames of a clip that are listed: a day at 50 frames per second.
const MAX_FRAMES: usize = 24 * 3600 * 50;

/// How ffprobe finds frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// By packets: quick, and right for nearly every file.
    Packets,
    /// By decoding all of it.
    Frames,
}

/// Reads the frames that `options` choose, cropped to `size_px`.
pub fn read(path: &Path, options: &FrameOptions, size_px: usize) -> Result<Clip> {
    for listing in [Listing::Packets, Listing::Frames] {
        let Some(shown) = list(path, listing)? else {
            continue;
        };
        let first_s = *shown
            .times_s
            .first()
            .ok_or_else(|| bad("it holds no video stream with frames".into()))?;
        let from_0: Vec<f64> = shown
            .times_s
            .iter()
            .map(|time_s| time_s - first_s)
            .collect();
        let last_s = from_0.last().copied().unwrap_or_default();
        let moments_s = sample_times(&from_0, last_s, shown.end_s - first_s, options)?;
        let indices: Vec<usize> = moments_s.iter().map(|&m| frame_at(&from_0, m)).collect();
        // A frame that stands for several moments is decoded once.
        let mut distinct = indices.clone();
        distinct.dedup();
        let wanted_s: Vec<f64> = distinct.iter().map(|&i| shown.times_s[i]).collect();
        let frames = decode(path, &wanted_s, size_px)?;
        if frames.len() < distinct.len() {
            // Fewer frames than packets: some can't be decoded. Choose among those that can.
            continue;
        }
        let place = |index| distinct.binary_search(index).expect("it is one of them");
        let frames = indices.iter().map(|index| frames[place(index)].clone());
        return Ok(Clip {
            frames: frames.collect(),
            times_s: moments_s,
        });
    }
    Err(bad(
        "ffmpeg decodes other frames each time; the file is damaged".into(),
    ))
}

/// When the frames of a stream are shown, in seconds of the file.
struct Shown {
    /// In rising order, each once.
    times_s: Vec<f64>,
    /// When the last one ends, as far as the file says so.
    end_s: f64,
}

/// Lists the first video stream; `None` where packets don't say when their frames are shown.
fn list(path: &Path, listing: Listing) -> Result<Option<Shown>> {
    let entries = match listing {
        Listing::Packets => "packet=pts_time,duration_time,flags",
        Listing::Frames => "frame=best_effort_timestamp_time",
    };
    let mut command = Command::new("ffprobe");
    command.args(["-v", "level+error", "-protocol_whitelist", "file"]);
    command.args(["-select_streams", "V:0", "-show_entries"]);
    command.arg(format!("{entries}:format=nb_streams,format_name,duration"));
    command.args(["-of", "compact=nk=0", "-i"]).arg(input(path));

    let (mut times_s, mut timeless, mut ends_s) = (Vec::new(), false, f64::NEG_INFINITY);
    let (mut streams, mut format, mut format_end_s) = (0, String::new(), None);
    run(command, |stdout, _| {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            let read = stdout.by_ref().take(4096).read_until(b'\n', &mut line);
            if read.map_err(|e| files::io_error(path, &e))? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let mut fields = line.trim_end().split('|');
            let kind = fields.next().unwrap_or_default();
            let fields: Vec<(&str, &str)> = fields.filter_map(|f| f.split_once('=')).collect();
            let field = |name: &str| {
                let found = fields.iter().find(|(key, _)| *key == name);
                found.map(|&(_, value)| value)
            };
            let seconds = |name: &str| field(name)?.parse().ok().filter(|t: &f64| t.is_finite());
            match kind {
                "packet" | "frame" => {
                    // What an edit list cuts away is decoded for the sake of others.
                    if field("flags").is_some_and(|flags| flags.contains('D')) {
                        continue;
                    }
                    match seconds("pts_time").or_else(|| seconds("best_effort_timestamp_time")) {
                        Some(time_s) => {
                            times_s.push(time_s);
                            ends_s = ends_s.max(time_s + seconds("duration_time").unwrap_or(0.));
                        }
                        None => timeless = true,
                    }
                    if times_s.len() > MAX_FRAMES {
                        return Err(bad(format!("it has more than {MAX_FRAMES} frames")));
                    }
                }
                "format" => {
                    streams = field("nb_streams")
                        .and_then(|n| n.parse().ok())
                        .unwrap_or(0);
                    format = field("format_name").unwrap_or_default().to_owned();
                    format_end_s = seconds("duration");
                }
                _ => {}
            }
        }
    })?;
    if timeless && listing == Listing::Packets {
        return Ok(None);
    }
    times_s.sort_by(f64::total_cmp);
    times_s.dedup();
    // What lies before 0 was cut away, unless all of it does.
    if times_s.last().is_some_and(|&last_s| last_s >= 0.) {
        times_s.retain(|&time_s| time_s >= -TIME_ROUNDING_S);
    }
    let last_s = times_s.last().copied().unwrap_or_default();
    // ffprobe guesses durations; MP4 stores them, and Matroska that of the whole.
    let end_s = if format.contains("mp4") {
        ends_s
    } else if format.contains("matroska") && streams == 1 && !matroska::is_cut(path) {
        format_end_s.unwrap_or(last_s)
    } else {
        last_s
    };
    Ok(Some(Shown {
        times_s,
        end_s: end_s.max(last_s),
    }))
}

/// How ffmpeg is asked not to repeat or drop frames: by its name since 5.1, and the one before.
const PASSTHROUGH: [&str; 2] = ["-fps_mode", "-vsync"];

/// The frames that are shown at `times_s` of the file (rising), cropped; fewer where some can't be
/// decoded.
fn decode(path: &Path, times_s: &[f64], size_px: usize) -> Result<Vec<Rgb8>> {
    let mut decoded = decode_with(PASSTHROUGH[0], path, times_s, size_px);
    if let Err(error) = &decoded
        && error.to_string().contains("fps_mode")
    {
        decoded = decode_with(PASSTHROUGH[1], path, times_s, size_px);
    }
    decoded
}

fn decode_with(
    passthrough: &str,
    path: &Path,
    times_s: &[f64],
    size_px: usize,
) -> Result<Vec<Rgb8>> {
    // Times come from ffprobe in microseconds.
    let chosen = times_s.iter().map(|time_s| {
        let [from_s, to_s] = [time_s - 5e-6, time_s + 5e-6];
        format!("between(t,{from_s:.6},{to_s:.6})")
    });
    let chosen = chosen.collect::<Vec<_>>().join("+");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "level+info", "-hide_banner", "-nostats", "-nostdin"]);
    command
        .args(["-protocol_whitelist", "file", "-copyts", "-i"])
        .arg(input(path));
    // `showinfo` writes the size of each frame: there is none in the output.
    command.args([
        "-map",
        "0:V:0",
        "-vf",
        &format!("select='{chosen}',showinfo"),
    ]);
    command.args(["-autoscale", "0", passthrough, "passthrough"]);
    command.args(["-frames:v", &times_s.len().to_string()]);
    command.args(["-c:v", "rawvideo", "-pix_fmt", "rgb24", "-f", "rawvideo"]);
    command.args(["-protocol_whitelist", "pipe", "pipe:1"]);

    let mut progress = Progress::new(files::name(path), Unit::Items, times_s.len() as u64);
    let mut frames = Vec::with_capacity(times_s.len());
    run(command, |stdout, infos| {
        for info in infos {
            frames.push(info.frame(stdout)?.crop(size_px)?);
            progress.advance(1);
        }
        Ok(())
    })?;
    Ok(frames)
}

/// The size of a frame, and how wide its pixels are beside their height.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Info {
    width_px: usize,
    height_px: usize,
    aspect: [u64; 2],
}

impl Info {
    /// Reads a line of `showinfo`.
    fn parse(line: &str) -> Option<Info> {
        let rest = line.strip_prefix("[Parsed_showinfo")?;
        if !rest.contains(" pts_time:") {
            return None;
        }
        let field = |name: &str| rest.split(' ').find_map(|field| field.strip_prefix(name));
        let pair = |text: &str, by: char| -> Option<[u64; 2]> {
            let (a, b) = text.split_once(by)?;
            Some([a.parse().ok()?, b.parse().ok()?])
        };
        let [width, height] = pair(field("s:")?, 'x')?;
        let aspect = field("sar:").and_then(|sar| pair(sar, '/'));
        Some(Info {
            width_px: usize::try_from(width).ok()?,
            height_px: usize::try_from(height).ok()?,
            // Unknown is written 0/1.
            aspect: aspect.filter(|pair| !pair.contains(&0)).unwrap_or([1, 1]),
        })
    }

    /// Reads a frame of this size, as it is displayed.
    fn frame(self, stream: &mut dyn Read) -> Result<Rgb8> {
        let Info {
            width_px,
            height_px,
            aspect: [across, down],
        } = self;
        let too_large = || {
            bad(format!(
                "frames of {width_px} x {height_px} pixels are too large"
            ))
        };
        let bytes = width_px
            .checked_mul(height_px)
            .filter(|&n| n as u64 <= MAX_PIXELS)
            .map(|n| n * 3)
            .ok_or_else(too_large)?;
        let mut pixels = Vec::new();
        let read = stream
            .take(bytes as u64)
            .read_to_end(&mut pixels)
            .map_err(|e| bad(format!("ffmpeg's output can't be read: {e}")))?;
        if read < bytes {
            return Err(bad(format!(
                "ffmpeg wrote {read} of {bytes} bytes of a frame"
            )));
        }
        let coded = Rgb8::new(width_px, height_px, pixels)?;
        if across == down {
            return Ok(coded);
        }
        // Pixels that are no squares: the longer side grows, and each pixel of the display is the
        // nearest one of the frame, as in the package.
        let longer = |side: usize, by: u64, to: u64| {
            let side = (side as f64 * by as f64 / to as f64).round();
            (side <= MAX_PIXELS as f64).then_some(side as usize)
        };
        let (width, height) = match across > down {
            true => (longer(width_px, across, down), Some(height_px)),
            false => (Some(width_px), longer(height_px, down, across)),
        };
        let (Some(width), Some(height)) = (width, height) else {
            return Err(too_large());
        };
        if width
            .checked_mul(height)
            .is_none_or(|n| n as u64 > MAX_PIXELS)
        {
            return Err(too_large());
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            let row = (2 * y + 1) * height_px / (2 * height);
            for x in 0..width {
                let column = (2 * x + 1) * width_px / (2 * width);
                let at = (row * width_px + column) * 3;
                pixels.extend(&coded.pixels[at..at + 3]);
            }
        }
        Rgb8::new(width, height, pixels)
    }
}

/// The file as ffmpeg's tools understand it whatever its name is.
fn input(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// Ends the child when it is no longer needed, however that comes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where the child has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one of ffmpeg's tools and hands its output to `take`, with what `showinfo` says of it.
fn run(
    mut command: Command,
    take: impl FnOnce(&mut dyn Read, Receiver<Info>) -> Result<()>,
) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Running(child.map_err(|e| match e.kind() {
        ErrorKind::NotFound => bad(format!(
            "{program} is needed to read it and is not installed: install ffmpeg (`apt install ffmpeg`, \
             `brew install ffmpeg`, `winget install ffmpeg`), or give a folder of frames or an animated GIF"
        )),
        _ => bad(format!("{program} can't be started: {e}")),
    })?);
    let no_output = || bad(format!("{program} has no output"));
    let stderr = child.0.stderr.take().ok_or_else(no_output)?;
    let mut stdout = child.0.stdout.take().ok_or_else(no_output)?;
    // Read aside, so that a talkative decoder is not held up by a full pipe.
    let (info, infos) = mpsc::channel();
    let errors = std::thread::spawn(move || read_log(stderr, &info));
    take(&mut stdout, infos)?;
    drop(stdout);
    let status = child
        .0
        .wait()
        .map_err(|e| bad(format!("{program} was lost: {e}")))?;
    if !status.success() {
        let error = errors.join().ok().flatten();
        let error = error.unwrap_or_else(|| "it gives no reason".into());
        return Err(bad(format!("{program} can't read it: {error}")));
    }
    Ok(())
}

/// Sends what `showinfo` writes and returns why the program failed, if it did: its first fatal
/// error, else its last one.
fn read_log(stderr: ChildStderr, info: &Sender<Info>) -> Option<String> {
    let mut stderr = BufReader::new(stderr);
    let (mut fatal, mut error) = (None, None);
    loop {
        let mut line = Vec::new();
        let read = stderr.by_ref().take(1 << 16).read_until(b'\n', &mut line);
        if read.unwrap_or(0) == 0 {
            return fatal.or(error);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if let Some(frame) = Info::parse(line) {
            // Not received any more where the frames before were refused.
            let _ = info.send(frame);
        } else if let Some((_, reason)) = line.split_once("[fatal] ") {
            fatal.get_or_insert_with(|| reason.to_owned());
        } else if let Some((_, reason)) = line.split_once("[error] ") {
            error = Some(reason.to_owned());
        }
    }
}
