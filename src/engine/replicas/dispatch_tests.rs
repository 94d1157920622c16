//! Which replica gets what, with engines of the tests' own that are nothing but room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::dispatch::Dispatch;
use crate::{Capacity, GenerateOptions, Limits, Prompt, Request, Work};

const BLOCK: usize = 16;
const CONTEXT: usize = 512;

fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    let prompt = Arc::new(Prompt { text: String::new(), token_ids: prompt });
    Request { id: 0, prompt, work: Work::Generate(GenerateOptions { max_tokens, ..GenerateOptions::default() }) }
}

/// A prompt like no other.
fn prompt(tokens: usize, own: usize) -> Vec<u32> {
    (0..tokens).map(|at| (own * 1000 + at) as u32).collect()
}

fn dispatch(replicas: &[(usize, Option<usize>)]) -> Dispatch {
    let cache_tokens = replicas.iter().filter_map(|(_, tokens)| *tokens).min();
    let limits = Limits { vocabulary: usize::MAX, context_tokens: CONTEXT, cache_tokens, block_tokens: BLOCK };
    let of = |(free_slots, free_tokens): &(usize, Option<usize>)| Capacity {
        free_slots: *free_slots,
        free_tokens: *free_tokens,
        ..Capacity::default()
    };
    Dispatch::new(limits, replicas.iter().map(of))
}

/// Which replica each ticket goes to, for as many as go somewhere now.
fn routed(dispatch: &mut Dispatch, replicas: usize) -> BTreeMap<usize, usize> {
    dispatch.route(|_| ());
    let given = |replica| dispatch.take(replica).given.into_iter().map(move |given| (given.request.id, replica));
    (0..replicas).flat_map(given).collect()
}

/// An engine that admits what fits when it steps, as the scheduler does, first come first served.
struct Room {
    slots: usize,
    tokens: usize,
    queue: Vec<usize>,
    /// Steps that are left.
    running: HashMap<usize, usize>,
    /// Of what is here.
    reserved: HashMap<usize, usize>,
}

impl Room {
    fn free_tokens(&self) -> usize {
        self.tokens - self.running.keys().map(|ticket| self.reserved[ticket]).sum::<usize>()
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            running: self.running.len(),
            queued: self.queue.len(),
            free_slots: self.slots - self.running.len(),
            free_tokens: Some(self.free_tokens()),
        }
    }

    fn step(&mut self, lengths: &HashMap<usize, usize>) -> Vec<usize> {
        while let Some(first) = self.queue.first().copied()
            && self.running.len() < self.slots
            && self.reserved[&first] <= self.free_tokens()
        {
            self.running.insert(self.queue.remove(0), lengths[&first]);
        }
        self.running.values_mut().for_each(|left| *left -= 1);
        let ended: Vec<usize> =
            self.running.iter().filter(|(_, left)| **left == 0).map(|(ticket, _)| *ticket).collect();
        self.running.retain(|_, left| *left > 0);
        ended
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Submit { tokens: usize, max_tokens: usize, begins_alike: bool, steps: usize },
    Step { replica: usize },
    Cancel { which: usize },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1..200_usize, 1..100_usize, any::<bool>(), 1..6_usize).prop_map(|(tokens, max_tokens, begins_alike, steps)| {
            Happening::Submit { tokens, max_tokens, begins_alike, steps }
        }),
        4 => (0..4_usize).prop_map(|replica| Happening::Step { replica }),
        1 => any::<usize>().prop_map(|which| Happening::Cancel { which }),
    ]
}

