//! Pictures in, text out; and what holds for any picture.

use std::time::Duration;

use proptest::prelude::*;

use super::parties::Parties;
use super::picture::*;
use super::*;
use crate::units::{Bytes, Rows};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn task(seq: u64) -> TaskPicture {
    TaskPicture { seq, attempt: 1, what: "700 rows".to_owned() }
}

fn worker(worker: usize, at: At, since: u64, holds: &[u64]) -> WorkerPicture {
    let task = holds.first().map(|seq| task(*seq));
    WorkerPicture { worker, at, since: seconds(since), task, holds: holds.to_vec(), step: None }
}

fn computing(number: usize, since: u64, seq: u64) -> WorkerPicture {
    worker(number, At::Computing { from: Rows(0), rows: Some(700) }, since, &[seq])
}

fn pool(workers: Vec<WorkerPicture>) -> PlacedPool {
    PlacedPool { pool: Some(PoolPicture { workers, ..PoolPicture::default() }), ..PlacedPool::default() }
}

fn operator(name: &str, inputs: &[usize], shell: ShellPicture, pools: Vec<PlacedPool>) -> OperatorPicture {
    OperatorPicture { name: name.into(), inputs: inputs.to_vec(), shell: Some(shell), pools }
}

fn job(operators: Vec<OperatorPicture>) -> JobPicture {
    JobPicture { operators, driver: DriverPicture { at: DriverAt::Asks, since: seconds(9) } }
}

fn full(things: usize) -> Filled {
    Filled { taken: Bytes::mib(32), of: Bytes::mib(32), things }
}

/// The oldest of `running` tasks is number `seq`.
fn waits_for_task(seq: u64, running: usize) -> ShellPicture {
    ShellPicture { oldest: Some(task(seq)), running, window: full(0), ..ShellPicture::default() }
}

fn leaving() -> ShellPicture {
    let leaving = RoomWait { bytes: Bytes::mib(8), since: seconds(60), room: full(4) };
    ShellPicture { leaving: Some(leaving), ..waits_for_task(9, 2) }
}

#[track_caller]
fn check(picture: &JobPicture, expected: &[&str]) {
    assert_eq!(Why::of(picture).lines(), expected);
}

#[test]
fn a_slow_step_is_the_root_of_all_that_wait_before_it() {
    let read = operator("read", &[], leaving(), vec![pool(vec![worker(0, At::Room(Bytes(1)), 58, &[9])])]);
    let score =
        operator("score", &[0], waits_for_task(3, 2), vec![pool(vec![computing(0, 61, 3), computing(1, 7, 4)])]);
    check(
        &job(vec![read, score]),
        &[
            "worker 0 of \"score\" has been in user code for 61 s, task 3 (700 rows), attempt 1, rows 0 to 700",
            "  <- task 3 of \"score\" (700 rows), attempt 1, is under way",
            "    <- operator \"score\" waits for the oldest of its 2 tasks",
            "      <- the driver waits for the next block of results for 9 s",
            "      <- the port of operator \"score\" is full: 4 blocks of 32.0 MiB (it may hold 32.0 MiB)",
            "        <- operator \"read\" waits to pass 8.0 MiB on for 60 s",
            "          <- the room for results of \"read\": 32.0 MiB taken of 32.0 MiB",
            "            <- worker 0 of \"read\" waits for room for results for 58 s",
            "worker 1 of \"score\" has been in user code for 7 s, task 4 (700 rows), attempt 1, rows 0 to 700",
        ],
    );
}

#[test]
fn a_driver_that_takes_nothing_is_the_root() {
    let picture = JobPicture {
        operators: vec![operator("read", &[], leaving(), vec![pool(vec![])])],
        driver: DriverPicture { at: DriverAt::Away, since: seconds(75) },
    };
    check(
        &picture,
        &[
            "nobody has asked for the next block of results for 75 s",
            "  <- the port of the driver is full: 4 blocks of 32.0 MiB (it may hold 32.0 MiB)",
            "    <- operator \"read\" waits to pass 8.0 MiB on for 60 s",
        ],
    );
}

#[test]
fn a_lease_that_is_not_free_names_who_holds_it() {
    let lease = LeasePicture {
        workers: 1,
        wanted: "gpu 1".to_owned(),
        since: seconds(70),
        held_by: "job 4 holds 1".to_owned(),
    };
    let waiting = PoolPicture { lease: Some(lease), ..PoolPicture::default() };
    let placed = PlacedPool { node: Some("n1".into()), pool: Some(waiting), ..PlacedPool::default() };
    check(
        &job(vec![operator("score", &[], waits_for_task(0, 1), vec![placed])]),
        &[
            "a lease of gpu 1 on node n1 is not free: job 4 holds 1",
            "  <- operator \"score\" waits for 1 more worker on node n1 for 70 s",
            "    <- task 0 of \"score\" (700 rows), attempt 1, waits for a worker",
            "      <- operator \"score\" waits for the oldest of its 1 tasks",
            "        <- the driver waits for the next block of results for 9 s",
        ],
    );
}

