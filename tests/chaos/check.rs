//! What holds after each scenario, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use mobula_actors::block::Segment;
use mobula_actors::ledger::{LedgerFile, Record};
use mobula_actors::runtime::SystemDisk;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::job::{Size, expected};
use super::processes::{mobula, output};

/// The output is what a loop gives, `mobula verify` finds nothing wrong, and nothing else is there.
#[track_caller]
pub(crate) fn check(out: &Path, size: &Size) {
    if let Err(wrong) = wrong(out, size) {
        panic!("{}: {wrong}", out.display());
    }
}

/// The same, as a result.
pub(crate) fn wrong(out: &Path, size: &Size) -> Result<(), String> {
    let manifest = fs::read(hidden(out).join("manifest.json")).map_err(|error| format!("no manifest: {error}"))?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
    let named = manifest["files"].as_array().into_iter().flatten().filter_map(|file| file["name"].as_str());
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    let visible: BTreeSet<String> = names(out).into_iter().filter(|name| !name.starts_with('_')).collect();
    if named != visible {
        return Err(format!("visible are {visible:?}, in the manifest {named:?}"));
    }
    rows(out, &visible, &expected(size))?;
    verified(out)?;
    let known = ["ledger", "lock", "manifest.json", "plan", "prepared"];
    let strangers: Vec<String> = names(&hidden(out)).into_iter().filter(|name| !known.contains(&&**name)).collect();
    match (strangers.is_empty(), names(&out.join("_mobula")).as_slice()) {
        (true, [_]) => Ok(()),
        (_, jobs) => Err(format!("left behind: {strangers:?} in the last of the jobs {jobs:?}")),
    }
}

/// The rows of these files are those.
pub(crate) fn rows(out: &Path, files: &BTreeSet<String>, expected: &[(i64, i64)]) -> Result<(), String> {
    let mut found = Vec::new();
    for name in files {
        let error = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let file = File::open(out.join(name)).map_err(|e| error(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        for batch in reader.map_err(|e| error(&e))? {
            let batch = batch.map_err(|e| error(&e))?;
            let column = |at| batch.column(at).as_primitive::<Int64Type>().values().to_vec();
            found.extend(column(0).into_iter().zip(column(1)));
        }
    }
    found.sort_unstable();
    let distinct = found.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len();
    if found != expected {
        return Err(format!("{} rows of {distinct} ids, not the {} of the loop", found.len(), expected.len()));
    }
    Ok(())
}

/// What `mobula verify` says.
pub(crate) fn verified(out: &Path) -> Result<String, String> {
    let said = output(mobula(&out.join("_home"), &["verify", out.to_str().expect("text")]));
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&said.stderr)) }
}

/// The folder of the last job that wrote there.
pub(crate) fn hidden(out: &Path) -> PathBuf {
    let jobs = names(&out.join("_mobula"));
    out.join("_mobula")
        .join(jobs.iter().max_by_key(|name| name.parse::<u64>().unwrap_or_default()).map_or("0", |name| name))
}

/// The names in a folder; none if it is not there.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What is in the ledger: how many commits, and of how many rows of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) commits: u64,
    pub(crate) rows: u64,
}

/// How far the last job came. Splits are files here.
pub(crate) fn progress(out: &Path, size: &Size) -> Progress {
    let records = LedgerFile::read(&SystemDisk, &hidden(out).join("ledger")).unwrap_or_default();
    let (mut commits, mut rows) = (0, BTreeMap::<u32, u64>::new());
    for record in &records {
        let Record::Committed { segments, .. } = record else { continue };
        commits += 1;
        for Segment { split, from, to, .. } in segments {
            *rows.entry(*split).or_default() += to.0.min(size.rows_a_file as u64).saturating_sub(from.0);
        }
    }
    assert!(rows.keys().all(|split| i64::from(*split) < size.files), "a split is a file in this job");
    Progress { commits, rows: rows.values().sum() }
}

/// No process is left that has this folder on its command line.
#[track_caller]
pub(crate) fn no_process_left(folder: &Path) {
    let folder = folder.to_str().expect("text");
    let own = std::process::id().to_string();
    for process in names(Path::new("/proc")).iter().filter(|name| name.parse::<u32>().is_ok() && **name != own) {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!line.contains(folder), "process {process} is left: {line}");
    }
}

/// No temporary file is left.
#[track_caller]
pub(crate) fn no_file_left(temporary: &Path) {
    assert_eq!(names(temporary), [""; 0], "temporary files are left in {}", temporary.display());
}
