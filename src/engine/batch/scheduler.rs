//! Who is computed when: admission, the plan of each step, what came of it, and who leaves.
//!
//! A step decodes one token of every sequence that can, then prefills prompts as far as rows are left, first come first served. A
//! sequence reserves the blocks of its whole length when it is admitted, so nothing is ever preempted, and the request at the head
//! of the queue waits until it fits.
//!
//! At admission a prompt's prefix is looked up in the prefix cache (`blocks.rs`). What another sequence is about to compute is
//! held as well: the sequence skips it as soon as the step that computes it has been planned, be it the very step in which it
//! goes on itself, for a step stores the keys and values of all its rows before it reads any, layer by layer. Only positions that
//! are computed by prefill are shared, and the last token of a prompt never is, since its own request needs the logits there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::blocks::{BlockPool, Content};
use super::plan::{LogitsRow, StepPlan};
use super::queue::{Queue, Queued, duplicate};
use super::sequence::{Sampled, Sequence};
use crate::model::ModelTokenizer;
use crate::{Capacity, EngineError, Event, Generation, Limits, Request, Work};

/// Prefill rows that every step has room for, however many sequences decode.
const MIN_PREFILL_ROWS: usize = 16;

/// Rows from which the host's share of a step is spread over threads.
const PARALLEL_ROWS: usize = 16;

/// What an engine can do at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerOptions {
    /// Sequences that advance together.
    pub(crate) slots: usize,
    /// Prefill rows of a step at most.
    pub(crate) prefill_rows: usize,
    /// Rows of a step at most, where there are enough for decode rows and [`MIN_PREFILL_ROWS`].
    pub(crate) rows: usize,
    /// Rows of a step whose logits the host can read.
    pub(crate) host_rows: usize,
    /// Whether the device chooses greedy tokens itself.
    pub(crate) samples_on_device: bool,
}

/// The requests of one engine.
#[derive(Debug)]
pub(crate) struct Scheduler {
    options: SchedulerOptions,
    limits: Limits,
    tokenizer: Arc<ModelTokenizer>,
    pub(crate) pool: BlockPool,
    queue: Queue,
    /// By slot.
    sequences: Vec<Option<Sequence>>,
    free_slots: Vec<usize>,
    /// Occupied slots, the longest there first.
    order: Vec<usize>,
    /// Slots by [`Request::id`].
    running: HashMap<usize, usize>,
    /// Whether a slot of `order` has become empty.
    has_gaps: bool,
    next_id: u64,
}

impl Scheduler {
    /// Nobody there. `limits` say what a request may be; how many tokens fit the cache, and how they are reserved, `pool` knows.
    pub(crate) fn new(
        options: SchedulerOptions,
        limits: Limits,
        tokenizer: Arc<ModelTokenizer>,
        pool: BlockPool,
    ) -> Self {
        let (cache_tokens, block_tokens) = (Some(pool.total() * pool.block_tokens()), pool.block_tokens());
        let limits = Limits { cache_tokens, block_tokens, ..limits };
        Self {
            options,
            limits,
            tokenizer,
            pool,
            queue: Queue::default(),
            sequences: Vec::new(),
            free_slots: Vec::new(),
            order: Vec::new(),
            running: HashMap::new(),
            has_gaps: false,
            next_id: 0,
        }
    }

