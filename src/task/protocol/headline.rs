//! The rule of a protocol that decides.

use super::{Protocol, TaskError};
use crate::fault::Fault;

impl Protocol {
    /// Makes another of its rules the headline.
    pub fn set_headline(&mut self, rule: &str) -> Result<(), TaskError> {
        let names: Vec<&str> = self.rules.iter().map(|rule| rule.name.as_str()).collect();
        if !names.contains(&rule) {
            let Fault { what, hint } = Fault::unknown("rule", rule, &names);
            return Err(TaskError::invalid(format!("{what} in protocol {}", self.name), hint));
        }
        rule.clone_into(&mut self.headline);
        Ok(())
    }
}
