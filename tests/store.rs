//! The command line on an object store: killed at its requests, the same command completes the output.
#![cfg(feature = "s3")]

#[path = "store/fake.rs"]
mod fake;

use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use fake::{Fake, Faults, OnRequest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

const MODEL: &str = "examples/data/digits_mlp.onnx";
const DIGITS: &str = "examples/data/digits/*.parquet";
const ROWS: usize = 1_797;

fn mobula(fake: &Fake, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("MOBULA_LOG");
    command.env("AWS_ENDPOINT_URL", &fake.endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "r");
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret").env("NO_PROXY", "*");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn predict(fake: &Fake, output: &str) -> Command {
    mobula(fake, &["predict", "--model", MODEL, "--input", DIGITS, "--output", output])
}

fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Rows that readers see.
fn rows(fake: &Fake, bucket: &str) -> usize {
    let parts: Vec<Vec<u8>> = fake.with(bucket, |bucket| {
        let names = bucket.visible("out");
        names.iter().map(|name| bucket.objects[&format!("out/{name}")].clone()).collect()
    });
    let rows_of = |part: Vec<u8>| {
        let batches = ParquetRecordBatchReader::try_new(Bytes::from(part), 1_000).expect("a Parquet file");
        batches.map(|batch| batch.expect("rows").num_rows()).sum::<usize>()
    };
    parts.into_iter().map(rows_of).sum()
}

/// Runs the command and kills its process while it waits for the answer to this request; gives whether it lived to send it.
fn killed_at(fake: &Fake, bucket: &str, request: usize) -> bool {
    let ((sent, is_sent), (done, is_done)) = (mpsc::channel(), mpsc::channel::<()>());
    let (sent, is_done) = (Mutex::new(sent), Mutex::new(is_done));
    let hold = move |number| {
        if number == request {
            let _ = sent.lock().expect("a lock").send(());
            // Until the process is dead: then the other end is dropped.
            let _ = is_done.lock().expect("a lock").recv();
        }
    };
    fake.faults(bucket, Faults { on_request: Some(OnRequest(Arc::new(hold))), ..Faults::default() });
    let mut child = predict(fake, &format!("s3://{bucket}/out")).spawn().expect("the binary starts");
    loop {
        if is_sent.recv_timeout(LOOK).is_ok() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            drop(done);
            return true;
        }
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{status}");
            return false;
        }
    }
}

/// Between two looks whether it has ended by itself.
const LOOK: Duration = Duration::from_millis(20);

#[test]
fn killed_at_its_requests_the_same_command_completes_the_output() {
    let fake = Fake::start();
    let mut request = 0;
    loop {
        let bucket = format!("killed-{request}");
        let died = killed_at(&fake, &bucket, request);
        fake.faults(&bucket, Faults::default());
        let output = format!("s3://{bucket}/out");
        let said = done(&mut predict(&fake, &output));
        assert!(said.contains(&output), "{said}");
        assert_eq!(rows(&fake, &bucket), ROWS, "killed at request {request}");
        assert_eq!(fake.with(&bucket, |bucket| bucket.uploads.len()), 0, "killed at request {request}");
        let verified = done(&mut mobula(&fake, &["verify", &output]));
        assert!(verified.contains("1,797 rows") && !verified.contains("wrong"), "{verified}");
        if !died {
            assert!(said.contains("nothing to do"), "{said}");
            break;
        }
        request += STEP;
    }
    assert!(request > 4 * STEP, "{request}");
}

/// Between two requests at which it is killed; each is met in `dataset/store_tests.rs`.
const STEP: usize = 4;

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    let fake = Fake::start();
    let refused = |output: &str, words: &[&str]| {
        let Output { status, stderr, .. } = predict(&fake, output).output().expect("the binary starts");
        let error = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("s3://nowhere/out", &["error: ", "s3://nowhere/out", "NoSuchBucket", "make the bucket"]);
    fake.faults("odd", Faults { no_conditions: true, ..Faults::default() });
    refused("s3://odd/out", &["If-None-Match", "write to a folder"]);
    refused("s3://odd", &["s3://BUCKET/PREFIX"]);
}