/// Plays what happens to replicas of such room, then steps until all is done. What must always hold is asserted on the way.
fn play(rooms: &[(usize, usize)], happenings: &[Happening]) {
    let count = rooms.len();
    let mut dispatch =
        dispatch(&rooms.iter().map(|(slots, blocks)| (*slots, Some(blocks * BLOCK))).collect::<Vec<_>>());
    let mut engines: Vec<Room> = rooms
        .iter()
        .map(|(slots, blocks)| Room {
            slots: *slots,
            tokens: blocks * BLOCK,
            queue: Vec::new(),
            running: HashMap::new(),
            reserved: HashMap::new(),
        })
        .collect();
    let (mut lengths, mut needs) = (HashMap::new(), HashMap::new());
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut begun: Vec<usize> = Vec::new();
    let mut ended: BTreeMap<usize, usize> = BTreeMap::new();
    let mut cancelled: BTreeSet<usize> = BTreeSet::new();
    let rest = (0..).map(|step| Happening::Step { replica: step % count });
    for (played, happening) in happenings.iter().cloned().chain(rest).enumerate() {
        if played >= happenings.len() && open.is_empty() && (0..count).all(|replica| !dispatch.has_work(replica)) {
            break;
        }
        assert!(played < happenings.len() + 20_000, "{} requests do not come to an end", open.len());
        match happening {
            Happening::Submit { tokens, max_tokens, begins_alike, steps } => {
                let own = if begins_alike { 0 } else { lengths.len() + 1 };
                let request = request(prompt(tokens, own), max_tokens);
                let reserved = (tokens + max_tokens.min(CONTEXT - tokens)).div_ceil(BLOCK) * BLOCK;
                let ticket = dispatch.push(request);
                lengths.insert(ticket, steps);
                needs.insert(ticket, reserved);
                open.insert(ticket);
            }
            Happening::Step { replica } => {
                let (replica, engine) = (replica % count, &mut engines[replica % count]);
                let orders = dispatch.take(replica);
                for ticket in orders.cancelled {
                    engine.queue.retain(|queued| *queued != ticket);
                    engine.running.remove(&ticket);
                }
                for given in orders.given {
                    let ticket = given.request.id;
                    engine.reserved.insert(ticket, needs[&ticket]);
                    engine.queue.push(ticket);
                    begun.push(ticket);
                }
                let done = engine.step(&lengths);
                assert!(engine.queue.is_empty(), "replica {replica} got what it has no room for");
                for ticket in &done {
                    // A step that had begun may end what was cancelled meanwhile; here nothing happens meanwhile.
                    assert!(open.remove(ticket), "{ticket} ended on replica {replica}, and was not open");
                    *ended.entry(*ticket).or_default() += 1;
                }
                assert!(dispatch.report(replica, engine.capacity(), done), "nothing is lost");
            }
            Happening::Cancel { which } => {
                let Some(ticket) = open.iter().nth(which % open.len().max(1)).copied() else { continue };
                dispatch.cancel(ticket);
                open.remove(&ticket);
                cancelled.insert(ticket);
            }
        }
        dispatch.route(|_| ());
        assert_eq!(dispatch.waiting() + dispatch.running(), open.len());
        if dispatch.waiting() > 0 {
            for (replica, engine) in engines.iter().enumerate() {
                assert!(
                    dispatch.holds(replica) > 0 || !engine.running.is_empty(),
                    "replica {replica} has nothing to do, and {} wait",
                    dispatch.waiting()
                );
            }
        }
    }
    assert!(ended.values().all(|times| *times == 1));
    let all: BTreeSet<usize> = ended.keys().copied().chain(cancelled).collect();
    assert_eq!(all.len(), lengths.len(), "each ends, or is cancelled");
    let free = dispatch.free();
    assert_eq!(free.0, rooms.iter().map(|(slots, _)| slots).sum::<usize>(), "every slot is free again");
    assert_eq!(begun.iter().collect::<BTreeSet<_>>().len(), begun.len(), "none is begun twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Every request ends once, on a replica that had room for it; none is without work while requests wait.
    #[test]
    fn every_request_ends_once_and_no_replica_is_without_work_while_requests_wait(
        rooms in prop::collection::vec((1..5_usize, 32..60_usize), 1..4),
        happenings in prop::collection::vec(happening(), 1..120),
    ) {
        play(&rooms, &happenings);
    }
}

/// As `bench` sends them: all at once.
#[test]
fn a_workload_is_shared_evenly() {
    let length = |number: usize| 40 + number.wrapping_mul(2_654_435_761) % 260;
    for replicas in [2, 4] {
        let mut dispatch = dispatch(&vec![(2048, Some(1 << 22)); replicas]);
        let total: usize = (0..1319)
            .map(|number| {
                dispatch.push(request(prompt(60 + number % 90, number), length(number)));
                60 + number % 90 + length(number)
            })
            .sum();
        let places = routed(&mut dispatch, replicas);
        assert_eq!(places.len(), 1319, "all have room");
        for replica in 0..replicas {
            let own = (0..1319).filter(|number| places[number] == replica);
            let (count, tokens) =
                own.fold((0, 0), |(count, tokens), number| (count + 1, tokens + 60 + number % 90 + length(number)));
            let share = tokens as f64 * replicas as f64 / total as f64;
            assert!((share - 1.0).abs() < 0.005, "replica {replica} of {replicas} has {share} of its share of tokens");
            assert!((count as f64 * replicas as f64 / 1319.0 - 1.0).abs() < 0.06, "and {count} requests");
        }
    }
}

#[test]
fn a_replica_without_room_gets_nothing() {
    // Two requests fit the second, and one the first.
    let mut dispatch = dispatch(&[(1, Some(4 * BLOCK)), (2, Some(4 * BLOCK))]);
    for own in 0..5 {
        dispatch.push(request(prompt(BLOCK, own), BLOCK));
    }
    let places = routed(&mut dispatch, 2);
    assert_eq!(places.values().filter(|replica| **replica == 0).count(), 1);
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "first come, first served");
    assert_eq!((dispatch.waiting(), dispatch.running(), dispatch.has_room()), (2, 3, false));
    // Whole blocks are reserved: 17 tokens take two, and beside them three others do not fit.
    let mut dispatch = self::dispatch(&[(9, Some(4 * BLOCK))]);
    for own in 0..3 {
        dispatch.push(request(prompt(BLOCK, own), 1));
    }
    assert_eq!(routed(&mut dispatch, 1).len(), 2);
}

