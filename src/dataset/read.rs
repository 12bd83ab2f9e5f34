//! Where datasets begin: `range`, `from_batches`, `read_parquet`, `read_csv`, `read_json`.

use std::ops::Range;

use arrow::record_batch::RecordBatch;

use super::Dataset;
use crate::error::Result;
use crate::io::{self, CsvOptions, CsvScan, IntoPaths, JsonOptions, JsonScan, ParquetScan, ReadOptions, Scan};
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

    fn scan(&self, scan: Scan) -> Dataset {
        let schema = Some(scan.schema());
        Dataset::new(self.clone(), Logical::new(Kind::Scan(scan), schema))
    }
}
