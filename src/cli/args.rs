//! Values of flags: sizes, numbers of workers, columns, formats. Text in, value or a plain reason out.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::prelude::Bytes;
use clap::ValueEnum;
use tracing::level_filters::LevelFilter;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Apache Parquet
    Parquet,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object a line
    Json,
}

impl Format {
    /// The format that the ending of a path or pattern names; Parquet where it names none.
    fn of_path(path: &str) -> Self {
        let ending = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Self::Csv,
            "json" | "jsonl" | "ndjson" => Self::Json,
            _ => Self::Parquet,
        }
    }

    /// What the names of its files end with.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// The one format of all these paths.
    pub(crate) fn of_paths(paths: &[String]) -> Result<Self, String> {
        let (first, others) = paths.split_first().ok_or("no input")?;
        let is_compressed = |path: &&String| [".gz", ".zst", ".bz2", ".xz"].iter().any(|ending| path.ends_with(ending));
        if let Some(path) = paths.iter().find(is_compressed) {
            return Err(format!("{path} is compressed as a whole, which is not read: decompress it first"));
        }
        let format = Self::of_path(first);
        match others.iter().find(|path| Self::of_path(path) != format) {
            Some(other) => Err(format!("inputs of two formats: {first} and {other}; run once for each format")),
            None => Ok(format),
        }
    }
}

/// What to do with an input that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Stop the job and say why
    Fail,
    /// Go on without it, count it and list it in the summary
    Skip,
}

/// When results become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Publish {
    /// All files together, when the job has finished
    End,
    /// Each file as soon as it is whole
    Stream,
}

/// An engine for models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Pure Rust, on the CPU; needs nothing installed
    Rten,
    /// ONNX Runtime, a library that is loaded when it is needed; also on GPUs
    Onnxruntime,
}

/// A level of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// None
    Off,
    /// What went wrong
    Error,
    /// And what may
    Warn,
    /// And what happens
    Info,
    /// And details
    Debug,
    /// And all the rest
    Trace,
}

impl LogLevel {
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// A column to read, and perhaps the input tensor of the model that it feeds: `column` or `tensor=column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnFlag {
    /// The model's input; `None`: the input of the column's own name, if there is one.
    pub(crate) tensor: Option<String>,
    /// The column.
    pub(crate) column: String,
}

/// Reads `column` or `tensor=column`.
pub(crate) fn column(text: &str) -> Result<ColumnFlag, String> {
    let (tensor, column) = match text.split_once('=') {
        Some((tensor, column)) => (Some(tensor.trim().to_owned()), column.trim()),
        None => (None, text.trim()),
    };
    if column.is_empty() || tensor.as_ref().is_some_and(String::is_empty) {
        return Err("expected a column, or tensor=column".to_owned());
    }
    Ok(ColumnFlag { tensor, column: column.to_owned() })
}

/// Reads a size: `500M`, `2GiB`, `1.5G`, or a plain number of bytes. `k`, `M`, `G` are powers of 1000.
pub(crate) fn size(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "expected a size such as 2GiB or 500M".to_owned())?;
    let factor = unit_factor(unit.trim()).ok_or_else(|| {
        format!(
            "unknown unit {:?}; there are: B, k, M, G, T (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)",
            unit.trim()
        )
    })?;
    match number * factor {
        bytes if bytes < 1.0 => Err("expected more than 0 bytes".to_owned()),
        bytes if bytes > u64::MAX as f64 => Err("more than any machine has".to_owned()),
        bytes => Ok(Bytes(bytes as u64)),
    }
}

/// Reads a size that may be 0.
pub(crate) fn size_or_zero(text: &str) -> Result<Bytes, String> {
    match text.trim() {
        "0" => Ok(Bytes(0)),
        text => size(text),
    }
}

/// Least memory for data on its way.
const MEMORY_MIN: Bytes = Bytes::mib(1);

/// Reads a size of the memory for data on its way.
pub(crate) fn memory(text: &str) -> Result<Bytes, String> {
    match size(text)? {
        memory if memory < MEMORY_MIN => Err("expected at least 1 MiB".to_owned()),
        memory => Ok(memory),
    }
}

fn unit_factor(unit: &str) -> Option<f64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024.0_f64),
        _ => (unit.strip_suffix('b').unwrap_or(&unit), 1000.0),
    };
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == prefix)?;
    Some(base.powi(i32::try_from(power).ok()?))
}

/// Reads a number of workers: `4` or `1..8`.
pub(crate) fn workers(text: &str) -> Result<RangeInclusive<usize>, String> {
    let reason = || "expected a number of workers such as 4, or least and most such as 1..8".to_owned();
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| reason());
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (number(min)?, number(max.strip_prefix('=').unwrap_or(max))?),
        None => (number(text)?, number(text)?),
    };
    match (min, max) {
        (0, _) => Err("expected at least 1 worker".to_owned()),
        (min, max) if min > max => Err(format!("at least {min} and at most {max} workers cannot be; swap them")),
        _ => Ok(min..=max),
    }
}