#[test]
fn room_that_a_step_left_is_used_at_once_and_what_was_given_meanwhile_is_counted() {
    let mut dispatch = dispatch(&[(2, None), (2, None)]);
    let tickets: Vec<usize> = (0..6).map(|own| dispatch.push(request(prompt(8, own), 8))).collect();
    assert_eq!(routed(&mut dispatch, 2).len(), 4);
    // The first ends one of its two; the other is at work.
    let one_left = Capacity { running: 1, queued: 0, free_slots: 1, free_tokens: None };
    assert!(dispatch.report(0, one_left, [tickets[0]]));
    dispatch.route(|replica| assert_eq!(replica, 0));
    assert_eq!(dispatch.waiting(), 1);
    // A report of a step that began before does not know of it.
    assert!(dispatch.report(0, one_left, []));
    dispatch.route(|_| panic!("nothing has room"));
    assert_eq!(dispatch.waiting(), 1);
    // What it gave back in its inbox is free at once.
    dispatch.cancel(tickets[4]);
    dispatch.route(|replica| assert_eq!(replica, 0));
    assert_eq!(dispatch.waiting(), 0);
}

#[test]
fn prompts_that_begin_alike_meet_unless_a_replica_were_without_work() {
    let conversation = prompt(10 * BLOCK, 7);
    let turn = |own: u32| request([conversation.clone(), vec![90_000 + own; 4]].concat(), 32);
    let mut dispatch = dispatch(&[(64, None), (64, None), (64, None)]);
    let nothing = Capacity { free_slots: 64, ..Capacity::default() };
    // A first replica is taken by another request, so that it is not the tie that decides.
    let other = dispatch.push(request(prompt(50, 1), 50));
    let first = dispatch.push(turn(0));
    assert_eq!(routed(&mut dispatch, 3), BTreeMap::from([(other, 0), (first, 1)]));
    for (replica, ticket) in [(0, other), (1, first)] {
        assert!(dispatch.report(replica, nothing, [ticket]));
    }
    // All are without work: the one that has seen it.
    let second = dispatch.push(turn(1));
    assert_eq!(routed(&mut dispatch, 3), BTreeMap::from([(second, 1)]));
    // It is at work and others are not.
    let (third, fourth) = (dispatch.push(turn(2)), dispatch.push(turn(3)));
    assert_eq!(routed(&mut dispatch, 3), BTreeMap::from([(third, 0), (fourth, 2)]));
    // All are at work, and all have seen it: the least work.
    let fresh = dispatch.push(request(prompt(20, 2), 400));
    let fifth = dispatch.push(turn(4));
    let places = routed(&mut dispatch, 3);
    assert_ne!(places[&fresh], places[&fifth]);
}

#[test]
fn one_request_that_may_become_long_is_not_worth_a_hundred_short_ones() {
    let limits = Limits { vocabulary: 9, context_tokens: 1 << 20, cache_tokens: None, block_tokens: BLOCK };
    let room = Capacity { free_slots: 1000, ..Capacity::default() };
    let mut dispatch = Dispatch::new(limits, [room, room]);
    dispatch.push(request(prompt(100, 0), 1 << 19));
    for own in 1..400 {
        dispatch.push(request(prompt(100, own), 100));
    }
    let places = routed(&mut dispatch, 2);
    let beside = places.values().filter(|replica| **replica == places[&0]).count();
    assert!(beside > 180, "{beside} of 400");
}

#[test]
fn an_engine_that_loses_requests_is_found_out() {
    let mut dispatch = dispatch(&[(4, None)]);
    let tickets: Vec<usize> = (0..2).map(|own| dispatch.push(request(prompt(8, own), 8))).collect();
    let idle = Capacity { free_slots: 4, ..Capacity::default() };
    routed(&mut dispatch, 1);
    assert!(!dispatch.report(0, idle, [tickets[0]]), "the other was not heard of again");
    dispatch.cancel(tickets[1]);
    assert!(dispatch.report(0, idle, []));
    // What has not been taken yet is not lost.
    dispatch.push(request(prompt(8, 3), 8));
    dispatch.route(|_| ());
    assert!(dispatch.report(0, idle, []) && dispatch.has_work(0));
}

#[test]
fn a_replica_that_is_gone_gets_nothing() {
    let mut dispatch = dispatch(&[(4, Some(1024)), (4, Some(2048))]);
    dispatch.give_up(0);
    dispatch.push(request(prompt(8, 0), 8));
    assert_eq!(routed(&mut dispatch, 2), BTreeMap::from([(0, 1)]));
    assert_eq!((dispatch.free(), dispatch.quietest()), ((3, Some(1024)), Some(1)));
    dispatch.give_up(1);
    dispatch.clear();
    dispatch.push(request(prompt(8, 1), 8));
    assert!(routed(&mut dispatch, 2).is_empty() && dispatch.is_dead() && dispatch.quietest().is_none());
}
