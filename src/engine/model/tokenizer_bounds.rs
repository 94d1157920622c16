//! What a tokenizer.json may ask for: the tokenizers library lets a text grow, a pattern be written out, and memory be claimed, without
//! bound.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// Times that a text may grow on its way through normalizer and pre-tokenizer, or back through the decoder. Published ones stay below 30.
const GROWTH: u64 = 1000;
/// Copies of a part that a pattern may ask for with `{n}`, those within one another multiplied.
const COPIES: u64 = 10_000;

/// The parts that work on text. The rest of the file is a vocabulary, as long as it is.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses a tokenizer.json whose parts know no bound: why.
pub(super) fn check(text: &str) -> Result<(), String> {
    // What is no JSON is the library's to say.
    let Ok(parts) = serde_json::from_str::<Parts>(text) else { return Ok(()) };
    let forth = growth(&parts.normalizer)?.saturating_mul(growth(&parts.pre_tokenizer)?);
    for (what, growth) in [("normalizer", forth), ("decoder", growth(&parts.decoder)?)] {
        if growth > GROWTH {
            return Err(format!("its {what} lets a text grow more than {GROWTH} times"));
        }
    }
    let copies = copies(&parts.post_processor);
    if copies > GROWTH { Err(format!("its post_processor repeats a text more than {GROWTH} times")) } else { Ok(()) }
}

/// How many times longer a part can make a text, those of a sequence multiplied.
fn growth(part: &Value) -> Result<u64, String> {
    let fields = match part {
        Value::Array(parts) => return parts.iter().try_fold(1, |all: u64, part| Ok(all.saturating_mul(growth(part)?))),
        Value::Object(fields) => fields,
        _ => return Ok(1),
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let length = |name: &str| text(name).map_or(0, |text| text.len() as u64);
    let own = match text("type") {
        // Compatibility forms: one letter of Arabic stands for eighteen.
        Some("NFKC" | "NFKD") => 11,
        Some("ByteLevel") => 2,
        Some("Metaspace") => 1 + length("replacement"),
        _ => 1,
    };
    let own = own * (1 + length("prepend"));
    let own = match (fields.get("pattern"), text("content")) {
        (Some(pattern), Some(content)) => own.saturating_mul(replaced(pattern, content)),
        _ => own,
    };
    let own = match text("precompiled_charsmap") {
        Some(map) => own.saturating_mul(longest_entry(map)?),
        None => own,
    };
    check_pattern(fields.get("pattern"))?;
    let inner = ["normalizers", "pretokenizers", "decoders"].iter().filter_map(|name| fields.get(*name));
    inner.map(growth).try_fold(own, |all, growth| Ok(all.saturating_mul(growth?)))
}

/// How many times longer a text gets by a replacement.
fn replaced(pattern: &Value, content: &str) -> u64 {
    let content = content.len() as u64;
    match pattern.get("String").and_then(Value::as_str) {
        Some(text) if !text.is_empty() => content.div_ceil(text.len() as u64).max(1),
        // A pattern may match nothing, and so beside every byte.
        _ => 1 + content,
    }
}

/// Refuses a regular expression that is written out to more than memory holds: `(a{1000}){1000}`.
fn check_pattern(pattern: Option<&Value>) -> Result<(), String> {
    let Some(pattern) = pattern.and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str) else { return Ok(()) };
    let bounds = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    // `{n}`, `{n,}`, `{,n}` and `{n,m}`; what is none of them counts as one.
    let counts =
        bounds.filter_map(|(inside, _)| inside.split(',').filter_map(|count| count.trim().parse::<u64>().ok()).max());
    let copies = counts.fold(1, |all: u64, count| all.saturating_mul(count.max(1)));
    if copies > COPIES {
        return Err(format!("a pattern of its asks for {copies} copies of a part, more than {COPIES}"));
    }
    Ok(())
}

/// How many times a text stands in what a post-processor makes of it.
fn copies(part: &Value) -> u64 {
    match part {
        Value::Array(parts) => parts.iter().fold(1, |all: u64, part| all.saturating_mul(copies(part))),
        Value::Object(fields) => {
            let single = fields.get("single").and_then(Value::as_array);
            let texts =
                single.map_or(1, |pieces| pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count());
            (texts as u64).max(1).saturating_mul(fields.get("processors").map_or(1, copies))
        }
        _ => 1,
    }
}

/// The longest text that a `SentencePiece` map puts in the place of a letter. The map: the length of its trie, the trie, and all texts,
/// each with a zero behind it.
fn longest_entry(map: &str) -> Result<u64, String> {
    let damaged = || "its precompiled_charsmap is damaged".to_owned();
    let bytes = from_base64(map).ok_or_else(damaged)?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (trie, texts) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let texts = std::str::from_utf8(texts).map_err(|_| damaged())?;
    if !trie.len().is_multiple_of(4) || !Trie(trie).holds(texts) {
        return Err(damaged());
    }
    Ok(texts.split('\0').map(str::len).max().unwrap_or_default().div_ceil(3).max(1) as u64)
}

/// A double array of 32-bit units, as `SentencePiece` writes it.
struct Trie<'a>(&'a [u8]);

