//! One of a part's figures by point, a curve a series, both axes logarithmic, as SVG. Text of others goes through [`html`].

use super::measured::{FigurePart, Figures, MeasuredFigure};
use super::scale::{Scale, distinct};
use crate::report::words::digits;
use crate::shown::html;

/// In the units of the viewBox, which a phone shows at about their size.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// The page's style has so many colours.
const COLOURS: usize = 8;

/// The chart of a part's figure of this name; `None` where it has no points above 0.
pub(super) fn chart(figures: &Figures, index: usize, part: &FigurePart, name: &str) -> Option<String> {
    let axis = part.axis.as_ref()?;
    let shown: Vec<(f64, &MeasuredFigure)> = figures
        .figures
        .iter()
        .filter(|figure| figure.part == index && figure.name == name)
        .filter_map(|figure| Some((figure.at?, figure)))
        // What is 0 or less has no place on a logarithmic axis.
        .filter(|(at, figure)| *at > 0.0 && figure.spread.minimum > 0.0)
        .collect();
    let unit = shown.first().map_or("", |(_, figure)| figure.unit);
    let label = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
    let ends = shown.iter().flat_map(|(_, figure)| [figure.spread.minimum, figure.spread.maximum]);
    let x = Scale::of(shown.iter().map(|(at, _)| *at), LEFT, WIDTH - RIGHT)?;
    let y = Scale::of(ends, HEIGHT - BOTTOM, TOP)?;
    let mut svg = vec![format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {} by {}\">",
        html(&part.title),
        html(name),
        html(axis)
    )];
    for tick in y.ticks() {
        let place = y.place(tick);
        svg.push(format!("<path class=\"grid\" d=\"M{LEFT} {place:.1}H{:.1}\"/>", WIDTH - RIGHT));
        svg.push(text(LEFT - 6.0, place + 4.0, "end", &short(tick)));
    }
    svg.push(format!("<path class=\"base\" d=\"M{LEFT} {0:.1}H{1:.1}\"/>", HEIGHT - BOTTOM, WIDTH - RIGHT));
    for at in distinct(shown.iter().map(|(at, _)| *at)) {
        svg.push(text(x.place(at), HEIGHT - BOTTOM + 16.0, "middle", &short(at)));
    }
    svg.push(text(WIDTH - RIGHT, HEIGHT - 6.0, "end", &format!("{axis}, logarithmic")));
    svg.push(text(0.0, HEIGHT - 6.0, "start", &format!("{label}, logarithmic")));
    for series in 0..figures.series.len() {
        let own = shown.iter().filter(|(_, figure)| figure.series == series);
        svg.push(curve(figures, series, &label, &mut own.copied().collect::<Vec<_>>(), (x, y)));
    }
    svg.push("</svg>".to_owned());
    Some(svg.concat())
}

/// Measured elsewhere: broken, with open circles.
fn curve(
    figures: &Figures,
    series: usize,
    name: &str,
    own: &mut [(f64, &MeasuredFigure)],
    (x, y): (Scale, Scale),
) -> String {
    if own.is_empty() {
        return String::new();
    }
    own.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let colour = colour(series);
    let elsewhere = figures.series[series].elsewhere.is_some();
    let place = |(at, figure): &(f64, &MeasuredFigure)| (x.place(*at), y.place(figure.spread.median));
    let path: Vec<String> = own.iter().map(place).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let (dashes, fill) = if elsewhere { (" stroke-dasharray=\"5 4\"", "var(--paper)") } else { ("", colour.as_str()) };
    let line = format!(
        "<g stroke=\"{colour}\" stroke-width=\"2\"><path d=\"M{}\" fill=\"none\" stroke-linejoin=\"round\"{dashes}/>",
        path.join("L")
    );
    let marks = own.iter().map(|point| {
        let (spread, (cx, cy)) = (point.1.spread, place(point));
        let (low, high) = (y.place(spread.minimum), y.place(spread.maximum));
        let range = if spread.n > 1 {
            format!(" ({}–{}, {} times)", digits(spread.minimum), digits(spread.maximum), spread.n)
        } else {
            String::new()
        };
        let label = figures.label(series);
        let title = format!("{label} at {}: {} {}{range}", short(point.0), digits(spread.median), name);
        format!(
            "<g><title>{}</title><path d=\"M{cx:.1} {low:.1}V{high:.1}\"/><circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" \
             fill=\"{fill}\"/></g>",
            html(&title)
        )
    });
    std::iter::once(line).chain(marks).chain(["</g>".to_owned()]).collect()
}

/// The colour of a series, as CSS.
pub(super) fn colour(series: usize) -> String {
    // The first of the style's colours is the text's own: for curves the others come first.
    format!("var(--c{})", (series + 1) % COLOURS)
}

