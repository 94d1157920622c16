//! Tasks: what a dataset's columns hold, its rows, and the protocols that turn a row into a prompt.

mod chat;
mod chat_template;
mod corpus;
mod dataset;
mod definition;
mod error;
mod examples;
mod fewshot;
mod prompt_set;
mod protocol;
mod random;
mod sample;
mod toml_text;

pub use chat::Message;
pub use chat_template::ChatTemplate;
pub(crate) use chat_template::{CHAT_JOB, chat_answers};
pub use corpus::{Content, Corpus};
pub use dataset::{Dataset, DatasetSpec};
pub use definition::{FewshotSource, Task};
pub use error::TaskError;
pub use fewshot::Fewshot;
pub use prompt_set::{PromptSet, SetPrompt, Tier};
pub use protocol::{ChatUse, FewshotKind, Protocol, Rendered, new_protocol};
pub use sample::{Sample, Selection};
