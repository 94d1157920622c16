//! The last program of `cargo test`: counts and names what the programs before it skipped.

use std::collections::{BTreeMap, BTreeSet};

#[path = "skip.rs"]
#[expect(dead_code, reason = "nothing is skipped here")]
mod skip;

fn main() {
    let Some(path) = skip::log() else { return };
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    // What the same `cargo test` started; lines of a broken one before it are no news.
    let parent = std::os::unix::process::parent_id().to_string();
    let mut by_need: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let [own, need, test] = line.split('\t').collect::<Vec<_>>()[..]
            && own == parent
        {
            by_need.entry(need).or_default().insert(test);
        }
    }
    let tests: BTreeSet<&str> = by_need.values().flatten().copied().collect();
    println!("\nskipped, wholly or in part: {} tests", tests.len());
    for (need, tests) in by_need {
        println!("  for want of {need}, {}:", tests.len());
        for test in tests {
            println!("    {test}");
        }
    }
}
