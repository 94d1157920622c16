//! Which GGUF file of a repository is meant: by its path, or by the label of its quantisation.

use crate::EngineError;
use crate::text;

/// A GGUF file of a repository, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HubGguf {
    /// `sub/model.Q4_K_M.gguf`.
    File(String),
    /// `Q4_K_M`, in letters of any case.
    Label(String),
}

impl HubGguf {
    /// The file among a repository's `names`; of a split one its first part.
    pub(super) fn find(&self, repository: &str, names: &[String]) -> Result<String, EngineError> {
        let label = match self {
            Self::File(file) => return Ok(file.clone()),
            Self::Label(label) => label,
        };
        let labelled: Vec<(&String, Vec<&str>)> = names
            .iter()
            .filter_map(|name| Some((name, whole_stem(name)?)))
            .map(|(name, stem)| (name, labels(stem).collect()))
            .collect();
        let matches: Vec<&String> = labelled
            .iter()
            .filter(|(_, labels)| labels.iter().any(|found| found.eq_ignore_ascii_case(label)))
            .map(|(name, _)| *name)
            .collect();
        match matches[..] {
            [only] => Ok(only.clone()),
            [] => {
                let known: Vec<&str> = labelled.iter().filter_map(|(_, labels)| labels.first().copied()).collect();
                let upper = label.to_uppercase();
                let hint = match text::nearest(&upper, known.iter().copied()) {
                    Some(near) => format!("did you mean `{repository}:{near}`?"),
                    None if known.is_empty() => "it has no .gguf file: leave `:` and the label out".to_owned(),
                    None => format!("it has {}", known.join(", ")),
                };
                Err(EngineError::invalid(format!("{repository} has no GGUF file of the label {label}"), hint))
            }
            _ => {
                let files: Vec<String> = matches.iter().map(|name| format!("`{repository}/{name}`")).collect();
                let what = format!("{repository} has {} GGUF files of the label {label}", files.len());
                Err(EngineError::invalid(what, format!("name one: {}", files.join(", "))))
            }
        }
    }
}

/// A model file's path without its ending and the number of a first part; none of what is no model or a later part.
fn whole_stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    let file = stem.rsplit_once('/').map_or(stem, |(_, file)| file).to_lowercase();
    // Beside models lie projectors of images and matrices of importance.
    if !ending.eq_ignore_ascii_case("gguf") || file.starts_with("mmproj") || file.contains("imatrix") {
        return None;
    }
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once("-of-").and_then(|(rest, count)| Some((rest.rsplit_once('-')?, count))) {
        Some(((stem, part), count)) if number(part) && number(count) => (part == "00001").then_some(stem),
        _ => Some(stem),
    }
}

/// What a file's name may be asked for by, the label first: what stands behind its last `.` or `-`, the same with what is before
/// that (`UD-Q4_K_XL`), and its folder.
fn labels(stem: &str) -> impl Iterator<Item = &str> {
    let (folder, file) = stem.rsplit_once('/').map_or((None, stem), |(folder, file)| (Some(folder), file));
    let ends = file.rmatch_indices(['.', '-']).take(2).map(|(at, _)| &file[at + 1..]);
    ends.chain(folder.map(|folder| folder.rsplit_once('/').map_or(folder, |(_, last)| last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(label: &str, names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        HubGguf::Label(label.to_owned()).find("a/b", &names).map_err(|error| error.to_string())
    }

    #[test]
    fn a_label_names_one_file() {
        let names = [
            "README.md",
            "Qwen3-0.6B-Q4_K_M.gguf",
            "Qwen3-0.6B-Q4_K_S.gguf",
            "Qwen3-0.6B.Q8_0.gguf",
            "Qwen3-0.6B-UD-Q4_K_XL.gguf",
            "mmproj-Q4_K_M.gguf",
            "BF16/Qwen3-BF16-00001-of-00002.gguf",
            "BF16/Qwen3-BF16-00002-of-00002.gguf",
            "Q6_K/model-00001-of-00001.gguf",
        ];
        for (label, file) in [
            ("Q4_K_M", "Qwen3-0.6B-Q4_K_M.gguf"),
            ("q8_0", "Qwen3-0.6B.Q8_0.gguf"),
            ("UD-Q4_K_XL", "Qwen3-0.6B-UD-Q4_K_XL.gguf"),
            ("bf16", "BF16/Qwen3-BF16-00001-of-00002.gguf"),
            ("Q6_K", "Q6_K/model-00001-of-00001.gguf"),
        ] {
            assert_eq!(find(label, &names), Ok(file.to_owned()), "{label}");
        }
        let error = find("Q4_K_N", &names).unwrap_err();
        assert!(
            error.contains("no GGUF file of the label Q4_K_N") && error.contains("did you mean `a/b:Q4_K_"),
            "{error}"
        );
        let error = find("Q4", &["x.safetensors"]).unwrap_err();
        assert!(error.contains("it has no .gguf file"), "{error}");
        let error = find("Q8_0", &["x-Q8_0.gguf", "y-Q8_0.gguf"]).unwrap_err();
        assert!(error.contains("2 GGUF files") && error.contains("`a/b/y-Q8_0.gguf`"), "{error}");
    }
}
