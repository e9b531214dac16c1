//! Drawings out of sets of icons, as Iconify publishes them: SVG, in one JSON file for each set.

use std::{collections::BTreeMap, fs, path::Path};

use image::{ImageBuffer, Rgba32FImage};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg,
};
use serde::Deserialize;
use univi::{Error, Result};

/// Icons by name (<https://iconify.design/docs/types/iconify-json.html>).
#[derive(Debug, Deserialize)]
pub(super) struct Icons {
    icons: BTreeMap<String, Icon>,
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(default = "usual")]
    width: f32,
    #[serde(default = "usual")]
    height: f32,
}

#[derive(Debug, Deserialize)]
struct Icon {
    body: String,
    #[serde(default)]
    left: f32,
    #[serde(default)]
    top: f32,
    width: Option<f32>,
    height: Option<f32>,
}

#[derive(Debug, Deserialize)]
struct Alias {
    parent: String,
}

/// The format's side of an icon that tells none.
fn usual() -> f32 {
    16.
}

/// Columns and rows of what is drawn.
const SIDE_PX: u32 = 128;

impl Icons {
    /// Reads a set.
    ///
    /// # Errors
    /// `Io` for a file that can't be read, `BadImage` for one that is no set of icons.
    pub(super) fn open(path: &Path) -> Result<Icons> {
        let text = fs::read_to_string(path).map_err(|e| Error::Io {
            reason: format!("{}: {e}", path.display()),
        })?;
        serde_json::from_str(&text).map_err(|e| bad(&path.display().to_string(), e))
    }

    /// Draws an icon, `[128, 128]`, colours multiplied by alpha.
    ///
    /// # Errors
    /// `BadImage` for a name that the set lacks, or no SVG.
    pub(super) fn draw(&self, name: &str) -> Result<Rgba32FImage> {
        let aliased = self.aliases.get(name).map(|alias| &*alias.parent);
        let icon = self.icons.get(aliased.unwrap_or(name));
        let icon = icon.ok_or_else(|| bad(name, "there is no such icon"))?;
        let (width, height) = (
            icon.width.unwrap_or(self.width),
            icon.height.unwrap_or(self.height),
        );
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="{} {} {width} {height}">{}</svg>"#,
            icon.left, icon.top, icon.body
        );
        let tree =
            usvg::Tree::from_str(&svg, &usvg::Options::default()).map_err(|e| bad(name, e))?;
        let mut drawn = Pixmap::new(SIDE_PX, SIDE_PX).expect("a size above zero");
        let scale = SIDE_PX as f32 / tree.size().width().max(tree.size().height());
        resvg::render(
            &tree,
            Transform::from_scale(scale, scale),
            &mut drawn.as_mut(),
        );
        let pixels = drawn.data().iter().map(|&byte| f32::from(byte) / 255.);
        Ok(ImageBuffer::from_raw(SIDE_PX, SIDE_PX, pixels.collect()).expect("all of its pixels"))
    }
}

fn bad(what: &str, reason: impl ToString) -> Error {
    Error::BadImage {
        reason: format!("{what}: {}", reason.to_string()),
    }
}

/// What the icon of a thing is called in Noto Emoji v1 and in Firefox OS Emoji; nothing where there
/// is none that looks like it. All other things go by their own names.
const CALLED: [(&str, &str, &str); 59] = [
    ("dog", "dog-face", "dog"),
    ("cat", "cat-face", "cat"),
    ("lion", "lion-face", ""),
    ("cow", "cow-face", "cowface"),
    ("pig", "pig-face", "pig"),
    ("rabbit", "rabbit-face", ""),
    ("bear", "bear-face", "bear"),
    ("panda", "panda-face", "pandaface"),
    ("monkey", "monkey-face", "monkeyface"),
    ("frog", "frog-face", "frog"),
    ("fox", "fox-face", ""),
    ("giraffe", "", ""),
    ("zebra", "", ""),
    ("whale", "spouting-whale", "whale"),
    ("shark", "shark", ""),
    ("butterfly", "butterfly", ""),
    ("bee", "honeybee", "honeybee"),
    ("ladybug", "lady-beetle", "ladybeetle"),
    ("crab", "crab", ""),
    ("owl", "owl", ""),
    ("duck", "duck", ""),
    ("flamingo", "", ""),
    ("unicorn", "unicorn-face", ""),
    ("apple", "red-apple", "redapple"),
    ("carrot", "carrot", ""),
    ("corn", "ear-of-corn", "earofmaize"),
    ("broccoli", "", ""),
    ("pizza", "pizza", "sliceofpizza"),
    ("burger", "hamburger", "hamburger"),
    ("fries", "french-fries", "frenchfries"),
    ("cake", "birthday-cake", "birthdaycake"),
    ("donut", "doughnut", "doughnut"),
    ("cheese", "cheese-wedge", ""),
    ("avocado", "avocado", ""),
    ("eggplant", "eggplant", "aubergine"),
    ("car", "automobile", "automobile"),
    ("train", "locomotive", "steamlocomotive"),
    ("sailboat", "sailboat", ""),
    ("truck", "delivery-truck", "deliverytruck"),
    (
        "umbrella",
        "umbrella-with-rain-drops",
        "umbrellawithraindrops",
    ),
    ("ball", "soccer-ball", "soccerball"),
    ("basketball", "basketball", "basketballandhoop"),
    ("football", "american-football", "americanfootball"),
    ("clock", "alarm-clock", "alarmclock"),
    ("laptop", "laptop", ""),
    ("book", "closed-book", "closedbook"),
    ("lock", "locked", "lock"),
    ("scissors", "scissors", "blackscissors"),
    ("lightbulb", "light-bulb", "lightbulb"),
    ("gift", "wrapped-gift", "present"),
    ("hat", "top-hat", "tophat"),
    ("magnet", "", ""),
    ("tree", "deciduous-tree", "deciduoustree"),
    ("house", "house", ""),
    ("star", "white-medium-star", ""),
    ("moon", "crescent-moon", "crescentmoon"),
    ("heart", "red-heart", "redheart"),
    ("rainbow", "rainbow", ""),
    ("snowman", "snowman-without-snow", "snowmanwithoutsnow"),
];

