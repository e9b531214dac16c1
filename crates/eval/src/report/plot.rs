//! Plots as SVG, which stand in a page or alone.

use crate::metrics::Interval;

/// A plot of values over numbers.
#[derive(Debug, Clone, Copy)]
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What goes to the right.
    pub x: &'a str,
    /// What goes up.
    pub y: &'a str,
    /// The lines.
    pub series: &'a [Series],
}

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Its points.
    pub marks: Vec<Mark>,
}

/// One point of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// How much.
    pub y: f64,
    /// How certain that is.
    pub interval: Option<Interval>,
}

/// Colours that those who see fewer tell apart, too (Okabe and Ito), on light and dark.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
];

const WIDTH: f64 = 720.;
const HEIGHT: f64 = 400.;
const LEFT: f64 = 64.;
const TOP: f64 = 44.;
const BOTTOM: f64 = 56.;
const LEGEND: f64 = 200.;

impl Plot<'_> {
    /// Draws it.
    pub fn svg(&self) -> String {
        let marks = || self.series.iter().flat_map(|series| &series.marks);
        let (left, right) = range(marks().map(|mark| mark.x));
        let ends = |mark: &Mark| {
            let interval = mark.interval.unwrap_or(Interval {
                low: mark.y,
                high: mark.y,
            });
            [interval.low, interval.high]
        };
        let (low, high) = range(marks().flat_map(ends));
        let x = |value: f64| LEFT + (value - left) / (right - left) * (WIDTH - LEGEND - LEFT);
        let y =
            |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
             <title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>\n",
            title = escaped(self.title)
        );
        for value in ticks(low, high) {
            let at = y(value);
            svg += &format!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
                WIDTH - LEGEND,
                LEFT - 8.,
                at + 4.
            );
        }
        for value in ticks(left, right) {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>\n",
                x(value),
                HEIGHT - BOTTOM + 20.
            );
        }
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"16\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 16 {middle:.1})\">{}</text>\n",
            (LEFT + WIDTH - LEGEND) / 2.,
            HEIGHT - 14.,
            escaped(self.x),
            escaped(self.y),
            middle = (TOP + HEIGHT - BOTTOM) / 2.
        );
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points = series.marks.iter();
            let points = points.map(|mark| format!("{:.1},{:.1}", x(mark.x), y(mark.y)));
            svg += &format!(
                "<g stroke=\"{colour}\" fill=\"{colour}\"><polyline fill=\"none\" \
                 stroke-width=\"2\" points=\"{}\"/>\n",
                points.collect::<Vec<_>>().join(" ")
            );
            for mark in &series.marks {
                let [from, to] = ends(mark);
                svg += &format!(
                    "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                     <circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\"/>\n",
                    y(from),
                    y(to),
                    y(mark.y),
                    at = x(mark.x)
                );
            }
            let row = TOP + 16. + 20. * i as f64;
            svg += &format!(
                "<circle cx=\"{:.1}\" cy=\"{row:.1}\" r=\"4\"/></g>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                WIDTH - LEGEND + 16.,
                WIDTH - LEGEND + 28.,
                row + 4.,
                escaped(&series.name)
            );
        }
        svg + "</svg>\n"
    }
}

/// Returns from where to where values go, with some room.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (0., 1.);
    }
    let room = ((high - low) * 0.06).max(high.abs() * 0.02).max(1e-3);
    (low - room, high + room)
}

/// Returns round numbers in a range, some five of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1., 2., 5., 10.].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let digits = (-step.log10().floor()).max(0.) as usize;
    let tick = |i: i64| {
        format!("{:.digits$}", i as f64 * step)
            .parse()
            .unwrap_or(0.)
    };
    (first..=last).map(tick).collect()
}

/// Escapes what marks elements and attributes.
pub(crate) fn escaped(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    text.replace('"', "&quot;")
}