#[test]
fn an_operator_whose_pools_are_not_open_yet_waits_for_those_that_get_their_leases_before_it() {
    let lease = LeasePicture {
        workers: 1,
        wanted: "gpu 1".to_owned(),
        since: seconds(70),
        held_by: "job 4 holds 1".to_owned(),
    };
    let waiting = PoolPicture { lease: Some(lease), ..PoolPicture::default() };
    let placed = PlacedPool { node: Some("n1".into()), pool: Some(waiting), ..PlacedPool::default() };
    let embed = operator("embed", &[], waits_for_task(0, 1), Vec::new());
    let classify = operator("classify", &[0], ShellPicture::default(), vec![placed]);
    check(
        &job(vec![embed, classify]),
        &[
            "a lease of gpu 1 on node n1 is not free: job 4 holds 1",
            "  <- operator \"classify\" waits for 1 more worker on node n1 for 70 s",
            "    <- task 0 of \"embed\" (700 rows), attempt 1, waits for a worker",
            "      <- operator \"embed\" waits for the oldest of its 1 tasks",
            "        <- operator \"classify\" waits for input",
            "          <- the driver waits for the next block of results for 9 s",
        ],
    );
}

#[test]
fn a_silent_node_and_a_fetch_from_a_peer_are_named() {
    let silent = PlacedPool { node: Some("n1".into()), number: 1, tasks: vec![5], pool: None, silent: seconds(2) };
    let fetching = InputPicture { seq: 5, at: InputAt::Fetch(7), since: seconds(30) };
    let there = PlacedPool {
        node: Some("n2".into()),
        number: 2,
        tasks: vec![5],
        pool: Some(PoolPicture { inputs: vec![fetching], ..PoolPicture::default() }),
        silent: Duration::ZERO,
    };
    let peer = PlacedPool { node: Some("n7".into()), number: 7, ..pool(vec![]) };
    let text =
        |placed| Why::of(&job(vec![operator("a", &[], waits_for_task(5, 1), vec![peer.clone(), placed])])).to_string();
    assert!(text(silent).starts_with("node n1 did not say within 2 s what it waits for\n  <- task 5 of \"a\""));
    assert!(text(there).starts_with("node n7 sends a block\n  <- a block for task 5 is fetched for 30 s\n"));
}

#[test]
fn who_waits_for_itself_is_named_as_a_cycle() {
    let stuck = operator("a", &[], waits_for_task(1, 1), vec![pool(vec![worker(0, At::Room(Bytes(1)), 5, &[1])])]);
    let why = Why::of(&job(vec![stuck]));
    assert!(why.causes[0].is_cycle, "{why}");
    assert!(why.to_string().starts_with("these wait for each other, each for the next: operator \"a\""), "{why}");
}

fn ats() -> impl Strategy<Value = At> {
    prop_oneof![
        Just(At::Opening),
        Just(At::Input),
        Just(At::Turn),
        Just(At::Device),
        Just(At::Room(Bytes(1))),
        Just(At::Computing { from: Rows(3), rows: None }),
        Just(At::OnDevice { rows: 4 }),
        Just(At::Restoring),
        Just(At::Closing),
    ]
}

fn placed_pools() -> impl Strategy<Value = PlacedPool> {
    let workers = prop::collection::vec((ats(), 0..4u64, prop::option::of(0..4u64)), 0..4);
    let input = prop::option::of((0..4u64, prop_oneof![Just(InputAt::Room(Bytes(1))), Just(InputAt::Fetch(2))]));
    let lease = prop::option::of(Just(LeasePicture::default()));
    (workers, input, lease, any::<bool>(), any::<bool>()).prop_map(
        |(workers, input, lease, answers, others_compute)| {
            let workers = workers.into_iter().enumerate();
            let workers = workers
                .map(|(number, (at, since, holds))| worker(number, at, since, &holds.into_iter().collect::<Vec<_>>()));
            let inputs = input.into_iter().map(|(seq, at)| InputPicture { seq, at, since: seconds(1) }).collect();
            let picture = PoolPicture { workers: workers.collect(), lease, inputs, others_compute, left_behind: 0 };
            PlacedPool { tasks: vec![1], pool: answers.then_some(picture), ..PlacedPool::default() }
        },
    )
}

fn shells() -> impl Strategy<Value = Option<ShellPicture>> {
    let shell =
        (any::<bool>(), any::<bool>(), prop::option::of(0..4u64)).prop_map(|(done, leaves, oldest)| ShellPicture {
            done,
            leaving: leaves.then(RoomWait::default),
            oldest: oldest.map(task),
            ..ShellPicture::default()
        });
    prop::option::weighted(0.9, shell)
}

proptest! {
    /// Of any picture, whoever waits is in the answer, once behind each cause; and the answer says something.
    #[test]
    fn every_waiting_party_is_told_of(
        operators in prop::collection::vec((shells(), prop::collection::vec(placed_pools(), 0..3)), 0..6),
        at in prop_oneof![Just(DriverAt::Away), Just(DriverAt::Asks), Just(DriverAt::Fetches(3)), Just(DriverAt::Restores)],
    ) {
        let operators = operators.into_iter().enumerate().map(|(index, (shell, pools))| {
            OperatorPicture { name: format!("{index}").into(), inputs: index.checked_sub(1).into_iter().collect(), shell, pools }
        });
        let picture = JobPicture { operators: operators.collect(), driver: DriverPicture { at, since: seconds(1) } };
        let parties = Parties::of(&picture);
        let chains = parties.graph.chains();
        let told = chains.iter().flat_map(|chain| chain.root.iter().chain(chain.waiting.iter().map(|(_, party)| party)));
        let told: std::collections::BTreeSet<_> = told.cloned().collect();
        prop_assert!(told.iter().all(|party| parties.says(party) != "somebody"), "{:?}", told);
        for operator in picture.operators.iter().enumerate() {
            if operator.1.shell.as_ref().is_none_or(|shell| !shell.done) {
                let party = parties::Party::Operator { operator: operator.0 };
                prop_assert!(told.contains(&party), "{:?}", party);
            }
        }
        prop_assert!(!Why::of(&picture).lines().is_empty());
    }
}
