//! The figure of merged tokens: which patches became one token, drawn over the picture.
//!
//! After the figures of arXiv 2311.08046. Regions keep the picture's light and shade, so that one
//! still sees what was merged; hue tells neighbours apart, lines part them.

use image::{Rgb, RgbImage, imageops};
use univi::{MergeStage, VideoEvent};

use crate::draw::{BLACK, Canvas, GREY, LETTER_PX, WHITE, fit};

/// Side of a picture in pixels, about: whole pixels per patch.
const PICTURE_PX: u32 = 448;
/// The same for a frame of a video.
const FRAME_PX: u32 = 144;
/// Frames beside each other.
const FRAMES_PER_ROW: usize = 8;
/// Between pictures and around all.
const GAP_PX: u32 = 20;
/// Between frames.
const FRAME_GAP_PX: u32 = 6;
/// A region's own colour against the picture's.
const TINT: f32 = 0.55;

/// A colour by lightness 0..1, and two opponent axes, in which equal steps look equal (OKLab,
/// Ottosson 2020).
type Lab = [f32; 3];

fn to_lab(Rgb(rgb): Rgb<u8>) -> Lab {
    let [r, g, b] = rgb.map(|v| {
        let v = f32::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    });
    let l = (0.412_221_47 * r + 0.536_332_54 * g + 0.051_445_993 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_84 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

fn from_lab([lightness, a, b]: Lab) -> Rgb<u8> {
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    Rgb([
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
        -0.004_196_086 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
    .map(|v: f32| {
        let v = if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (v.clamp(0.0, 1.0) * 255.0).round() as u8
    }))
}

fn distance(a: Lab, b: Lab) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f32>()
        .sqrt()
}

/// One stage of merging over the frames of an event: a picture is one frame.
struct Regions<'a> {
    stage: &'a MergeStage,
    /// Rows of patches in a frame, and columns.
    grid: usize,
}

impl Regions<'_> {
    /// The token that a patch became.
    fn token(&self, frame: usize, row: usize, col: usize) -> usize {
        self.stage.groups[(frame * self.grid + row) * self.grid + col] as usize
    }

    fn tokens(&self) -> usize {
        self.stage.sizes.len()
    }

    fn frames(&self) -> usize {
        self.stage.groups.len() / (self.grid * self.grid)
    }

    /// The tokens that touch each token.
    fn neighbours(&self) -> Vec<Vec<usize>> {
        let mut neighbours = vec![Vec::new(); self.tokens()];
        for frame in 0..self.frames() {
            for row in 0..self.grid {
                for col in 0..self.grid {
                    let here = self.token(frame, row, col);
                    let right = (col + 1 < self.grid).then(|| self.token(frame, row, col + 1));
                    let below = (row + 1 < self.grid).then(|| self.token(frame, row + 1, col));
                    for there in right
                        .into_iter()
                        .chain(below)
                        .filter(|&there| there != here)
                    {
                        neighbours[here].push(there);
                        neighbours[there].push(here);
                    }
                }
            }
        }
        neighbours
    }

    /// One colour per token: as light as what it covers (`mean`), of a hue that neighbours don't
    /// have.
    ///
    /// The largest regions choose first, so that they come close to their own hue.
    fn colours(&self, mean: &[Lab]) -> Vec<Lab> {
        /// Hues to choose from, and how vivid they are.
        const HUES: usize = 36;
        const CHROMA: f32 = 0.13;
        /// Regions apart from each other may look alike, touching ones may not.
        const APART: f32 = 2.5;
        /// Of staying near the region's own hue against standing out.
        const LIKENESS: f32 = 0.35;

        let neighbours = self.neighbours();
        let mut order: Vec<usize> = (0..self.tokens()).collect();
        order.sort_by_key(|&token| std::cmp::Reverse(self.stage.sizes[token]));
        let mut chosen: Vec<Option<Lab>> = vec![None; self.tokens()];
        for token in order {
            let lightness = mean[token][0].clamp(0.42, 0.82);
            let candidate = |hue: usize| {
                let angle = hue as f32 / HUES as f32 * std::f32::consts::TAU;
                [lightness, CHROMA * angle.cos(), CHROMA * angle.sin()]
            };
            let worth = |colour: Lab| {
                let apart = chosen.iter().enumerate().filter_map(|(other, taken)| {
                    let weight = if neighbours[token].contains(&other) {
                        1.0
                    } else {
                        APART
                    };
                    taken.map(|taken| distance(colour, taken) * weight)
                });
                apart.fold(2.0 * CHROMA, f32::min) - LIKENESS * distance(colour, mean[token])
            };
            chosen[token] = (0..HUES)
                .map(candidate)
                .reduce(|a, b| if worth(b) > worth(a) { b } else { a });
        }
        chosen.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// `frames`, each enlarged to whole pixels per patch, every region in its colour and parted
    /// from the others by a line.
    fn over(&self, frames: &[&RgbImage], side_px: u32) -> Vec<RgbImage> {
        let cell = cell_px(self.grid, side_px);
        let line = (cell / 12).max(1);
        let frames: Vec<RgbImage> = frames
            .iter()
            .map(|frame| enlarged(frame, self.grid, side_px))
            .collect();

        let mut sums = vec![([0.0f32; 3], 0.0f32); self.tokens()];
        for (number, frame) in frames.iter().enumerate() {
            for (x, y, &pixel) in frame.enumerate_pixels() {
                let (sum, count) =
                    &mut sums[self.token(number, (y / cell) as usize, (x / cell) as usize)];
                sum.iter_mut()
                    .zip(to_lab(pixel))
                    .for_each(|(sum, v)| *sum += v);
                *count += 1.0;
            }
        }
        let mean: Vec<Lab> = sums
            .iter()
            .map(|(sum, count)| sum.map(|v| v / count.max(1.0)))
            .collect();
        let colours = self.colours(&mean);

        let coloured = |(number, mut frame): (usize, RgbImage)| {
            for (x, y, pixel) in frame.enumerate_pixels_mut() {
                let [row, col] = [(y / cell) as usize, (x / cell) as usize];
                let token = self.token(number, row, col);
                // A border belongs to the patch to its right or below it.
                let up = row > 0 && y % cell < line && self.token(number, row - 1, col) != token;
                let left = col > 0 && x % cell < line && self.token(number, row, col - 1) != token;
                let own = to_lab(*pixel);
                let mixed = [0, 1, 2].map(|i| own[i] + TINT * (colours[token][i] - own[i]));
                *pixel = if up || left { WHITE } else { from_lab(mixed) };
            }
            frame
        };
        frames.into_iter().enumerate().map(coloured).collect()
    }
}

/// Pixels of a patch where `grid` of them make about `side_px`.
fn cell_px(grid: usize, side_px: u32) -> u32 {
    (side_px / grid.max(1) as u32).max(1)
}

fn enlarged(picture: &RgbImage, grid: usize, side_px: u32) -> RgbImage {
    let side = cell_px(grid, side_px) * grid as u32;
    imageops::resize(picture, side, side, imageops::FilterType::CatmullRom)
}

/// A picture beside its stages of merging.
///
/// `picture` is the square that the model saw, `grid` its patches in a row, `stages` what is drawn.
pub fn picture(name: &str, picture: &RgbImage, grid: usize, stages: &[&MergeStage]) -> RgbImage {
    let side = cell_px(grid, PICTURE_PX) * grid as u32;
    let panels = stages.len() as u32 + 1;
    let mut canvas = Canvas::new(
        panels * (side + GAP_PX) + GAP_PX,
        side + 2 * GAP_PX + GAP_PX / 2 + LETTER_PX[1],
    );
    let mut panel = |i: u32, picture: &RgbImage, title: &str, note: &str| {
        let left = GAP_PX + i * (side + GAP_PX);
        canvas.paste(picture, [left, GAP_PX]);
        let y = GAP_PX + side + GAP_PX / 2;
        canvas.text([left, y], BLACK, &fit(title, side));
        let right = (title.chars().count() + 1) as u32 * LETTER_PX[0];
        canvas.text(
            [left + right, y],
            GREY,
            &fit(note, side.saturating_sub(right)),
        );
    };
    panel(0, &enlarged(picture, grid, PICTURE_PX), name, "");
    for (i, stage) in (1..).zip(stages) {
        let regions = Regions { stage, grid };
        let title = format!("{} tokens", regions.tokens());
        for drawn in regions.over(&[picture], PICTURE_PX) {
            panel(i, &drawn, &title, &format!("of {} patches", grid * grid));
        }
    }
    canvas.into_image()
}

/// A video's events: a strip of time, and below it each event's frames, plain and merged.
///
/// `frames` are the squares that the model saw, `times_s` when they appear, `stages` the numbers of
/// the stages that are drawn.
pub fn events(
    name: &str,
    frames: &[RgbImage],
    times_s: &[f64],
    grid: usize,
    events: &[VideoEvent],
    stages: &[usize],
) -> RgbImage {
    const STRIP_PX: u32 = 28;
    let side = cell_px(grid, FRAME_PX) * grid as u32;
    let per_row = FRAMES_PER_ROW.min(frames.len()).max(4) as u32;
    let width = 2 * GAP_PX + per_row * (side + FRAME_GAP_PX) - FRAME_GAP_PX;
    let line_px = LETTER_PX[1] + FRAME_GAP_PX;
    let block_px = line_px + (1 + stages.len() as u32) * (side + FRAME_GAP_PX);
    let event_px = |event: &VideoEvent| {
        line_px + (event.frames.len() as u32).div_ceil(per_row) * block_px + GAP_PX
    };
    let head_px = GAP_PX + line_px + STRIP_PX + GAP_PX;
    let mut canvas = Canvas::new(width, head_px + events.iter().map(event_px).sum::<u32>());

    let shown = [
        counted(frames.len(), "frame"),
        counted(events.len(), "event"),
    ];
    let title = format!("{name}: {}", shown.join(", "));
    canvas.text([GAP_PX, GAP_PX], BLACK, &fit(&title, width - 2 * GAP_PX));
    let inner = width - 2 * GAP_PX;
    for (number, event) in events.iter().enumerate() {
        for &frame in &event.frames {
            let edge = |frame: usize| {
                GAP_PX + (u64::from(inner) * frame as u64 / frames.len() as u64) as u32
            };
            let [left, right] = [edge(frame), edge(frame + 1)];
            let size = [(right - left).saturating_sub(1).max(1), STRIP_PX];
            canvas.fill(
                [left, GAP_PX + line_px],
                size,
                event_colour(number, events.len()),
            );
        }
    }

    let mut top = head_px;
    for (number, event) in events.iter().enumerate() {
        let times = || event.frames.iter().map(|&frame| times_s[frame]);
        let [from, to] = [
            times().fold(f64::INFINITY, f64::min),
            times().fold(0.0, f64::max),
        ];
        let tokens: Vec<String> = event
            .stages
            .iter()
            .map(|stage| stage.sizes.len().to_string())
            .collect();
        let colour = event_colour(number, events.len());
        canvas.fill([GAP_PX, top], [LETTER_PX[1], LETTER_PX[1] - 2], colour);
        let title = format!("event {}", number + 1);
        let left = GAP_PX + LETTER_PX[1] + LETTER_PX[0];
        canvas.text([left, top], BLACK, &title);
        let when = if event.frames.len() == 1 {
            time(from)
        } else {
            format!("{} to {}", time(from), time(to))
        };
        let shown = counted(event.frames.len(), "frame");
        let note = format!("{shown}, {when}, {} tokens", tokens.join(" + "));
        let left = left + (title.chars().count() + 1) as u32 * LETTER_PX[0];
        canvas.text(
            [left, top],
            GREY,
            &fit(&note, width.saturating_sub(left + GAP_PX)),
        );
        top += line_px;

        let plain: Vec<&RgbImage> = event.frames.iter().map(|&frame| &frames[frame]).collect();
        let mut rows = vec![
            plain
                .iter()
                .map(|frame| enlarged(frame, grid, FRAME_PX))
                .collect::<Vec<_>>(),
        ];
        for stage in stages.iter().filter_map(|&stage| event.stages.get(stage)) {
            rows.push(Regions { stage, grid }.over(&plain, FRAME_PX));
        }
        for (at, &frame) in event.frames.iter().enumerate() {
            let [row, col] = [at as u32 / per_row, at as u32 % per_row];
            let left = GAP_PX + col * (side + FRAME_GAP_PX);
            let top = top + row * block_px;
            canvas.text([left, top], GREY, &time(times_s[frame]));
            for (i, row) in (0..).zip(&rows) {
                canvas.paste(&row[at], [left, top + line_px + i * (side + FRAME_GAP_PX)]);
            }
        }
        top += (event.frames.len() as u32).div_ceil(per_row) * block_px + GAP_PX;
    }
    canvas.into_image()
}

/// Neighbouring events differ, however many there are.
fn event_colour(number: usize, count: usize) -> Rgb<u8> {
    /// The golden angle: any run of multiples is well spread.
    const TURN: f32 = 2.399_963_2;
    let angle = number as f32 * TURN + 4.4;
    let lightness = if count > 8 && number % 2 == 1 {
        0.55
    } else {
        0.68
    };
    from_lab([lightness, 0.13 * angle.cos(), 0.13 * angle.sin()])
}

/// `1:02.5` for 62.5 seconds.
fn time(s: f64) -> String {
    let tenths = (s * 10.0).round() as u64;
    match tenths / 600 {
        0 => format!("{}.{} s", tenths / 10, tenths % 10),
        minutes => format!("{minutes}:{:02}.{}", tenths / 10 % 60, tenths % 10),
    }
}

fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(groups: Vec<u32>, tokens: usize) -> MergeStage {
        let mut sizes = vec![0; tokens];
        groups.iter().for_each(|&group| sizes[group as usize] += 1);
        MergeStage { groups, sizes }
    }

    #[test]
    fn lines_part_regions_and_only_regions() {
        // Left half, right half.
        let halves = stage([0, 0, 1, 1].repeat(4), 2);
        let grey = RgbImage::from_pixel(56, 56, Rgb([128, 128, 128]));
        let drawn = Regions {
            stage: &halves,
            grid: 4,
        }
        .over(&[&grey], 96)
        .remove(0);
        assert_eq!(drawn.dimensions(), (96, 96));
        let white: Vec<u32> = (0..96)
            .filter(|&x| *drawn.get_pixel(x, 40) == WHITE)
            .collect();
        assert_eq!(white, [48, 49]);
        assert_ne!(drawn.get_pixel(10, 40), drawn.get_pixel(80, 40));
        assert_eq!(drawn.get_pixel(10, 10), drawn.get_pixel(40, 90));
    }

    #[test]
    fn a_token_has_one_colour_in_all_frames_of_its_event() {
        // The second frame swaps the halves of the first.
        let swapped = stage([[0, 0, 1, 1].repeat(4), [1, 1, 0, 0].repeat(4)].concat(), 2);
        let grey = RgbImage::from_pixel(56, 56, Rgb([128, 128, 128]));
        let drawn = Regions {
            stage: &swapped,
            grid: 4,
        }
        .over(&[&grey, &grey], 96);
        assert_eq!(drawn[0].get_pixel(10, 40), drawn[1].get_pixel(80, 40));
        assert_ne!(drawn[0].get_pixel(10, 40), drawn[1].get_pixel(10, 40));
    }

    #[test]
    fn figures_hold_all_that_is_drawn() {
        let frame = RgbImage::from_pixel(56, 56, Rgb([10, 90, 200]));
        let one = stage(vec![0; 16], 1);
        let figure = picture("a.png", &frame, 4, &[&one, &one, &one]);
        assert_eq!(figure.width(), 4 * (448 + GAP_PX) + GAP_PX);

        let shown: Vec<VideoEvent> = [vec![0, 2], vec![1]]
            .map(|frames| VideoEvent {
                stages: vec![stage(vec![0; 16 * frames.len()], 1)],
                frames,
            })
            .into();
        let figure = events("a.gif", &vec![frame; 3], &[0.0, 1.0, 62.5], 4, &shown, &[0]);
        // Two events of one row each: plain and merged.
        let block = LETTER_PX[1] + FRAME_GAP_PX + 2 * (FRAME_PX + FRAME_GAP_PX);
        assert!(
            figure.height() > 2 * block && figure.height() < 3 * block,
            "{}",
            figure.height()
        );
        assert_eq!(time(62.5), "1:02.5");
    }

    #[test]
    fn colours_survive_the_way_there_and_back() {
        for rgb in [[0, 0, 0], [255, 255, 255], [200, 30, 90], [12, 180, 240]] {
            let Rgb(back) = from_lab(to_lab(Rgb(rgb)));
            assert!(
                back.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 1),
                "{rgb:?} became {back:?}"
            );
        }
    }
}
