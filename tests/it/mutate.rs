//! Mutations of small valid files, all from one seed.

use evalsuite::random::{GOLDEN, split_mix};
use serde_json::{Value, json};

/// What lengths, counts and offsets are most easily mistaken for.
const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0xffff,
    1 << 20,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Numbers that look random, the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        split_mix(self.0)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn extreme(&mut self) -> u64 {
        EXTREMES[self.below(EXTREMES.len())].wrapping_add(self.below(3) as u64).wrapping_sub(1)
    }
}

/// A file with one to four mutations, most of them in its first or last 2,000 bytes: there stand the lengths that everything else rests on.
pub(crate) fn bytes(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(4) {
        mutate(random, &mut bytes);
    }
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let length = bytes.len();
    let near = random.below(2000.min(length) + 1);
    let at = match random.below(5) {
        0 => random.below(length + 1),
        1 => length - near,
        _ => near,
    };
    let end = (at + 1 + random.below(64)).min(length);
    match random.below(8) {
        0 if at < length => bytes[at] ^= 1 << random.below(8),
        1 if at < length => bytes[at] = random.extreme() as u8,
        2 | 3 => {
            let number = random.extreme().to_le_bytes();
            let width = [2, 4, 8][random.below(3)].min(length - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at.min(end)..end)),
        6 => {
            let again = bytes[at.min(end)..end].repeat(1 + random.below(100));
            drop(bytes.splice(at..at, again));
        }
        _ => {
            let run = vec![random.next() as u8; 1 << random.below(17)];
            drop(bytes.splice(at..at, run));
        }
    }
}

/// JSON with one to three of its values put out, put elsewhere, or replaced by what nobody expects there.
pub(crate) fn json(random: &mut Random, value: &Value) -> Value {
    let mut value = value.clone();
    for _ in 0..=random.below(3) {
        let mut paths = Vec::new();
        list(&value, String::new(), &mut paths);
        let [from, to] = [0, 0].map(|_| paths[random.below(paths.len())].clone());
        let other = value.pointer(&from).cloned().unwrap_or_default();
        let Some(place) = value.pointer_mut(&to) else { continue };
        *place = match random.below(4) {
            0 => other,
            1 => grown(random, place),
            _ => anything(random, place),
        };
    }
    value
}

/// Every place below and including this one.
fn list(value: &Value, path: String, paths: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(all) => all.iter().enumerate().for_each(|(at, one)| list(one, format!("{path}/{at}"), paths)),
        Value::Object(all) => all.iter().for_each(|(key, one)| list(one, format!("{path}/{}", escaped(key)), paths)),
        _ => (),
    }
    paths.push(path);
}

/// The same with more or less in it.
fn grown(random: &mut Random, value: &Value) -> Value {
    match value {
        Value::String(text) if random.once_in(2) => json!(text.repeat(1 + random.below(1000))),
        Value::String(text) => json!(text.chars().skip(1).collect::<String>()),
        Value::Number(number) => json!(number.as_f64().unwrap_or_default() * -1.5),
        Value::Array(all) if random.once_in(2) => json!(all.iter().skip(1).collect::<Vec<_>>()),
        Value::Array(all) => json!(all.iter().chain(all).collect::<Vec<_>>()),
        Value::Object(all) if !all.is_empty() => {
            let left_out = random.below(all.len());
            let kept = all.iter().enumerate().filter(|(at, _)| *at != left_out);
            Value::Object(kept.map(|(_, (key, value))| (key.clone(), value.clone())).collect())
        }
        other => json!([other]),
    }
}

fn anything(random: &mut Random, value: &Value) -> Value {
    match random.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(random.extreme()),
        3 => json!(random.extreme() as i64),
        4 => json!(-1),
        5 => json!(1e308),
        6 => json!(0.5),
        7 => json!(""),
        8 => json!("\u{1b}]0;x\u{7}\u{202e}\u{fffe}\n::error::\u{9b}2J=1+1"),
        9 => json!("x".repeat(1 << random.below(18))),
        10 => json!([]),
        11 => json!({}),
        12 => json!({"": value, "a/b": value}),
        _ => (0..1 << random.below(7)).fold(value.clone(), |inner, _| json!([inner])),
    }
}

#[test]
fn one_seed_makes_one_file_and_another_makes_another() {
    let file = b"{\"length\": 1234, \"rows\": [1, 2, 3], \"text\": \"abc\"}".repeat(100);
    let made = |seed| bytes(&mut Random(seed), &file);
    assert_eq!(made(1), made(1));
    let all: std::collections::BTreeSet<Vec<u8>> = (0..100).map(made).collect();
    assert!(all.len() > 95, "{}", all.len());
    let value = json!({"length": 1234, "rows": [1, 2, {"a": null}], "text": "abc"});
    let made = |seed| json(&mut Random(seed), &value).to_string();
    assert_eq!(made(1), made(1));
    let all: std::collections::BTreeSet<String> = (0..100).map(made).collect();
    assert!(all.len() > 80, "{}", all.len());
}
