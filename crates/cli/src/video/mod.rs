//! Frames of a video: from a folder, an animation, or whatever ffmpeg reads.
//!
//! Frames are chosen by when they are shown, so that the same clip gives the same frames in every
//! container and in browsers, and each is cropped to what the model sees as soon as it is decoded:
//! a long clip in high resolution needs the memory of one frame.

mod clip;
mod ffmpeg;
mod matroska;

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
};

use univi::{
    Result,
    frames::{FrameOptions, sample_frames},
    image::Animation,
};

pub use clip::Clip;

use clip::bad;

use crate::{
    files,
    progress::{Progress, Unit},
};

/// What of a folder counts as a frame.
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Reads the frames that `options` choose, cropped to `size_px`.
///
/// A folder counts as one frame per second, in the natural order of names (`2.png` before
/// `10.png`).
///
/// # Errors
/// `BadVideo` for a video without frames or that can't be decoded, `BadRequest` for options that
/// choose nothing, `Io` where a file can't be read or ffmpeg is not installed.
pub fn read(path: &Path, options: &FrameOptions, size_px: usize) -> Result<Clip> {
    let name = files::name(path);
    let read = || {
        if files::metadata(path)?.is_dir() {
            return folder(path, options, size_px);
        }
        let mut start = Vec::new();
        let file = std::fs::File::open(path).map_err(|e| files::io_error(path, &e))?;
        file.take(16)
            .read_to_end(&mut start)
            .map_err(|e| files::io_error(path, &e))?;
        if start.is_empty() {
            return Err(bad("the file is empty".into()));
        }
        let is_webp = start.starts_with(b"RIFF")
            && start.ends_with(b"WEBP") | (start.get(8..12) == Some(b"WEBP"));
        match start.starts_with(b"GIF8") || is_webp {
            true => animation(path, options, size_px),
            false => ffmpeg::read(path, options, size_px),
        }
    };
    read().map_err(|e| e.in_file(name))
}

fn folder(path: &Path, options: &FrameOptions, size_px: usize) -> Result<Clip> {
    let is_picture = |path: &PathBuf| {
        let extension = path
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        PICTURES.contains(&extension.as_str()) && !hidden
    };
    let mut pictures: Vec<PathBuf> = files::list(path)?.into_iter().filter(is_picture).collect();
    alphanumeric_sort::sort_path_slice(&mut pictures);
    if pictures.is_empty() {
        return Err(bad(format!(
            "the folder holds no frames; expected files ending in {}",
            PICTURES.join(", ")
        )));
    }
    let fps = 1.0;
    let indices = sample_frames(pictures.len(), fps, options)?;
    let mut progress = Progress::new(files::name(path), Unit::Items, indices.len() as u64);
    let mut frames = Vec::with_capacity(indices.len());
    for &index in &indices {
        frames.push(files::picture(&pictures[index])?.crop(size_px)?);
        progress.advance(1);
    }
    Ok(Clip {
        frames,
        times_s: indices.iter().map(|&i| i as f64 / fps).collect(),
    })
}

