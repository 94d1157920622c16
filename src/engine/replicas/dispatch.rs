//! Who waits, and which replica works on what. Pure bookkeeping.
//!
//! Requests wait in one queue, in the order of their submission. The first of it goes to a replica as soon as one has room for it: a slot,
//! and as many tokens of the KV cache as it may come to. Of several with room it goes to one that has nothing to do; else to where it and
//! all that is there already are the least work, which a beginning of its prompt that a replica has seen makes less. So no replica is
//! without work while requests wait.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::prefixes::{Prefix, Prefixes};
use crate::{Capacity, Limits, Request};

/// Tokens that a request counts for at most where replicas are compared. A limit is seldom reached: one request that might become very
/// long is not worth as many others as would come to the same.
const MOST_WORK: usize = 2048;

/// The requests of all replicas, by ticket: a number of ours, so that an id is free again before a replica has let go of its request.
#[derive(Debug)]
pub(super) struct Dispatch {
    limits: Limits,
    /// In the order of submission, which is that of the tickets.
    waiting: BTreeMap<usize, Waiting>,
    replicas: Vec<ReplicaState>,
    next_ticket: usize,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    submitted: Instant,
    prefix: Prefix,
}

/// What is known of a replica.
#[derive(Debug)]
struct ReplicaState {
    /// What its engine last said, less what the replica was given since.
    free_slots: usize,
    free_tokens: Option<usize>,
    /// Whether its engine has requests.
    is_busy: bool,
    /// What its thread has not taken yet.
    inbox: Vec<Given>,
    cancelled: Vec<usize>,
    /// The work of each request that it was given and has not ended, by ticket.
    held: HashMap<usize, usize>,
    /// Their sum.
    work: usize,
    prefixes: Prefixes,
    is_gone: bool,
}

/// A request on its way to a replica. Its id is its ticket.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) request: Request,
    pub(super) submitted: Instant,
    /// Tokens of the KV cache.
    reserved: usize,
}

/// What a replica's thread is to do before its next step.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Requests to drop, some of which may have ended.
    pub(super) cancelled: Vec<usize>,
    /// Requests to submit.
    pub(super) given: Vec<Given>,
}

impl Dispatch {
    /// Replicas without requests, which have so much room each. `limits` hold for every one.
    pub(super) fn new(limits: Limits, capacities: impl IntoIterator<Item = Capacity>) -> Self {
        let replicas = capacities.into_iter().map(ReplicaState::new).collect();
        Self { limits, waiting: BTreeMap::new(), replicas, next_ticket: 0 }
    }

    /// Puts a request at the end of the queue; its ticket.
    pub(super) fn push(&mut self, mut request: Request) -> usize {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        request.id = ticket;
        let prefix = Prefix::of(&request.prompt.token_ids, self.limits.block_tokens.max(16));
        self.waiting.insert(ticket, Waiting { request, submitted: Instant::now(), prefix });
        ticket
    }

    /// Gives replicas what they have room for, and calls `woken` with each that got something.
    pub(super) fn route(&mut self, mut woken: impl FnMut(usize)) {
        while let Some((ticket, first)) = self.waiting.first_key_value() {
            let reserved = self.limits.reserved_tokens(&first.request);
            let Some((replica, work)) = self.choose(first, reserved) else { break };
            let ticket = *ticket;
            let Some(Waiting { request, submitted, prefix }) = self.waiting.remove(&ticket) else { break };
            self.replicas[replica].give(Given { request, submitted, reserved }, work, &prefix);
            woken(replica);
        }
    }

    /// The replica that a request goes to, and the work that it is there; `None` where none has room.
    fn choose(&self, waiting: &Waiting, reserved: usize) -> Option<(usize, usize)> {
        let block_tokens = self.limits.block_tokens.max(16);
        let tokens = waiting.request.max_total_tokens(self.limits.context_tokens).min(MOST_WORK);
        let with_room = self.replicas.iter().enumerate().filter(|(_, replica)| replica.has_room(reserved));
        let offers = with_room.map(|(number, replica)| {
            let work = tokens.saturating_sub(replica.prefixes.seen(&waiting.prefix) * block_tokens);
            (!replica.held.is_empty(), replica.work + work, number, work)
        });
        offers.min().map(|(_, _, number, work)| (number, work))
    }

    /// Whether a replica's thread has something to do.
    pub(super) fn has_work(&self, replica: usize) -> bool {
        let ReplicaState { is_busy, inbox, cancelled, .. } = &self.replicas[replica];
        *is_busy || !inbox.is_empty() || !cancelled.is_empty()
    }

    /// What a replica's thread is to do next.
    pub(super) fn take(&mut self, replica: usize) -> Orders {
        let replica = &mut self.replicas[replica];
        Orders { cancelled: std::mem::take(&mut replica.cancelled), given: std::mem::take(&mut replica.inbox) }
    }

