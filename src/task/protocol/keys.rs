//! Every key of a protocol file, and what it does.

/// A key's name and what it does.
pub(super) type Key = (&'static str, &'static str);

/// Keys of the file itself.
pub(super) const KEYS: &[Key] = &[
    ("name", "What tables and run folders call the protocol."),
    ("version", "Raised whenever a prompt or a score could change; a stored run names it."),
    ("description", "One line for lists."),
    ("source", "The published task that it follows, with its version, or that it is your own."),
    (
        "chat",
        "Whether prompts go through the model's chat template: \"never\", \"auto\" (where the model has one) or \"required\". \
         `--chat` overrides it.",
    ),
    (
        "system",
        "A system message. Through a chat template it is one, or stands in front of the user's message where the template takes \
         none; in a plain prompt it stands in front, a blank line between. `--system` overrides it. Optional.",
    ),
    (
        "prompt",
        "The question as the model reads it: {question} stands for the row's question, all else stays as it is.",
    ),
    (
        "target",
        "A worked example's answer as the model reads it: {answer} stands for it. Optional; \"{answer}\" if left out.",
    ),
    (
        "target_delimiter",
        "What stands between a worked example's prompt and its target. Optional; one space if left out.",
    ),
    ("shot_separator", "What stands behind each worked example. Optional; a blank line if left out."),
    ("stops", "Strings that end a generation; they are cut off. `--stop` adds to them."),
    ("max_tokens", "Tokens to generate at most. `--max-tokens` overrides it. Optional; 256 if left out."),
    (
        "reference",
        "What rules with a pattern compare with: \"full\" (the whole answer column), or \"value\" (what the task's reference rule \
         finds in it; also written \"after ####\", as GSM8K has it).",
    ),
    (
        "headline",
        "The rule that decides: it stands in the first table, and verdicts, `--min-accuracy` and `--baseline` read it. `--rule` overrides \
         it. Optional; the first rule if left out.",
    ),
    ("fewshot", "A table: the worked examples in front of each question. Left out, there are none."),
    ("rule", "A list of tables, one or more: how the answer is found in a completion."),
];

/// Keys of the table `[fewshot]`.
pub(super) const FEWSHOT_KEYS: &[Key] = &[
    (
        "kind",
        "\"train\": drawn for each row from the task's few-shot split, as Python's random.Random(seed).sample draws; or \"file\": \
         given by `--fewshot FILE`. A file given takes the place of drawn ones too.",
    ),
    ("count", "How many there are."),
    ("seed", "Of kind \"train\" alone: the generator's seed."),
    ("found_in", "Of kind \"file\" alone: where such examples are published."),
];

/// Keys of each table `[[rule]]`: a pattern with `take`, or an extractor.
pub(super) const RULE_KEYS: &[Key] = &[
    ("name", "What tables call the rule."),
    (
        "pattern",
        "A regular expression (no look-around, no back-references). The value is the first group that is not empty, or the whole \
         match; it is right when it equals the reference as text, case, commas, $ and a last full stop aside.",
    ),
    ("take", "Which match counts: \"first\" or \"last\"."),
    (
        "extractor",
        "Instead of a pattern: \"numeric\", the number that a reader would call the answer, or \"boxed\", the last \\boxed{…}. Both \
         compare exact values, whatever `reference` says: 3.0 is 3.",
    ),
];

/// The names alone.
pub(super) fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|(name, _)| *name).collect()
}
