//! ONNX Runtime as a user meets it: the flags of `mobula predict`, a library or a device that is not to be had, and nodes
//! of a cluster that have the library or do not.
//!
//! What needs the library runs where `ORT_DYLIB_PATH` names it (`.ci/onnxruntime` gets it), and says so where it does not;
//! with `MOBULA_TEST_ONNXRUNTIME` set, as in `.ci/run`, a library that is not there is a failure.
#![cfg(all(unix, feature = "onnxruntime"))]

#[allow(dead_code, reason = "not every test needs all")]
#[path = "cluster/processes.rs"]
mod processes;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use processes::{Cluster, Process, done, failed, output};

const MODEL: &str = "examples/data/digits_mlp.onnx";
const DIGITS: &str = "examples/data/digits/*.parquet";

/// The library, or word of what is skipped.
fn library() -> Option<String> {
    let named = std::env::var("ORT_DYLIB_PATH").ok().filter(|path| !path.is_empty());
    let wanted = std::env::var_os("MOBULA_TEST_ONNXRUNTIME").is_some();
    assert!(named.is_some() || !wanted, "MOBULA_TEST_ONNXRUNTIME is set, and ORT_DYLIB_PATH names no library");
    #[allow(clippy::print_stdout, reason = "who runs the tests is told what was left out")]
    if named.is_none() {
        println!("skipped: name the library of ONNX Runtime in ORT_DYLIB_PATH (.ci/onnxruntime gets it)");
    }
    named
}

/// `mobula predict` on the digits with ONNX Runtime, in a process that finds no library by itself.
fn predict(out: &Path, flags: &[&str]) -> Command {
    let out = out.to_str().expect("text");
    let job = ["predict", "--model", MODEL, "--input", DIGITS, "--output", out, "--progress", "none"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command.args(job).args(["--engine", "onnxruntime"]).args(flags).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_remove("ORT_DYLIB_PATH").env_remove("MOBULA_LOG");
    command
}

fn ran(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

fn read(file: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).expect("a file")).expect("parquet");
    let batches = reader.build().expect("parquet").collect::<Result<Vec<_>, _>>().expect("rows");
    concat_batches(&batches[0].schema(), &batches).expect("one schema")
}

fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> ArrayRef {
    cast(batch.column_by_name(name).expect("a column"), data_type).expect("numbers")
}

/// The labels and probabilities that an independent program computed, row for row.
#[track_caller]
fn assert_expected(out: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(out).expect("results").map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "parquet"));
    files.sort();
    let found: Vec<_> = files.iter().map(|file| read(file)).collect();
    let found = concat_batches(&found[0].schema(), &found).expect("one schema");
    let expected = read(Path::new("examples/data/digits_expected.parquet"));
    let labels = |batch: &RecordBatch| column(batch, "label", &DataType::Int64).as_primitive::<Int64Type>().clone();
    assert_eq!(labels(&found), labels(&expected));
    let probability = column(&expected, "probability", &DataType::Float64);
    let lists = found.column_by_name("probabilities").expect("an output").as_fixed_size_list();
    for (row, wanted) in probability.as_primitive::<Float64Type>().values().iter().enumerate() {
        let highest = lists.value(row).as_primitive::<Float32Type>().values().iter().copied().fold(0.0, f32::max);
        assert!((f64::from(highest) - wanted).abs() < 1e-5, "row {row}: {highest} is not {wanted}");
    }
}

#[test]
fn digits_get_the_expected_labels_with_any_number_of_workers_and_the_path_given_either_way() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for workers in ["1", "3"] {
        let out = folder.path().join(workers);
        done(&ran(&mut predict(&out, &["--onnxruntime-lib", &library, "--workers", workers, "--batch-size", "100"])));
        assert_expected(&out);
    }
    let out = folder.path().join("by environment");
    done(&ran(predict(&out, &["--device", "cpu"]).env("ORT_DYLIB_PATH", &library)));
    assert_expected(&out);
}

