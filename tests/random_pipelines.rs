//! Random pipelines through the whole engine against a plain `Vec` of rows: same rows, same order, for any number of
//! workers and any size of blocks, also where steps fail and are tried again. A failure prints the pipeline and its seed is kept under `proptest-regressions`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use mobula::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    key: i64,
    value: Option<i64>,
    name: String,
}

/// One verb, for the dataset and for the `Vec` alike.
#[derive(Debug, Clone)]
enum Verb {
    KeepAbove(i64),
    KeepNamed(String),
    KeepEvenByFunction,
    AddToValue(i64),
    SwapColumnOrder,
    RenameThereAndBack,
    MapRows,
    Repeat,
    Same {
        batch_size: Option<usize>,
        workers: Option<(usize, usize)>,
    },
    NumberWithinBatch(usize),
    /// Fails the first time it meets this key, by an error or a panic; the rows are tried again.
    Stumble {
        key: i64,
        panics: bool,
        batch_size: Option<usize>,
    },
    Limit(u64),
    UnionEven,
    UnionSelf,
    Unordered,
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        (-2i64..8).prop_map(Verb::KeepAbove),
        (0..3).prop_map(|n| Verb::KeepNamed(format!("n{n}"))),
        Just(Verb::KeepEvenByFunction),
        (-5i64..5).prop_map(Verb::AddToValue),
        Just(Verb::SwapColumnOrder),
        Just(Verb::RenameThereAndBack),
        Just(Verb::MapRows),
        Just(Verb::Repeat),
        (prop::option::of(1usize..40), prop::option::of((1usize..3, 0usize..3)))
            .prop_map(|(batch_size, workers)| Verb::Same { batch_size, workers: workers.map(|(a, b)| (a, a + b)) }),
        (1usize..30).prop_map(Verb::NumberWithinBatch),
        (0i64..600, any::<bool>(), prop::option::of(1usize..40)).prop_map(|(key, panics, batch_size)| Verb::Stumble {
            key,
            panics,
            batch_size
        }),
        (0u64..400).prop_map(Verb::Limit),
        Just(Verb::UnionEven),
        Just(Verb::UnionSelf),
        Just(Verb::Unordered),
    ]
}

/// Verbs whose result depends on the order of the rows, and so is not fixed once it is lifted.
fn needs_order(verb: &Verb) -> bool {
    matches!(verb, Verb::NumberWithinBatch(_) | Verb::Limit(_))
}

fn on_dataset(data: &Dataset, verb: &Verb) -> mobula::Result<Dataset> {
    match verb {
        Verb::KeepAbove(n) => data.filter(col("value").gt(*n)),
        Verb::KeepNamed(name) => data.filter(col("name").eq(name.as_str())),
        Verb::KeepEvenByFunction => data.filter(local(|row: Row| row.key % 2 == 0)),
        Verb::AddToValue(n) => data.with_column("value", col("value") + *n),
        Verb::SwapColumnOrder => data.select(["name", "value", "key"]),
        Verb::RenameThereAndBack => data.rename([("key", "k")])?.rename([("k", "key")]),
        Verb::MapRows => data.map(local(mapped)),
        Verb::Repeat => data.flat_map(local(repeated)),
        Verb::Same { batch_size, workers } => {
            let workers = workers.map(|(min, max)| min..=max);
            let options = MapOptions { batch_size: *batch_size, workers, keeps_rows: true, ..MapOptions::default() };
            data.map_batches_with(local(|batch: RecordBatch| Ok::<_, Error>(batch)), options)
        }
        Verb::NumberWithinBatch(size) => {
            let options = MapOptions { batch_size: Some(*size), ..MapOptions::default() };
            data.map_batches_with(local(numbered), options)
        }
        Verb::Stumble { key, panics, batch_size } => {
            let options = MapOptions { batch_size: *batch_size, ..MapOptions::default() };
            data.map_batches_with(local(stumbling(*key, *panics)), options)
        }
        Verb::Limit(rows) => data.limit(*rows),
        Verb::UnionEven => data.union(&data.filter((col("key") % 2).eq(0))?),
        Verb::UnionSelf => data.union(data),
        Verb::Unordered => data.unordered(),
    }
}

fn on_rows(rows: Vec<Row>, verb: &Verb) -> Vec<Row> {
    match verb {
        Verb::KeepAbove(n) => rows.into_iter().filter(|row| row.value.is_some_and(|value| value > *n)).collect(),
        Verb::KeepNamed(name) => rows.into_iter().filter(|row| row.name == *name).collect(),
        Verb::KeepEvenByFunction => rows.into_iter().filter(|row| row.key % 2 == 0).collect(),
        Verb::AddToValue(n) => rows.into_iter().map(|row| Row { value: row.value.map(|v| v + n), ..row }).collect(),
        Verb::SwapColumnOrder | Verb::RenameThereAndBack | Verb::Same { .. } | Verb::Unordered => rows,
        Verb::Stumble { .. } => rows,
        Verb::MapRows => rows.into_iter().map(mapped).collect(),
        Verb::Repeat => rows.into_iter().flat_map(repeated).collect(),
        Verb::NumberWithinBatch(size) => {
            let number = |(n, row)| Row { value: Some((n % size) as i64), ..row };
            rows.into_iter().enumerate().map(number).collect()
        }
        Verb::Limit(limit) => rows.into_iter().take(*limit as usize).collect(),
        Verb::UnionEven => {
            let even: Vec<Row> = rows.iter().filter(|row| row.key % 2 == 0).cloned().collect();
            rows.into_iter().chain(even).collect()
        }
        Verb::UnionSelf => rows.iter().chain(&rows).cloned().collect(),
    }
}

