//! JSON lines: what is its own among the text formats.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use arrow::record_batch::RecordBatch;

use linkme::distributed_slice;
use mobula_actors::function::registry::SOURCES;
use mobula_actors::function::{SourceEntry, build_source};
use mobula_actors::operator::Split;
use serde::{Deserialize, Serialize};

use super::fields::Known;
use super::reader::TextSource;
use super::records::Ends;
use super::scan::{TextOptions, TextScan};
use super::tokens::{DEPTH_MAX, TooDeep, numbers};
use super::unsigned::as_unsigned;
use super::whole::Whole;
use super::{TextFormat, text_for_nulls};
use crate::io::error::IoResult;
use crate::io::paths::IntoPaths;
use crate::io::replay::again::Again;
use crate::io::scan::{OnError, Scan};

/// How files of JSON lines are read: one object a line.
#[derive(Debug, Clone)]
pub struct JsonOptions {
    /// The columns; other fields are ignored, missing ones are null.
    /// Default: inferred from the first rows of the first file that has some, the fields of each row by name. A field that
    /// is in none of those is an error further on where all columns are read, and within an object that is read always: it
    /// would be lost without a word.
    pub schema: Option<SchemaRef>,
    /// Rows to infer the schema from. Default: 1000. What is whole in all of them is a column of integers, and a fraction
    /// in it further on an error: give a schema then, or more rows.
    pub infer_rows: usize,
    /// What happens when a file cannot be read. Default: the job fails.
    pub on_error: OnError,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self { schema: None, infer_rows: 1000, on_error: OnError::Fail }
    }
}

/// Files of JSON lines.
#[derive(Debug)]
pub struct JsonScan;

impl JsonScan {
    /// Finds the files that `paths` name, and infers a schema if none is given.
    ///
    /// # Errors
    /// If no file matches, or no file has anything to infer a schema from.
    pub fn open(paths: impl IntoPaths, options: JsonOptions) -> IoResult<Scan> {
        let JsonOptions { schema, infer_rows, on_error } = options;
        let options = TextOptions { schema, infer_rows, on_error };
        let format = Json { strict: options.schema.is_none() };
        TextScan::open(paths.into_paths(), &["json", "jsonl", "ndjson"], format, options)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Json {
    /// Whether all fields are known.
    strict: bool,
}

#[distributed_slice(SOURCES)]
static ENTRY: SourceEntry =
    SourceEntry { name: Json::SOURCE, place: concat!(file!(), ":", line!()), build: build_source::<TextSource<Json>> };

/// What the source of these files is registered as.
pub(crate) const SOURCE: &str = "mobula/json@2";

/// Looks at files that are to be read once more.
pub(crate) fn again(params: &[u8], splits: &[Split]) -> IoResult<Again> {
    super::again::again::<Json>(params, splits)
}

impl TextFormat for Json {
    const VERB: &'static str = "read_json";
    const SOURCE: &'static str = SOURCE;

    fn ends(&self) -> Ends {
        Ends::Lines
    }

    fn has_header(&self) -> bool {
        false
    }

    fn check_header(&self, _record: &[u8], _schema: &SchemaRef) -> Result<(), String> {
        Ok(())
    }

    fn infer(&self, records: &[u8]) -> Result<SchemaRef, ArrowError> {
        check_object(records)?;
        let (schema, _) = infer_json_schema(records, None)?;
        let schema = as_unsigned(&schema, records).map_err(too_deep)?;
        Ok(text_for_nulls(&schema))
    }

    fn decode(
        &self,
        records: &[u8],
        rows: usize,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        // Of a part of the columns the others are not asked for, but all of these.
        let strict = self.strict && columns.len() == schema.fields().len();
        let schema = Arc::new(schema.project(columns)?);
        let whole = Whole::of(&schema);
        let known = Known::of(&schema).filter(|_| self.strict && !strict);
        let builder = ReaderBuilder::new(schema).with_batch_size(rows).with_strict_mode(strict);
        let mut decoder = builder.build_decoder()?;
        check_object(records)?;
        let unsure = look(records, whole.as_ref())?;
        if let Some(field) = known.and_then(|known| known.unknown(records)) {
            let field = String::from_utf8_lossy(field);
            return Err(ArrowError::JsonError(format!("field '{field}' of an object is in none of the rows before")));
        }
        let read = decoder.decode(records)?;
        let batch = decoder.flush()?.ok_or_else(|| ArrowError::JsonError("no object".into()))?;
        if let Some(whole) = unsure {
            whole.check(records, rows)?;
        }
        match records.get(read..) {
            Some(rest) if rest.iter().all(u8::is_ascii_whitespace) => Ok(batch),
            _ => Err(ArrowError::JsonError("more than one object in a line".into())),
        }
    }

    fn is_sound(&self, record: &[u8], _error: &ArrowError) -> bool {
        infer_json_schema(record, None).is_ok()
    }
}

/// Refuses what is nested too deep, and gives back the columns of whole numbers if some may be read as others.
fn look<'a>(records: &[u8], whole: Option<&'a Whole>) -> Result<Option<&'a Whole>, ArrowError> {
    let mut unsure = false;
    let looked = numbers(records, |place, number| {
        unsure = unsure || whole.is_some_and(|whole| whole.may_change(place, number));
    });
    looked.map_err(too_deep)?;
    Ok(whole.filter(|_| unsure))
}

fn too_deep(_: TooDeep) -> ArrowError {
    ArrowError::JsonError(format!("nested deeper than {DEPTH_MAX}"))
}

/// Says what is meant where a file holds one array, the other usual way to write JSON.
fn check_object(records: &[u8]) -> Result<(), ArrowError> {
    match records.trim_ascii_start().first() {
        Some(b'[') => Err(ArrowError::JsonError("an array begins here; write one object a line (JSON lines)".into())),
        _ => Ok(()),
    }
}
