//! The rules, one by one: what is said to the directory, and what it says.

use crate::job::Resources;
use crate::task::directory::*;
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::*;
use crate::units::Bytes;

use super::world::{blob, frame};

const DRIVER: PartyId = PartyId(DRIVERS_FROM);
const OTHER: PartyId = PartyId(DRIVERS_FROM + 1);
const ONE: PartyId = PartyId(1);
const TWO: PartyId = PartyId(2);

struct Desk {
    directory: Directory,
}

fn id(number: u64) -> ObjectId {
    ObjectId::new(DRIVER, number)
}

fn inline(number: u64) -> ValueFrame {
    ValueFrame::Inline(blob(number))
}

fn on(nodes: &[PartyId]) -> ValueFrame {
    ValueFrame::Located { bytes: Bytes::mib(1), nodes: nodes.to_vec() }
}

fn gpus(gpus: f64) -> Resources {
    Resources { gpus, ..Resources::cpu(1.0) }
}

impl Desk {
    fn new(limits: DirectoryLimits) -> Self {
        let mut directory = Directory::new(limits);
        directory.join(DRIVER, None);
        directory.join(OTHER, None);
        Self { directory }
    }

    fn node(mut self, party: PartyId, resources: Resources) -> Self {
        let name = NodeName::new(&format!("n{}", party.0)).expect("a name");
        self.directory.join(party, Some(NodeOffer { name, resources }));
        self
    }

    fn say(&mut self, from: PartyId, message: ToHead) -> Vec<(PartyId, FromHead)> {
        self.directory.on(from, message);
        self.directory.check_sums();
        self.hear()
    }

    fn hear(&mut self) -> Vec<(PartyId, FromHead)> {
        self.directory.take_out().collect()
    }

    fn submit(&mut self, number: u64, args: &[u64], resources: Resources) -> Vec<(PartyId, FromHead)> {
        let args: Vec<ObjectId> = args.iter().map(|number| id(*number)).collect();
        self.say(DRIVER, ToHead::Submit(frame(id(number), "f", number, &args, Vec::new(), resources)))
    }

    fn put(&mut self, number: u64, value: ValueFrame) -> Vec<(PartyId, FromHead)> {
        self.say(DRIVER, ToHead::Put { id: id(number), value, contained: Vec::new() })
    }

    fn done(&mut self, node: PartyId, number: u64, attempt: u32, value: ValueFrame) -> Vec<(PartyId, FromHead)> {
        self.say(node, ToHead::Done { task: id(number), attempt, value, contained: Vec::new() })
    }

    fn fails(&mut self, node: PartyId, number: u64, attempt: u32) -> Vec<(PartyId, FromHead)> {
        let error = AttemptError::Failed(vec!["no".into()]);
        self.say(node, ToHead::Failed { task: id(number), attempt, error })
    }

    fn release(&mut self, number: u64) -> Vec<(PartyId, FromHead)> {
        self.say(DRIVER, ToHead::Release { id: id(number), grants: 1 })
    }

    fn gone(&mut self, party: PartyId) -> Vec<(PartyId, FromHead)> {
        self.directory.gone(party);
        self.directory.check_sums();
        self.hear()
    }
}

/// Attempts that these messages start: where, which task, which attempt, on which devices.
fn runs(messages: &[(PartyId, FromHead)]) -> Vec<(u64, u64, u32, Vec<u32>)> {
    let run = |(party, message): &(PartyId, FromHead)| match message {
        FromHead::Run { task, attempt, devices, .. } => Some((party.0, task.id.number, *attempt, devices.clone())),
        _ => None,
    };
    messages.iter().filter_map(run).collect()
}

fn errors(messages: &[(PartyId, FromHead)]) -> Vec<String> {
    let error = |(_, message): &(PartyId, FromHead)| match message {
        FromHead::NotReady { error, .. } => Some(error.to_string()),
        _ => None,
    };
    messages.iter().filter_map(error).collect()
}

