//! Random plans over small batches: the optimized plan gives the rows of the plan as asked.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null};
use arrow::error::ArrowError;
use mobula_actors::operator::local;
use mobula_actors::units::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::interpreter::run;
use crate::dataset::{Dataset, MapOptions};
use crate::expr::{col, lit};
use crate::plan::lower::{Site, lower};
use crate::plan::rules;
use crate::session::Session;

const SITE: Site = Site { cpus: 2, block_bytes: Bytes(256) };

/// One verb of a random plan. Column names are chosen among those there are when it is applied.
#[derive(Debug, Clone)]
enum Verb {
    Compute { from: usize, add: i64 },
    Replace { from: usize },
    Select(Vec<usize>),
    Drop(usize),
    Rename { from: usize, to: usize },
    Filter { on: usize, above: i64 },
    FilterNull { on: usize },
    FilterLarge { on: usize },
    FilterBoth { first: usize, second: usize, below: i64 },
    FilterRows { below: i64 },
    MapRows,
    MapBatches { keeps_rows: bool, batch_size: Option<usize> },
    Opaque,
    Limit(u64),
    UnionSelf,
    UnionFiltered { on: usize, above: i64 },
    Unordered,
}

fn verb() -> impl Strategy<Value = Verb> {
    let column = 0usize..6;
    prop_oneof![
        (column.clone(), -3i64..4).prop_map(|(from, add)| Verb::Compute { from, add }),
        column.clone().prop_map(|from| Verb::Replace { from }),
        prop::collection::vec(0usize..6, 1..4).prop_map(Verb::Select),
        column.clone().prop_map(Verb::Drop),
        (column.clone(), 0usize..6).prop_map(|(from, to)| Verb::Rename { from, to }),
        (column.clone(), -5i64..15).prop_map(|(on, above)| Verb::Filter { on, above }),
        column.clone().prop_map(|on| Verb::FilterNull { on }),
        column.clone().prop_map(|on| Verb::FilterLarge { on }),
        (column.clone(), 0usize..6, 0i64..15).prop_map(|(first, second, below)| Verb::FilterBoth {
            first,
            second,
            below
        }),
        (0i64..20).prop_map(|below| Verb::FilterRows { below }),
        Just(Verb::MapRows),
        (any::<bool>(), prop::option::of(1usize..9))
            .prop_map(|(keeps_rows, batch_size)| Verb::MapBatches { keeps_rows, batch_size }),
        Just(Verb::Opaque),
        (0u64..25).prop_map(Verb::Limit),
        Just(Verb::UnionSelf),
        (column, 0i64..12).prop_map(|(on, above)| Verb::UnionFiltered { on, above }),
        Just(Verb::Unordered),
    ]
}

#[derive(Deserialize)]
struct KeyIn {
    key: i64,
}

#[derive(Serialize, Deserialize)]
struct KeyOut {
    key: i64,
    half: f64,
}

/// The dataset with one more verb; unchanged where the verb makes no sense for its columns.
fn apply(dataset: &Dataset, verb: &Verb) -> Dataset {
    let names: Vec<String> = match &dataset.plan().schema {
        Some(schema) => schema.fields().iter().map(|field| field.name().clone()).collect(),
        // After a step that does not say what it makes; a wrong guess is an error that both plans have.
        None => ["key", "value", "name"].map(str::to_owned).to_vec(),
    };
    let name = |index: &usize| names[index % names.len()].as_str();
    let made = match verb {
        Verb::Compute { from, add } => dataset.with_column(format!("c{add}"), col(name(from)) + *add),
        Verb::Replace { from } => dataset.with_column(name(from), col(name(from)) * 2),
        Verb::Select(columns) => dataset.select(columns.iter().map(name)),
        Verb::Drop(column) => dataset.drop_columns([name(column)]),
        Verb::Rename { from, to } => dataset.rename([(name(from), format!("r{to}"))]),
        Verb::Filter { on, above } => dataset.filter(col(name(on)).gt(*above)),
        Verb::FilterNull { on } => dataset.filter(col(name(on)).is_not_null()),
        // Overflows on large values: a filter that keeps them away must not be overtaken.
        Verb::FilterLarge { on } => {
            let column = col(name(on));
            let kept = dataset.filter(column.clone().lt(3));
            kept.and_then(|kept| kept.filter((column * lit(i64::MAX / 4)).gt(1)))
        }
        Verb::FilterBoth { first, second, below } => {
            dataset.filter(col(name(first)).gt(1).and(col(name(second)).lt(*below)))
        }
        Verb::FilterRows { below } => {
            let below = *below;
            dataset.filter(local(move |row: KeyIn| row.key < below))
        }
        Verb::MapRows => dataset.map(local(|row: KeyIn| KeyOut { key: row.key + 1, half: row.key as f64 / 2.0 })),
        Verb::MapBatches { keeps_rows, batch_size } => {
            let options = MapOptions { keeps_rows: *keeps_rows, batch_size: *batch_size, ..MapOptions::default() };
            dataset.map_batches_with(local(|batch: RecordBatch| Ok::<_, crate::Error>(batch)), options)
        }
        Verb::Opaque => dataset.map_batches(local(|batch: RecordBatch| match batch.num_rows() {
            0 => Err(ArrowError::ComputeError("does not say what it makes".into())),
            _ => filter_record_batch(&batch, &is_not_null(batch.column(batch.num_columns() - 1))?),
        })),
        Verb::Limit(rows) => dataset.limit(*rows),
        Verb::UnionSelf => dataset.union(dataset),
        Verb::UnionFiltered { on, above } => {
            dataset.filter(col(name(on)).gt(*above)).and_then(|other| dataset.union(&other))
        }
        Verb::Unordered => dataset.unordered(),
    };
    made.unwrap_or_else(|_| dataset.clone())
}

