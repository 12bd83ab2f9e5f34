//! Plan time: footers become a schema, a row count and splits.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use mobula_actors::function::encode;
use mobula_actors::operator::{FileRows, IntoSource, Split};
use mobula_actors::units::{Bytes, Rows};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;

use super::damage::guard;
use super::estimate;
use super::footer::Footers;
use super::prune;
use super::reader::{ParquetSource, Part};
use crate::io::error::{IoError, IoResult};
use crate::io::file::{self, FileId};
use crate::io::given_up::reason;
use crate::io::paths::{IntoPaths, expand};
use crate::io::scan::{Input, Lowered, OnError, Pushed, Scan, paths_label};
use crate::io::schema::{plain, widen};
use crate::io::wire::absolute;

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
    /// ```
    /// use mobula::io::{ParquetScan, ReadOptions};
    /// let scan = ParquetScan::open("examples/data/digits/*.parquet", ReadOptions::default())?;
    /// assert_eq!(scan.row_count(), Some(1797));
    /// assert_eq!(scan.with_projection(&["digit"])?.schema().fields().len(), 1);
    /// # Ok::<(), mobula::io::IoError>(())
    /// ```
    ///
    /// # Errors
    /// If no file matches, a footer cannot be read (unless that is to be skipped), or two files differ in a column.
    pub fn open(paths: impl IntoPaths, options: ReadOptions) -> IoResult<Scan> {
        let paths = paths.into_paths();
        let footers = Footers::of_this_process();
        let mut schema: Option<(PathBuf, Schema)> = None;
        let mut files = Vec::new();
        for path in expand(&paths, &["parquet"])? {
            let state = match look(&path, &footers, &mut schema) {
                Ok(found) => Ok(found),
                Err(error) if options.on_error == OnError::Skip && error.can_skip() => Err(reason(&error)),
                Err(error) => return Err(error),
            };
            files.push(PlannedFile { path, state });
        }
        let none = || format!("none of the {} files can be read", files.len());
        let (_, schema) = schema.ok_or_else(|| IoError::NoSchema { reason: none() })?;
        let label = paths_label("read_parquet", &paths);
        Scan::new(Self { label, schema: Arc::new(schema), files, on_error: options.on_error, footers })
    }

    /// The splits of one file, for rows before `limit` is used up.
    fn split_file(&self, file: &PlannedFile, cut: &Cut<'_>, left: &mut u64, splits: &mut Vec<Split>) -> IoResult<()> {
        let (id, footer) = match self.look_again(file) {
            Ok(found) => found,
            Err(error) if self.on_error == OnError::Skip => {
                splits.push(Part::given_up(&file.path, reason(&error))?);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mask = ProjectionMask::roots(footer.parquet_schema(), cut.columns.iter().copied());
        let keep = match &cut.pushed.predicate {
            // Without bounds that can be understood, all is kept; damage shows when the rows are read.
            Some(predicate) => guard(&file.path, || prune::row_groups(predicate, &footer)).unwrap_or_default(),
            None => Vec::new(),
        };
        let mut group_of = Grouping::new(&file.path, id, cut.target, splits);
        let mut next = 0;
        for (index, group) in footer.metadata().row_groups().iter().enumerate() {
            if *left == 0 {
                break;
            }
            let start = next;
            next += u64::try_from(group.num_rows()).unwrap_or(0);
            if keep.get(index) == Some(&false) || group.num_rows() == 0 {
                continue;
            }
            match (unread_column(&file.path, group, &mask), self.on_error) {
                (None, _) => {}
                (Some(error), OnError::Fail) => return Err(error),
                (Some(error), OnError::Skip) => {
                    group_of.finish()?;
                    splits.push(Part::given_up(&file.path, reason(&error))?);
                    return Ok(());
                }
            }
            *left = group_of.add((index, start), group, &mask, *left)?;
        }
        group_of.finish()
    }

    fn look_again(&self, file: &PlannedFile) -> IoResult<(FileId, ArrowReaderMetadata)> {
        let planned = file.state.as_ref().map_err(|why| IoError::GivenUp { reason: why.clone() })?.0;
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

    fn files(&self) -> Vec<&Path> {
        self.files.iter().map(|file| file.path.as_path()).collect()
    }

    fn identities(&self) -> Vec<(&Path, Option<FileId>)> {
        self.files.iter().map(|file| (file.path.as_path(), file.state.as_ref().ok().map(|(id, _)| *id))).collect()
    }

    fn lower(&self, pushed: &Pushed, target: Bytes) -> IoResult<Lowered> {
        let cut = Cut { pushed, columns: pushed.columns(&self.schema), target };
        let mut splits = Vec::new();
        // Rows that turn out to be damaged must be made up for by later ones, so a lenient scan is not cut.
        let limit = pushed.limit.filter(|_| self.on_error == OnError::Fail);
        let mut left = limit.map_or(u64::MAX, |limit| limit.0);
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
        Ok((source.into_source(), splits))
    }
}

/// Collects row groups of one file until they are a split of about the target size.
struct Grouping<'a> {
    path: &'a Path,
    id: FileId,
    target: Bytes,
    part: Vec<(u32, u64)>,
    bytes: u64,
    /// The rows of the file that the part is, which has no gaps.
    rows: Range<u64>,
    splits: &'a mut Vec<Split>,
}

impl<'a> Grouping<'a> {
    fn new(path: &'a Path, id: FileId, target: Bytes, splits: &'a mut Vec<Split>) -> Self {
        Self { path, id, target, part: Vec::new(), bytes: 0, rows: 0..0, splits }
    }

    /// Adds a row group, of which at most `left` rows are needed; returns how many are needed of the next.
    fn add(
        &mut self,
        (index, start): (usize, u64),
        group: &RowGroupMetaData,
        mask: &ProjectionMask,
        left: u64,
    ) -> IoResult<u64> {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let bytes = share(estimate::row_group(group, mask).bytes, rows.min(left), rows);
        let rows = rows.min(left);
        let index = u32::try_from(index).map_err(|_| IoError::corrupt(self.path, "it has too many row groups"))?;
        let is_full = self.bytes > 0 && self.bytes.saturating_add(bytes) > self.target.0;
        if is_full || start != self.rows.end {
            self.finish()?;
        }
        let pieces = bytes / self.target.max(PIECE_BYTES_MIN).0;
        if pieces > 1 {
            self.finish()?;
            self.rows = start..start + rows;
            self.cut(index, rows, bytes, pieces)?;
        } else {
            if self.part.is_empty() {
                self.rows.start = start;
            }
            self.rows.end = start + rows;
            self.part.push((index, rows));
            self.bytes = self.bytes.saturating_add(bytes);
        }
        Ok(left - rows)
    }

    /// Makes a split of each piece of a large row group, so that several workers can share it.
    fn cut(&mut self, index: u32, rows: u64, bytes: u64, pieces: u64) -> IoResult<()> {
        let step = rows.div_ceil(pieces).max(1);
        let mut first = 0;
        while first < rows {
            let piece = step.min(rows - first);
            let end = first + piece;
            let label = format!("{}, row group {index}, rows {first}..{end}", self.path.display());
            let start = self.rows.start + first;
            self.push((label, start), vec![index], first, piece, share(bytes, piece, rows))?;
            first = end;
        }
        Ok(())
    }

    fn finish(&mut self) -> IoResult<()> {
        let groups = std::mem::take(&mut self.part);
        let bytes = std::mem::take(&mut self.bytes);
        let path = self.path.display();
        let label = match groups.as_slice() {
            [] => return Ok(()),
            [(one, _)] => format!("{path}, row group {one}"),
            [(first, _), .., (last, _)] => format!("{path}, row groups {first}..={last}"),
        };
        let rows = groups.iter().map(|(_, rows)| rows).sum();
        self.push((label, self.rows.start), groups.iter().map(|(index, _)| *index).collect(), 0, rows, bytes)
    }

    fn push(
        &mut self,
        (label, start): (String, u64),
        groups: Vec<u32>,
        first: u64,
        rows: u64,
        bytes: u64,
    ) -> IoResult<()> {
        let part = Part { path: absolute(self.path)?, id: Some(self.id), groups, first, rows, given_up: None };
        let file = FileRows { name: self.path.display().to_string(), first: Rows(start) };
        self.splits.push(Split { file: Some(file), ..part.split(label, Bytes(bytes))? });
        Ok(())
    }
}

impl Part {
    fn given_up(path: &Path, reason: String) -> IoResult<Split> {
        let label = format!("{}, given up", path.display());
        let part =
            Self { path: absolute(path)?, id: None, groups: Vec::new(), first: 0, rows: 0, given_up: Some(reason) };
        part.split(label, Bytes(0))
    }

    fn split(&self, label: String, bytes: Bytes) -> IoResult<Split> {
        let payload = encode(self).map_err(|e| IoError::Internal(format!("split {label}: {e}")))?;
        Ok(Split { label, rows: Some(Rows(self.rows)), bytes, payload, file: None })
    }
}

/// What `part` rows of `rows` take, if all take `bytes`.
fn share(bytes: u64, part: u64, rows: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part) / u128::from(rows.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// A row group is cut only into pieces of this size: each worker has to find its place in it, which costs a look at
/// the headers of all pages before.
const PIECE_BYTES_MIN: Bytes = Bytes::mib(32);

/// A file's identity and rows; its columns are joined to those of the files before, of which the first is named.
pub(super) fn look(path: &Path, footers: &Footers, joined: &mut Option<(PathBuf, Schema)>) -> IoResult<(FileId, u64)> {
    let (handle, id) = file::open(path)?;
    let footer = footers.get(path, &handle, id, false)?;
    let schema = plain(footer.schema());
    match joined {
        None => *joined = Some((path.to_owned(), schema)),
        Some((first, all)) => {
            let mixed =
                |difference| IoError::MixedSchemas { first: first.clone(), second: path.to_owned(), difference };
            *all = widen(all, &schema).map_err(mixed)?;
        }
    }
    Ok((id, rows(&footer)))
}

fn rows(footer: &ArrowReaderMetadata) -> u64 {
    footer.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
}

/// Says which of the chosen columns is in a codec that cannot be read, if one is.
fn unread_column(path: &Path, group: &RowGroupMetaData, mask: &ProjectionMask) -> Option<IoError> {
    let chosen = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
    let (chunk, codec) = chosen.filter_map(|(_, chunk)| Some((chunk, unread(chunk.compression())?))).next()?;
    Some(IoError::Codec { path: path.to_owned(), column: chunk.column_path().string(), codec })
}

/// The codec, if pages in it cannot be read: few write those, and each is a library.
pub(super) fn unread(codec: Compression) -> Option<&'static str> {
    match codec {
        Compression::BROTLI(_) => Some("brotli"),
        Compression::LZO => Some("LZO"),
        _ => None,
    }
}
