//! A recorder that keeps nothing: what the ledger's cost is measured against. It takes the names of parts as they come and
//! moves them into the output at the end: no plan, no record, no sync but those of the parts themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use mobula::__private::linkme;
use mobula_actors::__private::RECORDERS;
use mobula_actors::job::{Logic, Topology};
use mobula_actors::ledger::{Coverage, Recorder, RecorderEntry, RecorderSpec, Results};
use mobula_actors::operator::{BoxError, Left};

const NAME: &str = "bench/unrecorded@1";

#[linkme::distributed_slice(RECORDERS)]
#[linkme(crate = linkme)]
static UNRECORDED: RecorderEntry = RecorderEntry {
    name: NAME,
    open: |params, topology, _| Ok(Box::new(Unrecorded::open(params, topology)?)),
    discard: |_| {},
};

/// Moves the parts of a job into `out` when all are there.
pub(crate) fn spec(out: &Path) -> Result<RecorderSpec, BoxError> {
    let params = out.to_str().ok_or("the output path is not UTF-8")?.as_bytes().to_vec();
    Ok(RecorderSpec { name: NAME.to_owned(), params })
}

struct Unrecorded {
    out: PathBuf,
    left: BTreeMap<usize, Vec<Left>>,
    parts: Vec<PathBuf>,
}

impl Unrecorded {
    fn open(params: &[u8], topology: &Topology) -> Result<Self, BoxError> {
        let all = |logic: &Logic| match logic {
            Logic::Read { splits, .. } => Some(Coverage::default().left(0, splits.len() as u32)),
            _ => None,
        };
        let reads = topology.operators.iter().enumerate();
        let left = reads.filter_map(|(index, plan)| Some((index, all(&plan.logic)?))).collect();
        Ok(Self { out: std::str::from_utf8(params)?.into(), left, parts: Vec::new() })
    }
}

impl Recorder for Unrecorded {
    fn left(&self) -> BTreeMap<usize, Vec<Left>> {
        self.left.clone()
    }

    fn first_run(&self) -> u32 {
        0
    }

    fn record(&mut self, results: Vec<Results>) -> Result<(), BoxError> {
        for batch in results.iter().flat_map(|results| &results.batches) {
            let paths = batch.column_by_name("path").ok_or("a part without a path")?.as_string::<i32>();
            self.parts.extend(paths.iter().flatten().map(PathBuf::from));
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.parts.clear();
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, BoxError> {
        for (number, part) in self.parts.iter().enumerate() {
            std::fs::rename(part, self.out.join(format!("part-{number:05}.parquet")))?;
        }
        Ok(Vec::new())
    }

    fn stop(self: Box<Self>) {}
}