    /// What a request may be.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes a request into the queue, or refuses it.
    pub(crate) fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.limits.check(&request)?;
        if self.running.contains_key(&request.id) {
            return Err(duplicate(request.id));
        }
        self.queue.push(request)
    }

    /// Drops a request, waiting or running; its slot and blocks are free at once. Whether it was there. Steps in flight may still
    /// write to its blocks; whoever gets them next writes later.
    pub(crate) fn cancel(&mut self, request: usize) -> bool {
        if self.queue.remove(request) {
            return true;
        }
        let Some(slot) = self.running.get(&request).copied() else { return false };
        self.vacate(slot);
        true
    }

    /// Drops every request and what the prefix cache holds.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.sequences.clear();
        self.free_slots.clear();
        self.order.clear();
        self.running.clear();
        self.has_gaps = false;
        self.pool.clear();
    }

    /// What is free.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            running: self.running.len(),
            queued: self.queue.len(),
            free_slots: self.options.slots - self.running.len(),
            free_tokens: Some(self.pool.available() * self.pool.block_tokens()),
        }
    }

    /// Sequences that hold a slot.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// The blocks of a slot's sequence.
    pub(crate) fn table(&self, slot: usize) -> &[u32] {
        self.sequences.get(slot).and_then(Option::as_ref).map_or(&[], |sequence| &sequence.table.blocks)
    }

    /// Gives slots and blocks to requests that wait, first come first served. Returns these slots. Requests for no tokens end here.
    pub(crate) fn admit(&mut self, events: &mut Vec<Event>) -> Vec<usize> {
        self.close_gaps();
        let mut begun = Vec::new();
        while self.order.len() < self.options.slots
            && let Some(request) = self.queue.front()
        {
            let (context, id) = (self.limits.context_tokens, self.next_id);
            let prefill = prefill_tokens(request);
            let last = request.prompt.token_ids.len() - 1;
            let Some(table) = self.pool.admit(&prefill, last, request.max_total_tokens(context), id) else { break };
            let Some(Queued { request, submitted }) = self.queue.pop() else { break };
            let request_id = request.id;
            let mut generation = Generation::new(request, Arc::clone(&self.tokenizer), context, submitted);
            if let Some(finish) = generation.finished_before_start() {
                self.pool.release(&table.blocks, id);
                events.push(ended_event(request_id, generation.complete(finish)));
                continue;
            }
            let sequence = Sequence::new(generation, id, prefill, table, self.options.samples_on_device);
            self.next_id += 1;
            let slot = self.free_slots.pop().unwrap_or(self.sequences.len());
            if slot == self.sequences.len() {
                self.sequences.push(Some(sequence));
            } else {
                self.sequences[slot] = Some(sequence);
            }
            self.running.insert(request_id, slot);
            self.order.push(slot);
            begun.push(slot);
        }
        begun
    }

    /// The next step. Whoever calls this computes it, or calls [`Scheduler::clear`].
    pub(crate) fn plan(&mut self) -> StepPlan {
        self.close_gaps();
        let mut plan = StepPlan::default();
        let host_rows = self.options.host_rows;
        for slot in &self.order {
            let Some(sequence) = self.sequences[*slot].as_mut() else { continue };
            let host_full = !sequence.on_device && plan.sampled_on_host.len() >= host_rows;
            if !sequence.can_decode() || host_full {
                continue;
            }
            let (position, token) = sequence.decode();
            plan.decode(*slot, position, token);
            let row = plan.rows() - 1;
            sample(&mut plan, sequence, *slot, row..row + 1);
        }
        let rows_left = self.options.rows.saturating_sub(plan.rows()).max(MIN_PREFILL_ROWS);
        let mut room = self.options.prefill_rows.min(rows_left);
        for slot in &self.order {
            if room == 0 {
                break;
            }
            let Some(sequence) = self.sequences[*slot].as_mut() else { continue };
            if sequence.is_over() || sequence.computed >= sequence.prefill.len() {
                continue;
            }
            let end = ready_until(sequence, &mut self.pool);
            let mut length = (end - sequence.computed).min(room);
            if !sequence.on_device {
                // The host reads every row from `first_logits` on.
                let host_room = host_rows - plan.sampled_on_host.len();
                let silent = sequence.first_logits.saturating_sub(sequence.computed);
                length = length.min(silent.saturating_add(host_room));
            }
            if length == 0 {
                continue;
            }
            let (first_row, first_position) = (plan.rows(), sequence.computed);
            plan.prefill(*slot, first_position, &sequence.prefill[first_position..first_position + length]);
            sequence.computed += length;
            let block_tokens = self.pool.block_tokens();
            for block in first_position / block_tokens..sequence.computed / block_tokens {
                self.pool.fill(sequence.table.blocks[block], sequence.id);
            }
            let first_read = sequence.first_logits.max(first_position);
            if first_read < sequence.computed {
                sample(&mut plan, sequence, *slot, first_row + first_read - first_position..first_row + length);
            }
            room -= length;
        }
        plan
    }

    /// Takes what a step brought: `tokens` for the rows that the device sampled (−1 where a logit was not finite), `logits`
    /// `[rows, vocabulary]` for those that the host samples. Emits every token that is streamed and everything that ended, and
    /// releases the latter. Returns how many tokens were generated.
    pub(crate) fn accept(&mut self, plan: &StepPlan, tokens: &[i32], logits: &[f32], events: &mut Vec<Event>) -> u64 {
        let mut brought: Vec<Option<Brought>> = vec![None; self.sequences.len()];
        for (index, LogitsRow { slot, id, .. }) in plan.sampled_on_host.iter().enumerate() {
            let Some(brought) = brought.get_mut(*slot) else { continue };
            let rows = brought.get_or_insert(Brought { id: *id, by_host: true, first: index, end: index });
            rows.end = index + 1;
        }
        for (index, LogitsRow { slot, id, .. }) in plan.sampled_on_device.iter().enumerate() {
            let Some(brought) = brought.get_mut(*slot) else { continue };
            *brought = Some(Brought { id: *id, by_host: false, first: index, end: index + 1 });
        }
        let vocabulary = self.limits.vocabulary;
        let accept = |(sequence, brought): (&mut Option<Sequence>, Option<Brought>)| -> u64 {
            let (Some(sequence), Some(brought)) = (sequence.as_mut(), brought) else { return 0 };
            if sequence.id != brought.id {
                return 0; // the slot's next sequence
            }
            let before = sequence.output_tokens();
            for row in brought.first..brought.end {
                sequence.accept(if brought.by_host {
                    Sampled::Logits(&logits[row * vocabulary..(row + 1) * vocabulary])
                } else {
                    Sampled::Token(u32::try_from(tokens[row]).ok())
                });
            }
            (sequence.output_tokens() - before) as u64
        };
        let rows = plan.sampled_on_host.len() + plan.sampled_on_device.len();
        let new_tokens = if rows < PARALLEL_ROWS {
            self.sequences.iter_mut().zip(brought).map(accept).sum()
        } else {
            self.sequences.par_iter_mut().zip(brought).map(accept).sum()
        };
        self.release(events);
        new_tokens
    }

    /// Emits streamed tokens and what ended, and frees the slots and blocks of the latter.
    fn release(&mut self, events: &mut Vec<Event>) {
        let mut over = Vec::new();
        for slot in &self.order {
            let Some(sequence) = self.sequences[*slot].as_mut() else { continue };
            if sequence.is_over() {
                over.push(*slot);
            } else {
                events.extend(sequence.generation.streamed().map(Event::Token));
            }
        }
        for slot in over {
            let Some(mut sequence) = self.vacate(slot) else { continue };
            // Next to its completion, so that whoever waits gets both at once.
            events.extend(sequence.generation.streamed().map(Event::Token));
            let request = sequence.generation.request_id();
            events.extend(sequence.ended.map(|ended| ended_event(request, ended)));
        }
    }

    fn vacate(&mut self, slot: usize) -> Option<Sequence> {
        let sequence = self.sequences.get_mut(slot)?.take()?;
        self.pool.release(&sequence.table.blocks, sequence.id);
        self.running.remove(&sequence.generation.request_id());
        self.free_slots.push(slot);
        self.has_gaps = true;
        Some(sequence)
    }

    /// Takes empty slots out of the order, before they are given to others.
    fn close_gaps(&mut self) {
        if std::mem::take(&mut self.has_gaps) {
            self.order.retain(|slot| self.sequences[*slot].is_some());
        }
    }
}

