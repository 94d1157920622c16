//! What README and docs/ say can be typed: every command line in them is one that clap takes, and every link leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use evalsuite::cli::Arguments;

const LONGEST_README: usize = 120;
const LONGEST_MAP: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, CONTRIBUTING, CHANGELOG, docs/ and what lies beside code and data; not the dated results, which tell of their day's flags.
fn pages() -> Vec<PathBuf> {
    let names = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benches/README.md",
        "datasets/bundled/README.md",
        "golden/README.md",
        "models/bundled/README.md",
        "models/bundled-awq/README.md",
        "src/ARCHITECTURE.md",
        "src/engine/cuda/README.md",
    ];
    let mut pages: Vec<PathBuf> = names.iter().map(|name| root().join(name)).collect();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages.sort();
    pages
}

/// A command line in a page.
struct Typed {
    page: String,
    line: usize,
    words: Vec<String>,
}

/// The words of a line as a shell reads them, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, '#' | '>' | '|' | ';' | '&') if letter != '#' || word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The command lines of a page's blocks: lines that begin with the program's name, or with `cargo run` of it; a `\` at a line's end
/// goes on in the next one. Blocks of output are named `text`, and diffs `diff`.
fn typed(page: &Path) -> Vec<Typed> {
    let text = fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(root()).unwrap().display().to_string();
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language.to_owned()) };
            continue;
        }
        if block.as_ref().is_none_or(|language| ["text", "diff"].contains(&language.as_str())) {
            continue;
        }
        let mut command = line.trim().to_owned();
        while command.ends_with('\\') {
            command.pop();
            command.push_str(lines.next().expect("a line goes on").1.trim());
        }
        for prompt in ["$ ", "- run: "] {
            command = command.strip_prefix(prompt).unwrap_or(&command).to_owned();
        }
        let words = words(&command);
        let ours = match &words[..] {
            [first, rest @ ..] if first == "evalsuite" => rest.to_vec(),
            [cargo, run, release, dashes, rest @ ..]
                if [cargo, run, release, dashes] == ["cargo", "run", "--release", "--"] =>
            {
                rest.to_vec()
            }
            _ => continue,
        };
        let words = std::iter::once("evalsuite".to_owned()).chain(ours).collect();
        found.push(Typed { page: name.clone(), line: index + 1, words });
    }
    assert!(block.is_none(), "{name}: a block does not end");
    found
}

#[test]
fn a_shell_s_words() {
    assert_eq!(words("evalsuite show 'a b'.json  # the table"), ["evalsuite", "show", "a b.json"]);
    assert_eq!(words("a --stop \"\" x#y > page.html"), ["a", "--stop", "", "x#y"]);
}

#[test]
fn every_command_in_the_docs_can_be_typed() {
    let mut faults = Vec::new();
    let mut held = 0;
    for Typed { page, line, words } in pages().iter().flat_map(|page| typed(page)) {
        held += 1;
        if let Err(error) = Arguments::try_parse_from(&words)
            && error.use_stderr()
        {
            let first = error.to_string().lines().next().unwrap_or_default().to_owned();
            faults.push(format!("{page}:{line}: {}: {first}", words.join(" ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(held > 50, "only {held} command lines were found");
}

#[test]
fn every_link_in_the_docs_leads_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let linked = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            if !linked.exists() {
                faults.push(format!("{}: {target}", page.display()));
            } else if !heading.is_empty() && !headings(&linked).contains(&heading.to_owned()) {
                faults.push(format!("{}: {target}: no such heading, of {:?}", page.display(), headings(&linked)));
            }
        }
    }
    assert!(faults.is_empty(), "links that lead nowhere:\n{}", faults.join("\n"));
}

/// A page's headings as links name them: lower case, blanks as hyphens, without other signs.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(anchor).collect()
}

#[test]
fn the_readme_and_the_map_stay_short() {
    for (name, limit) in [("README.md", LONGEST_README), ("src/ARCHITECTURE.md", LONGEST_MAP)] {
        let lines = fs::read_to_string(root().join(name)).unwrap().lines().count();
        assert!(
            lines <= limit,
            "{name}: {lines} lines, {limit} at most: move what is more under docs/ or beside the code"
        );
    }
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        assert!(!name.starts_with("docs/") || readme.contains(&name), "{name} is linked from nowhere in README.md");
    }
}