fn text(x: f64, y: f64, anchor: &str, content: &str) -> String {
    format!("<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", html(content))
}

/// `0.5`, `128`, `20k`.
fn short(value: f64) -> String {
    if value >= 10_000.0 { format!("{}k", value / 1000.0) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::measured::{RecordFacts, Series};
    use crate::score::Spread;

    /// One record and another program, at 1, 2 and 4.
    fn figures() -> Figures {
        let series = |record: Option<usize>, elsewhere: Option<&str>| Series {
            record,
            variant: "f16".to_owned(),
            engine: "P <1>".to_owned(),
            elsewhere: elsewhere.map(str::to_owned),
            note: None,
            failure: None,
        };
        let part = FigurePart {
            name: "sweep batch".to_owned(),
            title: "Sweep of batch".to_owned(),
            description: String::new(),
            axis: Some("requests".to_owned()),
            headline: "tokens/s".to_owned(),
            charted: Vec::new(),
        };
        let figure = |series: usize, at: f64, values: &[f64], name: &str| MeasuredFigure {
            series,
            part: 0,
            at: Some(at),
            name: name.to_owned(),
            unit: "",
            spread: Spread::of(values.iter().copied()).unwrap(),
        };
        Figures {
            records: vec![RecordFacts { name: "r".to_owned(), subject: "m".to_owned(), facts: Vec::new() }],
            series: vec![series(Some(0), None), series(None, Some("p.json"))],
            parts: vec![part],
            figures: vec![
                figure(0, 4.0, &[4000.0], "tokens/s"),
                figure(0, 1.0, &[900.0, 1000.0, 1200.0], "tokens/s"),
                figure(0, 2.0, &[2000.0], "tokens/s"),
                figure(0, 2.0, &[7.0], "whole"),
                figure(1, 1.0, &[500.0], "tokens/s"),
            ],
            ..Figures::default()
        }
    }

    /// The values of an attribute, in their order.
    fn all(svg: &str, name: &str) -> Vec<f64> {
        let name = format!(" {name}=\"");
        let values = svg.split(&name).skip(1);
        values.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn points_stand_by_their_logarithms_in_order_with_their_ranges() {
        let figures = figures();
        let svg = chart(&figures, 0, &figures.parts[0], "tokens/s").unwrap();
        let (x, y) = (all(&svg, "cx"), all(&svg, "cy"));
        assert_eq!(x.len(), 4, "three of ours, one of theirs, nothing but the headline");
        // Doublings are equal steps, to the right and up.
        assert!((x[1] - x[0] - (x[2] - x[1])).abs() < 0.11 && x[1] > x[0] + 50.0, "{x:?}");
        assert!((y[0] - y[1] - (y[1] - y[2])).abs() < 0.11 && y[1] < y[0] - 20.0, "{y:?}");
        assert!((y[3] - y[0] - (y[0] - y[1])).abs() < 0.11 && x[3] == x[0], "half as fast, at the same point");
        assert!(
            x.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x))
                && y.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y))
        );
        assert!(svg.contains("<title>f16 at 1: 1,000 tokens/s (900–1,200, 3 times)</title>"), "{svg}");
        assert!(svg.contains("<title>P &lt;1&gt; f16 at 1: 500 tokens/s</title>"), "{svg}");
        // Only theirs is broken, and its circle is open.
        let (ours, theirs) = svg.split_once("var(--c2)").unwrap();
        assert!(!ours.contains("dasharray") && !ours.contains("--paper"));
        assert!(theirs.contains("dasharray") && theirs.contains("--paper"));
    }

    #[test]
    fn another_figure_has_a_chart_of_its_own_and_nothing_below_its_axis() {
        let mut figures = figures();
        for (at, value) in [(1.0, 0.0), (4.0, 250.0)] {
            let spread = Spread::single(value);
            let figure =
                MeasuredFigure { series: 0, part: 0, at: Some(at), name: "TTFT".to_owned(), unit: "ms", spread };
            figures.figures.push(figure);
        }
        let svg = chart(&figures, 0, &figures.parts[0], "TTFT").unwrap();
        assert_eq!(all(&svg, "cx").len(), 1, "{svg}");
        assert!(
            svg.contains("TTFT, ms, logarithmic") && svg.contains("<title>f16 at 4: 250 TTFT, ms</title>"),
            "{svg}"
        );
        assert!(chart(&figures, 0, &figures.parts[0], "ITL").is_none());
    }

    #[test]
    fn a_part_without_points_has_no_chart() {
        let mut figures = figures();
        figures.parts[0].axis = None;
        assert!(chart(&figures, 0, &figures.parts[0], "tokens/s").is_none());
        figures.parts[0].axis = Some("n".to_owned());
        figures.figures.clear();
        assert!(chart(&figures, 0, &figures.parts[0], "tokens/s").is_none());
    }
}
