//! The rule of a protocol that decides.

use super::{Protocol, TaskError};
use crate::fault::Fault;

impl Protocol {
    /// The names of its rules, in order.
    pub fn rule_names(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.name.clone()).collect()
    }

    /// Makes another of its rules the headline.
    pub fn set_headline(&mut self, rule: &str) -> Result<(), TaskError> {
        let names = self.rule_names();
        if !names.iter().any(|name| name == rule) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let Fault { what, hint } = Fault::unknown("rule", rule, &names);
            return Err(TaskError::invalid(format!("{what} in protocol {}", self.name), hint));
        }
        rule.clone_into(&mut self.headline);
        Ok(())
    }
}
