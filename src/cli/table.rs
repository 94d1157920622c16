//! Text that fits a terminal of 80 columns: cells side by side, and sentences beside a name.

const WIDTH: usize = 80;
const GAP: usize = 2;
/// No column is cut to less.
const LEAST: usize = 8;

/// One line a row, columns aligned; where they take more than the terminal has, the widest are cut.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &String| text.chars().count();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..columns).map(width).collect();
    while widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) > WIDTH {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > LEAST) else { break };
        *widest -= 1;
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", cut(cell, *width)));
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// At most `width` letters; `…` says that there are more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Broken between words, for what stands `indent` columns from the left.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && indent + line + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_the_widest_are_cut_to_the_terminal() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["a", "bb", "c"]), row(["aaa", "b", ""])]), ["a    bb  c", "aaa  b"]);
        let lines = table(&[row(["2026-01-01", &"m".repeat(70), &"v".repeat(40)])]);
        assert_eq!(lines[0].chars().count(), 80, "{lines:?}");
        assert!(lines[0].starts_with("2026-01-01  mmm") && lines[0].ends_with("v…"), "{lines:?}");
    }

    #[test]
    fn sentences_break_between_words() {
        let text = wrapped(&"word ".repeat(30), 10);
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 3, "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("          word")), "{text}");
    }
}
