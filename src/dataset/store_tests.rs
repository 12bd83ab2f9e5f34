//! Outputs on an object store: each row is in it once, whatever the store does and wherever the writer dies.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes as Buffer;
use mobula_actors::operator::{BoxError, local};
use mobula_actors::units::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::{Dataset, WriteSummary};
use crate::error::Result;
use crate::io::output::store::testing::{Bucket, FAKE, Faults};
use crate::io::{Compression, Format, Publish, WriteMode, WriteOptions};
use crate::session::Session;

const ROWS: i64 = 20_000;
const PREFIX: &str = "out/ids";

/// A session whose output is some parts rather than one.
fn session() -> Session {
    let small = Session::builder().cpus(2).memory_budget(Bytes::mib(1)).block_bytes(Bytes(16 << 10));
    small.retry_backoff(Duration::from_millis(1)).commit_interval(Duration::from_millis(5)).build().unwrap()
}

fn rows() -> Dataset {
    session().range(0..ROWS).unwrap()
}

fn write(rows: &Dataset, bucket: &str, options: WriteOptions) -> Result<WriteSummary> {
    rows.write_parquet_with(format!("s3://{bucket}/{PREFIX}"), options)
}

/// The ids that readers see, in the order of names.
fn seen(bucket: &Bucket) -> Vec<i64> {
    let of_part = |name: &String| {
        let bytes = Buffer::from(bucket.objects[&format!("{PREFIX}/{name}")].clone());
        let batches = ParquetRecordBatchReader::try_new(bytes, 1 << 16).unwrap();
        let ids = |batch: RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        batches.flat_map(|batch| ids(batch.unwrap())).collect::<Vec<i64>>()
    };
    bucket.visible(PREFIX).iter().flat_map(of_part).collect()
}

/// Each id is there once, just as the ledger and the manifest say, and nothing is left behind.
fn check(bucket: &str, expected: impl IntoIterator<Item = i64>, context: &str) {
    FAKE.faults(bucket, Faults::default());
    let mut ids = FAKE.with(bucket, |bucket| seen(bucket));
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(expected), "{context}: {} ids are there", ids.len());
    assert_eq!(FAKE.with(bucket, |bucket| bucket.uploads.len()), 0, "{context}: uploads are left");
    let (jobs, strangers) = crate::io::verify(format!("s3://{bucket}/{PREFIX}").as_ref()).unwrap();
    assert!(strangers.is_empty() && jobs.iter().all(|job| job.finished && job.wrong.is_empty()), "{context}: {jobs:?}");
}

fn bucket(name: &str, faults: Faults) -> &str {
    FAKE.faults(name, faults);
    name
}

fn refusal(rows: &Dataset, bucket: &str, options: WriteOptions, expected: &[&str]) {
    let error = write(rows, bucket, options).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    assert!(expected.iter().all(|words| text.contains(words)), "{text}");
}

#[test]
fn the_same_command_is_done_and_others_are_refused_or_added() {
    let (bucket, rows) = (bucket("modes", Faults::default()), rows());
    let written = write(&rows, bucket, WriteOptions::default()).unwrap();
    assert!(written.rows == ROWS as u64 && written.files.len() > 1, "{:?}", written.files);
    assert!(written.files[0].to_str().unwrap().starts_with("s3://modes/out/ids/part-00000-"));
    check(bucket, 0..ROWS, "written");
    let ids = FAKE.with(bucket, |bucket| seen(bucket));
    assert!(ids.is_sorted(), "within a run names sort as rows do");
    let again = write(&rows, bucket, WriteOptions::default()).unwrap();
    assert!(again.done_before && again.files == written.files);
    let other = rows.session.range(0..5).unwrap();
    refusal(&other, bucket, WriteOptions::default(), &["s3://modes/out/ids", "another job"]);
    refusal(&other, bucket, WriteOptions::default().mode(WriteMode::Overwrite), &["not overwritten", "another prefix"]);
    write(&other, bucket, WriteOptions::default().mode(WriteMode::Append)).unwrap();
    check(bucket, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4].into_iter().chain(5..ROWS), "added");
}

