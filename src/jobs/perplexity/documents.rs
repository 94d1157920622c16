//! From a text to token ids: one document, or a conversation a row.

use super::Reading;
use crate::engine::model::{ModelSource, ModelTokenizer};
use crate::jobs::JobError;
use crate::task::{ChatTemplate, ChatUse, Content, Corpus, Message, Sample};

/// The tokens of all documents, one after the other.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// What the model sees.
    pub(super) tokens: Vec<u32>,
    /// The bytes of scorable text up to the end of each token.
    pub(super) ends: Vec<usize>,
    pub(super) spans: Vec<Span>,
    /// Everything that was tokenised, for its hash and its length.
    pub(super) text: String,
    pub(super) reading: Reading,
    /// The token that stands before each document, where the tokenizer or the template puts one there.
    pub(super) bos: Option<String>,
}

/// Where a document lies among the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begin: usize,
    /// The first token that is scored; what stands before it is context.
    pub(super) scored: usize,
    pub(super) end: usize,
}

impl Documents {
    pub(super) fn new(corpus: &Corpus, chat: ChatUse, model: &ModelSource) -> Result<Self, JobError> {
        let mut documents = match (&corpus.content, template(corpus, chat, model)?) {
            (Content::Plain(text), _) => Self::whole(text.clone(), Reading::Plain, &model.tokenizer)?,
            (Content::Rows(rows), None) => Self::whole(joined(rows), Reading::Joined, &model.tokenizer)?,
            (Content::Rows(rows), Some(template)) => Self::conversations(rows, &template, &model.tokenizer)?,
        };
        documents.find_bos(&corpus.name, &model.tokenizer)?;
        Ok(documents)
    }

    fn whole(text: String, reading: Reading, tokenizer: &ModelTokenizer) -> Result<Self, JobError> {
        let (tokens, mut ends) = tokenizer.encode_with_ends(&text, true)?;
        if let Some(end) = ends.last_mut() {
            *end = text.len();
        }
        let spans = vec![Span { begin: 0, scored: 1, end: tokens.len() }];
        Ok(Self { tokens, ends, spans, text, reading, bos: None })
    }

    fn conversations(rows: &[Sample], template: &ChatTemplate, tokenizer: &ModelTokenizer) -> Result<Self, JobError> {
        let mut all = Self { reading: Reading::Chat, ..Self::default() };
        let mut scorable = 0;
        for row in rows {
            let prompt = template.render(&[Message::new("user", row.question.as_str())])?;
            let begin = all.tokens.len();
            all.tokens.extend(tokenizer.encode(&prompt, false)?);
            let scored = all.tokens.len();
            all.ends.resize(scored, scorable);
            // A model that answers begins a new token, whatever the prompt's last one is.
            let (answer, ends) = tokenizer.encode_with_ends(&row.answer, false)?;
            all.tokens.extend(answer);
            all.ends.extend(ends.iter().map(|end| scorable + end));
            scorable += row.answer.len();
            if let Some(end) = all.ends.last_mut() {
                *end = scorable;
            }
            // Nothing predicts a document's first token.
            all.spans.push(Span { begin, scored: scored.max(begin + 1), end: all.tokens.len() });
            all.text += &prompt;
            all.text += &row.answer;
        }
        Ok(all)
    }

    /// Keeps the first `limit` tokens.
    pub(super) fn truncate(&mut self, limit: usize) {
        self.tokens.truncate(limit);
        self.ends.truncate(limit);
        self.spans.retain(|span| span.scored < limit);
        if let Some(last) = self.spans.last_mut() {
            last.end = last.end.min(limit);
        }
    }

    /// Names the BOS token that stands before a document; refuses two of them.
    pub(super) fn find_bos(&mut self, name: &str, tokenizer: &ModelTokenizer) -> Result<(), JobError> {
        let Some(bos) = tokenizer.bos_id else { return Ok(()) };
        let is_bos = |position: usize| self.tokens.get(position) == Some(&bos);
        if !self.spans.first().is_some_and(|span| is_bos(span.begin)) {
            return Ok(());
        }
        let token = tokenizer.bos_token.clone().unwrap_or_else(|| format!("<{bos}>"));
        if self.spans.iter().any(|span| is_bos(span.begin) && is_bos(span.begin + 1)) {
            return Err(JobError::invalid(
                format!("the text {name} would begin with the token {token} (id {bos}) twice"),
                "the tokenizer adds it by itself: take it out of the text",
            ));
        }
        self.bos = Some(token);
        Ok(())
    }
}

/// The model's chat template, where the rows go through it.
fn template(corpus: &Corpus, chat: ChatUse, model: &ModelSource) -> Result<Option<ChatTemplate>, JobError> {
    let tokenizer = &model.tokenizer;
    let source = tokenizer.chat_template.as_deref();
    let refuse = |what: String| Err(JobError::invalid(what, "leave `--chat required` out to read plain text"));
    match (chat, &corpus.content, source) {
        (ChatUse::Required, Content::Plain(_), _) => {
            refuse(format!("the text {} has no questions and answers for a chat template", corpus.name))
        }
        (ChatUse::Required, _, None) => refuse(format!("the model {} has no chat template", model.name)),
        (ChatUse::Never, _, _) | (_, Content::Plain(_), _) | (_, _, None) => Ok(None),
        (ChatUse::Auto | ChatUse::Required, Content::Rows(_), Some(source)) => {
            Ok(Some(ChatTemplate::new(source, &tokenizer.named_tokens)?))
        }
    }
}

fn joined(rows: &[Sample]) -> String {
    let rows: Vec<String> = rows.iter().map(|row| format!("{}\n{}", row.question, row.answer)).collect();
    rows.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_joined_as_documented() {
        let row = Sample::new;
        let rows = [row(0, "1+1?", "2.\n#### 2"), row(1, "Q", "#### 3")];
        assert_eq!(joined(&rows), "1+1?\n2.\n#### 2\n\nQ\n#### 3");
    }

    #[test]
    fn a_limit_cuts_documents_and_drops_those_without_a_scored_token() {
        let spans = vec![Span { begin: 0, scored: 2, end: 5 }, Span { begin: 5, scored: 8, end: 10 }];
        let documents = |limit| {
            let mut documents =
                Documents { tokens: vec![7; 10], ends: vec![0; 10], spans: spans.clone(), ..Documents::default() };
            documents.truncate(limit);
            documents.spans
        };
        assert_eq!(documents(10), spans);
        assert_eq!(documents(9)[1], Span { begin: 5, scored: 8, end: 9 });
        assert_eq!(documents(8), spans[..1]);
        assert_eq!(documents(3), [Span { begin: 0, scored: 2, end: 3 }]);
        assert_eq!(documents(2), []);
    }
}