#[test]
fn a_task_runs_when_its_arguments_are_there_and_near_them() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(8.0)).node(TWO, Resources::cpu(1.0));
    assert_eq!(runs(&desk.submit(1, &[], Resources::default())), [(1, 1, 1, vec![])]);
    assert_eq!(desk.submit(2, &[1], Resources::default()), []);
    assert_eq!(desk.directory.why(id(2)), Some(Why::Arguments(vec![id(1)])));
    desk.put(3, on(&[TWO]));
    assert_eq!(runs(&desk.submit(4, &[3], Resources::default())), [(2, 4, 1, vec![])], "the bytes are there");
    assert_eq!(runs(&desk.submit(5, &[3], Resources::default())), [(1, 5, 1, vec![])], "the other is full");
    assert_eq!(desk.directory.why(id(5)), Some(Why::Runs(ONE)));
    let open = |max| desk.directory.open_tasks(max).into_iter().map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(open(9), [id(1), id(4), id(5), id(2)], "those that run are first");
    assert_eq!(open(2), [id(1), id(4)]);
    let heard = desk.done(ONE, 1, 1, inline(7));
    assert_eq!(heard[0], (DRIVER, FromHead::Ready { id: id(1), value: inline(7), contained: vec![] }));
    let FromHead::Run { args, .. } = &heard[1].1 else { panic!("{heard:?}") };
    assert_eq!(args, &[RefFrame { id: id(1), value: inline(7), contained: vec![] }]);
}

#[test]
fn a_small_argument_is_sent_to_a_node_once_and_freed_there() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(8.0));
    desk.put(1, inline(5));
    let args = |heard: &[(PartyId, FromHead)]| match &heard[0].1 {
        FromHead::Run { args, .. } => args.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(args(&desk.submit(2, &[1], Resources::default())), 1);
    assert_eq!(args(&desk.submit(3, &[1], Resources::default())), 0);
    desk.release(1);
    desk.done(ONE, 2, 1, inline(0));
    let heard = desk.done(ONE, 3, 1, inline(0));
    assert!(heard.contains(&(ONE, FromHead::Free { ids: vec![id(1)] })), "{heard:?}");
}

#[test]
fn errors_of_arguments_name_the_first_cause() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(8.0));
    let mut task = frame(id(1), "load", 1, &[], Vec::new(), Resources::default());
    task.attempts = 1;
    desk.say(DRIVER, ToHead::Submit(task));
    desk.submit(2, &[1], Resources::default());
    desk.submit(3, &[2], Resources::default());
    let cause = "task load failed in attempt 1 of 1: no";
    let heard = desk.fails(ONE, 1, 1);
    let of = |number: u64| {
        format!("task f did not run, because its argument object-{}.{number} is missing: {cause}", DRIVER.0)
    };
    assert_eq!(errors(&heard), [cause.to_owned(), of(1), of(2).replace(".2 is", ".1 is")]);
}

#[test]
fn a_failed_attempt_goes_elsewhere_and_after_all_else() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0)).node(TWO, Resources::cpu(1.0));
    desk.submit(1, &[], Resources::default());
    desk.submit(2, &[], Resources::default());
    desk.submit(3, &[], Resources::default());
    assert_eq!(runs(&desk.fails(ONE, 1, 1)), [(1, 3, 1, vec![])]);
    assert_eq!(runs(&desk.fails(ONE, 1, 1)), [], "it has said so before");
    assert_eq!(runs(&desk.done(ONE, 3, 1, inline(0))), [], "it keeps away from there");
    assert_eq!(runs(&desk.done(TWO, 2, 1, inline(0))), [(2, 1, 2, vec![])]);
    assert_eq!(runs(&desk.fails(TWO, 1, 2)), [(1, 1, 3, vec![])], "it has failed on all");
    assert_eq!(desk.done(TWO, 1, 2, inline(9)), [], "that attempt has ended");
}

