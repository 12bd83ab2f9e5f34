//! Every example runs, ends well and prints what it promises.
//!
//! The examples are built once (at once, if they are up to date) and run from the root of the project, like a reader
//! would do it.

#[path = "examples/built.rs"]
mod built;

use std::process::Command;

use built::examples;

/// Runs an example; gives what it printed.
#[track_caller]
fn run(name: &str, args: &[&str]) -> String {
    let output = Command::new(examples().join(name))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("an example that can be started");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} ended with {}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in:\n{text}");
    }
}

#[test]
fn quickstart_counts_squares_and_petals() {
    assert_lines(&run("quickstart", &[]), &["even squares: 500", "large petals: 6"]);
}

#[test]
fn batch_inference_gives_the_labels_of_an_independent_engine() {
    let text = run("batch_inference", &[]);
    assert_lines(&text, &["labels equal to ONNX Runtime's: 1797 of 1797"]);
}

#[test]
fn taxi_loads_its_model_once_for_twelve_shards() {
    let text = run("taxi", &["--rows", "500"]);
    assert_eq!(text.matches("loading 100 MB of weights").count(), 1, "{text}");
    assert_eq!(text.matches("trips/yellow_tripdata_2009-").count(), 12, "{text}");
    assert!(text.contains(" of 6000 trips had an even number of passengers"), "{text}");
}

#[test]
fn tasks_predict_twelve_shards_here_and_on_a_cluster() {
    for args in [&[][..], &["cluster"]] {
        let text = run("tasks_predict", args);
        assert_eq!(text.matches("yellow_tripdata_2009-").count(), 12, "{text}");
        assert_eq!(text.matches(".parquet: 1000 rows predicted").count(), 12, "{text}");
        assert!(text.contains(" of 12000 trips had an even number of passengers"), "{text}");
    }
}

#[test]
fn a_graph_of_tasks_finds_the_centres_of_another_program_here_and_on_a_cluster() {
    let lines = [
        "centre [5.006, 3.428, 1.462, 0.246]: 50 flowers",
        "centre [5.902, 2.748, 4.394, 1.434]: 62 flowers",
        "centre [6.850, 3.074, 5.742, 2.071]: 38 flowers",
    ];
    assert_lines(&run("kmeans_iris", &[]), &lines);
    assert_lines(&run("kmeans_iris", &["cluster"]), &lines);
}

#[test]
fn each_gpu_has_a_predictor_of_its_own_here_and_on_a_cluster() {
    for (args, devices) in [(&[][..], ["gpu 0", "gpu 1"]), (&["cluster"], ["gpu 0 of node-1", "gpu 0 of node-2"])] {
        let text = run("gpu_predict", args);
        assert_lines(&text, &["2 GPUs", "sums that are right: 1797 of 1797"]);
        for device in devices {
            assert!(text.contains(&format!("{device} waited for input ")), "{device}: {text}");
        }
    }
}

#[test]
fn a_custom_operator_finds_the_setosas_together() {
    let lines = ["centre 0: 50 flowers, 50 of them setosa", "centre 1: 62 flowers, 0 of them setosa"];
    assert_lines(&run("custom_operator", &[]), &lines);
}

#[test]
fn steps_that_crash_or_eat_memory_cost_processes_and_no_rows() {
    let lines = [
        "rows after a crash: 100000",
        "attempts that failed: 1",
        "rows of a greedy step: 5000",
        "attempts that failed: 0",
    ];
    assert_lines(&run("isolated", &[]), &lines);
}

#[test]
fn a_custom_actor_answers_while_the_stream_runs() {
    let text = run("custom_actor", &[]);
    assert_eq!(text.matches("when it was told to go on with 10").count(), 2, "{text}");
    assert_lines(&text, &["row 7 became 7", "the last row, 19999999, became 199999990"]);
}

#[test]
fn a_supervised_actor_comes_back_until_its_restarts_are_used_up() {
    let text = run("actor_system", &[]);
    let starts = ["incarnation 0 starts", "incarnation 1 starts", "incarnation 2 starts"];
    assert_lines(&text, &starts);
    assert_lines(&text, &["balance: 42", "balance after it came back: 1"]);
    assert!(text.contains("given up: ") && !text.contains("incarnation 3"), "{text}");
}

#[test]
fn a_program_of_ones_own_runs_without_a_cluster_too() {
    let lines = ["the longest chain below 100000 begins with 77031 and has 350 steps"];
    assert_lines(&run("own_program", &[]), &lines);
}

#[test]
fn a_cluster_that_loses_a_node_half_way_gives_the_labels_of_an_independent_engine() {
    let text = run("cluster", &["7"]);
    assert!(text.contains("seed 7\nkilled node "), "{text}");
    assert_lines(&text, &["89850 rows written, labels equal to ONNX Runtime's: 89850 of 89850"]);
}

#[test]
fn each_step_runs_on_the_node_that_its_label_names() {
    let text = run("two_nodes", &[]);
    let lines = [
        "prepared_by the node with part=functions: 1797 of 1797 rows",
        "predicted_by the node with part=model: 1797 of 1797 rows",
    ];
    assert_lines(&text, &lines);
}

#[test]
fn a_pool_predicts_twelve_shards_here_and_on_a_cluster() {
    for args in [&[][..], &["cluster"]] {
        let text = run("pool_predict", args);
        assert_eq!(text.matches(": 1000 rows predicted").count(), 12, "{text}");
        assert_lines(&text, &["yellow_tripdata_2009-07.parquet: 1000 rows predicted", "12000 rows by 4 predictors"]);
    }
}

#[test]
fn an_actor_on_another_node_comes_back_once_and_goes_with_its_node() {
    let text = run("remote_actor", &[]);
    let lines = [
        "balance: 42",
        "kept in the process of the node: true",
        "crashed: the actor panicked: 42 is less than 50; incarnation 1 has taken its place",
        "balance of incarnation 1: 11",
        "crashed: the actor panicked: 11 is less than 50; its restarts are used up: 1",
        "given up: true",
        "the node was killed: the node of the actor is gone, and the actor with it; spawn it on another node",
    ];
    assert_lines(&text, &lines);
}