    /// A replica's step is done: what its engine has room for now, and which requests have ended. Whether each of the others is still there:
    /// an engine without requests has lost those that it was given and has not ended.
    pub(super) fn report(
        &mut self,
        replica: usize,
        capacity: Capacity,
        ended: impl IntoIterator<Item = usize>,
    ) -> bool {
        let replica = &mut self.replicas[replica];
        for ticket in ended {
            replica.forget(ticket);
        }
        replica.settle(capacity);
        replica.is_busy || replica.held.len() == replica.inbox.len()
    }

    /// A replica's thread has ended: it gets nothing any more.
    pub(super) fn give_up(&mut self, replica: usize) {
        let replica = &mut self.replicas[replica];
        replica.is_gone = true;
        replica.is_busy = false;
    }

    /// Drops a request, unless it has been reported as ended. The replica that has it.
    pub(super) fn cancel(&mut self, ticket: usize) -> Option<usize> {
        if self.waiting.remove(&ticket).is_some() {
            return None;
        }
        let replica = self.replicas.iter().position(|replica| replica.held.contains_key(&ticket))?;
        self.replicas[replica].cancel(ticket);
        Some(replica)
    }

    /// Drops every request.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        for replica in &mut self.replicas {
            let tickets: Vec<usize> = replica.held.keys().copied().collect();
            for ticket in tickets {
                replica.cancel(ticket);
            }
        }
    }

    /// Requests that no replica has been given.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that replicas were given and that have not ended.
    pub(super) fn running(&self) -> usize {
        self.replicas.iter().map(|replica| replica.held.len()).sum()
    }

    /// Requests that a replica was given and that have not ended.
    #[cfg(test)]
    pub(super) fn holds(&self, replica: usize) -> usize {
        self.replicas[replica].held.len()
    }

    /// Whether a replica would take another request at once.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.replicas.iter().any(|replica| replica.has_room(0))
    }

    /// Whether no replica is left.
    pub(super) fn is_dead(&self) -> bool {
        self.replicas.iter().all(|replica| replica.is_gone)
    }

    /// A replica that answers at once, if there is one: it has no requests. Else one that has.
    pub(super) fn quietest(&self) -> Option<usize> {
        let left = self.replicas.iter().enumerate().filter(|(_, replica)| !replica.is_gone);
        left.min_by_key(|(number, replica)| (!replica.held.is_empty(), *number)).map(|(number, _)| number)
    }

    /// Slots that are free, of all replicas, and tokens of the KV cache on average.
    pub(super) fn free(&self) -> (usize, Option<usize>) {
        let left = || self.replicas.iter().filter(|replica| !replica.is_gone);
        let slots = left().map(|replica| replica.free_slots).sum();
        let most = self.limits.cache_tokens.unwrap_or(usize::MAX);
        let tokens: Option<usize> = left().map(|replica| replica.free_tokens.map(|free| free.min(most))).sum();
        (slots, tokens.map(|tokens| tokens / left().count().max(1)))
    }
}

impl ReplicaState {
    fn new(capacity: Capacity) -> Self {
        Self {
            free_slots: capacity.free_slots,
            free_tokens: capacity.free_tokens,
            is_busy: false,
            inbox: Vec::new(),
            cancelled: Vec::new(),
            held: HashMap::new(),
            work: 0,
            prefixes: Prefixes::default(),
            is_gone: false,
        }
    }

    /// A replica without requests has room for whatever may be asked of it.
    fn has_room(&self, reserved: usize) -> bool {
        let fits = self.free_slots > 0 && self.free_tokens.is_none_or(|free| free >= reserved);
        !self.is_gone && (fits || self.held.is_empty() && !self.is_busy)
    }

    fn give(&mut self, given: Given, work: usize, prefix: &Prefix) {
        self.prefixes.note(prefix);
        self.held.insert(given.request.id, work);
        self.work += work;
        self.free_slots = self.free_slots.saturating_sub(1);
        self.free_tokens = self.free_tokens.map(|free| free.saturating_sub(given.reserved));
        self.inbox.push(given);
    }

    /// Takes over what the engine says of itself: without what is in the inbox.
    fn settle(&mut self, capacity: Capacity) {
        self.is_busy = !capacity.is_idle();
        // Whoever waits in the engine has found no room there.
        let free_slots = if capacity.queued > 0 { 0 } else { capacity.free_slots };
        self.free_slots = free_slots.saturating_sub(self.inbox.len());
        let reserved: usize = self.inbox.iter().map(|given| given.reserved).sum();
        self.free_tokens = capacity.free_tokens.map(|free| free.saturating_sub(reserved));
    }

    /// Room that a request leaves in the inbox is free at once, in the engine after its next step.
    fn cancel(&mut self, ticket: usize) {
        self.forget(ticket);
        match self.inbox.iter().position(|given| given.request.id == ticket) {
            Some(index) => {
                let given = self.inbox.remove(index);
                self.free_slots += 1;
                self.free_tokens = self.free_tokens.map(|free| free + given.reserved);
            }
            None => self.cancelled.push(ticket),
        }
    }

    fn forget(&mut self, ticket: usize) {
        if let Some(work) = self.held.remove(&ticket) {
            self.work -= work;
        }
    }
}