/// The icons in Streamline Emojis of those things that it draws: of some there are two.
const IN_STREAMLINE: [(&str, &[&str]); 66] = [
    ("dog", &["dog-face"]),
    ("cat", &["cat-face"]),
    ("lion", &["lion-face"]),
    ("cow", &["cow-face"]),
    ("pig", &["pig-face"]),
    ("rabbit", &["rabbit-face"]),
    ("bear", &["bear-face"]),
    ("panda", &["panda-face"]),
    ("koala", &["koala"]),
    ("monkey", &["monkey-face"]),
    ("chicken", &["chicken"]),
    ("penguin", &["penguin-1", "penguin-2"]),
    ("frog", &["frog-face"]),
    ("fox", &["fox-face-1", "fox-face-2"]),
    ("elephant", &["elephant"]),
    ("snake", &["snake"]),
    ("turtle", &["turtle"]),
    ("octopus", &["octopus"]),
    ("whale", &["spouting-whale"]),
    ("dolphin", &["dolphin"]),
    ("snail", &["snail"]),
    ("bee", &["honeybee"]),
    ("ladybug", &["lady-beetle"]),
    ("unicorn", &["unicorn-face"]),
    ("apple", &["red-apple"]),
    ("grapes", &["grapes"]),
    ("watermelon", &["watermelon-1", "watermelon-2"]),
    ("lemon", &["lemon"]),
    ("strawberry", &["strawberry-1", "strawberry-2"]),
    ("cherries", &["cherries"]),
    ("mushroom", &["mushroom"]),
    ("pizza", &["pizza-1", "pizza-2"]),
    ("burger", &["hamburger-2", "hamburger-3"]),
    ("fries", &["french-fries"]),
    ("cake", &["birthday-cake-1", "birthday-cake-2"]),
    ("donut", &["doughnut-1", "doughnut-2"]),
    ("cookie", &["cookie"]),
    ("car", &["automobile"]),
    ("bus", &["bus"]),
    ("train", &["locomotive"]),
    ("bicycle", &["bicycle"]),
    ("airplane", &["airplane"]),
    ("rocket", &["rocket"]),
    ("helicopter", &["helicopter"]),
    ("sailboat", &["sailboat"]),
    ("tractor", &["tractor"]),
    ("truck", &["delivery-truck"]),
    ("umbrella", &["umbrella", "umbrella-with-rain-drops"]),
    ("guitar", &["guitar"]),
    ("basketball", &["basketball"]),
    ("football", &["american-football"]),
    ("balloon", &["balloon"]),
    ("gift", &["wrapped-gift-1"]),
    ("crown", &["crown"]),
    ("bell", &["bell"]),
    ("ghost", &["ghost"]),
    ("skull", &["skull"]),
    ("cactus", &["cactus-1", "cactus-2"]),
    ("sunflower", &["sunflower-1", "sunflower-2"]),
    ("rose", &["rose"]),
    ("moon", &["crescent-moon"]),
    ("heart", &["heart-suit"]),
    ("fire", &["fire"]),
    ("snowman", &["snowman"]),
    ("anchor", &["anchor"]),
    ("bomb", &["bomb"]),
];

/// The name of a thing's icon in Noto Emoji v1, if it has one.
pub(super) fn in_noto_v1(thing: &'static str) -> Vec<&'static str> {
    called(thing, |&(_, noto, _)| noto)
}

/// The name of a thing's icon in Firefox OS Emoji, if it has one.
pub(super) fn in_firefox_os(thing: &'static str) -> Vec<&'static str> {
    called(thing, |&(_, _, firefox)| firefox)
}

fn called(
    thing: &'static str,
    column: fn(&(&str, &'static str, &'static str)) -> &'static str,
) -> Vec<&'static str> {
    let row = CALLED.iter().find(|row| row.0 == thing);
    let name = row.map_or(thing, column);
    [name].into_iter().filter(|name| !name.is_empty()).collect()
}

/// The names of a thing's icons in Streamline Emojis, if it has any.
pub(super) fn in_streamline(thing: &'static str) -> Vec<&'static str> {
    let row = IN_STREAMLINE.iter().find(|row| row.0 == thing);
    row.map_or(Vec::new(), |(_, names)| names.to_vec())
}