#[test]
fn a_library_that_cannot_be_used_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let refused = |path: &str, words: &[&str]| {
        failed(&ran(&mut predict(&out, &["--onnxruntime-lib", path])), words);
        assert!(!out.exists());
    };
    refused(
        "/no/such.so",
        &["cannot run model", "there is no file /no/such.so", "--onnxruntime-lib", "ORT_DYLIB_PATH"],
    );
    refused("examples", &["examples is a folder", "libonnxruntime.so"]);
    refused("Cargo.toml", &["Cargo.toml cannot be loaded as a library", "install ONNX Runtime"]);
    let named = ran(predict(&out, &[]).env("ORT_DYLIB_PATH", "/no/other.so"));
    failed(&named, &["there is no file /no/other.so"]);
    // A library that every such system has, and that knows nothing of models.
    if cfg!(target_os = "linux") {
        refused("libm.so.6", &["libm.so.6 is a library, but not that of ONNX Runtime"]);
    }
}

#[test]
fn a_device_that_the_library_lacks_is_an_error_and_not_the_cpu_instead() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    for device in ["cuda:0", "tensorrt:0"] {
        let result = ran(&mut predict(&out, &["--onnxruntime-lib", &library, "--device", device]));
        failed(&result, &["cannot run model", &format!("device {device} cannot be used: ")]);
        assert!(!out.exists());
    }
    // A lease is of a GPU that the session has; here it is one that only the flag knows of.
    let leased = ["--onnxruntime-lib", &library, "--device", "cuda", "--gpus", "2"];
    failed(&ran(&mut predict(&out, &leased)), &["device cuda:", " cannot be used: "]);
}

#[test]
fn flags_that_do_not_go_together_end_with_code_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    for (flags, words) in [
        (&["--engine", "rten", "--device", "cuda:0"][..], "add --engine onnxruntime"),
        (&["--engine", "rten", "--onnxruntime-lib", "x.so"], "--onnxruntime-lib is for another engine"),
        (&["--device", "gpu"], "there are cpu, cuda, cuda:0, tensorrt, tensorrt:0"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
        command.args(["predict", "--model", MODEL, "--input", DIGITS, "--output"]).arg(&out);
        // The last flag of a name counts, and `predict` above has one already.
        let engine: &[&str] = if flags.contains(&"--engine") { &[] } else { &["--engine", "onnxruntime"] };
        let result = ran(command.args(engine).args(flags));
        assert_eq!(result.status.code(), Some(2));
        failed_with(&result, words);
    }
}

#[track_caller]
fn failed_with(result: &Output, words: &str) {
    let error = String::from_utf8_lossy(&result.stderr);
    assert!(error.contains(words), "{error}");
}

#[test]
fn engine_and_device_travel_and_a_node_without_the_library_is_named() {
    let Some(library) = library() else { return };
    let cluster = Cluster::start(&["--no-compute"]);
    let token = cluster.token(&[]);
    let mut bare = cluster.join("bare", &["--token", &token]);
    bare.env("ORT_DYLIB_PATH", "/not/on/this/node.so");
    let (bare, _) = Process::start(bare);
    let out = cluster.path("out");
    let flags = ["--onnxruntime-lib", &library];
    let job = |flags: &[&str]| {
        let out = out.to_str().expect("text");
        let job = ["predict", "--model", MODEL, "--input", DIGITS, "--output", out, "--engine", "onnxruntime"];
        let mut command = cluster.command(&[&job[..], flags, &["--cluster", &cluster.address]].concat());
        command.env_remove("ORT_DYLIB_PATH");
        output(command)
    };
    failed(&job(&flags), &["on node bare", "there is no file /not/on/this/node.so"]);
    bare.signal("-TERM");
    done(&bare.end());

    // This one has nothing of its own to say and takes the path of the job.
    let token = cluster.token(&[]);
    let mut node = cluster.join("n1", &["--token", &token]);
    node.env_remove("ORT_DYLIB_PATH");
    let _node = Process::start(node);
    done(&job(&flags));
    assert_expected(&out);
}
