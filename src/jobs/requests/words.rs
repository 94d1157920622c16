//! Texts of so many tokens, for servers that take no token ids: of words that most vocabularies have whole.

use crate::engine::model::ModelTokenizer;

/// Frequent and short, so that each is a token with the space before it.
pub(super) const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "was", "for", "that", "with", "as", "on", "by", "at", "from", "are", "this",
    "be", "it", "or", "an", "which", "not", "have", "has", "had", "but", "one", "two", "all", "their", "were", "been",
    "who", "more", "when", "there", "will", "would", "can", "out", "so", "up", "into", "time", "new", "only", "some",
    "other", "may", "then", "first", "any", "like", "now", "over", "such", "no", "our", "after", "also", "did", "many",
    "before",
];

/// What makes a text longer by as little as there is.
const SHORTEST: &str = "a";

/// Rounds in which a text is brought to its length; what is left then is what the tokenizer does not allow.
const ROUNDS: usize = 64;

/// These words as a text; of exactly so many tokens, specials included, where a tokenizer counts them and can make that number.
pub(super) fn text(mut words: Vec<&str>, tokens: usize, tokenizer: Option<&ModelTokenizer>) -> String {
    let mut text = words.join(" ");
    let Some(tokenizer) = tokenizer else { return text };
    for _ in 0..ROUNDS {
        let Ok(count) = tokenizer.encode(&text, true).map(|ids| ids.len()) else { return text };
        if count == tokens {
            return text;
        }
        if count > tokens {
            // A word may be more than a token: half of what is too much is surely not too little.
            words.truncate(words.len().saturating_sub((count - tokens).div_ceil(2)).max(1));
        } else {
            words.extend(std::iter::repeat_n(SHORTEST, tokens - count));
        }
        text = words.join(" ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{ModelSource, ModelSpec};
    use crate::hub::{DEFAULT_REVISION, Hub};

    #[test]
    fn a_text_has_exactly_the_tokens_that_the_tokenizer_counts() {
        let spec = ModelSpec { source: crate::bundled::NAME.to_owned(), revision: DEFAULT_REVISION.to_owned() };
        let source = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap();
        let tokenizer = &source.tokenizer;
        // The beginning of a sequence is a token too.
        for tokens in [2, 7, 32, 129] {
            let words: Vec<&str> = (0..tokens).map(|index| WORDS[(index * 7 + tokens) % WORDS.len()]).collect();
            let text = text(words.clone(), tokens, Some(tokenizer));
            assert_eq!(tokenizer.encode(&text, true).unwrap().len(), tokens, "{text}");
            assert_eq!(super::text(words, tokens, None).split(' ').count(), tokens);
        }
    }
}
