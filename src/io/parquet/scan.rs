//! Plan time: footers become a schema, a row count and splits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use mobula_actors::function::encode;
use mobula_actors::operator::Split;
use mobula_actors::units::{Bytes, Rows};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::RowGroupMetaData;

use super::estimate;
use super::footer::Footers;
use super::prune;
use super::reader::{ParquetSource, Part};
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::paths::{IntoPaths, expand};
use crate::io::scan::{Input, Lowered, OnError, Pushed, Scan, paths_label};
use crate::io::schema::{plain, widen};

/// How Parquet files are read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// What happens when a file cannot be read. Default: the job fails.
    pub on_error: OnError,
}

impl ReadOptions {
    /// The same with another answer to files that cannot be read.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }
}

/// Parquet files of one schema, after a look at their footers.
#[derive(Debug)]
pub struct ParquetScan {
    label: String,
    schema: SchemaRef,
    files: Vec<PlannedFile>,
    on_error: OnError,
    footers: Arc<Footers>,
}

/// A file as it was when the scan was made.
#[derive(Debug)]
struct PlannedFile {
    path: PathBuf,
    state: Result<(FileId, u64), String>,
}

impl ParquetScan {
    /// Looks at the footers of the files that `paths` name.
    ///
    /// # Errors
    /// If no file matches, a footer cannot be read (unless that is to be skipped), or two files differ in a column.
    pub fn open(paths: impl IntoPaths, options: ReadOptions) -> IoResult<Scan> {
        let paths = paths.into_paths();
        let footers = Arc::new(Footers::default());
        let mut schema: Option<(PathBuf, Schema)> = None;
        let mut files = Vec::new();
        for path in expand(&paths, &["parquet"])? {
            let state = match look(&path, &footers) {
                Ok((id, footer)) => {
                    schema = Some(join(schema, &path, footer.schema())?);
                    Ok((id, rows(&footer)))
                }
                Err(error) if options.on_error == OnError::Skip => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            files.push(PlannedFile { path, state });
        }
        let reason = || format!("none of the {} files can be read", files.len());
        let (_, schema) = schema.ok_or_else(|| IoError::NoSchema { reason: reason() })?;
        let label = paths_label("read_parquet", &paths);
        Scan::new(Self { label, schema: Arc::new(schema), files, on_error: options.on_error, footers })
    }

    /// The splits of one file, for rows before `limit` is used up.
    fn split_file(&self, file: &PlannedFile, cut: &Cut<'_>, left: &mut u64, splits: &mut Vec<Split>) -> IoResult<()> {
        let (id, footer) = match self.look_again(file) {
            Ok(found) => found,
            Err(reason) if self.on_error == OnError::Skip => {
                splits.push(Part::given_up(&file.path, reason.to_string()).split(&[])?);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mask = ProjectionMask::roots(footer.parquet_schema(), cut.columns.iter().copied());
        let keep = cut.pushed.predicate.as_ref().map(|p| prune::row_groups(p, &footer)).unwrap_or_default();
        let mut group_of = Grouping { path: &file.path, id, target: cut.target, part: Vec::new(), bytes: 0, splits };
        for (index, group) in footer.metadata().row_groups().iter().enumerate() {
            if *left == 0 {
                break;
            }
            if keep.get(index) == Some(&false) || group.num_rows() == 0 {
                continue;
            }
            *left = group_of.add(index, group, &mask, *left)?;
        }
        group_of.finish()
    }

    fn look_again(&self, file: &PlannedFile) -> IoResult<(FileId, ArrowReaderMetadata)> {
        let planned = file.state.as_ref().map_err(|reason| IoError::GivenUp { reason: reason.clone() })?.0;
        let handle = file::open_planned(&file.path, planned)?;
        Ok((planned, self.footers.get(&file.path, &handle, planned, false)?))
    }
}

/// What all files of a scan are cut by.
struct Cut<'a> {
    pushed: &'a Pushed,
    columns: Vec<usize>,
    target: Bytes,
}

impl Input for ParquetScan {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self) -> Option<Rows> {
        let readable = self.files.iter().filter_map(|file| file.state.as_ref().ok());
        Some(readable.map(|(_, rows)| Rows(*rows)).sum())
    }

    fn prunes(&self) -> bool {
        true
    }

    fn lower(&self, pushed: &Pushed, target: Bytes) -> IoResult<Lowered> {
        let cut = Cut { pushed, columns: pushed.columns(&self.schema), target };
        let mut splits = Vec::new();
        let mut left = pushed.limit.map_or(u64::MAX, |limit| limit.0);
        for file in &self.files {
            self.split_file(file, &cut, &mut left, &mut splits)?;
            if left == 0 {
                break;
            }
        }
        let source = ParquetSource {
            schema: pushed.schema(&self.schema),
            columns: cut.columns,
            predicate: pushed.predicate.clone(),
            on_error: self.on_error,
            footers: Arc::clone(&self.footers),
        };
        Ok((Arc::new(source), splits))
    }
}

/// Collects row groups of one file until they are a split of about the target size.
struct Grouping<'a> {
    path: &'a Path,
    id: FileId,
    target: Bytes,
    part: Vec<(u32, u64)>,
    bytes: u64,
    splits: &'a mut Vec<Split>,
}

