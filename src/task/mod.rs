//! Tasks: rows of a dataset, and the protocols that turn a row into a prompt.

mod chat;
mod corpus;
mod dataset;
mod error;
mod fewshot;
mod prompt_set;
mod protocol;
mod random;
mod sample;

pub use chat::{ChatTemplate, Message};
pub use corpus::{Content, Corpus};
pub use dataset::{Dataset, DatasetSpec};
pub use error::TaskError;
pub use fewshot::Fewshot;
pub use prompt_set::{PromptSet, SetPrompt, Tier};
pub use protocol::{ChatUse, FewshotKind, Protocol, Rendered};
pub use sample::{Sample, Selection};