impl Trie<'_> {
    fn unit(&self, index: usize) -> Option<usize> {
        let bytes = self.0.get(index * 4..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    }

    fn offset(unit: usize) -> usize {
        (unit >> 10) << ((unit & (1 << 9)) >> 6)
    }

    /// Whether no text leads out of the array, and every entry to a letter of `texts`.
    fn holds(&self, texts: &str) -> bool {
        let Some(root) = self.unit(0) else { return false };
        let mut seen = BTreeSet::from([Self::offset(root)]);
        let mut open = vec![Self::offset(root)];
        while let Some(node) = open.pop() {
            // The bytes that UTF-8 has; a zero ends a search.
            for byte in (1..=0xf4).filter(|byte| !matches!(byte, 0xc0 | 0xc1)) {
                let Some(unit) = self.unit(node ^ byte) else { return false };
                if unit & ((1 << 31) | 0xff) != byte {
                    continue;
                }
                let next = node ^ byte ^ Self::offset(unit);
                if unit >> 8 & 1 == 1 {
                    let entry = self.unit(next).map(|leaf| leaf & ((1 << 31) - 1));
                    if !entry.is_some_and(|entry| texts.is_char_boundary(entry)) {
                        return false;
                    }
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        true
    }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.trim_end_matches('=');
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for byte in text.bytes() {
        held = held << 6 | DIGITS.iter().position(|digit| *digit == byte)? as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(parts: &Value) -> String {
        check(&parts.to_string()).unwrap_err()
    }

    fn to_base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |group: &[u8]| {
            let held = group.iter().fold(0_u32, |held, byte| held << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            let digits = (0..=group.len()).map(move |at| DIGITS[(held >> (18 - 6 * at) & 63) as usize] as char);
            digits.collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    /// A map of one entry: `a` becomes `texts` up to its first zero. The root's children begin at 256, those of `a` at 512.
    fn map(change: impl FnOnce(&mut Vec<u32>), texts: &[u8]) -> Value {
        let mut units = vec![0_u32; 768];
        units[0] = 256 << 10;
        units[256 ^ 0x61] = ((512 ^ 256 ^ 0x61) << 10) | 1 << 8 | 0x61;
        units[256 ^ 0x61 ^ (512 ^ 256 ^ 0x61)] = 1 << 31;
        change(&mut units);
        let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(texts);
        json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": to_base64(&bytes)}})
    }

    #[test]
    fn published_tokenizers_are_within_bounds() {
        let llama = json!({
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"}, "behavior": "Isolated"},
                {"type": "ByteLevel"}]},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}, {"Sequence": {}}]},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]}});
        assert_eq!(check(&llama.to_string()), Ok(()));
        assert_eq!(growth(&llama["normalizer"]), Ok(12));
        assert_eq!(check(&map(|_| (), b"bcd\0").to_string()), Ok(()));
        assert_eq!(check("no JSON"), Ok(()));
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        let grow = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let ten = json!({"type": "Sequence", "normalizers": vec![grow.clone(); 10]});
        assert!(refused(&json!({"normalizer": ten})).contains("normalizer"));
        let nine = json!({"type": "Sequence", "normalizers": vec![grow.clone(); 9]});
        assert_eq!(check(&json!({"normalizer": nine}).to_string()), Ok(()));
        assert!(refused(&json!({"normalizer": nine, "pre_tokenizer": {"type": "ByteLevel"}})).contains("normalizer"));
        let bytes = json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "ByteLevel"}); 10]});
        assert!(refused(&json!({"pre_tokenizer": bytes})).contains("normalizer"));
        let back = json!({"type": "Sequence", "decoders": vec![grow; 10]});
        assert!(refused(&json!({"decoder": back})).contains("decoder"));
        assert!(refused(&json!({"normalizer": {"type": "Prepend", "prepend": "x".repeat(1000)}})).contains("grow"));
        let empty = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x".repeat(1000)});
        assert!(refused(&json!({"normalizer": empty})).contains("grow"));
        let twice = json!({"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"Sequence": {}}]});
        let processors = json!({"type": "Sequence", "processors": vec![twice; 10]});
        assert!(refused(&json!({"post_processor": processors})).contains("post_processor"));
    }

    #[test]
    fn a_pattern_that_is_written_out_is_refused() {
        let split = |regex: &str| json!({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": regex}}});
        assert!(refused(&split("(?:(?:a{1000}){1000}){3,}")).contains("3000000 copies"));
        assert_eq!(check(&split("a{1,300}\\p{L}{2}[{]x").to_string()), Ok(()));
    }

    #[test]
    fn a_damaged_map_is_refused() {
        for map in ["/////w==", "", "!!!!", "AAAA"] {
            let parts = json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": map}});
            assert!(refused(&parts).contains("damaged"), "{map}");
        }
        for (what, parts) in [
            ("leads out of the array", map(|units| units[0] = 1024 << 10, b"b\0")),
            ("leads out of the array", map(|units| units.truncate(512), b"b\0")),
            ("entry behind the texts", map(|units| units[512] = 9, b"b\0")),
            ("entry within a letter", map(|units| units[512] = 1, "é\0".as_bytes())),
            ("texts that are none", map(|_| (), b"\xff\0")),
            ("no trie", map(Vec::clear, b"b\0")),
        ] {
            assert!(check(&parts.to_string()).is_err_and(|why| why.contains("damaged")), "{what}");
        }
        assert!(refused(&map(|_| (), &[b'x'; 6000])).contains("grow"));
    }
}
