//! Tests of the membership: single cases, and invariants under random histories.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::job::Resources;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn name(number: usize) -> NodeName {
    NodeName::new(&format!("node-{number}")).expect("a name")
}

fn about() -> About {
    About {
        resources: Resources::cpu(2.0),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        address: "127.0.0.1:4433".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

fn with_one_node() -> Membership {
    let mut membership = Membership::new(Limits::default());
    membership.on_join(ms(0), name(0), Incarnation(1), about()).expect("the first");
    membership
}

fn changes(events: &[Event]) -> Vec<(u64, Change)> {
    events.iter().map(|event| (event.incarnation.0, event.change)).collect()
}

fn state(membership: &Membership) -> State {
    membership.member(&name(0)).expect("lives").state
}

#[test]
fn silence_leads_to_suspect_and_dead_exactly_at_the_limits() {
    let mut membership = with_one_node();
    assert_eq!(membership.next_deadline(), Some(ms(1500)));
    assert_eq!(membership.tick(ms(1499)), []);
    assert_eq!(changes(&membership.tick(ms(1500))), [(1, Change::Suspect)]);
    assert_eq!(membership.next_deadline(), Some(ms(5000)));
    assert_eq!(membership.tick(ms(4999)), []);
    assert_eq!(changes(&membership.tick(ms(5000))), [(1, Change::Dead(Cause::Silent))]);
    assert_eq!(membership.next_deadline(), None);
    let lives: Vec<_> = membership.members().map(|m| (m.state, m.since, m.last_word)).collect();
    assert_eq!(lives, [(State::Dead, ms(5000), ms(0))]);
}

#[test]
fn a_late_tick_tells_the_same_story_with_the_same_times() {
    let mut membership = with_one_node();
    assert_eq!(changes(&membership.tick(ms(9000))), [(1, Change::Suspect), (1, Change::Dead(Cause::Silent))]);
    assert_eq!(membership.members().next().map(|member| member.since), Some(ms(5000)));
}

#[test]
fn word_of_a_suspect_member_recovers_it() {
    let mut membership = with_one_node();
    membership.tick(ms(2000));
    let events = membership.on_heartbeat(ms(2100), &name(0), Incarnation(1)).expect("a member");
    assert_eq!(changes(&events), [(1, Change::Recovered)]);
    assert_eq!(membership.on_heartbeat(ms(2200), &name(0), Incarnation(1)), Ok(vec![]));
    assert_eq!(membership.next_deadline(), Some(ms(3700)));
}

#[test]
fn a_node_stopped_beyond_the_limit_is_not_heard_when_it_wakes_up() {
    let mut membership = with_one_node();
    let refused = Refusal::NotMember { node: name(0), incarnation: Incarnation(1) };
    assert_eq!(membership.on_heartbeat(ms(5000), &name(0), Incarnation(1)), Err(refused.clone()), "before the tick");
    assert_eq!(membership.on_leave(ms(5000), &name(0), Incarnation(1)), Err(refused.clone()));
    membership.tick(ms(5000));
    assert_eq!(membership.on_heartbeat(ms(5001), &name(0), Incarnation(1)), Err(refused));
    assert!(!membership.is_live(&name(0), Incarnation(1)));
}

#[test]
fn a_lost_connection_is_suspect_at_once_and_forgiven_if_the_same_life_is_back_in_time() {
    let mut membership = with_one_node();
    let events = membership.on_closed(ms(400), &name(0), Incarnation(1), Closed::Lost);
    assert_eq!(changes(&events), [(1, Change::Suspect)]);
    assert_eq!(membership.on_closed(ms(500), &name(0), Incarnation(1), Closed::Lost), []);
    assert_eq!(membership.next_deadline(), Some(ms(5000)));
    assert_eq!(membership.tick(ms(4999)), []);
    let events = membership.on_heartbeat(ms(4999), &name(0), Incarnation(1)).expect("in time");
    assert_eq!(changes(&events), [(1, Change::Recovered)]);
}

#[test]
fn a_process_that_is_gone_is_dead_at_once() {
    let mut membership = with_one_node();
    membership.on_closed(ms(100), &name(0), Incarnation(1), Closed::Lost);
    let events = membership.on_closed(ms(100), &name(0), Incarnation(1), Closed::Gone);
    assert_eq!(changes(&events), [(1, Change::Dead(Cause::Gone))]);
    assert_eq!(membership.on_closed(ms(100), &name(0), Incarnation(1), Closed::Gone), []);
}

#[test]
fn a_returning_node_is_a_new_life_and_the_old_one_is_dead_first() {
    let mut membership = with_one_node();
    let events = membership.on_join(ms(200), name(0), Incarnation(2), about()).expect("larger");
    assert_eq!(changes(&events), [(1, Change::Dead(Cause::Replaced)), (2, Change::Joined)]);
    assert_eq!(membership.on_closed(ms(300), &name(0), Incarnation(1), Closed::Gone), [], "news of the old life");
    let events = membership.on_join(ms(9000), name(0), Incarnation(7), about()).expect("larger");
    assert_eq!(changes(&events), [(2, Change::Dead(Cause::Silent)), (7, Change::Joined)]);
    let error = membership.on_join(ms(9100), name(0), Incarnation(7), about()).expect_err("not larger");
    let message = "node node-0 joins as incarnation 7, but incarnation 7 was there; join with a larger one";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_node_that_wants_to_leave_drains_and_has_left() {
    let mut membership = with_one_node();
    let drain =
        |membership: &mut Membership, at| membership.on_drain(ms(at), &name(0), Incarnation(1)).expect("a member");
    assert_eq!(changes(&drain(&mut membership, 100)), [(1, Change::Draining)]);
    assert_eq!(drain(&mut membership, 150), []);
    membership.tick(ms(1600));
    assert_eq!(state(&membership), State::Suspect);
    membership.on_heartbeat(ms(1700), &name(0), Incarnation(1)).expect("a member");
    assert_eq!(state(&membership), State::Draining, "it still wants to leave");
    let events = membership.on_leave(ms(1800), &name(0), Incarnation(1)).expect("a member");
    assert_eq!(changes(&events), [(1, Change::Left)]);
    assert_eq!(membership.tick(ms(60_000)), [], "it is not missed");
}

#[test]
fn nobody_dies_of_the_heads_own_pause() {
    let mut membership = with_one_node();
    membership.tick(ms(1000));
    membership.on_pause(ms(61_000), ms(60_000));
    assert_eq!(membership.tick(ms(61_000)), []);
    assert_eq!(changes(&membership.tick(ms(61_500))), [(1, Change::Suspect)]);
    membership.on_pause(ms(61_500), ms(60_000));
    assert_eq!(membership.next_deadline(), Some(ms(66_500)), "a pause leads nobody into the future");
}

#[test]
fn members_and_ended_lives_are_limited() {
    let mut membership = Membership::new(Limits { members_max: 2, dead_kept: 3, ..Limits::default() });
    for round in 0..5 {
        for number in 0..2 {
            membership.on_join(ms(round), name(number), Incarnation(round), about()).expect("there is room");
        }
    }
    let error = membership.on_join(ms(5), name(2), Incarnation(0), about()).expect_err("full");
    assert_eq!(error, Refusal::Full { node: name(2), members_max: 2 });
    assert_eq!(membership.members().count(), 2 + 3);
    membership.on_leave(ms(6), &name(0), Incarnation(4)).expect("a member");
    membership.on_join(ms(6), name(2), Incarnation(0), about()).expect("there is room again");
    let error = membership.on_join(ms(6), name(0), Incarnation(0), about()).expect_err("long forgotten, still known");
    assert!(matches!(error, Refusal::Incarnation { known: Incarnation(4), .. }), "{error}");
}

#[test]
fn names_are_limited_and_used_ones_may_be_used_again() {
    let mut membership = Membership::new(Limits::default());
    for number in 0..NAMES_MAX {
        membership.on_join(ms(0), name(number), Incarnation(0), about()).expect("there is room");
        membership.on_leave(ms(0), &name(number), Incarnation(0)).expect("a member");
    }
    let error = membership.on_join(ms(0), name(NAMES_MAX), Incarnation(0), about()).expect_err("one more");
    assert_eq!(error, Refusal::Names { node: name(NAMES_MAX) });
    membership.on_join(ms(0), name(0), Incarnation(1), about()).expect("a known name");
}

#[test]
fn facts_out_of_bounds_are_refused_by_name() {
    let refused = |change: fn(&mut About)| {
        let mut about = about();
        change(&mut about);
        let mut membership = Membership::new(Limits::default());
        let error = membership.on_join(ms(0), name(0), Incarnation(0), about).expect_err("out of bounds");
        assert_eq!(membership.members().count(), 0);
        std::error::Error::source(&error).expect("the fact").to_string()
    };
    assert_eq!(refused(|a| a.address = "x".repeat(257)), "its address has 257 bytes; at most 256 are kept");
    assert_eq!(refused(|a| a.resources.cpus = -1.0), "its amount of cpus is -1; 0 to 1000000000 are believed");
    let nan = refused(|a| _ = a.resources.extras.insert("tpu".to_owned(), f64::NAN));
    assert_eq!(nan, "its amount of tpu is NaN; 0 to 1000000000 are believed");
    let many = refused(|a| a.labels = (0..65).map(|n| (n.to_string(), String::new())).collect());
    assert_eq!(many, "it has 65 labels; at most 64 are kept");
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, u64),
    Heartbeat(usize, u64),
    Closed(usize, u64, Closed),
    Drain(usize, u64),
    Leave(usize, u64),
    Wait(u64),
}

/// Heartbeats and short waits most of all, so that lives are long enough to be interesting.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let life = || (0..3usize, 0..6u64);
    let closed = prop_oneof![Just(Closed::Lost), Just(Closed::Lost), Just(Closed::Gone)];
    let step = prop_oneof![
        3 => life().prop_map(|(node, life)| Step::Join(node, life)),
        8 => life().prop_map(|(node, life)| Step::Heartbeat(node, life)),
        2 => (life(), closed).prop_map(|((node, life), how)| Step::Closed(node, life, how)),
        1 => life().prop_map(|(node, life)| Step::Drain(node, life)),
        1 => life().prop_map(|(node, life)| Step::Leave(node, life)),
        6 => prop_oneof![4 => 0..1600u64, 1 => 0..9000u64].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

fn apply(membership: &mut Membership, now: Duration, step: &Step) -> Vec<Event> {
    let result = match *step {
        Step::Join(node, life) => membership.on_join(now, name(node), Incarnation(life), about()),
        Step::Heartbeat(node, life) => membership.on_heartbeat(now, &name(node), Incarnation(life)),
        Step::Closed(node, life, how) => Ok(membership.on_closed(now, &name(node), Incarnation(life), how)),
        Step::Drain(node, life) => membership.on_drain(now, &name(node), Incarnation(life)),
        Step::Leave(node, life) => membership.on_leave(now, &name(node), Incarnation(life)),
        Step::Wait(_) => Ok(Vec::new()),
    };
    result.unwrap_or_default()
}

/// Runs a history, ticking at each deadline (`eager`) or only after each wait.
fn run(steps: &[Step], eager: bool, mut look: impl FnMut(&Membership, Duration, &[Event])) {
    let mut membership = Membership::new(Limits { members_max: 2, dead_kept: 4, ..Limits::default() });
    let mut now = ms(0);
    for step in steps {
        if let Step::Wait(wait) = step {
            let until = now + ms(*wait);
            while let Some(deadline) = membership.next_deadline().filter(|deadline| eager && *deadline <= until) {
                now = deadline.max(now);
                let events = membership.tick(now);
                assert!(!events.is_empty(), "a deadline is when something happens");
                look(&membership, now, &events);
            }
            now = until;
            let events = membership.tick(now);
            assert!(!eager || events.is_empty(), "no deadline was missed: {events:?}");
            look(&membership, now, &events);
        } else {
            let events = apply(&mut membership, now, step);
            look(&membership, now, &events);
        }
    }
}

/// What a listener holds of a life after an event, or `None` if the event makes no sense then.
fn listen(before: Option<State>, change: Change) -> Option<State> {
    match (before, change) {
        (None, Change::Joined) => Some(State::Alive),
        (Some(State::Alive), Change::Suspect) => Some(State::Suspect),
        (Some(State::Suspect), Change::Recovered) => Some(State::Alive),
        (Some(state), Change::Draining) if state.is_live() => Some(state),
        (Some(state), Change::Dead(_)) if state.is_live() => Some(State::Dead),
        (Some(state), Change::Left) if state.is_live() => Some(State::Left),
        _ => None,
    }
}

proptest! {
    #[test]
    fn the_events_of_a_life_make_sense_and_agree_with_its_state(steps in steps(), eager in any::<bool>()) {
        let mut heard: BTreeMap<(NodeName, Incarnation), State> = BTreeMap::new();
        let mut drained: Vec<(NodeName, Incarnation)> = Vec::new();
        run(&steps, eager, |membership, now, events| {
            for event in events {
                let life = (event.node.clone(), event.incarnation);
                let before = heard.get(&life).copied();
                let after = listen(before, event.change);
                let after = after.unwrap_or_else(|| panic!("{event:?} after {before:?}"));
                assert!(event.change != Change::Draining || !drained.contains(&life), "drains once: {event:?}");
                if event.change == Change::Draining {
                    drained.push(life.clone());
                }
                heard.insert(life, after);
            }
            for member in membership.members() {
                let life = (member.node.clone(), member.incarnation);
                let shown = if member.state == State::Draining { State::Alive } else { member.state };
                assert_eq!(heard.get(&life), Some(&shown), "{member:?}");
                assert_eq!(membership.is_live(&member.node, member.incarnation), member.state.is_live());
                assert!(member.state != State::Draining || member.draining);
                assert!(member.since <= now && member.last_word <= now);
            }
        });
    }

    #[test]
    fn a_node_has_one_life_at_most_and_none_comes_back(steps in steps(), eager in any::<bool>()) {
        let mut ended: BTreeMap<NodeName, Incarnation> = BTreeMap::new();
        run(&steps, eager, |membership, _, events| {
            let live: Vec<&Member> = membership.members().filter(|member| member.state.is_live()).collect();
            assert!(live.windows(2).all(|two| two[0].node < two[1].node), "{live:?}");
            assert!(live.len() <= 2 && membership.members().count() <= 2 + 4, "within the limits");
            for member in &live {
                assert!(ended.get(&member.node).is_none_or(|last| *last < member.incarnation), "{member:?}");
            }
            for event in events.iter().filter(|event| matches!(event.change, Change::Dead(_) | Change::Left)) {
                ended.insert(event.node.clone(), event.incarnation);
            }
        });
    }

    #[test]
    fn with_a_tick_at_each_deadline_the_limits_are_met_exactly(steps in steps()) {
        let limits = Limits::default();
        run(&steps, true, |membership, now, events| {
            for member in membership.members().filter(|member| member.state.is_live()) {
                let silence = now - member.last_word;
                assert!(silence < limits.dead, "{member:?} at {now:?}");
                assert!(silence < limits.suspect || member.state == State::Suspect, "{member:?} at {now:?}");
            }
            for event in events.iter().filter(|event| event.change == Change::Dead(Cause::Silent)) {
                let member = membership.members().filter(|m| m.node == event.node && m.incarnation == event.incarnation);
                for member in member {
                    assert_eq!(member.since, member.last_word + limits.dead);
                }
            }
        });
    }

    #[test]
    fn who_lives_does_not_depend_on_how_often_it_ticks(steps in steps()) {
        let states = |eager| {
            let mut last = Vec::new();
            run(&steps, eager, |membership, _, _| {
                last = membership.members().map(|m| (m.node.clone(), m.incarnation, m.state, m.since)).collect();
            });
            last
        };
        prop_assert_eq!(states(true), states(false));
    }
}
