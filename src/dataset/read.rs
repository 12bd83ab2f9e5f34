//! Where datasets begin: `range`, `from_batches`, `read_parquet`, `read_csv`, `read_json`, `read_dead_letters`.

use std::ops::Range;
use std::path::Path;

use arrow::record_batch::RecordBatch;

use super::Dataset;
use crate::error::Result;
use crate::io::{
    self, CsvOptions, CsvScan, IntoPaths, JsonOptions, JsonScan, LetterOptions, ParquetScan, ReadOptions, Scan,
    open_letters, replay,
};
use crate::plan::logical::{Kind, Logical};
use crate::session::Session;

impl Session {
    /// The numbers of a range, as a column `id` of 64-bit integers.
    ///
    /// # Errors
    /// If the range ends before it starts.
    pub fn range(&self, values: Range<i64>) -> Result<Dataset> {
        Ok(self.scan(io::range(values)?))
    }

    /// Batches in memory, all with the same columns. Their memory is beside the session's budget.
    ///
    /// # Errors
    /// If there is no batch, two have different columns, or a column name comes twice.
    pub fn from_batches(&self, batches: Vec<RecordBatch>) -> Result<Dataset> {
        Ok(self.scan(io::batches(batches)?))
    }

    /// Parquet files: a file, a directory, a glob, or several of these. Files are read in the order of their names.
    /// Their footers are looked at now, their rows when the dataset is consumed.
    ///
    /// ```no_run
    /// use mobula::prelude::*;
    /// let trips = Session::local()?.read_parquet("trips/2009-*.parquet")?;
    /// println!("{} rows", trips.count()?);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If no file matches, a file is no Parquet file, or two files have different columns (naming both).
    pub fn read_parquet(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read_parquet_with(paths, ReadOptions::default())
    }

    /// [`read_parquet`](Session::read_parquet) with options.
    ///
    /// # Errors
    /// As [`read_parquet`](Session::read_parquet).
    pub fn read_parquet_with(&self, paths: impl IntoPaths, options: ReadOptions) -> Result<Dataset> {
        Ok(self.scan(ParquetScan::open(paths, options)?))
    }

    /// CSV files with a header line. The types of the columns are inferred from the first lines.
    ///
    /// # Errors
    /// If no file matches, or two files have different columns.
    pub fn read_csv(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read_csv_with(paths, CsvOptions::default())
    }

    /// [`read_csv`](Session::read_csv) with options: header, delimiter, schema.
    ///
    /// # Errors
    /// As [`read_csv`](Session::read_csv).
    pub fn read_csv_with(&self, paths: impl IntoPaths, options: CsvOptions) -> Result<Dataset> {
        Ok(self.scan(CsvScan::open(paths, options)?))
    }

    /// Files with one JSON object a line. The types of the columns are inferred from the first lines.
    ///
    /// # Errors
    /// If no file matches, or two files have different columns.
    pub fn read_json(&self, paths: impl IntoPaths) -> Result<Dataset> {
        self.read_json_with(paths, JsonOptions::default())
    }

    /// [`read_json`](Session::read_json) with options.
    ///
    /// # Errors
    /// As [`read_json`](Session::read_json).
    pub fn read_json_with(&self, paths: impl IntoPaths, options: JsonOptions) -> Result<Dataset> {
        Ok(self.scan(JsonScan::open(paths, options)?))
    }

    /// The rows of the input that the jobs which wrote to `dir` gave up within their error budgets, with all columns of the
    /// files they are in: for the same steps, or those that were mended. Written back to `dir` with
    /// [`WriteMode::Append`](crate::prelude::WriteMode), they complete the output, and their letters are closed: each row is
    /// replayed once. Until then, and for as long as the replay has not finished, they are open and can be looked at.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// # use arrow::{array::AsArray, datatypes::Int64Type};
    /// # let folder = tempfile::tempdir()?;
    /// # let (files, out) = (folder.path().join("in"), folder.path().join("out"));
    /// let session = Session::local()?;
    /// session.range(0..100)?.write_parquet(&files)?;
    /// let picky = |batch: RecordBatch| {
    ///     let unlucky = batch.column(0).as_primitive::<Int64Type>().values().contains(&17);
    ///     if unlucky { Err("17 is unlucky") } else { Ok(batch) }
    /// };
    /// let written = session.read_parquet(&files)?.map_batches(local(picky))?.error_budget(1)?.write_parquet(&out)?;
    /// assert_eq!((written.rows, written.given_up), (99, 1));
    ///
    /// let mended = |batch: RecordBatch| Ok::<_, Error>(batch);
    /// let letters = session.read_dead_letters(&out)?.map_batches(local(mended))?;
    /// letters.write_parquet_with(&out, WriteOptions::default().mode(WriteMode::Append))?;
    /// assert_eq!(session.read_parquet(&out)?.count()?, 100);
    /// assert!(session.read_dead_letters(&out).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If no letters are open there, a file has changed since or is gone, a letter names only a range of rows, or the rows
    /// were never in files.
    pub fn read_dead_letters(&self, dir: impl AsRef<Path>) -> Result<Dataset> {
        self.read_dead_letters_with(dir, LetterOptions::default())
    }

    /// [`read_dead_letters`](Session::read_dead_letters) of one job, or also of ranges.
    ///
    /// # Errors
    /// As [`read_dead_letters`](Session::read_dead_letters).
    pub fn read_dead_letters_with(&self, dir: impl AsRef<Path>, options: LetterOptions) -> Result<Dataset> {
        let open = open_letters(dir.as_ref(), options.job)?;
        Ok(self.scan(replay::scan(open, &options)?))
    }

    fn scan(&self, scan: Scan) -> Dataset {
        let schema = Some(scan.schema());
        Dataset::new(self.clone(), Logical::new(Kind::Scan(scan), schema))
    }
}