#[test]
fn what_no_node_can_give_is_named_and_without_nodes_a_task_waits() {
    let mut desk = Desk::new(DirectoryLimits::default());
    assert_eq!(desk.submit(1, &[], gpus(1.0)), []);
    assert_eq!(desk.directory.why(id(1)), Some(Why::NoNode));
    let mut desk = desk.node(ONE, Resources { gpus: 1.0, ..Resources::cpu(2.0) }.label("zone", "a"));
    assert_eq!(runs(&desk.hear()), [(1, 1, 1, vec![0])]);
    let says = |heard: Vec<(PartyId, FromHead)>| errors(&heard).concat();
    let lacks = "task f can never run: no node can ever give gpu 2 (the most that one has is 1)";
    assert_eq!(says(desk.submit(2, &[], gpus(2.0))), lacks);
    let labels = "task f can never run: no node has the labels zone=b; there are zone=a";
    assert_eq!(says(desk.submit(3, &[], Resources::cpu(1.0).label("zone", "b"))), labels);
    let whole = "task f can never run: 1.5 gpus: above one, only whole devices can be given";
    assert_eq!(says(desk.submit(4, &[], gpus(1.5))), whole);
    desk.submit(5, &[], gpus(1.0));
    let mut desk = desk.node(TWO, Resources::cpu(1.0));
    let gone = desk.gone(ONE);
    assert_eq!(errors(&gone).len(), 2, "the one that ran there, and the one that waited: {gone:?}");
}

#[test]
fn devices_are_given_whole_or_in_exact_parts() {
    let all = Resources { gpus: 2.0, ..Resources::cpu(16.0) };
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, all);
    let third = gpus(1.0 / 3.0);
    let devices: Vec<u32> = (1..=3).flat_map(|n| runs(&desk.submit(n, &[], third.clone()))[0].3.clone()).collect();
    assert_eq!(devices, [0, 0, 0], "three thirds are one device");
    assert_eq!(runs(&desk.submit(4, &[], gpus(1.0))), [(1, 4, 1, vec![1])]);
    assert_eq!(desk.submit(5, &[], gpus(0.5)), []);
    assert_eq!(desk.done(ONE, 1, 1, inline(0)).len(), 1, "a third is not a half");
    assert_eq!(runs(&desk.done(ONE, 2, 1, inline(0))), [(1, 5, 1, vec![0])]);
}

#[test]
fn a_stopped_attempt_holds_its_device_until_its_node_says_that_it_ended() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources { gpus: 1.0, ..Resources::cpu(4.0) });
    desk.submit(1, &[], gpus(1.0));
    desk.submit(2, &[], gpus(1.0));
    let heard = desk.say(DRIVER, ToHead::Cancel { task: id(1) });
    assert_eq!(heard[0], (ONE, FromHead::Stop { task: id(1), attempt: 1 }));
    assert_eq!(errors(&heard), ["task f was cancelled"]);
    assert_eq!(runs(&heard), []);
    assert_eq!(runs(&desk.done(ONE, 1, 1, inline(0))), [(1, 2, 1, vec![0])]);
}

#[test]
fn cores_are_given_back_while_a_task_waits() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    desk.submit(1, &[], Resources::default());
    desk.submit(2, &[], Resources::default());
    desk.submit(3, &[], Resources::default());
    let waits = |waits| ToHead::Waits { task: id(1), attempt: 1, waits };
    assert_eq!(runs(&desk.say(ONE, waits(true))), [(1, 2, 1, vec![])]);
    assert_eq!(desk.say(ONE, waits(false)), []);
    assert_eq!(runs(&desk.done(ONE, 2, 1, inline(0))), [], "the first goes on");
    assert_eq!(runs(&desk.done(ONE, 1, 1, inline(0))), [(1, 3, 1, vec![])]);
}

#[test]
fn a_big_task_is_not_passed_over_for_ever() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(4.0));
    (1..=4).for_each(|number| drop(desk.submit(number, &[], Resources::default())));
    desk.submit(5, &[], Resources::cpu(4.0));
    let (mut running, mut next) = (vec![1, 2, 3, 4], 6);
    for passed in 0.. {
        assert!(passed < 100, "it waits for ever");
        desk.submit(next, &[], Resources::default());
        next += 1;
        if running.is_empty() {
            break;
        }
        let ends = running.remove(0);
        let heard = runs(&desk.done(ONE, ends, 1, inline(0)));
        if heard.iter().any(|(_, number, ..)| *number == 5) {
            break;
        }
        running.extend(heard.iter().map(|(_, number, ..)| *number));
    }
    assert_eq!(desk.directory.why(id(5)), Some(Why::Runs(ONE)));
}