impl Grouping<'_> {
    /// Adds a row group, of which at most `left` rows are needed; returns how many are needed of the next.
    fn add(&mut self, index: usize, group: &RowGroupMetaData, mask: &ProjectionMask, left: u64) -> IoResult<u64> {
        let bytes = estimate::row_group(group, mask).bytes;
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > self.target.0 {
            self.finish()?;
        }
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).min(left);
        let index = u32::try_from(index).map_err(|_| IoError::corrupt(self.path, "it has too many row groups"))?;
        self.part.push((index, rows));
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(left - rows)
    }

    fn finish(&mut self) -> IoResult<()> {
        let groups = std::mem::take(&mut self.part);
        let bytes = std::mem::take(&mut self.bytes);
        if groups.is_empty() {
            return Ok(());
        }
        let rows = groups.iter().map(|(_, rows)| rows).sum();
        let indices: Vec<u32> = groups.iter().map(|(index, _)| *index).collect();
        let part = Part { path: self.path.to_owned(), id: Some(self.id), groups: indices, rows, given_up: None };
        let mut split = part.split(&groups)?;
        split.bytes = Bytes(bytes);
        self.splits.push(split);
        Ok(())
    }
}

impl Part {
    fn given_up(path: &Path, reason: String) -> Self {
        Self { path: path.to_owned(), id: None, groups: Vec::new(), rows: 0, given_up: Some(reason) }
    }

    fn split(&self, groups: &[(u32, u64)]) -> IoResult<Split> {
        let path = self.path.display();
        let label = match groups {
            [] => format!("{path}, given up"),
            [(one, _)] => format!("{path}, row group {one}"),
            [(first, _), .., (last, _)] => format!("{path}, row groups {first}..={last}"),
        };
        let payload = encode(self).map_err(|e| IoError::Internal(format!("split {label}: {e}")))?;
        Ok(Split { label, rows: Some(Rows(self.rows)), bytes: Bytes(0), payload })
    }
}

fn look(path: &Path, footers: &Footers) -> IoResult<(FileId, ArrowReaderMetadata)> {
    let (handle, id) = file::open(path)?;
    let footer = footers.get(path, &handle, id, false)?;
    Ok((id, footer))
}

fn rows(footer: &ArrowReaderMetadata) -> u64 {
    footer.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
}

fn join(joined: Option<(PathBuf, Schema)>, path: &Path, schema: &Schema) -> IoResult<(PathBuf, Schema)> {
    let schema = plain(schema);
    let Some((first, joined)) = joined else { return Ok((path.to_owned(), schema)) };
    match widen(&joined, &schema) {
        Ok(both) => Ok((first, both)),
        Err(difference) => Err(IoError::MixedSchemas { first, second: path.to_owned(), difference }),
    }
}