#[test]
fn parts_can_become_visible_one_by_one_and_rows_may_be_none_or_few() {
    for publish in [Publish::AsWritten, Publish::AtEnd] {
        let bucket = bucket(if publish == Publish::AtEnd { "end" } else { "stream" }, Faults::default());
        write(&rows(), bucket, WriteOptions::default().publish(publish)).unwrap();
        check(bucket, 0..ROWS, "all");
        let append = WriteOptions::default().mode(WriteMode::Append).publish(publish);
        let limited = rows().limit(7).unwrap();
        assert_eq!(write(&limited, bucket, append.clone()).unwrap().rows, 7);
        let none = write(&session().range(0..0).unwrap(), bucket, append).unwrap();
        assert_eq!((none.rows, none.files.len()), (0, 1));
        check(bucket, (0..7).flat_map(|id| [id, id]).chain(7..ROWS), "all, and a few");
    }
}

#[test]
fn a_large_part_goes_up_in_pieces() {
    let (bucket, session) = (bucket("large", Faults::default()), Session::builder().cpus(1).build().unwrap());
    let plain = WriteOptions::default().compression(Compression::None);
    let written = write(&session.range(0..4_000_000).unwrap(), bucket, plain).unwrap();
    assert!(written.bytes > Bytes::mib(9) && written.files.len() == 1, "{} in {:?}", written.bytes, written.files);
    check(bucket, 0..4_000_000, "large");
}

#[test]
fn what_a_store_lacks_is_said_before_anything_runs() {
    let (rows, plain) = (rows(), WriteOptions::default);
    let no_conditions = bucket("no-conditions", Faults { no_conditions: true, ..Faults::default() });
    refusal(&rows, no_conditions, plain(), &["s3://no-conditions/out/ids", "If-None-Match", "write to a folder"]);
    assert!(FAKE.with(no_conditions, |bucket| bucket.objects.is_empty()), "nothing stays");
    let no_uploads = bucket("no-uploads", Faults { no_uploads: true, ..Faults::default() });
    refusal(&rows, no_uploads, plain(), &["s3://no-uploads/out/ids/_mobula/probe", "NotImplemented", "another store"]);
    let forbidden = bucket("forbidden", Faults { forbidden: true, ..Faults::default() });
    refusal(&rows, forbidden, plain(), &["s3://forbidden/", "AccessDenied", "AWS_SECRET_ACCESS_KEY"]);
    refusal(&rows, "nowhere", plain(), &["s3://nowhere/", "NoSuchBucket", "make the bucket"]);
    let error = rows.write_parquet("s3://bucket").unwrap_err().to_string();
    assert!(error.contains("s3://BUCKET/PREFIX"), "{error}");
}

