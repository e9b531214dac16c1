//! Pictures and clips of the data on the disk.

use std::path::{Component, Path, PathBuf};

use univi::{Error, Result, frames::FrameOptions, image::Rgb8};
use univi_train::dataset::{Media, Medium};

use crate::{files, video};

/// What clips are called where the data has their names alone.
const CLIP_ENDINGS: [&str; 5] = ["mp4", "mkv", "webm", "avi", "mov"];

/// Media below folders; the first that has a file counts.
pub struct Disk {
    /// The folders.
    pub folders: Vec<PathBuf>,
    /// How clips are sampled.
    pub frames: FrameOptions,
    /// Pixels of the square that the model sees.
    pub image_px: usize,
}

impl Disk {
    /// The place of a file of the data, which may not lie outside of the folders.
    fn path(&self, name: &str, endings: &[&str]) -> Result<PathBuf> {
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(name).components().all(inside) {
            return Err(Error::BadRequest {
                reason: format!("{name:?} leads out of the folder of media"),
            });
        }
        let mut names = vec![name.to_string()];
        names.extend(endings.iter().map(|ending| format!("{name}.{ending}")));
        let mut paths = self
            .folders
            .iter()
            .flat_map(|folder| names.iter().map(|name| folder.join(name)));
        paths.find(|path| path.exists()).ok_or_else(|| {
            let folders: Vec<String> = self.folders.iter().map(|path| files::name(path)).collect();
            let reason = match folders.is_empty() {
                true => format!("{name} can't be found: name its folder with --media"),
                false => format!("{name} is not in {}", folders.join(", ")),
            };
            Error::Io { reason }
        })
    }

    fn medium(&self, medium: &Medium) -> Result<PathBuf> {
        match medium {
            Medium::Image(name) => self.path(name, &[]),
            Medium::Video(name) => self.path(name, &CLIP_ENDINGS),
        }
    }
}

impl Media for Disk {
    fn image(&self, name: &str) -> Result<Rgb8> {
        files::picture(&self.path(name, &[])?)
    }

    fn video(&self, name: &str) -> Result<Vec<Rgb8>> {
        let path = self.path(name, &CLIP_ENDINGS)?;
        video::read(&path, &self.frames, self.image_px).map(|clip| clip.frames)
    }

    fn check(&self, medium: &Medium) -> Result<()> {
        let path = self.medium(medium)?;
        let about = files::metadata(&path)?;
        match about.is_file() && about.len() == 0 {
            true => Err(Error::Io {
                reason: "the file is empty".into(),
            }
            .in_file(files::name(&path))),
            false => Ok(()),
        }
    }
}
