//! CSV: what is its own among the text formats.

use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use regex::Regex;

use linkme::distributed_slice;
use mobula_actors::function::registry::SOURCES;
use mobula_actors::function::{SourceEntry, build_source};
use mobula_actors::operator::Split;
use serde::{Deserialize, Serialize};

use super::reader::TextSource;
use super::records::Ends;
use super::scan::{TextOptions, TextScan};
use super::{TextFormat, text_for_nulls};
use crate::io::error::IoResult;
use crate::io::paths::IntoPaths;
use crate::io::replay::again::Again;
use crate::io::scan::{OnError, Scan};

/// How CSV files are read.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// Whether each file begins with the column names. Default: yes. Without, columns are `column_1`, `column_2`, ...
    pub header: bool,
    /// What stands between columns. Default: a comma.
    pub delimiter: u8,
    /// The columns. Default: inferred from the first rows of the first file that has some.
    pub schema: Option<SchemaRef>,
    /// Rows to infer the schema from. Default: 1000.
    pub infer_rows: usize,
    /// Fields that stand for null, besides the empty one. Default: none.
    pub nulls: Vec<String>,
    /// What happens when a file cannot be read. Default: the job fails.
    pub on_error: OnError,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            schema: None,
            infer_rows: 1000,
            nulls: Vec::new(),
            on_error: OnError::Fail,
        }
    }
}

/// CSV files.
#[derive(Debug)]
pub struct CsvScan;

impl CsvScan {
    /// Looks at the headers of the files that `paths` name, and infers a schema if none is given.
    ///
    /// # Errors
    /// If no file matches, one cannot be read or has other columns (unless that is to be skipped), or no file has
    /// anything to infer a schema from.
    pub fn open(paths: impl IntoPaths, options: CsvOptions) -> IoResult<Scan> {
        let CsvOptions { header, delimiter, schema, infer_rows, nulls, on_error } = options;
        let format = Csv { header, delimiter, nulls: null_pattern(&nulls) };
        TextScan::open(paths.into_paths(), &["csv"], format, TextOptions { schema, infer_rows, on_error })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Csv {
    header: bool,
    delimiter: u8,
    /// Matches the fields that are null; without, those are the empty ones.
    #[serde(with = "pattern")]
    nulls: Option<Regex>,
}

/// A pattern travels as its text.
mod pattern {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(pattern: &Option<Regex>, to: S) -> Result<S::Ok, S::Error> {
        pattern.as_ref().map(Regex::as_str).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Regex>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| Regex::new(&text)).transpose().map_err(de::Error::custom)
    }
}

#[distributed_slice(SOURCES)]
static ENTRY: SourceEntry =
    SourceEntry { name: Csv::SOURCE, place: concat!(file!(), ":", line!()), build: build_source::<TextSource<Csv>> };

/// What the source of these files is registered as.
pub(crate) const SOURCE: &str = "mobula/csv@2";

/// Looks at files that are to be read once more.
pub(crate) fn again(params: &[u8], splits: &[Split]) -> IoResult<Again> {
    super::again::again::<Csv>(params, splits)
}

impl TextFormat for Csv {
    const VERB: &'static str = "read_csv";
    const SOURCE: &'static str = SOURCE;

    fn ends(&self) -> Ends {
        Ends::Quoted { delimiter: self.delimiter }
    }

    fn has_header(&self) -> bool {
        self.header
    }

    fn check_header(&self, record: &[u8], schema: &SchemaRef) -> Result<(), String> {
        let found = self.infer(record).map_err(|e| e.to_string())?;
        let names = |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let (found, expected) = (names(&found), names(schema));
        if found == expected {
            return Ok(());
        }
        Err(format!("the header is [{}], expected [{}]", found.join(", "), expected.join(", ")))
    }

    fn infer(&self, records: &[u8]) -> Result<SchemaRef, ArrowError> {
        let mut format = Format::default().with_header(self.header).with_delimiter(self.delimiter);
        if let Some(nulls) = &self.nulls {
            format = format.with_null_regex(nulls.clone());
        }
        let (schema, _) = format.infer_schema(records, None)?;
        Ok(text_for_nulls(&schema))
    }

    fn decode(
        &self,
        records: &[u8],
        rows: usize,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let mut builder = ReaderBuilder::new(Arc::clone(schema)).with_delimiter(self.delimiter).with_batch_size(rows);
        builder = builder.with_projection(columns.to_vec());
        if let Some(nulls) = &self.nulls {
            builder = builder.with_null_regex(nulls.clone());
        }
        let mut decoder = builder.build_decoder();
        let mut rest = records;
        while let Some(more) = rest.get(decoder.decode(rest)?..).filter(|more| more.len() < rest.len()) {
            rest = more;
        }
        decoder.flush()?.ok_or_else(|| ArrowError::CsvError("no record".into()))
    }

    fn is_sound(&self, _record: &[u8], error: &ArrowError) -> bool {
        matches!(error, ArrowError::ParseError(_))
    }
}

fn null_pattern(nulls: &[String]) -> Option<Regex> {
    if nulls.is_empty() {
        return None;
    }
    let escaped: Vec<_> = nulls.iter().map(|token| regex::escape(token)).collect();
    // Escaped tokens are always a pattern; should they be too large for one, the empty field is still null.
    Regex::new(&format!("^(?:{})?$", escaped.join("|"))).ok()
}