#[test]
fn a_node_is_not_kept_free_for_what_only_waiting_tasks_could_give() {
    let limits = DirectoryLimits { passed: 1, ..DirectoryLimits::default() };
    let memory = |amount| Resources { memory: Bytes(amount), ..Resources::cpu(1.0) };
    let mut desk = Desk::new(limits).node(ONE, Resources { memory: Bytes(10), ..Resources::cpu(2.0) });
    desk.submit(1, &[], memory(5));
    desk.submit(2, &[], memory(10));
    assert_eq!(runs(&desk.submit(3, &[], Resources::default())), [(1, 3, 1, vec![])], "and 2 was passed over");
    desk.submit(4, &[], Resources::default());
    assert_eq!(runs(&desk.done(ONE, 3, 1, inline(0))), [], "it is kept free");
    let waits = ToHead::Waits { task: id(1), attempt: 1, waits: true };
    assert_eq!(runs(&desk.say(ONE, waits)), [(1, 4, 1, vec![])], "1 may wait for this one");
}

#[test]
fn short_tasks_wait_on_their_node_and_others_do_not() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources { gpus: 1.0, ..Resources::cpu(1.0) });
    desk.directory.look(Duration::ZERO);
    for number in 1..=100 {
        desk.submit(number, &[], Resources::default());
        desk.done(ONE, number, 1, inline(0));
    }
    desk.directory.look(Duration::from_millis(100));
    let sent: Vec<usize> = (101..=104).map(|n| runs(&desk.submit(n, &[], Resources::default())).len()).collect();
    assert_eq!(sent, [1, 1, 1, 0], "2 ms of 1,000 a second, and the one that runs");
    assert_eq!(desk.submit(105, &[], gpus(1.0)), []);
    assert_eq!(runs(&desk.done(ONE, 101, 1, inline(0))).len(), 1);
}

#[test]
fn a_value_that_was_put_is_lost_with_its_node_and_a_result_is_made_again() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    desk.put(1, on(&[ONE]));
    desk.submit(2, &[], Resources::default());
    desk.done(ONE, 2, 1, on(&[ONE]));
    let mut desk = desk.node(TWO, Resources::cpu(1.0));
    assert_eq!(runs(&desk.gone(ONE)), [(2, 2, 2, vec![])]);
    let lost = "it was put on node n1, which is gone; put it again, or make it by a task";
    let heard = desk.say(DRIVER, ToHead::NotThere { id: id(1), node: ONE });
    assert_eq!(errors(&heard), [format!("object-{}.1 is lost: {lost}", DRIVER.0)]);
    assert_eq!(desk.say(DRIVER, ToHead::NotThere { id: id(2), node: ONE }), []);
    let heard = desk.done(TWO, 2, 2, on(&[TWO]));
    assert_eq!(heard, [(DRIVER, FromHead::Ready { id: id(2), value: on(&[TWO]), contained: vec![] })]);
}

#[test]
fn an_argument_that_was_freed_is_made_again_with_the_result() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    desk.submit(1, &[], Resources::default());
    desk.submit(2, &[1], Resources::default());
    desk.release(1);
    desk.done(ONE, 1, 1, on(&[ONE]));
    let heard = desk.done(ONE, 2, 1, on(&[ONE]));
    assert!(heard.contains(&(ONE, FromHead::Free { ids: vec![id(1)] })), "{heard:?}");
    let mut desk = desk.node(TWO, Resources::cpu(1.0));
    assert_eq!(runs(&desk.gone(ONE)), [(2, 1, 2, vec![])]);
    assert_eq!(runs(&desk.done(TWO, 1, 2, on(&[TWO]))), [(2, 2, 2, vec![])]);
    desk.done(TWO, 2, 2, on(&[TWO]));
    desk.release(2);
    desk.directory.assert_empty();
}

#[test]
fn a_result_is_made_again_so_often_and_no_more() {
    let limits = DirectoryLimits { remakes: 1, ..DirectoryLimits::default() };
    let mut desk = Desk::new(limits).node(ONE, Resources::cpu(1.0));
    desk.submit(1, &[], Resources::default());
    desk.done(ONE, 1, 1, on(&[ONE]));
    let mut desk = desk.node(TWO, Resources::cpu(1.0));
    desk.gone(ONE);
    desk.done(TWO, 1, 2, on(&[TWO]));
    desk.gone(TWO);
    let text = errors(&desk.say(DRIVER, ToHead::Want { id: id(1) })).concat();
    assert!(text.contains("it was on node n2, which is gone, and its task has been run again 1 times"), "{text}");
}

