//! Worked examples of the user's: a data file with the columns `question` and `target`, or a task's YAML file of lm-evaluation-harness.

use std::path::Path;

use yaml_rust2::parser::{Event, EventReceiver, Parser};
use yaml_rust2::{ScanError, Yaml, YamlLoader};

use super::{TaskError, dataset};

/// Examples as (question, target).
type Examples = Vec<(String, String)>;

/// More than any task's file nests.
const DEEPEST: usize = 32;

/// Reads a file of examples; they come with its SHA-256.
pub(super) fn read_examples(path: &Path) -> Result<(Examples, String), TaskError> {
    if !path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        return dataset::read_examples(path);
    }
    let label = path.display().to_string();
    let text = crate::files::read_text(path).map_err(|error| {
        TaskError::invalid(format!("cannot read {label}: {error}"), "check the path and its permissions")
    })?;
    Ok((of_yaml(&label, &text)?, crate::files::sha256(text.as_bytes())))
}

/// The examples under `fewshot_config.samples`, as lm-evaluation-harness's tasks keep them.
fn of_yaml(label: &str, text: &str) -> Result<Examples, TaskError> {
    check_shape(label, text)?;
    let documents = YamlLoader::load_from_str(text).map_err(|error| no_yaml(label, &error))?;
    let samples = documents.first().map(|document| &document["fewshot_config"]["samples"]);
    let Some(samples) = samples.and_then(Yaml::as_vec) else {
        return Err(TaskError::invalid(
            format!("{label} has no list `fewshot_config.samples`"),
            "give a task's file of lm-evaluation-harness that holds its examples, such as gsm8k-cot.yaml, or a jsonl file",
        ));
    };
    let example = |(number, sample): (usize, &Yaml)| {
        let field = |name: &str| {
            let value = match &sample[name] {
                Yaml::String(text) | Yaml::Real(text) => text.trim().to_owned(),
                Yaml::Integer(number) => number.to_string(),
                _ => String::new(),
            };
            if !value.is_empty() {
                return Ok(value);
            }
            Err(TaskError::invalid(
                format!("example {} of {label} has no text `{name}`", number + 1),
                "every entry of `fewshot_config.samples` has a `question` and a `target`",
            ))
        };
        Ok((field("question")?, field("target")?))
    };
    samples.iter().enumerate().map(example).collect()
}

/// Refuses what would fill the memory or the stack: aliases, which stand for whole trees, and endless nesting.
fn check_shape(label: &str, text: &str) -> Result<(), TaskError> {
    #[derive(Default)]
    struct Shape {
        depth: usize,
        deepest: usize,
        aliases: usize,
    }
    impl EventReceiver for Shape {
        fn on_event(&mut self, event: Event) {
            match event {
                Event::Alias(_) => self.aliases += 1,
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                }
                Event::SequenceEnd | Event::MappingEnd => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    // The parser calls itself for what is nested: brackets are counted before it is.
    let brackets = text.chars().filter(|c| matches!(c, '[' | '{')).count();
    let mut shape = Shape::default();
    if brackets < 10_000 {
        Parser::new_from_str(text).load(&mut shape, true).map_err(|error| no_yaml(label, &error))?;
    }
    if shape.aliases > 0 || shape.deepest > DEEPEST || brackets >= 10_000 {
        return Err(TaskError::invalid(
            format!("{label} has aliases or is nested too deeply"),
            "write its examples out, or give them as a jsonl file with `question` and `target`",
        ));
    }
    Ok(())
}

fn no_yaml(label: &str, error: &ScanError) -> TaskError {
    let line = error.marker().line();
    TaskError::invalid(
        format!("{label}, line {line}: this is no YAML: {}", error.info()),
        "fetch the file again, or give the examples as a jsonl file with `question` and `target`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the shape of lm-evaluation-harness's files, with a text of our own.
    const SHAPE: &str = "\
doc_to_text: 'Q: {{question}}

  A:'
process: !function utils.process
fewshot_config:
  sampler: first_n
  samples:
  - question: A shelf holds 4 boxes of 6 pens. How many pens does
      it hold?
    target: Each box has 6 pens. 4 * 6 = 24. The answer
      is 24.
  - question: \"Is it: 3?\\nYes.\"
    target: 'It''s 3.'
  - question: |
      Two lines
      here
    target: 7
num_fewshot: 3
";

    #[test]
    fn the_samples_of_a_harness_file_are_read_as_its_own_loader_folds_them() {
        let examples = of_yaml("a.yaml", SHAPE).unwrap();
        let expected = [
            (
                "A shelf holds 4 boxes of 6 pens. How many pens does it hold?",
                "Each box has 6 pens. 4 * 6 = 24. The answer is 24.",
            ),
            ("Is it: 3?\nYes.", "It's 3."),
            ("Two lines\nhere", "7"),
        ];
        assert_eq!(examples, expected.map(|(question, target)| (question.to_owned(), target.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |text: &str| {
            let message = of_yaml("a.yaml", text).unwrap_err().to_string();
            assert!(message.contains("a.yaml") && message.contains("\nhint: "), "{message}");
            message
        };
        assert!(message("task: x\n").contains("no list `fewshot_config.samples`"));
        assert!(message("").contains("no list `fewshot_config.samples`"));
        assert!(message(&SHAPE.replace("    target: 7\n", "")).contains("example 3 of a.yaml has no text `target`"));
        assert!(message("a: [1\nb: 2\n").contains("line"));
        assert!(message("a: &x [1]\nb: [*x, *x]\n").contains("aliases"));
        assert!(message(&"[".repeat(20_000)).contains("nested too deeply"));
    }
}