/// Reads a number of cores.
pub(crate) fn cpus(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err("expected a number of cores, at least 1".to_owned()),
        Ok(cpus) => Ok(cpus),
    }
}

/// Reads a label: `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

/// Reads a time: `90s`, `15m`, `2h`, `1d`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let reason = || "expected a time such as 90s, 15m, 2h or 1d".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(reason)?;
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(reason()),
    };
    let number: u64 = number.parse().map_err(|_| reason())?;
    match number.checked_mul(seconds) {
        Some(1..=TIME_MAX_S) => Ok(Duration::from_secs(number * seconds)),
        _ => Err("expected at least 1s and at most 365d".to_owned()),
    }
}

/// Reads how long rows may gather: as [`time`], and milliseconds.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match text.trim().strip_suffix("ms").map(str::parse) {
        Some(Ok(millis @ 1..=INTERVAL_MS_MAX)) => Ok(Duration::from_millis(millis)),
        Some(_) => Err(format!("expected 1 to {INTERVAL_MS_MAX} milliseconds; there are s, m, h and d too")),
        None => time(text).map_err(|_| "expected a time such as 500ms, 30s or 15m".to_owned()),
    }
}

/// More is better said in seconds.
const INTERVAL_MS_MAX: u64 = 1_000_000;

/// Longer than anybody plans for.
const TIME_MAX_S: u64 = 365 * 86_400;

/// Reads a path or pattern.
pub(crate) fn path(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("expected a file, a folder or a pattern".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_decimal_and_binary_units() {
        for (text, bytes) in [
            ("1", 1),
            ("10B", 10),
            ("2k", 2_000),
            ("2kB", 2_000),
            ("2KiB", 2_048),
            ("1.5MiB", 1_572_864),
            ("256 MiB", 268_435_456),
            ("2GiB", 2_147_483_648),
            ("3G", 3_000_000_000),
        ] {
            assert_eq!(size(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_with_the_units_there_are() {
        for text in ["", "GiB", "0", "1..2", "-1", "5 parsecs", "iB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("5X").unwrap_err().contains("KiB, MiB, GiB"));
    }

    #[test]
    fn only_where_nothing_may_be_kept_a_size_is_0() {
        assert_eq!(size_or_zero("0"), Ok(Bytes(0)));
        assert_eq!(size_or_zero("2k"), Ok(Bytes(2_000)));
        assert!(size("0").is_err() && size_or_zero("-1").is_err());
    }

    #[test]
    fn memory_is_at_least_a_mebibyte() {
        assert_eq!(memory("1MiB"), Ok(Bytes::mib(1)));
        assert!(memory("1M").unwrap_err().contains("at least 1 MiB"));
    }

    #[test]
    fn workers_are_a_number_or_a_range() {
        assert_eq!(workers("4"), Ok(4..=4));
        assert_eq!(workers("1..8"), Ok(1..=8));
        assert_eq!(workers("1..=8"), Ok(1..=8));
        for text in ["0", "0..4", "5..2", "many", "1.."] {
            assert!(workers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit_and_labels_a_key() {
        assert_eq!(time("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "15", "m", "0s", "-1s", "1w", "400d", "99999999999999999999s"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        for text in ["", "0ms", "ms", "-1ms", "1.5ms", "1000001ms", "5"] {
            assert!(interval(text).is_err(), "{text}");
        }
        assert_eq!(label("disk=ssd"), Ok(("disk".to_owned(), "ssd".to_owned())));
        assert!(label("disk").is_err() && label("=ssd").is_err() && cpus("0").is_err());
    }

    #[test]
    fn a_column_may_name_the_tensor_it_feeds() {
        assert_eq!(column("id"), Ok(ColumnFlag { tensor: None, column: "id".into() }));
        assert_eq!(column("pixels=image"), Ok(ColumnFlag { tensor: Some("pixels".into()), column: "image".into() }));
        assert!(column("=image").is_err() && column("pixels=").is_err() && column("").is_err());
    }

    #[test]
    fn the_format_follows_the_ending_and_two_formats_are_refused() {
        let of = |paths: &[&str]| Format::of_paths(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["data/*.parquet"]), Ok(Format::Parquet));
        assert_eq!(of(&["data"]), Ok(Format::Parquet));
        assert_eq!(of(&["a.CSV", "b.csv"]), Ok(Format::Csv));
        assert_eq!(of(&["a.jsonl", "b.ndjson"]), Ok(Format::Json));
        assert!(of(&["a.csv", "b.parquet"]).unwrap_err().contains("a.csv and b.parquet"));
        assert!(of(&["a.csv", "b.csv.gz"]).unwrap_err().contains("b.csv.gz is compressed"));
    }
}
