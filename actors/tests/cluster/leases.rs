//! Jobs whose operators hold devices, on nodes that have few.

use std::sync::Arc;

use mobula_actors::cluster::LocalCluster;
use mobula_actors::job::{JobError, OperatorPlan, Resources, Topology};
use mobula_actors::node::NodeConfig;

use super::support::{each, map, read, small, wide};
use super::{expected, run};

fn with_gpus(gpus: &[usize]) -> LocalCluster {
    let node = |gpus: &usize| NodeConfig { gpus: Some(*gpus), ..small() };
    LocalCluster::start(gpus.iter().map(node).collect()).expect("nodes")
}

/// Two operators that hold a device for each of their workers, of which there may be several.
fn on_devices(rows: i64) -> Vec<OperatorPlan> {
    let a_gpu = |mut plan: OperatorPlan| {
        plan.resources = Resources { gpus: 1.0, ..Resources::cpu(1.0) };
        wide(plan, 4)
    };
    let embed = a_gpu(map("embed", 0, each(|n| n * 2)));
    vec![wide(read(rows, 7, vec![each(|n| n + 1)]), 4), embed, a_gpu(map("classify", 1, each(|n| n - 1)))]
}

/// What a thread comes back with, unless it waits for ever.
#[track_caller]
fn soon<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = std::sync::mpsc::channel();
    #[allow(clippy::disallowed_methods, reason = "one that waits for ever is left behind")]
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(std::time::Duration::from_secs(60)).expect("it ends")
}

#[test]
fn a_job_does_not_take_the_devices_that_its_other_operators_wait_for() {
    for gpus in [&[2][..], &[3], &[1, 1], &[0, 2], &[1, 2]] {
        let cluster = with_gpus(gpus);
        let all = soon(move || run(&cluster, on_devices(20_000), |_| {}));
        assert_eq!(all.expect("it runs"), expected(20_000), "{gpus:?}");
    }
}

#[test]
fn a_job_whose_operators_do_not_fit_beside_each_other_is_refused_by_name() {
    let error = run(&with_gpus(&[1, 0]), on_devices(10), |_| {}).expect_err("one device for two").to_string();
    assert!(error.contains("\"classify\" cannot run here") && error.contains("\"embed\" (cpu 1, gpu 1)"), "{error}");
    assert!(error.contains("there are local-1 (gpu 1"), "{error}");
}

#[test]
fn a_job_that_does_not_fit_on_the_nodes_that_are_left_fails_by_name() {
    let cluster = Arc::new(with_gpus(&[1, 1]));
    let losing = Arc::clone(&cluster);
    let ended = soon(move || {
        let mut lost = false;
        run(&cluster, on_devices(400_000), |_| {
            if !std::mem::replace(&mut lost, true) {
                losing.lose(1);
            }
        })
    });
    let error = ended.expect_err("one device is left").to_string();
    assert!(error.contains("\"classify\" cannot run here") && error.contains("does not fit beside"), "{error}");
}

#[test]
fn jobs_that_need_more_devices_than_are_free_do_not_wait_for_each_other() {
    for gpus in [&[2][..], &[3], &[1, 1], &[1, 1, 1], &[2, 1]] {
        let cluster = Arc::new(with_gpus(gpus));
        let jobs: Vec<_> = (1..6)
            .map(|job| {
                let (cluster, (done, ended)) = (Arc::clone(&cluster), std::sync::mpsc::channel());
                #[allow(clippy::disallowed_methods, reason = "one that waits for ever is left behind")]
                std::thread::spawn(move || {
                    let mut started =
                        cluster.submit(Topology { operators: on_devices(job * 1_000), ..Topology::default() })?;
                    cluster.block_on(async move {
                        let mut rows = 0;
                        while let Some(block) = started.next().await? {
                            rows += block.rows().0;
                        }
                        // Whoever waits does not wait for this.
                        let _ = done.send(rows);
                        Ok::<_, JobError>(())
                    })
                });
                (job, ended)
            })
            .collect();
        for (job, ended) in jobs {
            let rows = ended.recv_timeout(std::time::Duration::from_secs(60));
            assert_eq!(rows.expect("it ends"), job as u64 * 1_000, "{gpus:?}");
        }
    }
}