#[test]
fn a_node_that_goes_takes_attempts_until_they_are_used_up() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    let mut task = frame(id(1), "f", 1, &[], Vec::new(), Resources::default());
    task.attempts = 1;
    desk.say(DRIVER, ToHead::Submit(task));
    let text = errors(&desk.gone(ONE)).concat();
    assert!(text.starts_with("task f was lost with its worker in attempt 1 of 1: node n1 is gone;"), "{text}");
}

#[test]
fn tasks_of_a_driver_go_with_it_unless_others_hold_their_results() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(2.0));
    desk.submit(1, &[], Resources::default());
    desk.submit(2, &[], Resources::default());
    desk.submit(3, &[], Resources::default());
    desk.say(OTHER, ToHead::Want { id: id(2) });
    let heard = desk.gone(DRIVER);
    assert_eq!(heard, [(ONE, FromHead::Stop { task: id(1), attempt: 1 })]);
    assert_eq!(desk.directory.counts().objects, 1);
    let heard = desk.done(ONE, 2, 1, inline(1));
    assert_eq!(heard, [(OTHER, FromHead::Ready { id: id(2), value: inline(1), contained: vec![] })]);
    assert_eq!(desk.fails(ONE, 1, 1), []);
    desk.directory.assert_empty();
}

#[test]
fn children_of_a_cancelled_task_go_when_nobody_holds_them() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    desk.submit(1, &[], Resources::default());
    let child = ObjectId::new(ONE, 1);
    let mut below = frame(child, "g", 1, &[], Vec::new(), Resources::default());
    below.parent = Some(id(1));
    desk.say(ONE, ToHead::Submit(below));
    desk.say(DRIVER, ToHead::Cancel { task: id(1) });
    assert_eq!(desk.directory.counts().queued, 1, "its submitter holds it still");
    desk.say(ONE, ToHead::Release { id: child, grants: 1 });
    assert_eq!(desk.directory.counts().queued, 0);
    desk.fails(ONE, 1, 1);
    desk.release(1);
    desk.directory.assert_empty();
}

#[test]
fn items_of_a_stream_come_once_also_when_it_begins_again() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0)).node(TWO, Resources::cpu(1.0));
    let mut task = frame(id(1), "s", 1, &[], Vec::new(), Resources::default());
    task.stream = true;
    desk.say(DRIVER, ToHead::Submit(task));
    let item = |attempt, index, value| ToHead::Item { task: id(1), attempt, index, value, contained: vec![] };
    let ready = |index, value| (DRIVER, FromHead::Ready { id: id(1).item(index), value, contained: vec![] });
    assert_eq!(desk.say(ONE, item(1, 1, inline(1))), [ready(1, inline(1))]);
    assert_eq!(desk.say(ONE, item(1, 3, inline(3))), [], "the second is missing");
    assert_eq!(desk.say(ONE, item(1, 2, on(&[ONE]))), [ready(2, on(&[ONE]))]);
    let taken = ToHead::Taken { task: id(1), index: 1 };
    assert_eq!(desk.say(DRIVER, taken), [(ONE, FromHead::Taken { task: id(1), index: 1 })]);
    let heard = desk.gone(ONE);
    assert_eq!(runs(&heard), [(2, 1, 2, vec![])]);
    assert_eq!(heard[1], (TWO, FromHead::Taken { task: id(1), index: 1 }));
    let goes_on = |index| (TWO, FromHead::Taken { task: id(1), index });
    assert_eq!(desk.say(TWO, item(2, 1, inline(1))), [goes_on(1)]);
    assert_eq!(desk.say(DRIVER, ToHead::Want { id: id(1).item(2) }), []);
    assert_eq!(desk.say(TWO, item(2, 2, on(&[TWO]))), [ready(2, on(&[TWO]))]);
    assert_eq!(desk.say(TWO, item(2, 3, inline(3))), [ready(3, inline(3))]);
    let end = desk.done(TWO, 1, 2, inline(3));
    assert_eq!(end, [(DRIVER, FromHead::Ready { id: id(1), value: inline(3), contained: vec![] })]);
    for index in 0..=3 {
        desk.say(DRIVER, ToHead::Release { id: id(1).item(index), grants: 1 });
    }
    desk.directory.assert_empty();
}

