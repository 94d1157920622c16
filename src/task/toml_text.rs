//! TOML files with errors that name the file, the line and the nearest key.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::TaskError;
use crate::fault::Fault;

/// The text that messages point into.
pub(super) struct TomlText<'a> {
    /// `protocol`, `task`.
    pub(super) kind: &'static str,
    /// The file's path, or the built-in's name.
    pub(super) label: &'a str,
    /// The file's text.
    pub(super) text: &'a str,
    /// Where its keys are told.
    pub(super) keys_told: &'static str,
}

impl TomlText<'_> {
    /// An error in the line where `span` begins.
    pub(super) fn error(&self, span: &Range<usize>, what: &str, hint: impl Into<String>) -> TaskError {
        let line = 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        TaskError::invalid(format!("{} {}, line {line}: {what}", self.kind, self.label), hint)
    }

    /// An error of the TOML reader.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> TaskError {
        match error.span() {
            Some(span) => self.error(&span, error.message(), self.keys_told),
            None => TaskError::invalid(format!("{} {}: {}", self.kind, self.label, error.message()), self.keys_told),
        }
    }

    /// Refuses a key that is not known, at the top or in one of the tables (or lists of tables) named with their own keys.
    pub(super) fn check_keys(&self, known: &[&str], tables: &[(&str, &[&str])]) -> Result<(), TaskError> {
        let parsed = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        self.check_table(parsed.get_ref(), known)?;
        for (name, known) in tables {
            match parsed.get_ref().get(*name).map(toml::Spanned::get_ref) {
                Some(DeValue::Table(table)) => self.check_table(table, known)?,
                Some(DeValue::Array(list)) => {
                    for table in list.iter().filter_map(|entry| entry.get_ref().as_table()) {
                        self.check_table(table, known)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &DeTable, known: &[&str]) -> Result<(), TaskError> {
        match table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
            Some(key) => {
                let Fault { what, hint } = Fault::unknown("key", key.get_ref(), known);
                Err(self.error(&key.span(), &what, hint))
            }
            None => Ok(()),
        }
    }
}
