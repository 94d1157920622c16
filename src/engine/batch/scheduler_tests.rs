//! The scheduler on a device of the tests' own, whose tokens depend on every token that it finds in the blocks it is told to read.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::blocks::BlockPool;
use super::plan::StepPlan;
use super::scheduler::{Scheduler, SchedulerOptions};
use crate::generation::Accepted;
use crate::model::ModelTokenizer;
use crate::{
    Completion, EngineError, Event, Finish, GenerateOptions, Generation, Limits, Prompt, Request, Sampling, Work,
};

const BLOCK: usize = 4;
const VOCABULARY: u32 = 40;
const CONTEXT: usize = 48;
/// The end of sequence.
const END: u32 = 3;
/// In a block where nothing was written.
const NOTHING: u32 = u32::MAX;

fn tokenizer() -> Arc<ModelTokenizer> {
    let words: Vec<String> = (0..VOCABULARY).map(|id| format!("\"w{id}\": {id}")).collect();
    let json = format!(
        "{{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": null, \
         \"pre_tokenizer\": {{\"type\": \"Whitespace\"}}, \"post_processor\": null, \"decoder\": null, \"model\": {{\"type\": \
         \"WordLevel\", \"unk_token\": \"w0\", \"vocab\": {{{}}}}}}}",
        words.join(", ")
    );
    Arc::new(ModelTokenizer {
        tokenizer: tokenizers::Tokenizer::from_bytes(json).unwrap(),
        chat_template: None,
        bos_token: None,
        named_tokens: std::collections::BTreeMap::new(),
        bos_id: None,
        eos_token: None,
        eos_ids: BTreeSet::from([END]),
        sha256: crate::model::FileHash::known(""),
        notes: Vec::new(),
    })
}