#[test]
fn a_stream_that_nobody_takes_ends() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    let mut task = frame(id(1), "s", 1, &[], Vec::new(), Resources::default());
    task.stream = true;
    desk.say(DRIVER, ToHead::Submit(task));
    assert_eq!(desk.release(1), [(ONE, FromHead::Stop { task: id(1), attempt: 1 })]);
}

#[test]
fn references_inside_values_are_held_by_them_and_granted_with_them() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    desk.put(1, inline(1));
    desk.say(DRIVER, ToHead::Put { id: id(2), value: inline(2), contained: vec![id(1)] });
    desk.release(1);
    let heard = desk.say(OTHER, ToHead::Want { id: id(2) });
    assert_eq!(heard, [(OTHER, FromHead::Ready { id: id(2), value: inline(2), contained: vec![id(1)] })]);
    desk.release(2);
    assert_eq!(desk.directory.counts().objects, 1, "the other has the first now");
    desk.say(OTHER, ToHead::Release { id: id(1), grants: 1 });
    desk.directory.assert_empty();
}

#[test]
fn past_a_limit_work_is_refused_by_name() {
    let limits = DirectoryLimits { values: 1, ..DirectoryLimits::default() };
    let mut desk = Desk::new(limits);
    desk.submit(1, &[], Resources::default());
    let text = errors(&desk.submit(2, &[], Resources::default())).concat();
    assert_eq!(text, "1 tasks and values are known, the most that is allowed; wait for some to end");
}

#[test]
fn what_makes_no_sense_is_counted() {
    let mut desk = Desk::new(DirectoryLimits::default());
    desk.say(DRIVER, ToHead::Copied { id: id(1) });
    desk.say(PartyId(99), ToHead::Want { id: id(1) });
    desk.say(OTHER, ToHead::Put { id: id(1), value: inline(1), contained: vec![] });
    desk.done(DRIVER, 1, 1, inline(1));
    assert_eq!(desk.directory.counts().odd_messages, 4);
}

#[test]
fn a_chain_of_ten_thousand_lost_values_is_made_again() {
    const LENGTH: u64 = 10_000;
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    let done = |number, attempt, node| {
        let value = on(&[node]);
        ToHead::Done { task: id(number), attempt, value, contained: Vec::new() }
    };
    for number in 1..=LENGTH {
        let args = if number > 1 { vec![id(number - 1)] } else { Vec::new() };
        let task = frame(id(number), "f", number, &args, Vec::new(), Resources::default());
        desk.directory.on(DRIVER, ToHead::Submit(task));
        assert_eq!(runs(&desk.hear()).len(), 1);
        desk.directory.on(ONE, done(number, 1, ONE));
        if number > 1 {
            desk.directory.on(DRIVER, ToHead::Release { id: id(number - 1), grants: 1 });
        }
    }
    let mut desk = desk.node(TWO, Resources::cpu(1.0));
    let mut heard = desk.gone(ONE);
    for number in 1..=LENGTH {
        assert_eq!(runs(&heard), [(2, number, 2, vec![])]);
        desk.directory.on(TWO, done(number, 2, TWO));
        heard = desk.hear();
    }
    desk.release(LENGTH);
    desk.directory.assert_empty();
}

#[test]
fn large_values_of_drivers_are_kept_by_the_head_and_freed_there() {
    let mut desk = Desk::new(DirectoryLimits::default()).node(ONE, Resources::cpu(1.0));
    let head = PartyId::default();
    desk.directory.join(head, None);
    desk.put(1, on(&[head]));
    let heard = desk.submit(2, &[1], Resources::default());
    let FromHead::Run { args, .. } = &heard[0].1 else { panic!("{heard:?}") };
    assert_eq!(args, &[RefFrame { id: id(1), value: on(&[head]), contained: vec![] }]);
    desk.say(ONE, ToHead::Copied { id: id(1) });
    desk.release(1);
    let heard = desk.done(ONE, 2, 1, inline(0));
    let free = FromHead::Free { ids: vec![id(1)] };
    assert!(heard.contains(&(head, free.clone())) && heard.contains(&(ONE, free)), "{heard:?}");
}