fn input(rows: usize) -> RecordBatch {
    let ids = (0..rows as i64).map(|row| if row % 5 == 4 { None } else { Some(row % 7) });
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("value", Arc::new(ids.collect::<Int64Array>())),
        ("name", Arc::new((0..rows).map(|row| Some(format!("n{}", row % 3))).collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn in_memory(session: &Session, rows: usize) -> Dataset {
    let (batch, cut) = (input(rows), rows / 3);
    session.from_batches(vec![batch.slice(0, cut), batch.slice(cut, rows - cut)]).unwrap()
}

/// The same rows in two files of small row groups and pages, so that filters can leave some out.
fn in_files(session: &Session, rows: usize, dir: &Path) -> Dataset {
    let (batch, cut) = (input(rows), rows / 3);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(9)).set_data_page_row_count_limit(3);
    let properties = properties.set_write_batch_size(3).build();
    for (name, part) in [("a.parquet", batch.slice(0, cut)), ("b.parquet", batch.slice(cut, rows - cut))] {
        let file = File::create(dir.join(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, part.schema(), Some(properties.clone())).unwrap();
        writer.write(&part).unwrap();
        writer.close().unwrap();
    }
    session.read_parquet(dir).unwrap()
}

/// The rows of a plan as text, or what failed.
fn rows(plan: &crate::plan::logical::PlanRef) -> Result<String, String> {
    let topology = lower(plan, SITE).map_err(|error| error.to_string())?;
    let batches = run(&topology).map_err(|error| error.to_string())?;
    let Some(first) = batches.first() else { return Ok(String::new()) };
    let all = concat_batches(&first.schema(), &batches).map_err(|error| error.to_string())?;
    let names: Vec<String> = all.schema().fields().iter().map(|field| field.name().clone()).collect();
    Ok(format!("{names:?}\n{}", arrow::util::pretty::pretty_format_batches(&[all]).map_err(|e| e.to_string())?))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_optimized_plan_gives_the_rows_of_the_plan_as_asked(
        verbs in prop::collection::vec(verb(), 0..9), input_rows in 0usize..40, from_files in any::<bool>(),
    ) {
        let session = Session::builder().cpus(1).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let read = if from_files { in_files(&session, input_rows, dir.path()) } else { in_memory(&session, input_rows) };
        let dataset = verbs.iter().fold(read, |dataset, verb| apply(&dataset, verb));
        let optimized = rules::optimize(dataset.plan());
        let (asked, got) = (rows(dataset.plan()), rows(&optimized));
        // A rule may spare a plan an error, never give it one.
        if asked.is_ok() {
            prop_assert_eq!(asked, got, "\nasked\n{}\noptimized\n{}", dataset.plan(), optimized);
        }
    }

    #[test]
    fn optimizing_twice_is_optimizing_once(verbs in prop::collection::vec(verb(), 0..9)) {
        let session = Session::builder().cpus(1).build().unwrap();
        let dataset = verbs.iter().fold(in_memory(&session, 10), |dataset, verb| apply(&dataset, verb));
        let once = rules::optimize(dataset.plan());
        let twice = rules::optimize(&once);
        prop_assert!(Arc::ptr_eq(&once, &twice), "\nonce\n{}\ntwice\n{}", once, twice);
    }
}
