//! `mobula replay`: rows that a job gave up, by the same command or one that was mended.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::{MODEL, assert_done, assert_error, folder, mobula, predict, read_folder, rows, write_pixels};

/// Pixels of the rows that the model refuses.
const BAD: [usize; 2] = [17, 170];

/// A job that has given up two rows of 300.
fn job(folder: &Path, more: &[&str]) {
    let (input, out) = (folder.join("in.parquet"), folder.join("out"));
    write_pixels(&input, 300, |n| if BAD.contains(&(n / 64)) { f32::NAN } else { 1.0 });
    let flags = [&["--error-budget", "2", "--workers", "2"], more].concat();
    assert_done(&predict(input.to_str().expect("text"), &out, &flags));
    assert_eq!(rows(&read_folder(&out)), 298);
}

fn replay(folder: &Path, more: &[&str]) -> Output {
    let out = folder.join("out");
    let all = [&["replay", "--dead-letter", out.to_str().expect("text")], more].concat();
    // Not where the job was begun.
    mobula(&all).current_dir(folder).output().expect("the binary starts")
}

fn verify(folder: &Path) -> String {
    assert_done(&mobula(&["verify", folder.join("out").to_str().expect("text")]).output().expect("the binary starts"))
}

#[test]
fn rows_that_were_given_up_are_added_once_what_failed_is_mended() {
    let folder = folder();
    job(folder.path(), &[]);
    assert!(verify(folder.path()).contains("2 given up (finished)\n`mobula replay --dead-letter "));
    assert_error(&replay(folder.path(), &[]), 1, &["NaN", "--allow-nan"]);
    let summary = assert_done(&replay(folder.path(), &["--", "--allow-nan"]));
    assert!(summary.starts_with("2 rows in 1 file ("), "{summary}");
    assert_eq!(rows(&read_folder(&folder.path().join("out"))), 300);
    let verified = verify(folder.path());
    assert!(
        verified.contains("2 given up and replayed by job 1 (finished)") && !verified.contains("`mobula"),
        "{verified}"
    );
    let again = assert_done(&replay(folder.path(), &["--", "--allow-nan"]));
    assert!(again.contains("nothing to replay in ") && again.contains("were replayed by job 1"), "{again}");
    assert_error(&replay(folder.path(), &["--", "--no-such-flag"]), 2, &["--no-such-flag"]);
}

#[test]
fn a_replay_takes_another_model_and_has_a_budget_of_its_own() {
    let folder = folder();
    job(folder.path(), &["--batch-size", "64"]);
    let model = folder.path().join("mended.onnx");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL), &model).expect("a model");
    assert_error(&replay(folder.path(), &["--model", "missing.onnx"]), 1, &["missing.onnx"]);
    assert_error(&replay(folder.path(), &["--", "--no-such-flag"]), 2, &["--no-such-flag"]);
    assert_done(&replay(folder.path(), &["--model", "mended.onnx", "--error-budget", "2"]));
    assert!(verify(folder.path()).contains("job 1: 0 rows in 1 part,"), "{}", verify(folder.path()));
    // What was replayed before is begun from there, wherever that was.
    assert_done(
        &mobula(&["replay", "--dead-letter", folder.path().join("out").to_str().expect("text"), "--", "--allow-nan"])
            .output()
            .expect("it starts"),
    );
    assert_eq!(rows(&read_folder(&folder.path().join("out"))), 300);
}

#[test]
fn a_replay_that_cannot_be_says_why() {
    let folder = folder();
    assert_error(&replay(folder.path(), &[]), 1, &["holds no output of a job"]);
    job(folder.path(), &[]);
    assert_error(&replay(folder.path(), &["--job", "3"]), 1, &["no dead letters are open in ", "there is no job 3"]);
    assert_error(&replay(folder.path(), &["--", "--keep", "pixels"]), 1, &["the columns of the output was "]);
    let input = folder.path().join("in.parquet");
    write_pixels(&input, 200, |_| 1.0);
    assert_error(&replay(folder.path(), &["--", "--allow-nan"]), 1, &["in.parquet changed since"]);
    fs::remove_file(&input).expect("it was there");
    assert_error(&replay(folder.path(), &[]), 1, &["in.parquet"]);
}