fn animation(path: &Path, options: &FrameOptions, size_px: usize) -> Result<Clip> {
    let animation = Animation::new(files::read(path)?)?;
    let (times_s, indices) = animation.sample(options)?;
    let mut frames = Vec::with_capacity(indices.len());
    for drawn in animation.crops(&indices, size_px)? {
        frames.extend(drawn?.map(|(_, frame)| frame));
    }
    Ok(Clip { frames, times_s })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use univi::image::Rgb8;

    use super::*;

    /// A folder that is gone after the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path =
                std::env::temp_dir().join(format!("univi-video-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Frame `i` is grey of value `8 i`, its upper left quarter white.
    fn frame(i: u8) -> image::RgbImage {
        image::RgbImage::from_fn(64, 48, |x, y| match x < 32 && y < 24 {
            true => image::Rgb([255; 3]),
            false => image::Rgb([8 * i; 3]),
        })
    }

    fn encode(folder: &Path, count: u8, output: &[&str]) {
        for i in 0..count {
            frame(i).save(folder.join(format!("{i}.png"))).unwrap();
        }
        let status = Command::new("ffmpeg")
            .current_dir(folder)
            .args(["-v", "error", "-y", "-framerate", "5", "-i", "%d.png"])
            .args(output)
            .status()
            .expect("ffmpeg is installed by `cargo xtask setup`");
        assert!(status.success());
    }

    /// Mean value of the lower right quarter, and of the upper left one.
    fn values(picture: &Rgb8) -> [u8; 2] {
        let at = |x: usize, y: usize| picture.pixels[(y * picture.width_px + x) * 3];
        let [w, h] = [picture.width_px, picture.height_px];
        [at(w * 7 / 8, h * 7 / 8), at(w / 8, h / 8)]
    }

    #[test]
    fn ffmpeg_gives_exactly_the_chosen_frames() {
        let scratch = Scratch::new("exact");
        encode(
            &scratch.0,
            23,
            &["-c:v", "ffv1", "-pix_fmt", "bgr0", "clip.mkv"],
        );
        let clip = read(&scratch.0.join("clip.mkv"), &FrameOptions::default(), 48).unwrap();
        assert_eq!(clip.times_s, [0.0, 1.0, 2.0, 3.0, 4.0]);
        let found: Vec<u8> = clip.frames.iter().map(|frame| values(frame)[0]).collect();
        assert_eq!(found, [0, 40, 80, 120, 160]);
    }

    #[test]
    fn a_clip_filmed_upright_stays_upright() {
        let scratch = Scratch::new("rotated");
        encode(&scratch.0, 5, &["-c:v", "png", "clip.mp4"]);
        let path = scratch.0.join("clip.mp4");
        let mut bytes = std::fs::read(&path).unwrap();
        // The matrix of the track's header: a quarter turn clockwise.
        let header = bytes.windows(4).position(|name| name == b"tkhd").unwrap() + 4;
        let matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1i32 << 30];
        let matrix: Vec<u8> = matrix.iter().flat_map(|v| v.to_be_bytes()).collect();
        bytes[header + 40..header + 76].copy_from_slice(&matrix);
        std::fs::write(&path, bytes).unwrap();
        let clip = read(&path, &FrameOptions::default(), 48).unwrap();
        let picture = &clip.frames[0];
        let at = |x: usize, y: usize| picture.pixels[(y * picture.width_px + x) * 3];
        // The white quarter went from the upper left to the upper right.
        assert_eq!([at(6, 6), at(42, 6), at(6, 42), at(42, 42)], [0, 255, 0, 0]);
    }

    #[test]
    fn folders_are_read_in_natural_order() {
        let scratch = Scratch::new("folder");
        for i in [2, 10, 1] {
            frame(i)
                .save(scratch.0.join(format!("frame {i}.png")))
                .unwrap();
        }
        std::fs::write(scratch.0.join("notes.txt"), "not a frame").unwrap();
        let clip = read(&scratch.0, &FrameOptions::default(), 48).unwrap();
        let found: Vec<u8> = clip.frames.iter().map(|frame| values(frame)[0]).collect();
        assert_eq!(found, [8, 16, 80]);
    }

    #[test]
    fn what_is_no_video_is_refused_in_one_line() {
        let scratch = Scratch::new("bad");
        let file = |name: &str, bytes: &[u8]| {
            let path = scratch.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        encode(&scratch.0, 2, &["-c:v", "png", "whole.mp4"]);
        let whole = std::fs::read(scratch.0.join("whole.mp4")).unwrap();
        std::fs::create_dir(scratch.0.join("empty")).unwrap();
        let sound = scratch.0.join("sound.wav");
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", "sine=duration=1"])
            .arg(&sound)
            .status();
        assert!(made.unwrap().success());
        for path in [
            file("empty.mp4", b""),
            file("text.mp4", b"this is no video"),
            file("half.mp4", &whole[..whole.len() / 2]),
            file("broken.gif", b"GIF89a"),
            scratch.0.join("empty"),
            scratch.0.join("absent.mp4"),
            sound,
        ] {
            let error = read(&path, &FrameOptions::default(), 48)
                .map(|clip| clip.times_s)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&files::name(&path)), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            println!("{error}");
        }
    }
}
