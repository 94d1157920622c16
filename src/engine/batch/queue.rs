//! Requests that were submitted and have not begun.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::{EngineError, Request};

/// First come, first served; any of them can leave.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By ticket.
    waiting: BTreeMap<u64, Queued>,
    /// Tickets by [`Request::id`].
    tickets: HashMap<usize, u64>,
    next_ticket: u64,
}

/// A request and when it was submitted.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) request: Request,
    pub(crate) submitted: Instant,
}

impl Queue {
    /// Adds a request at the end. An id that waits already is refused.
    pub(crate) fn push(&mut self, request: Request) -> Result<(), EngineError> {
        if self.tickets.contains_key(&request.id) {
            return Err(duplicate(request.id));
        }
        self.tickets.insert(request.id, self.next_ticket);
        self.waiting.insert(self.next_ticket, Queued { request, submitted: Instant::now() });
        self.next_ticket += 1;
        Ok(())
    }

    /// The request that has waited longest.
    pub(crate) fn front(&self) -> Option<&Request> {
        self.waiting.first_key_value().map(|(_, queued)| &queued.request)
    }

    /// Takes it out.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let (_, queued) = self.waiting.pop_first()?;
        self.tickets.remove(&queued.request.id);
        Some(queued)
    }

    /// Takes a request out by its id; whether it was there.
    pub(crate) fn remove(&mut self, id: usize) -> bool {
        self.tickets.remove(&id).is_some_and(|ticket| self.waiting.remove(&ticket).is_some())
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.tickets.clear();
    }
}

/// The refusal of a request whose id belongs to another one.
pub(crate) fn duplicate(id: usize) -> EngineError {
    EngineError::invalid(
        format!("request {id} is in the engine already"),
        "give every request an id of its own until it has ended",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{GenerateOptions, Prompt, Work};

    fn request(id: usize) -> Request {
        let prompt = Arc::new(Prompt { text: String::new(), token_ids: vec![1] });
        Request { id, prompt, work: Work::Generate(GenerateOptions::default()) }
    }

    #[test]
    fn requests_leave_in_their_order_or_by_their_id() {
        let mut queue = Queue::default();
        for id in [7, 3, 9, 1] {
            queue.push(request(id)).unwrap();
        }
        let text = queue.push(request(3)).unwrap_err().to_string();
        assert!(text.starts_with("request 3 is in the engine already\nhint: "), "{text}");
        assert!(queue.remove(3) && !queue.remove(3) && !queue.remove(8));
        assert_eq!(queue.front().map(|request| request.id), Some(7));
        queue.push(request(3)).unwrap();
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).map(|queued| queued.request.id).collect();
        assert_eq!((order, queue.len()), (vec![7, 9, 1, 3], 0));
        assert!(queue.tickets.is_empty());
    }
}
