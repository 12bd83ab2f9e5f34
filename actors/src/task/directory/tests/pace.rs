//! How fast it is and what a task takes: a small run here, a large one by hand, with
//! `MOBULA_TASKS=1000000 cargo test --release -p mobula-actors --lib pace -- --nocapture`.

use std::time::Duration;

use super::world::frame;
use crate::job::Resources;
use crate::task::directory::*;
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::*;

const BATCH: u64 = 64;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Kilobytes that this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).and_then(|line| line.split_whitespace().nth(1));
    line.and_then(|amount| amount.parse().ok()).unwrap_or(0)
}

fn submit(number: u64) -> ToHead {
    let id = ObjectId::new(PartyId(DRIVERS_FROM), number);
    ToHead::Submit(frame(id, "noop", number, &[], Vec::new(), Resources::default()))
}

/// All messages of so many tasks, in batches: submitted, run, done, released.
#[test]
fn tasks_go_through_in_batches_and_leave_nothing() {
    let tasks: u64 = std::env::var("MOBULA_TASKS").ok().and_then(|tasks| tasks.parse().ok()).unwrap_or(5_000);
    let mut directory = Directory::new(DirectoryLimits::default());
    let (driver, begin) = (PartyId(DRIVERS_FROM), now());
    directory.join(driver, None);
    let before = resident();
    for number in 0..tasks {
        directory.on(driver, submit(number));
    }
    let (queued, kilobytes) = (begin.elapsed(), resident().saturating_sub(before));
    for party in [1, 2] {
        let name = NodeName::new(&format!("n{party}")).expect("a name");
        directory.join(PartyId(party), Some(NodeOffer { name, resources: Resources::cpu(8.0) }));
    }
    let begin = now();
    let mut inbox: Vec<(PartyId, ToHead)> = Vec::new();
    let mut ended = 0;
    loop {
        directory.look(begin.elapsed() + Duration::from_millis(ended / 100));
        inbox.drain(..).for_each(|(party, message)| directory.on(party, message));
        for (party, message) in directory.take_out() {
            match message {
                FromHead::Run { task, attempt, .. } => {
                    let value = ValueFrame::Inline(Blob::default());
                    inbox.push((party, ToHead::Done { task: task.id, attempt, value, contained: Vec::new() }));
                }
                FromHead::Ready { id, .. } => {
                    ended += 1;
                    inbox.push((party, ToHead::Release { id, grants: 1 }));
                }
                other => panic!("{other:?}"),
            }
        }
        if inbox.is_empty() {
            break;
        }
        assert!(inbox.len() as u64 <= 64 * BATCH);
    }
    assert_eq!(ended, tasks);
    directory.assert_empty();
    let pace = |time: Duration| tasks as f64 / time.as_secs_f64();
    println!("queued: {:.0} tasks/s, {} bytes each", pace(queued), kilobytes * 1024 / tasks);
    println!("placed, done, released: {:.0} tasks/s", pace(begin.elapsed()));
    println!("all: {:.0} tasks/s", pace(begin.elapsed() + queued));
}