fn mapped(row: Row) -> Row {
    Row { value: row.value.or(Some(row.key)), name: format!("n{}", row.name.len() as i64 + row.key % 2), ..row }
}

fn repeated(row: Row) -> Vec<Row> {
    vec![row.clone(); row.key.rem_euclid(3) as usize]
}

/// Puts each row's number within its batch into `value`.
fn numbered(batch: RecordBatch) -> mobula::Result<RecordBatch> {
    let numbers: ArrayRef = Arc::new((0..batch.num_rows() as i64).map(Some).collect::<Int64Array>());
    let index = batch.schema().index_of("value")?;
    let mut columns = batch.columns().to_vec();
    columns[index] = numbers;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Passes batches on, but for the first that holds `key`.
fn stumbling(
    key: i64,
    panics: bool,
) -> impl Fn(RecordBatch) -> Result<RecordBatch, &'static str> + Clone + Send + Sync {
    let stumbled = Arc::new(AtomicBool::new(false));
    move |batch| {
        let keys = batch.column_by_name("key").ok_or("no key")?.as_primitive::<Int64Type>();
        let meets = keys.values().contains(&key);
        if meets && !stumbled.swap(true, Ordering::Relaxed) {
            assert!(!panics, "stumbled");
            return Err("stumbled");
        }
        Ok(batch)
    }
}

fn input(rows: usize) -> Vec<Row> {
    let row = |n: i64| Row { key: n, value: (n % 5 != 4).then_some(n % 11), name: format!("n{}", n % 3) };
    (0..rows as i64).map(row).collect()
}

fn to_batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("key", Arc::new(rows.iter().map(|row| Some(row.key)).collect::<Int64Array>()), false),
        ("value", Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()), true),
        ("name", Arc::new(rows.iter().map(|row| Some(row.name.as_str())).collect::<StringArray>()), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn to_rows(batches: &[RecordBatch]) -> Vec<Row> {
    let rows_of = |batch: &RecordBatch| {
        let column = |name: &str| batch.column_by_name(name).expect("the column is there").clone();
        let (key, value, name) = (column("key"), column("value"), column("name"));
        let (key, value, name) = (key.as_primitive::<Int64Type>(), value.as_primitive(), name.as_string::<i32>());
        let row = |n: usize| Row {
            key: key.value(n),
            value: (!value.is_null(n)).then(|| Int64Array::value(value, n)),
            name: name.value(n).to_owned(),
        };
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(rows_of).collect()
}

/// Limits that make blocks split and batches cross their borders.
#[derive(Debug, Clone)]
struct Limits {
    cpus: usize,
    block_bytes: u64,
    batch_bytes: u64,
}

fn limits() -> impl Strategy<Value = Limits> {
    (1usize..5, 200u64..20_000, 100u64..5_000).prop_map(|(cpus, block_bytes, batch_bytes)| Limits {
        cpus,
        block_bytes,
        batch_bytes,
    })
}

fn check(verbs: &[Verb], rows: usize, parts: usize, limits: &Limits) -> Result<(), TestCaseError> {
    let failed = |error: mobula::Error| TestCaseError::fail(format!("{error:?}"));
    let session = Session::builder()
        .cpus(limits.cpus)
        .memory_budget(Bytes::mib(64))
        .block_bytes(Bytes(limits.block_bytes))
        .batch_bytes(Bytes(limits.batch_bytes))
        .retry_backoff(Duration::from_millis(1))
        .restarts(100, Duration::from_secs(60))
        .build()
        .map_err(failed)?;
    let mut expected = input(rows);
    let part_rows = rows.div_ceil(parts).max(1);
    let mut batches: Vec<RecordBatch> = expected.chunks(part_rows).map(to_batch).collect();
    if batches.is_empty() {
        batches.push(to_batch(&[]));
    }
    let mut data = session.from_batches(batches).map_err(failed)?;
    let mut ordered = true;
    for verb in verbs {
        if !ordered && needs_order(verb) || expected.len() > 4000 {
            continue;
        }
        ordered &= !matches!(verb, Verb::Unordered);
        data = on_dataset(&data, verb).map_err(failed)?;
        expected = on_rows(expected, verb);
    }
    let mut got = to_rows(&data.collect().map_err(failed)?);
    let counted = data.count().map_err(failed)?;
    prop_assert_eq!(counted, expected.len() as u64, "count\n{}", data.explain());
    if !ordered {
        got.sort();
        expected.sort();
    }
    prop_assert_eq!(got, expected, "\n{}", data.explain());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_pipeline_gives_the_rows_of_the_same_steps_on_a_vec(
        verbs in prop::collection::vec(verb(), 0..7),
        rows in 0usize..600,
        parts in 1usize..6,
        limits in limits(),
    ) {
        check(&verbs, rows, parts, &limits)?;
    }
}