/// The results of a step for one slot: rows of those that the host samples, or of those that the device did.
#[derive(Debug, Clone, Copy)]
struct Brought {
    id: u64,
    by_host: bool,
    first: usize,
    end: usize,
}

/// Reads the logits of these rows of a sequence.
fn sample(plan: &mut StepPlan, sequence: &mut Sequence, slot: usize, rows: Range<usize>) {
    sequence.sample(rows.len());
    let id = sequence.id;
    let sampled = if sequence.on_device { &mut plan.sampled_on_device } else { &mut plan.sampled_on_host };
    sampled.extend(rows.map(|row| LogitsRow { row, slot, id }));
}

/// How far a sequence's prompt can be computed now, behind whatever others have computed of it meanwhile.
fn ready_until(sequence: &mut Sequence, pool: &mut BlockPool) -> usize {
    let block_tokens = pool.block_tokens();
    let shared = sequence.table.shared;
    // Ends before the first shared block that somebody else computes or has computed.
    let mut end = sequence.computed;
    while end / block_tokens < shared {
        let block = sequence.table.blocks[end / block_tokens];
        match pool.content(block) {
            Content::Filled if end == sequence.computed => sequence.add_cached_tokens(block_tokens),
            Content::Orphaned => pool.adopt(block, sequence.id),
            Content::Pending(owner) if owner == sequence.id => (),
            Content::Filled | Content::Pending(_) => return end,
        }
        end = (end / block_tokens + 1) * block_tokens;
    }
    sequence.prefill.len()
}

/// Tokens whose positions are computed as a prompt is: the prompt, and a continuation to be scored but for its last token.
fn prefill_tokens(request: &Request) -> Vec<u32> {
    let prompt = &request.prompt.token_ids;
    match &request.work {
        Work::Generate(_) => prompt.clone(),
        Work::Score { continuation, .. } => {
            let known = continuation.split_last().map_or(&[][..], |(_, known)| known);
            [prompt, known].concat()
        }
    }
}

fn ended_event(request: usize, ended: Result<crate::Completion, EngineError>) -> Event {
    match ended {
        Ok(completion) => Event::Completed(completion),
        Err(error) => Event::Failed { request, error },
    }
}
