//! Thoughts in a run: kept with the answers, counted apart, never scored.

use std::fs;

use evalsuite::engine::{
    Capacity, Completion, Engine, EngineError, EngineInfo, Event, Finish, Precision, Request, Thought,
};
use evalsuite::jobs::eval::{StoredRun, show_prompt};
use evalsuite::task::ChatUse;

use crate::scripted;

/// The scripted engine with thoughts: before every answer, and of every fifth sample one that never ends.
struct Thinking(Box<dyn Engine>);

fn think(completion: &mut Completion) {
    let sample = completion.token_ids[0];
    completion.thought = Some(Thought { text: format!("#### {}0", sample + 100), tokens: Some(2) });
    if sample.is_multiple_of(5) {
        completion.text.clear();
        completion.finish = Finish::UnfinishedThought;
    }
}

impl Engine for Thinking {
    fn info(&self) -> &EngineInfo {
        self.0.info()
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.0.submit(request)
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.0.step(events)?;
        for event in events {
            if let Event::Completed(completion) = event {
                think(completion);
            }
        }
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        self.0.cancel(request)
    }

    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }
}

#[test]
fn thoughts_are_kept_counted_and_never_scored() {
    let scratch = tempfile::tempdir().unwrap();
    let job = scripted::job(scratch.path().join("run"));
    let mut open = |options: &evalsuite::engine::OpenOptions| -> Result<Box<dyn Engine>, EngineError> {
        let engine = scripted::engine(options.dtype, "1");
        Ok(if options.dtype == Precision::F16 { Box::new(Thinking(engine)) } else { engine })
    };
    let finished = scripted::evaluate_with(&job, &scripted::inputs(), &mut open, &mut |_, _| {}).unwrap();
    let (record, table) = finished.results.unwrap();

    let [f32, f16] = &record.dtypes[..] else { panic!("two columns") };
    let unfinished = scripted::ROWS.div_ceil(5);
    assert_eq!(f32.thoughts, None);
    let thoughts = f16.thoughts.unwrap();
    assert_eq!((thoughts.completions, thoughts.unfinished), (scripted::ROWS, unfinished));
    assert_eq!(thoughts.tokens, Some(2 * scripted::ROWS as u64));
    assert_eq!(f16.answered, scripted::ROWS - unfinished);
    assert!(f16.rules.iter().all(|rule| rule.extracted == scripted::ROWS - unfinished), "{f16:?}");
    assert!(f16.cut >= unfinished, "a thought that never ends is no whole answer");
    let note = format!("f16: {0} of {0} completions hold a thought, 2 tokens each on average", scripted::ROWS);
    let told = record.notes.iter().find(|told| told.starts_with(&note)).unwrap();
    assert!(told.contains(&format!("{unfinished} of them never ended")), "{told}");
    assert!(table.contains("hold a thought"), "{table}");

    let run = StoredRun::read(&finished.folder).unwrap();
    for completion in &run.completions.iter().find(|(variant, _)| *variant == Precision::F16).unwrap().1 {
        let thought = completion.thought.as_ref().unwrap();
        assert_eq!((thought.tokens, thought.text.as_str()), (Some(2), &*format!("#### {}0", completion.sample + 100)));
        let ended = !completion.sample.is_multiple_of(5);
        assert_eq!(completion.finish == Finish::UnfinishedThought, !ended);
        assert_eq!(completion.scores.iter().all(|score| score.value.is_some()), ended, "{completion:?}");
    }
    // Answers without thoughts are written as they were before there were any.
    let answers = fs::read_to_string(finished.folder.join("answers.jsonl")).unwrap();
    let plain = scripted::job(scratch.path().join("plain"));
    let plain = scripted::evaluate(&plain, &scripted::inputs()).unwrap();
    let plain = fs::read_to_string(plain.folder.join("answers.jsonl")).unwrap();
    let of_f32 = |text: &str| {
        text.lines().filter(|line| line.contains("\"dtype\":\"f32\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_f32(&answers), of_f32(&plain));
    assert!(!plain.contains("thought"));
    assert_eq!(answers.matches("\"thought\":{\"tokens\":2,").count(), scripted::ROWS);
}

#[test]
fn a_template_is_told_to_think_or_not() {
    let template =
        "{{ messages[0].content }}{% if enable_thinking is defined %}|{{ enable_thinking }}{% endif %}<think>";
    let shown = |thinking: Option<bool>, template: Option<&str>, chat: ChatUse| {
        let model = scripted::model(template);
        let mut inputs = scripted::inputs_of(model, scripted::dataset(), "gsm8k-cot-zeroshot", chat).unwrap();
        inputs.think(thinking).map_err(|error| error.to_string())?;
        let job = scripted::job(std::path::PathBuf::new());
        let shown = show_prompt(&inputs, &job, 0).unwrap();
        Ok::<_, String>(shown.text.rsplit("step.").next().unwrap().to_owned())
    };
    assert_eq!(shown(None, Some(template), ChatUse::Auto).unwrap(), "<think>");
    assert_eq!(shown(Some(true), Some(template), ChatUse::Auto).unwrap(), "|True<think>");
    assert_eq!(shown(Some(false), Some(template), ChatUse::Auto).unwrap(), "|False<think>");
    let refused = shown(Some(true), Some("{{ messages[0].content }}"), ChatUse::Auto).unwrap_err();
    assert!(refused.contains("does not ask `enable_thinking`") && refused.contains("hint: "), "{refused}");
    let refused = shown(Some(true), Some(template), ChatUse::Never).unwrap_err();
    assert!(refused.contains("plain text") && refused.contains("hint: "), "{refused}");
}
