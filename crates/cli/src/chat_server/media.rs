//! Pictures and clips of requests: where they come from, and what is read of them.

use std::{
    cell::Cell,
    fs::File,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use univi::{Error, Result, VisualKind, frames::FrameOptions, image::Rgb8};

use crate::{files, temporary::TemporaryFile, video};

use super::{budget::Reserved, fetched::Fetcher};

/// As it is usually written, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The most frames of a clip that comes as pictures.
const MAX_FRAMES: usize = 4096;

/// What pictures and clips are read with.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The side of the square that the model sees; `None` where it takes neither pictures nor
    /// clips.
    pub size_px: Option<usize>,
    /// Which frames of a clip are encoded.
    pub frames: FrameOptions,
    /// The folder whose files a request may name.
    pub message_files: Option<PathBuf>,
    /// Where else pictures and clips may come from.
    pub fetcher: Fetcher,
    /// The most bytes of all files that a request names.
    pub max_file_bytes: u64,
}

/// Where the pictures and clips of one request come from.
pub struct Sources<'a> {
    pub reading: &'a Reading,
    /// Bytes of files and of the web that the request may still have.
    left_bytes: Cell<u64>,
}

impl<'a> Sources<'a> {
    /// Begins with a request that has read nothing yet.
    pub fn new(reading: &'a Reading) -> Sources<'a> {
        Sources {
            reading,
            left_bytes: Cell::new(reading.max_file_bytes),
        }
    }

    /// Returns the bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.reading.max_file_bytes - self.left_bytes.get()
    }

    fn take(&self, bytes: Vec<u8>) -> Vec<u8> {
        let left = self.left_bytes.get();
        self.left_bytes.set(left.saturating_sub(bytes.len() as u64));
        bytes
    }
}

/// A picture or a clip of a request. What it is made of identifies it: the same bytes are encoded
/// once.
pub struct SentVisual {
    /// SHA-256 of its kind and bytes.
    pub hash: [u8; 32],
    kind: VisualKind,
    /// Where it stands in the request, such as `messages[0].content[1]`.
    place: String,
    source: Source,
}

enum Source {
    Picture(Vec<u8>),
    Clip(Vec<u8>),
    /// The frames of a clip, each an encoded picture.
    Frames(Vec<Vec<u8>>),
}

/// A picture or a clip as the vision encoder takes it: squares of the model's size.
pub struct DecodedVisual {
    pub kind: VisualKind,
    pub frames: Vec<Rgb8>,
    /// The memory that it takes while its request waits; none where it is decoded at its turn.
    pub reserved: Option<Reserved>,
}

impl SentVisual {
    /// Takes a picture from its URL. `place` names it in errors.
    ///
    /// # Errors
    /// `BadRequest` for what is no data URL, nor a file or address that may be named, or can't be
    /// had.
    pub fn picture(url: &str, place: &str, sources: &Sources) -> Result<SentVisual> {
        let bytes = match DataUrl::parse(url, place)? {
            Some(data) => data.bytes(place)?,
            None => named(url, place, sources)?,
        };
        Ok(SentVisual::new(Source::Picture(bytes), place))
    }

    /// Takes a clip from its URL. One of `data:video/jpeg;base64,` is frames, with a comma between
    /// each two.
    ///
    /// # Errors
    /// As [`SentVisual::picture`].
    pub fn clip(url: &str, place: &str, sources: &Sources) -> Result<SentVisual> {
        let source = match DataUrl::parse(url, place)? {
            Some(data) if data.media_type.eq_ignore_ascii_case("video/jpeg") => {
                let frames = data.data.split(',').map(|frame| decoded(frame, place));
                Source::Frames(frames.collect::<Result<_>>()?)
            }
            Some(data) => Source::Clip(data.bytes(place)?),
            None => Source::Clip(named(url, place, sources)?),
        };
        Ok(SentVisual::new(source, place))
    }

    fn new(source: Source, place: &str) -> SentVisual {
        let mut hash = Sha256::new();
        let kind = match &source {
            Source::Picture(bytes) => {
                hash.update(b"picture");
                hash.update(bytes);
                VisualKind::Image
            }
            Source::Clip(bytes) => {
                hash.update(b"clip");
                hash.update(bytes);
                VisualKind::Video
            }
            Source::Frames(frames) => {
                hash.update(b"frames");
                for frame in frames {
                    hash.update((frame.len() as u64).to_le_bytes());
                    hash.update(frame);
                }
                VisualKind::Video
            }
        };
        SentVisual {
            hash: hash.finalize().into(),
            kind,
            place: place.to_owned(),
            source,
        }
    }

    /// Returns the most bytes that it takes decoded.
    pub fn decoded_bytes(&self, reading: &Reading) -> u64 {
        let frames = match &self.source {
            Source::Picture(_) => 1,
            Source::Clip(_) => reading.frames.max_frames,
            Source::Frames(frames) => frames.len(),
        };
        let side = reading.size_px.unwrap_or(0);
        (frames * side * side * 3) as u64
    }

