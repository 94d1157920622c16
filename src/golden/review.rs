//! A pending file as text for review.

use super::prompt_change::where_it_changed;
use super::{Golden, Output};
use crate::report::{mark, plain, wrap, wrap_text};
use crate::score::{Change, word_diff};

/// Columns that texts take, their indentation not counted.
const WIDTH: usize = 76;

/// All differences between a golden file, if there is one, and its pending file: the check's findings, and for
/// each output the prompt, the old text, the new text and a word diff.
pub fn show(old: Option<&Golden>, new: &Golden, colour: bool) -> String {
    let mut lines = vec![format!("{} {} {}", new.suite.name(), new.model, new.dtype)];
    lines.extend(new.changes.iter().filter(|note| note.id.is_none()).map(|note| match note.outputs.len() {
        0 => format!("  {}", plain(&note.what)),
        outputs => format!("  {outputs} outputs: {}", plain(&note.what)),
    }));
    let Some(old) = old else {
        lines.push(format!("  there is no golden file yet; {} outputs would be its first", new.outputs.len()));
        for output in &new.outputs {
            lines.push(format!("\n{}", output.id));
            lines.extend(indented("prompt", output.prompt.as_deref().unwrap_or("(not kept)")));
            lines.extend(indented("new", &output.text));
        }
        return lines.join("\n");
    };
    let mut ids: Vec<&String> = Vec::new();
    for id in new.changes.iter().flat_map(|note| note.outputs.iter().chain(&note.id)) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let of = |golden: &Golden, id: &str| golden.outputs.iter().find(|output| output.id == id).cloned();
    let own = |id: &str| new.changes.iter().any(|note| note.id.as_deref() == Some(id));
    let text = |golden: &Golden, id: &str| of(golden, id).map(|output| output.text);
    // Of outputs that have the common changes alone there is nothing to show.
    let (shown, alike): (Vec<&String>, Vec<&String>) =
        ids.into_iter().partition(|id| own(id) || text(old, id) != text(new, id));
    if !alike.is_empty() {
        let names: Vec<&str> = alike.iter().map(|id| id.as_str()).collect();
        lines.push(format!("  the text is the same in {}", names.join(", ")));
    }
    for id in shown {
        lines.push(format!("\n{id}"));
        let changes = new.changes.iter().filter(|note| note.id.as_ref() == Some(id));
        lines.extend(changes.map(|note| format!("  {}", plain(&note.what))));
        lines.extend(texts(of(old, id).as_ref(), of(new, id).as_ref(), colour));
    }
    lines.join("\n")
}

fn texts(old: Option<&Output>, new: Option<&Output>, colour: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(prompt) = new.or(old).and_then(|output| output.prompt.as_deref()) {
        lines.extend(indented("prompt", prompt));
    }
    let text = |output: Option<&Output>| output.map_or_else(String::new, |output| output.text.clone());
    let (was, is) = (text(old), text(new));
    if was == is {
        lines.extend(indented("both", &was));
        return lines;
    }
    lines.extend(indented("old", &was));
    lines.extend(indented("new", &is));
    lines.push("  diff".to_owned());
    for line in wrap(&word_diff(&was, &is), WIDTH) {
        let marked = line.iter().map(|part| {
            let change = match part.change {
                Change::Same => "same",
                Change::Removed => "removed",
                Change::Added => "added",
            };
            mark(&part.text, change, colour)
        });
        lines.push(format!("    {}", marked.collect::<String>()));
    }
    lines.push(format!("  the texts part {}", where_it_changed(&was, &is)));
    lines
}

fn indented(title: &str, text: &str) -> Vec<String> {
    let body = wrap_text(text, WIDTH).into_iter().map(|line| format!("    {line}"));
    std::iter::once(format!("  {title}")).chain(body).collect()
}