/// Logits after these tokens; of texts that begin as `text(0, …)` does, some make them overflow.
fn logits_after(context: &[u32]) -> Vec<f32> {
    let hash = context
        .iter()
        .fold(7_u64, |hash, token| (hash ^ u64::from(*token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    let overflows = context[0] == text(0, 1)[0] && hash % 31 == 0;
    let logit = |id: u64| ((hash >> (id % 24)) ^ id.wrapping_mul(hash)) % 10_007;
    (0..u64::from(VOCABULARY)).map(|id| if overflows { f32::INFINITY } else { logit(id) as f32 / 1000.0 }).collect()
}

/// What the device chooses: −1 where a logit is not finite.
fn choice(logits: &[f32]) -> i32 {
    let mut best = 0;
    for id in 0..logits.len() {
        best = if logits[id] > logits[best] { id } else { best };
    }
    if logits[best].is_finite() { best as i32 } else { -1 }
}

/// What a request comes to by itself.
fn alone(request: &Request) -> Result<Completion, EngineError> {
    let mut generation = Generation::new(request.clone(), tokenizer(), CONTEXT, Instant::now());
    let mut context = request.prompt.token_ids.clone();
    let mut finish = generation.finished_before_start();
    while finish.is_none() {
        match generation.accept(&logits_after(&context))? {
            Accepted::Next(token) => context.push(token),
            Accepted::Finished(end) => finish = Some(end),
        }
    }
    generation.complete(finish.unwrap())
}

/// A step on its way: its plan, and the tokens and logits that it brings.
type InFlight = (StepPlan, Vec<i32>, Vec<f32>);

/// A scheduler and its device.
struct Machine {
    scheduler: Scheduler,
    /// Steps that run ahead of their results.
    ahead: usize,
    tables: HashMap<usize, Vec<u32>>,
    memory: HashMap<(u32, usize), u32>,
    next_tokens: HashMap<usize, u32>,
    in_flight: VecDeque<InFlight>,
    events: Vec<Event>,
    steps: Vec<usize>,
}

impl Machine {
    fn new(slots: usize, blocks: usize, rows: usize, on_device: bool) -> Self {
        let options = SchedulerOptions {
            slots,
            prefill_rows: rows,
            rows: usize::MAX,
            host_rows: if on_device { 6 } else { usize::MAX },
            samples_on_device: on_device,
        };
        let limits =
            Limits { vocabulary: VOCABULARY as usize, context_tokens: CONTEXT, cache_tokens: None, block_tokens: 1 };
        Self {
            scheduler: Scheduler::new(options, limits, tokenizer(), BlockPool::new(blocks, BLOCK, blocks)),
            ahead: if on_device { 2 } else { 0 },
            tables: HashMap::new(),
            memory: HashMap::new(),
            next_tokens: HashMap::new(),
            in_flight: VecDeque::new(),
            events: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// As the GPU engine does.
    fn step(&mut self) {
        for slot in self.scheduler.admit(&mut self.events) {
            self.tables.insert(slot, self.scheduler.table(slot).to_vec());
        }
        let plan = self.scheduler.plan();
        let nothing = plan.rows() == 0;
        let ahead = match (nothing, plan.sampled_on_host.is_empty()) {
            (true, _) => self.in_flight.len().saturating_sub(1),
            (false, false) => 0,
            (false, true) => self.ahead,
        };
        if !nothing {
            self.steps.push(plan.rows());
            let step = self.compute(plan);
            self.in_flight.push_back(step);
        }
        while self.in_flight.len() > ahead {
            let Some((plan, tokens, logits)) = self.in_flight.pop_front() else { break };
            self.scheduler.accept(&plan, &tokens, &logits, &mut self.events);
        }
    }

    fn compute(&mut self, plan: StepPlan) -> InFlight {
        let place = |tables: &HashMap<usize, Vec<u32>>, slot: usize, position: usize| {
            (tables[&slot][position / BLOCK], position % BLOCK)
        };
        for row in 0..plan.rows() {
            let (slot, position) = (plan.slots[row] as usize, plan.positions[row] as usize);
            let token = if plan.tokens[row] < 0 { self.next_tokens[&slot] } else { plan.tokens[row] as u32 };
            self.memory.insert(place(&self.tables, slot, position), token);
        }
        let context = |slot: usize, row: usize| -> Vec<u32> {
            let at = |position| self.memory.get(&place(&self.tables, slot, position)).copied().unwrap_or(NOTHING);
            (0..=plan.positions[row] as usize).map(at).collect()
        };
        let logits = plan.sampled_on_host.iter().flat_map(|read| logits_after(&context(read.slot, read.row))).collect();
        let chosen: Vec<i32> =
            plan.sampled_on_device.iter().map(|read| choice(&logits_after(&context(read.slot, read.row)))).collect();
        for (read, token) in plan.sampled_on_device.iter().zip(&chosen) {
            self.next_tokens.insert(read.slot, u32::try_from(*token).unwrap_or(0));
        }
        (plan, chosen, logits)
    }

    fn is_idle(&self) -> bool {
        self.scheduler.capacity().is_idle()
    }

    fn finish(&mut self) {
        for _ in 0..5000 {
            if self.is_idle() {
                return;
            }
            self.step();
        }
        panic!("it does not come to an end");
    }

    /// What ended so far, in that order.
    fn ended(&mut self) -> Vec<(usize, Result<Completion, EngineError>)> {
        let ended = |event| match event {
            Event::Completed(completion) => Some((completion.request, Ok(completion))),
            Event::Failed { request, error } => Some((request, Err(error))),
            Event::Token(_) | Event::Note(_) | Event::Step { .. } => None,
        };
        self.events.drain(..).filter_map(ended).collect()
    }

    fn completions(&mut self) -> Vec<Completion> {
        self.finish();
        let mut completions: Vec<_> = self.ended().into_iter().map(|(_, ended)| ended.unwrap()).collect();
        completions.sort_by_key(|completion| completion.request);
        completions
    }
}

fn request(id: usize, token_ids: Vec<u32>, work: Work) -> Request {
    Request { id, prompt: Arc::new(Prompt { text: String::new(), token_ids }), work }
}

fn greedy(max_tokens: usize) -> Work {
    Work::Generate(GenerateOptions { max_tokens, ignore_eos: true, ..GenerateOptions::default() })
}

/// `count` tokens, the same for the same seed.
fn text(seed: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|n| 4 + (seed * 7 + n * n * 3 + n) % (VOCABULARY - 4)).collect()
}

fn assert_as_alone(request: &Request, ended: &Result<Completion, EngineError>) {
    match (alone(request), ended) {
        (Ok(expected), Ok(found)) => {
            let of =
                |completion: &Completion| (completion.token_ids.clone(), completion.text.clone(), completion.finish);
            assert_eq!(of(found), of(&expected), "{request:?}");
            assert_eq!(found.details, expected.details, "{request:?}");
            assert!(found.cached_tokens < request.prompt.token_ids.len() && found.cached_tokens % BLOCK == 0);
        }
        (Err(expected), Err(found)) => {
            // The device says no more than that a logit is not finite.
            let place =
                |error: &EngineError| error.to_string().split_once(" after ").map(|(_, place)| place.to_owned());
            assert_eq!(place(found), place(&expected));
        }
        (expected, found) => panic!("{request:?} ended as {found:?}, not as {expected:?}"),
    }
}

#[test]
fn a_beginning_is_computed_once_by_requests_of_one_batch_and_found_by_later_ones() {
    for on_device in [false, true] {
        let mut machine = Machine::new(8, 200, 64, on_device);
        let prompt = |id: u32| [text(1, 22), text(id, 3)].concat();
        let requests: Vec<Request> = (0..5).map(|id| request(id, prompt(2 + id as u32), greedy(4))).collect();
        for request in &requests {
            machine.scheduler.submit(request.clone()).unwrap();
        }
        let completions = machine.completions();
        // All of it is one step: the beginning once, and five rests.
        assert_eq!(machine.steps[0], 20 + 5 * 5, "{on_device}");
        let cached: Vec<usize> = completions.iter().map(|completion| completion.cached_tokens).collect();
        assert_eq!(cached, [0, 20, 20, 20, 20]);
        machine.scheduler.submit(request(9, prompt(3), greedy(4))).unwrap();
        let again = machine.completions();
        assert_eq!(again[0].cached_tokens, 24, "the whole prompt but for its last token");
        assert_eq!(again[0].token_ids, completions[1].token_ids);
        for (request, completion) in requests.iter().zip(completions) {
            assert_as_alone(request, &Ok(completion));
        }
    }
}

#[test]
fn the_last_token_of_a_prompt_is_computed_by_its_own_request() {
    let mut machine = Machine::new(2, 50, 64, true);
    for id in 0..2 {
        machine.scheduler.submit(request(id, text(1, 2 * BLOCK), greedy(3))).unwrap();
    }
    let completions = machine.completions();
    assert_eq!(completions[1].cached_tokens, BLOCK);
    assert_eq!(completions[0].token_ids, completions[1].token_ids);
}

/// Only positions computed as a prompt are passed on: decoding may have other bits.
#[test]
fn generated_tokens_are_no_beginning() {
    let mut machine = Machine::new(2, 50, 64, true);
    machine.scheduler.submit(request(0, text(1, 6), greedy(12))).unwrap();
    let first = machine.completions().remove(0);
    let conversation = [text(1, 6), first.token_ids, vec![9, 9]].concat();
    machine.scheduler.submit(request(1, conversation, greedy(2))).unwrap();
    assert_eq!(machine.completions()[0].cached_tokens, BLOCK);
}

#[test]
fn whoever_waits_for_a_beginning_takes_it_over_when_its_owner_leaves() {
    // Eight rows a step: the beginning of 32 tokens takes four.
    let mut machine = Machine::new(8, 200, 8, true);
    let requests: Vec<Request> =
        (0..4).map(|id| request(id, [text(1, 33), text(5 + id as u32, 2)].concat(), greedy(5))).collect();
    for request in &requests {
        machine.scheduler.submit(request.clone()).unwrap();
    }
    machine.step();
    machine.step();
    assert!(machine.scheduler.cancel(0));
    machine.step();
    assert!(machine.scheduler.cancel(1));
    let completions = machine.completions();
    assert_eq!(completions.len(), 2);
    for completion in completions {
        assert_as_alone(&requests[completion.request], &Ok(completion));
    }
    // 32 tokens once, three of each that was left, and what they decoded.
    assert_eq!(machine.steps.iter().sum::<usize>(), 32 + 2 * 3 + 2 * 4);
}

/// A request that waits for another's long prompt must not hold up strangers.
#[test]
fn strangers_do_not_wait_for_a_beginning() {
    let mut machine = Machine::new(8, 200, 8, true);
    for id in 0..2 {
        machine.scheduler.submit(request(id, text(1, 40), greedy(2))).unwrap();
    }
    machine.step();
    machine.scheduler.submit(request(7, text(9, 2), greedy(1))).unwrap();
    for _ in 0..8 {
        machine.step();
    }
    assert!(machine.ended().iter().any(|(id, _)| *id == 7));
}

#[test]
fn cancelled_requests_give_everything_back_at_once_whatever_they_are_doing() {
    let mut machine = Machine::new(3, 40, 4, true);
    let full = machine.scheduler.capacity();
    assert_eq!((full.free_slots, full.free_tokens, full.queued), (3, Some(160), 0));
    for id in 0..6 {
        machine.scheduler.submit(request(id, text(1 + id as u32, 10), greedy(8))).unwrap();
    }
    for _ in 0..6 {
        machine.step();
    }
    let busy = machine.scheduler.capacity();
    // Five blocks each.
    assert_eq!((busy.running, busy.queued, busy.free_slots, busy.free_tokens), (3, 3, 0, Some(160 - 3 * 20)));
    assert!(machine.scheduler.cancel(0), "it decodes");
    assert!(machine.scheduler.cancel(2), "it prefills");
    assert!(machine.scheduler.cancel(4), "it waits");
    assert!(!machine.scheduler.cancel(4) && !machine.scheduler.cancel(77), "nobody there");
    let after = machine.scheduler.capacity();
    assert_eq!((after.running, after.queued, after.free_slots, after.free_tokens), (1, 2, 2, Some(160 - 20)));
    let ended: Vec<usize> = machine.completions().iter().map(|completion| completion.request).collect();
    assert_eq!(ended, [1, 3, 5]);
    assert_eq!(machine.scheduler.capacity(), full);
    assert!(!machine.scheduler.cancel(1), "it has ended");
}

#[test]
fn what_cannot_be_worked_on_is_refused_at_once_and_harms_nobody() {
    let mut machine = Machine::new(2, 5, 8, true);
    machine.scheduler.submit(request(0, text(1, 5), greedy(3))).unwrap();
    for (bad, part) in [
        (request(1, Vec::new(), greedy(1)), "request 1 has an empty prompt"),
        (request(1, vec![VOCABULARY], greedy(1)), "request 1 holds token 40, but the vocabulary ends at 40"),
        (request(1, text(1, CONTEXT), greedy(1)), "request 1 has 48 tokens, but the model's context holds 48"),
        (
            request(1, text(1, 10), greedy(11)),
            "request 1 may come to 21 tokens; beside this model, the device has room for",
        ),
        (request(0, text(1, 5), greedy(3)), "request 0 is in the engine already"),
    ] {
        let text = machine.scheduler.submit(bad).unwrap_err().to_string();
        assert!(text.starts_with(part) && text.contains("\nhint: "), "{text}");
    }
    machine.step();
    assert!(machine.scheduler.submit(request(0, text(1, 5), greedy(3))).is_err(), "it runs");
    machine.scheduler.submit(request(1, text(1, 10), greedy(10))).unwrap();
    assert_eq!(machine.completions().len(), 2);
    machine.scheduler.submit(request(0, text(1, 5), greedy(3))).unwrap();
    assert_eq!(machine.completions().len(), 1, "its id is free again");
}

#[test]
fn tokens_are_told_one_by_one_where_that_was_asked_for() {
    let mut machine = Machine::new(4, 50, 8, true);
    let streamed =
        GenerateOptions { max_tokens: 5, ignore_eos: true, details: true, stream: true, ..Default::default() };
    machine.scheduler.submit(request(0, text(1, 5), Work::Generate(streamed))).unwrap();
    machine.scheduler.submit(request(1, text(2, 5), greedy(5))).unwrap();
    machine.finish();
    let (mut tokens, mut completed) = (Vec::new(), None);
    for event in machine.events.drain(..) {
        match event {
            Event::Token(token) => {
                assert!(completed.is_none() && token.request == 0);
                tokens.push(token);
            }
            Event::Completed(completion) if completion.request == 0 => completed = Some(completion),
            _ => (),
        }
    }
    let completed = completed.unwrap();
    assert_eq!(tokens.iter().map(|token| token.token).collect::<Vec<_>>(), completed.token_ids);
    assert_eq!(tokens.iter().map(|token| token.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(tokens.iter().filter_map(|token| token.detail).collect::<Vec<_>>(), completed.details);
    assert!(tokens.is_sorted_by(|a, b| a.seconds <= b.seconds));
}

#[test]
fn after_a_failure_of_the_device_nothing_is_left() {
    let mut machine = Machine::new(2, 50, 8, true);
    let full = machine.scheduler.capacity();
    for id in 0..4 {
        machine.scheduler.submit(request(id, text(1, 20), greedy(5))).unwrap();
    }
    machine.step();
    machine.scheduler.clear();
    machine.in_flight.clear();
    machine.memory.clear();
    assert_eq!(machine.scheduler.capacity(), full);
    machine.scheduler.submit(request(0, text(1, 20), greedy(5))).unwrap();
    let completion = machine.completions().remove(0);
    assert_eq!(completion.cached_tokens, 0, "what was to be computed may not be there");
    assert_as_alone(&request(0, text(1, 20), greedy(5)), &Ok(completion));
}

#[derive(Debug, Clone)]
enum Operation {
    Submit(Request),
    Cancel(usize),
    Step,
}

/// Requests of all kinds; beginnings are often alike.
fn some_request() -> impl Strategy<Value = Request> {
    let prompt = (0_u32..3, 0_usize..24, 0_u32..3, 1_usize..8)
        .prop_map(|(first, length, second, rest)| [text(first, length), text(10 + second, rest)].concat());
    let generate = (0_usize..12, any::<bool>(), any::<bool>(), any::<bool>(), 0_u64..4).prop_map(
        |(max_tokens, details, ignore_eos, sampled, seed)| {
            let temperature = if sampled { 0.7 } else { 0.0 };
            let sampling = Sampling { temperature, seed, ..Sampling::default() };
            Work::Generate(GenerateOptions { max_tokens, ignore_eos, sampling, details, ..Default::default() })
        },
    );
    let score = (0_u32..3, 0_usize..14)
        .prop_map(|(seed, count)| Work::Score { continuation: text(seed, count), top_tokens: 0 });
    (0_usize..40, prompt, prop_oneof![3 => generate, 1 => score])
        .prop_map(|(id, prompt, work)| request(id, prompt, work))
}

fn some_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => some_request().prop_map(Operation::Submit),
        1 => (0_usize..40).prop_map(Operation::Cancel),
        3 => Just(Operation::Step),
    ]
}

proptest! {
    /// Whoever comes, leaves and shares: every request comes to what it comes to alone, once, and everything is free in the end.
    #[test]
    fn a_completion_depends_on_its_request_alone(
        slots in 1_usize..6,
        blocks in 12_usize..40,
        rows in 1_usize..40,
        on_device in any::<bool>(),
        operations in proptest::collection::vec(some_operation(), 1..60),
    ) {
        let mut machine = Machine::new(slots, blocks, rows, on_device);
        let full = machine.scheduler.capacity();
        let mut open: HashMap<usize, Request> = HashMap::new();
        let settle = |machine: &mut Machine, open: &mut HashMap<usize, Request>| {
            for (id, ended) in machine.ended() {
                let request = open.remove(&id).expect("it ended twice, or was cancelled, or never came");
                assert_as_alone(&request, &ended);
            }
        };
        for operation in operations {
            match operation {
                Operation::Submit(request) => {
                    let fits = !open.contains_key(&request.id);
                    prop_assert_eq!(machine.scheduler.submit(request.clone()).is_ok(), fits);
                    if fits {
                        open.insert(request.id, request);
                    }
                }
                Operation::Cancel(id) => prop_assert_eq!(machine.scheduler.cancel(id), open.remove(&id).is_some()),
                Operation::Step => machine.step(),
            }
            settle(&mut machine, &mut open);
            let now = machine.scheduler.capacity();
            prop_assert_eq!(now.running + now.queued, open.len());
        }
        machine.finish();
        settle(&mut machine, &mut open);
        prop_assert!(open.is_empty());
        prop_assert_eq!(machine.scheduler.capacity(), full);
        prop_assert_eq!(machine.scheduler.pool.held(), 0);
    }
}

#[test]
fn finishes_of_all_kinds_were_among_them() {
    // The property above would be worth little if no text ended or overflowed by itself.
    let finishes: Vec<Option<Finish>> = (0..200)
        .map(|seed| {
            let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
            alone(&request(0, [text(seed % 2, 2), text(seed, 7)].concat(), Work::Generate(options)))
                .ok()
                .map(|completion| completion.finish)
        })
        .collect();
    for finish in [None, Some(Finish::EndOfSequence), Some(Finish::Length)] {
        assert!(finishes.iter().filter(|found| **found == finish).count() > 5, "{finish:?}");
    }
}
