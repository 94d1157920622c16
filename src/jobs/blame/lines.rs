//! A record's figures, line by line.

use super::BlameRecord;
use super::record::Restored;
use crate::report::{FigureLine, FigureLines};

/// Of every layer and linear layer that was put back, then of those put back together.
pub fn blame_lines(record: &BlameRecord) -> Vec<FigureLine> {
    let (mut lines, variant) = (FigureLines::default(), record.variant.as_str());
    for layer in &record.layers {
        let name = format!("layer {}", layer.layer);
        add(lines.of(variant, &name), &layer.whole).number("relative error of its output", layer.output_error);
        for part in &layer.parts {
            add(lines.of(variant, format!("{name}, {}", part.name)), &part.put_back);
        }
    }
    for step in &record.together {
        let layers: Vec<String> = step.layers.iter().map(usize::to_string).collect();
        add(lines.of(variant, format!("layers {} together", layers.join(" "))), &step.put_back);
    }
    lines.done()
}

fn add<'a>(lines: &'a mut FigureLines, put_back: &Restored) -> &'a mut FigureLines {
    lines.number("margin that comes back, share", put_back.restored).count(
        "answers that keep their token",
        put_back.kept,
        Some(put_back.of),
    )
}