/// Runs the job with what goes wrong, and once more without. Gives whether the first run failed.
fn until_done(rows: &Dataset, bucket: &str, options: &WriteOptions, context: &str) -> bool {
    let died = write(rows, bucket, options.clone()).is_err();
    FAKE.faults(bucket, Faults::default());
    write(rows, bucket, options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
    died
}

#[test]
fn wherever_the_writer_dies_the_same_command_completes_it() {
    for (publish, limit) in [(Publish::AtEnd, ROWS), (Publish::AsWritten, ROWS), (Publish::AtEnd, 7)] {
        let options = WriteOptions::default().publish(publish);
        let mut deaths = 0;
        loop {
            let name = format!("dies-{publish:?}-{limit}-{deaths}").to_lowercase();
            FAKE.faults(&name, Faults { dead_from: Some(deaths), ..Faults::default() });
            let some = if limit < ROWS { rows().limit(limit as u64).unwrap() } else { rows() };
            let died = until_done(&some, &name, &options, &name);
            check(&name, 0..limit, &name);
            if !died {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 20, "{deaths}");
    }
}

#[test]
fn lost_answers_and_refusals_that_pass_change_nothing() {
    for seed in 0..6 {
        let name = format!("unsteady-{seed}");
        FAKE.faults(&name, Faults { lost_answers: 8, unavailable: 8, seed, ..Faults::default() });
        until_done(&rows(), &name, &WriteOptions::default(), &name);
        check(&name, 0..ROWS, &name);
    }
}

/// Rows through a step that waits for a word once, though not for the row that tells the columns.
fn held(rows: &Dataset) -> (mpsc::Sender<()>, mpsc::Receiver<()>, Dataset) {
    let ((tell, told), (reached, at)) = (mpsc::channel::<()>(), mpsc::channel());
    let told = Arc::new(Mutex::new(Some(told)));
    let step = local(move |batch: RecordBatch| {
        let first = || told.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(told) = (batch.num_rows() > 1).then(first).flatten() {
            let _ = reached.send(());
            let _ = told.recv();
        }
        Ok::<_, BoxError>(batch)
    });
    (tell, at, rows.map_batches(step).unwrap())
}

#[test]
fn of_two_processes_the_older_one_stops() {
    for restart in [false, true] {
        let bucket = bucket(if restart { "given-up" } else { "taken" }, Faults::default());
        let options = WriteOptions::default().named("nightly").restart(restart);
        let (go, reached, older) = held(&rows());
        let path = format!("s3://{bucket}/{PREFIX}");
        let run = older.start_write(&path, Format::Parquet, options.clone()).unwrap();
        reached.recv().unwrap();
        let (go_on, _reached, younger) = held(&rows());
        drop(go_on);
        write(&younger, bucket, options).unwrap();
        drop(go);
        let error = run.wait().unwrap_err();
        let text =
            format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(text.contains("another process went on with the job"), "{text}");
        check(bucket, 0..ROWS, "the younger one's");
    }
}

#[test]
fn an_unfinished_job_is_not_mixed_with_another_and_can_be_given_up() {
    let bucket = bucket("other", Faults { dead_from_complete: true, ..Faults::default() });
    let plain = WriteOptions::default;
    write(&rows(), bucket, plain()).unwrap_err();
    FAKE.faults(bucket, Faults::default());
    let other = session().range(0..ROWS / 2).unwrap();
    refusal(&other, bucket, plain(), &["has not finished", "--restart"]);
    write(&other, bucket, plain().restart(true)).unwrap();
    check(bucket, 0..ROWS / 2, "the other one's");
}

#[test]
fn an_upload_that_the_store_dropped_is_named() {
    let bucket = bucket("dropped", Faults { dead_from_complete: true, ..Faults::default() });
    write(&rows(), bucket, WriteOptions::default()).unwrap_err();
    FAKE.faults(bucket, Faults::default());
    FAKE.with(bucket, |bucket| bucket.uploads.clear());
    refusal(&rows(), bucket, WriteOptions::default(), &["s3://dropped/out/ids/part-", "upload is gone", "--restart"]);
    FAKE.faults(bucket, Faults::default());
}

#[test]
fn dead_letters_are_beside_the_output() {
    let bucket = bucket("letters", Faults::default());
    let picky = local(|batch: RecordBatch| {
        let poison = batch.column(0).as_primitive::<Int64Type>().values().contains(&17);
        if poison { Err::<_, BoxError>("17 is unlucky".into()) } else { Ok(batch) }
    });
    let rows = session().range(0..1_000).unwrap().map_batches(picky).unwrap().error_budget(1).unwrap();
    let written = write(&rows, bucket, WriteOptions::default()).unwrap();
    assert_eq!((written.rows, written.given_up), (999, 1));
    let letters = written.dead_letters.unwrap();
    let key = format!("{}/part-00000.parquet", letters.to_str().unwrap().strip_prefix("s3://letters/").unwrap());
    assert!(FAKE.with(bucket, |bucket| bucket.objects.contains_key(&key)), "{key}");
    check(bucket, (0..1_000).filter(|id| *id != 17), "all but one");
}

#[test]
fn damage_is_found_by_verify() {
    let bucket = bucket("damage", Faults::default());
    let written = write(&rows(), bucket, WriteOptions::default()).unwrap();
    let names: BTreeSet<_> = FAKE.with(bucket, |bucket| bucket.visible(PREFIX)).into_iter().collect();
    assert_eq!(names.len(), written.files.len());
    let key = format!("{PREFIX}/{}", names.first().unwrap());
    FAKE.with(bucket, |bucket| {
        bucket.objects.get_mut(&key).unwrap()[100] ^= 1;
        bucket.objects.insert(format!("{PREFIX}/stranger.parquet"), vec![1]);
    });
    let (jobs, strangers) = crate::io::verify(format!("s3://{bucket}/{PREFIX}").as_ref()).unwrap();
    assert!(jobs[0].wrong.len() == 1 && jobs[0].wrong[0].contains("is damaged"), "{jobs:?}");
    assert_eq!(strangers, ["stranger.parquet"]);
}

#[test]
fn a_job_that_has_finished_nothing_yet_is_not_given_up_by_another() {
    let (bucket, add) = (bucket("beside", Faults::default()), || WriteOptions::default().mode(WriteMode::Append));
    // One block, so that nothing is finished before it goes on.
    let (go, reached, older) = held(&session().range(0..1_000).unwrap());
    let run = older.start_write(format!("s3://{bucket}/{PREFIX}"), Format::Parquet, add()).unwrap();
    reached.recv().unwrap();
    let other = session().range(0..3).unwrap();
    refusal(&other, bucket, WriteOptions::default(), &["has not finished", "--restart"]);
    assert_eq!(write(&other, bucket, add()).unwrap().rows, 3);
    drop(go);
    assert_eq!(run.wait().unwrap().rows, 1_000);
    check(bucket, [0, 0, 1, 1, 2, 2].into_iter().chain(3..1_000), "both");
}

#[test]
fn a_job_that_failed_with_nothing_finished_hinders_no_other() {
    let bucket = bucket("failed", Faults::default());
    let fails =
        local(|batch: RecordBatch| if batch.num_rows() > 1 { Err::<_, BoxError>("no".into()) } else { Ok(batch) });
    write(&session().range(0..1_000).unwrap().map_batches(fails).unwrap(), bucket, WriteOptions::default())
        .unwrap_err();
    write(&rows(), bucket, WriteOptions::default()).unwrap();
    check(bucket, 0..ROWS, "the other one's");
}

/// A finished job, and one that was killed before its end, of whose ledger something is done to the first or last object.
fn damaged(name: &str, first: bool, damage: fn(&mut Bucket, &str)) -> &str {
    let (bucket, add) = (bucket(name, Faults::default()), WriteOptions::default().mode(WriteMode::Append));
    write(&session().range(0..3).unwrap(), bucket, add.clone()).unwrap();
    FAKE.faults(bucket, Faults { dead_from_complete: true, ..Faults::default() });
    write(&rows(), bucket, add).unwrap_err();
    FAKE.faults(bucket, Faults::default());
    FAKE.with(bucket, |bucket| {
        let ledger = format!("{PREFIX}/_mobula/1/ledger/");
        let mut keys = bucket.objects.keys().filter(|key| key.starts_with(&ledger)).cloned();
        let key = if first { keys.next() } else { keys.next_back() }.unwrap();
        damage(bucket, &key);
    });
    bucket
}

#[test]
fn a_damaged_ledger_is_named_and_a_restart_gets_past_it() {
    let gap = damaged("gap", true, |bucket, key| drop(bucket.objects.remove(key)));
    let torn = damaged("torn", false, |bucket, key| *bucket.objects.get_mut(key).unwrap().last_mut().unwrap() ^= 1);
    let add = || WriteOptions::default().mode(WriteMode::Append);
    for bucket in [gap, torn] {
        let (jobs, strangers) = crate::io::verify(format!("s3://{bucket}/{PREFIX}").as_ref()).unwrap();
        assert!(jobs.len() == 2 && jobs[0].wrong.is_empty() && strangers.is_empty(), "{jobs:?}");
        assert!(jobs[1].wrong[0].contains("/_mobula/1/ledger/0000"), "{jobs:?}");
        refusal(&rows(), bucket, add(), &["is damaged", "--restart"]);
        write(&rows(), bucket, add().restart(true)).unwrap();
        check(bucket, [0, 0, 1, 1, 2, 2].into_iter().chain(3..ROWS), bucket);
    }
}

#[test]
fn a_restart_is_refused_where_readers_see_parts_of_a_damaged_ledger() {
    let bucket = damaged("seen", true, |bucket, key| drop(bucket.objects.remove(key)));
    let name = "part-00001-0000000000000000-0000000000000000.parquet";
    FAKE.with(bucket, |bucket| bucket.objects.insert(format!("{PREFIX}/{name}"), vec![1]));
    let restart = WriteOptions::default().mode(WriteMode::Append).restart(true);
    refusal(&rows(), bucket, restart, &["is not given up", name]);
}

#[test]
fn a_restart_that_is_refused_gives_nothing_up() {
    let bucket = bucket("refused", Faults::default());
    let (plain, append) = (WriteOptions::default(), WriteOptions::default().mode(WriteMode::Append));
    write(&rows(), bucket, plain.clone()).unwrap();
    FAKE.faults(bucket, Faults { dead_from_complete: true, ..Faults::default() });
    let more = session().range(ROWS..2 * ROWS).unwrap();
    write(&more, bucket, append.clone()).unwrap_err();
    FAKE.faults(bucket, Faults::default());
    refusal(&rows(), bucket, plain.restart(true), &["the finished output of this job"]);
    let written = write(&more, bucket, append).unwrap();
    assert_eq!(written.job.operators[0].rows_in.0, 0, "all of it was kept");
    check(bucket, 0..2 * ROWS, "both");
}
