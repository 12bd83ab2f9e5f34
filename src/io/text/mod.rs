//! Text formats: CSV and JSON lines. One file is one split.
//!
//! [`records`] finds where records end, so that batches are cut by bytes, errors name the line, and a resumed task
//! skips records without decoding them; [`lines`] and [`reader`] do that for both formats, which differ in how a record ends and
//! how records are decoded ([`csv`], [`json`]). [`scan`] is the plan-time side. [`tokens`], [`whole`] and [`fields`] look at
//! JSON for what its decoder would do wrong.

mod again;
mod csv;
mod fields;
mod json;
mod lines;
mod reader;
mod records;
mod scan;
mod tokens;
mod unsigned;
mod whole;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod skip_tests;
#[cfg(test)]
mod tests;

pub use csv::{CsvOptions, CsvScan};
pub(crate) use csv::{SOURCE as CSV, again as csv_again};
pub use json::{JsonOptions, JsonScan};
pub(crate) use json::{SOURCE as JSON, again as json_again};

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use serde::{Serialize, de::DeserializeOwned};

use crate::io::error::IoError;
use records::Ends;

/// What one text format does in its own way.
pub(crate) trait TextFormat: fmt::Debug + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// `read_csv`
    const VERB: &'static str;

    /// What its source is registered as.
    const SOURCE: &'static str;

    /// How records end.
    fn ends(&self) -> Ends;

    /// Whether the first record names the columns.
    fn has_header(&self) -> bool;

    /// Checks the first record of a file against the columns; the error says how they differ.
    fn check_header(&self, record: &[u8], schema: &SchemaRef) -> Result<(), String>;

    /// The columns, from some whole records at the start of a file.
    fn infer(&self, records: &[u8]) -> Result<SchemaRef, ArrowError>;

    /// Decodes `rows` whole records; `columns` are the positions to return of the columns of `schema`.
    fn decode(
        &self,
        records: &[u8],
        rows: usize,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError>;

    /// Whether a record that cannot be decoded is well-formed all the same, and only has other columns or types.
    fn is_sound(&self, record: &[u8], error: &ArrowError) -> bool;
}

/// A column without a value in the first rows may become anything: text holds it all, and is what people expect.
fn text_for_nulls(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The error of a line, from what a decoder said of its record.
fn line_error(path: &Path, line: u64, error: &ArrowError) -> IoError {
    IoError::Line { path: path.to_owned(), line, reason: brief(&without_line(&error.to_string())) }
}

/// The decoder counts lines from the first it was given, which says nothing here.
fn without_line(message: &str) -> String {
    let mut text = message.to_owned();
    for before in [" for line ", " at line "] {
        if let Some((head, tail)) = text.split_once(before) {
            text = format!("{head}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    text
}

/// What a decoder said, at most 200 characters of it: some quote the whole record, which may be the whole file. The
/// end is kept too, where they tend to say what they expected.
pub(crate) fn brief(reason: &str) -> String {
    let count = reason.chars().count();
    if count <= REASON_CHARS_MAX {
        return reason.to_owned();
    }
    let head: String = reason.chars().take(REASON_CHARS_MAX - REASON_CHARS_END - 1).collect();
    let tail: String = reason.chars().skip(count - REASON_CHARS_END).collect();
    format!("{head}…{tail}")
}

const REASON_CHARS_MAX: usize = 200;
const REASON_CHARS_END: usize = 80;