    /// Decodes it.
    ///
    /// # Errors
    /// `BadRequest` where the model has no vision encoder; `BadImage`, `BadVideo`; `Io` where a
    /// clip can't be handed to ffmpeg.
    pub fn decode(&self, reading: &Reading) -> Result<DecodedVisual> {
        let read = || {
            let size_px = reading.size_px.ok_or_else(|| Error::BadRequest {
                reason: "the model takes text alone, neither pictures nor clips".into(),
            })?;
            let square = |bytes: &[u8]| -> Result<Rgb8> {
                univi::image::check_format(bytes)?;
                Rgb8::decode(bytes)?.crop(size_px)
            };
            match &self.source {
                Source::Picture(bytes) => Ok(vec![square(bytes)?]),
                Source::Clip(bytes) => clip(bytes, &reading.frames, size_px),
                Source::Frames(frames) if frames.len() > MAX_FRAMES => Err(Error::BadVideo {
                    reason: format!("{} frames, at most {MAX_FRAMES} are taken", frames.len()),
                }),
                Source::Frames(frames) => frames.iter().map(|frame| square(frame)).collect(),
            }
        };
        Ok(DecodedVisual {
            kind: self.kind,
            frames: read().map_err(|e| e.in_file(self.place.clone()))?,
            reserved: None,
        })
    }
}

/// Reads a clip out of memory: ffmpeg takes it from a file.
fn clip(bytes: &[u8], frames: &FrameOptions, size_px: usize) -> Result<Vec<Rgb8>> {
    // Only what begins as a clip does: a playlist would have ffmpeg open the files that it lists.
    let is_animation = bytes.starts_with(b"GIF8")
        || (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"));
    if !is_animation && !files::is_video(bytes) {
        return Err(Error::BadVideo {
            reason: "it is none of MP4, MOV, WebM, Matroska, AVI, GIF and WebP".into(),
        });
    }
    let failed = |e: std::io::Error| Error::Io {
        reason: format!("a clip can't be written to a temporary file: {e}"),
    };
    let file = TemporaryFile::with(bytes).map_err(failed)?;
    let clip = video::read(file.path(), frames, size_px);
    // The name of the temporary file says nothing to a client.
    clip.map(|clip| clip.frames).map_err(|e| match e {
        Error::In { source, .. } => *source,
        e => e,
    })
}

/// A `data:` URL.
struct DataUrl<'a> {
    media_type: &'a str,
    data: &'a str,
}

impl<'a> DataUrl<'a> {
    /// Splits a data URL; `None` for another URL.
    fn parse(url: &'a str, place: &str) -> Result<Option<DataUrl<'a>>> {
        let is_data = url
            .get(..5)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
        if !is_data {
            return Ok(None);
        }
        let split = url[5..].split_once(',');
        let (kind, data) = split.ok_or_else(|| bad(place, "is a data URL without a comma"))?;
        let media_type = kind.strip_suffix(";base64");
        let media_type =
            media_type.ok_or_else(|| bad(place, "is a data URL without ;base64: encode it so"))?;
        Ok(Some(DataUrl {
            media_type: media_type.split(';').next().unwrap_or_default(),
            data,
        }))
    }

    fn bytes(&self, place: &str) -> Result<Vec<u8>> {
        decoded(self.data, place)
    }
}

fn decoded(data: &str, place: &str) -> Result<Vec<u8>> {
    let decoded = BASE64.decode(data.trim());
    decoded.map_err(|e| bad(place, &format!("is no valid base64: {e}")))
}

fn bad(place: &str, what: &str) -> Error {
    Error::BadRequest {
        reason: format!("{place} {what}"),
    }
}

/// Reads what a request names: a file of the folder whose files may be named, or an address that is
/// allowed.
fn named(url: &str, place: &str, sources: &Sources) -> Result<Vec<u8>> {
    let reading = sources.reading;
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    let path = match scheme {
        Some(scheme) if scheme.eq_ignore_ascii_case("file") => {
            let path = url[5..].strip_prefix("//").unwrap_or(&url[5..]);
            percent_decode_str(path).decode_utf8_lossy().into_owned()
        }
        Some("http" | "https") if reading.fetcher.is_open() => {
            let fetched = reading.fetcher.fetch(url, sources.left_bytes.get());
            let fetched = fetched.map_err(|why| bad(place, &why))?;
            return Ok(sources.take(fetched));
        }
        Some("http" | "https") => {
            let what = "is an address of the web, from which this server fetches nothing; send the \
                        bytes as a data URL, or allow some with --allow-url PREFIX";
            return Err(bad(place, what));
        }
        _ => {
            let what = "is no URL that is taken; send the bytes as a data URL, \
                        data:image/png;base64,..";
            return Err(bad(place, what));
        }
    };
    let Some(folder) = &reading.message_files else {
        let what = "names a file of the server, which chat messages may not; send its bytes as a \
                    data URL, or allow the files of a folder with --message-files DIR";
        return Err(bad(place, what));
    };
    // One answer for what is not there and for what lies elsewhere: it says nothing about files
    // outside of the folder.
    let outside = || bad(place, "names no file of the folder of --message-files");
    let folder = folder.canonicalize().map_err(|_| outside())?;
    let path = Path::new(&path).canonicalize().map_err(|_| outside())?;
    if !path.starts_with(folder) || !path.is_file() {
        return Err(outside());
    }
    let read = File::open(path).and_then(|file| files::read_up_to(file, sources.left_bytes.get()));
    let bytes = read.map_err(|_| outside())?;
    bytes.map(|bytes| sources.take(bytes)).ok_or_else(|| {
        let what = format!(
            "names a file, with which the request has more than {} bytes; --max-body sets the limit",
            reading.max_file_bytes
        );
        bad(place, &what)
    })
}
