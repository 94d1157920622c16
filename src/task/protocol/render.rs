//! From a sample to a prompt.

use super::{ChatUse, Protocol, Rendered, TaskError};
use crate::task::{ChatTemplate, Fewshot, Message, Sample};

impl Protocol {
    /// The prompt of a sample. `fewshot` must offer [`Protocol::fewshot_count`] examples.
    ///
    /// Plain, it is every example as prompt, delimiter, target and separator, then the sample's own prompt, after the
    /// protocol's system text and a blank line where it has one. Through a chat template all of that is one user
    /// message, after a system message; a template that takes none ([`ChatTemplate::accepts_system`]) gets the system
    /// text in front of the user's, a blank line between.
    pub fn render(
        &self,
        sample: &Sample,
        fewshot: &Fewshot,
        chat: Option<&ChatTemplate>,
    ) -> Result<Rendered, TaskError> {
        let text = self.text(sample, fewshot)?;
        match (self.chat, chat) {
            (ChatUse::Auto | ChatUse::Required, Some(template)) => {
                let text = template.render(&self.messages(text, template))?;
                Ok(Rendered { text, add_special_tokens: false })
            }
            (ChatUse::Required, None) => Err(TaskError::invalid(
                format!("protocol `{}` needs a chat template, and the model has none", self.name),
                "take a model tuned for chat, or run with `--chat never`",
            )),
            (ChatUse::Never, _) | (ChatUse::Auto, None) => {
                Ok(Rendered { text: self.after_system(text), add_special_tokens: true })
            }
        }
    }

    fn messages(&self, text: String, template: &ChatTemplate) -> Vec<Message> {
        match &self.system {
            Some(system) if template.accepts_system() => {
                vec![Message::new("system", system), Message::new("user", text)]
            }
            _ => vec![Message::new("user", self.after_system(text))],
        }
    }

    fn after_system(&self, text: String) -> String {
        match &self.system {
            Some(system) => format!("{system}\n\n{text}"),
            None => text,
        }
    }

    fn text(&self, sample: &Sample, fewshot: &Fewshot) -> Result<String, TaskError> {
        let examples = fewshot.examples(sample.index);
        if examples.len() != self.fewshot_count {
            return Err(TaskError::invalid(
                format!(
                    "protocol `{}` needs {} examples for sample {} and has {}",
                    self.name,
                    self.fewshot_count,
                    sample.index,
                    examples.len()
                ),
                "give a file with exactly so many by `--fewshot FILE`",
            ));
        }
        let mut text = String::new();
        for (question, answer) in examples {
            text += &self.ask(question);
            text += &self.target_delimiter;
            text += &self.target.replace("{answer}", answer);
            text += &self.shot_separator;
        }
        Ok(text + &self.ask(&sample.question))
    }

    // Only the template is searched for the placeholder, never what is put there: braces in a question survive.
    fn ask(&self, question: &str) -> String {
        self.prompt.replace("{question}", question)
    }
}
