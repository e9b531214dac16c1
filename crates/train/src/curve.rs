//! A loss over its steps, as a picture.

use std::fmt::Write as _;

const WIDTH: f64 = 720.;
const HEIGHT: f64 = 360.;
const MARGIN: f64 = 56.;
/// Neighbouring steps that make one point at most.
const POINTS: usize = 400;

/// An SVG of losses, one per step, from step 1 on: their means over as many steps as make a point,
/// on a logarithmic scale.
pub fn svg(title: &str, losses: &[f32]) -> String {
    let each = losses.len().div_ceil(POINTS).max(1);
    let means: Vec<f64> = losses
        .chunks(each)
        .map(|losses| losses.iter().map(|&x| x as f64).sum::<f64>() / losses.len() as f64)
        .map(|mean| mean.max(1e-6))
        .collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| {
        (low.min(x), high.max(x))
    });
    let (low, high) = (low.ln(), high.ln().max(low.ln() + 0.1));
    let x = |i: usize| MARGIN + (WIDTH - 2. * MARGIN) * i as f64 / (means.len().max(2) - 1) as f64;
    let y = |loss: f64| HEIGHT - MARGIN - (HEIGHT - 2. * MARGIN) * (loss.ln() - low) / (high - low);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\" font-size=\"15\">{title}</text>\n"
    );
    for tick in 0..=4 {
        let loss = (low + (high - low) * tick as f64 / 4.).exp();
        let at = y(loss);
        let _ = write!(
            out,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.3}</text>\n",
            WIDTH - MARGIN,
            MARGIN - 6.,
            at + 4.
        );
    }
    for tick in 0..=4 {
        let step = losses.len() * tick / 4;
        let at = MARGIN + (WIDTH - 2. * MARGIN) * tick as f64 / 4.;
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{step}</text>",
            HEIGHT - MARGIN + 20.
        );
    }
    let points = means.iter().enumerate();
    let points: Vec<String> = points
        .map(|(i, &loss)| format!("{:.1},{:.1}", x(i), y(loss)))
        .collect();
    let _ = write!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#2563eb\" stroke-width=\"1.5\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n</svg>\n",
        points.join(" "),
        WIDTH / 2.,
        HEIGHT - 12.
    );
    out
}
