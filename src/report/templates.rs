//! The templates of reports: those in the program, or the user's of the same names.

use std::path::Path;

use serde::Serialize;

use super::ReportError;
use super::render::fill;
use crate::bundled::TEMPLATES;
use crate::files::read_text;

/// The files that a folder of the user's may replace.
const NAMES: [&str; 7] =
    ["report.txt", "report.md", "model-card.md", "report.html", "report.css", "charts.js", "report.js"];

/// Where the texts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// (file, what messages call it, text)
    files: Vec<(&'static str, String, String)>,
}

impl Templates {
    /// Those in the program.
    pub fn bundled() -> Self {
        let of = |name: &&'static str| {
            let text = TEMPLATES.iter().find(|(file, _)| file == name).map_or("", |(_, text)| *text);
            (*name, (*name).to_owned(), text.to_owned())
        };
        Self { files: NAMES.iter().map(of).collect() }
    }

    /// Those in the program, but for the files of the same names in `folder`. A folder with none of them is refused.
    pub fn with_folder(folder: &Path) -> Result<Self, ReportError> {
        let mut templates = Self::bundled();
        let mut found = 0;
        for (name, shown, text) in &mut templates.files {
            let path = folder.join(*name);
            if path.exists() {
                *text = read_text(&path).map_err(|error| {
                    ReportError::new(
                        format!("cannot read the template {}: {error}", path.display()),
                        "check the file, or leave it out of the folder",
                    )
                })?;
                *shown = path.display().to_string();
                found += 1;
            }
        }
        if found == 0 {
            return Err(ReportError::new(
                format!("there is no template in {}", folder.display()),
                format!("`--templates` takes a folder with one or more of {}", NAMES.join(", ")),
            ));
        }
        Ok(templates)
    }

    /// A file's text as it is.
    pub(crate) fn text(&self, name: &str) -> String {
        self.files.iter().find(|(file, _, _)| *file == name).map_or_else(String::new, |(_, _, text)| text.clone())
    }

    /// A template filled in; a name that ends in `.html` escapes what is put into it.
    pub(crate) fn fill(&self, name: &str, variables: &impl Serialize, colour: bool) -> Result<String, ReportError> {
        let shown = self.files.iter().find(|(file, _, _)| *file == name).map_or(name, |(_, shown, _)| shown);
        fill(colour, shown, &self.text(name), &format!("templates/{name}"), variables)
    }
}
