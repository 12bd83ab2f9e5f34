//! What a footer says about containers of rows (row groups, or pages where there is an index): bounds and nulls.
//!
//! Only statistics that can be trusted come out: a bound that is missing, NaN, or written in the old form whose order
//! is not that of the type, is unknown.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::compute::nullif;
use arrow::compute::or;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type as Physical;
use parquet::file::metadata::RowGroupMetaData;

use super::rows::RowSet;

/// Some row groups of a file; their rows are counted from the first of them.
pub(super) struct Footer<'a> {
    footer: &'a ArrowReaderMetadata,
    groups: &'a [usize],
    group_rows: Vec<Range<u64>>,
    pages: bool,
}

/// Bounds of one column, a value for each container.
pub(super) struct Bounds {
    containers: Vec<Range<u64>>,
    pub(super) min: ArrayRef,
    pub(super) max: ArrayRef,
    /// Null where unknown.
    nulls: UInt64Array,
}

impl Bounds {
    /// The rows of the containers that `test` keeps.
    pub(super) fn keep(&self, test: impl Fn(usize) -> bool) -> RowSet {
        RowSet::new(self.containers.iter().enumerate().filter(|(i, _)| test(*i)).map(|(_, rows)| rows.clone()))
    }

    pub(super) fn all_null(&self, i: usize) -> bool {
        self.nulls.is_valid(i)
            && self.containers.get(i).is_some_and(|rows| self.nulls.value(i) == rows.end - rows.start)
    }

    pub(super) fn no_null(&self, i: usize) -> bool {
        self.nulls.is_valid(i) && self.nulls.value(i) == 0
    }

    /// Whether the bounds are values that are there, and all values lie between them.
    pub(super) fn exact(&self) -> bool {
        let data_type = self.min.data_type();
        data_type.is_integer() || data_type.is_temporal() || data_type == &DataType::Boolean
    }

    /// Only if there is one of everything for each container.
    fn checked(self) -> Option<Self> {
        let containers = self.containers.len();
        let fits = [self.min.len(), self.max.len(), self.nulls.len()].iter().all(|&len| len == containers);
        fits.then_some(self)
    }
}

impl<'a> Footer<'a> {
    /// `pages` asks for bounds of pages, where the file has them.
    pub(super) fn new(footer: &'a ArrowReaderMetadata, groups: &'a [usize], pages: bool) -> Self {
        let mut start = 0;
        let rows = groups.iter().filter_map(|&i| footer.metadata().row_groups().get(i)).map(|group| {
            let first = start;
            start += u64::try_from(group.num_rows()).unwrap_or(0);
            first..start
        });
        Self { footer, groups, group_rows: rows.collect(), pages }
    }

    /// The rows of each row group.
    pub(super) fn group_rows(&self) -> &[Range<u64>] {
        &self.group_rows
    }

    /// The type of a column, if bounds of it can be compared at all.
    pub(super) fn data_type(&self, column: &str) -> Option<&'a DataType> {
        let data_type = self.footer.schema().field_with_name(column).ok()?.data_type();
        is_comparable(data_type).then_some(data_type)
    }

    /// What is known of a column; `None` if nothing is.
    pub(super) fn bounds(&self, column: &str) -> Option<Bounds> {
        self.data_type(column)?;
        let converter =
            StatisticsConverter::try_new(column, self.footer.schema(), self.footer.parquet_schema()).ok()?;
        let converter = converter.with_missing_null_counts_as_zero(false);
        let leaf = converter.parquet_column_index()?;
        let groups = self.row_groups();
        if groups.len() != self.groups.len() || groups.iter().any(|group| !is_trusted(group, leaf)) {
            return None;
        }
        let of_pages = if self.pages { self.of_pages(&converter, leaf) } else { None };
        let bounds = match of_pages {
            Some(bounds) => bounds,
            None => Bounds {
                containers: self.group_rows.clone(),
                min: converter.row_group_mins(groups.iter().copied()).ok()?,
                max: converter.row_group_maxes(groups.iter().copied()).ok()?,
                nulls: converter.row_group_null_counts(groups.iter().copied()).ok()?,
            },
        };
        without_nan(bounds)?.checked()
    }

    fn row_groups(&self) -> Vec<&'a RowGroupMetaData> {
        self.groups.iter().filter_map(|&i| self.footer.metadata().row_groups().get(i)).collect()
    }

    fn of_pages(&self, converter: &StatisticsConverter<'_>, leaf: usize) -> Option<Bounds> {
        let (index, offsets) = (self.footer.metadata().column_index()?, self.footer.metadata().offset_index()?);
        let mut containers = Vec::new();
        for (group, rows) in self.groups.iter().zip(&self.group_rows) {
            let of_column = index.get(*group)?.get(leaf)?;
            let pages = offsets.get(*group)?.get(leaf)?.page_locations();
            // The converter below takes it for granted that these fit, and panics where they do not.
            if of_column.null_counts().is_some_and(|counts| counts.len() != pages.len()) {
                return None;
            }
            let starts: Option<Vec<u64>> = pages.iter().map(|page| u64::try_from(page.first_row_index).ok()).collect();
            let starts = starts?;
            let ends = starts.iter().skip(1).copied().chain([rows.end - rows.start]);
            for (start, end) in starts.iter().copied().zip(ends) {
                if start > end || end > rows.end - rows.start {
                    return None;
                }
                containers.push(rows.start + start..rows.start + end);
            }
            if starts.first().copied().unwrap_or(rows.end - rows.start) != 0 {
                return None;
            }
        }
        Some(Bounds {
            containers,
            min: converter.data_page_mins(index, offsets, self.groups).ok()?,
            max: converter.data_page_maxes(index, offsets, self.groups).ok()?,
            nulls: converter.data_page_null_counts(index, offsets, self.groups).ok()?,
        })
    }
}

fn is_comparable(data_type: &DataType) -> bool {
    use DataType::*;
    data_type.is_integer()
        || data_type.is_temporal()
        || matches!(data_type, Boolean | Float32 | Float64 | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary)
}

/// The old form of bounds compares bytes and unsigned numbers as if they were signed, and nobody knows how the others
/// of these are to be compared.
fn is_trusted(group: &RowGroupMetaData, leaf: usize) -> bool {
    let Some(chunk) = group.columns().get(leaf) else { return false };
    let old = chunk.statistics().is_some_and(|statistics| statistics.is_min_max_deprecated());
    !old && !matches!(chunk.column_type(), Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY)
}

/// Bounds of containers where one of them is NaN are unknown: the writer did not know what it did.
fn without_nan(bounds: Bounds) -> Option<Bounds> {
    let nan = match bounds.min.data_type() {
        DataType::Float32 => {
            or(&is_nan::<Float32Type>(&bounds.min, f32::is_nan), &is_nan::<Float32Type>(&bounds.max, f32::is_nan))
        }
        DataType::Float64 => {
            or(&is_nan::<Float64Type>(&bounds.min, f64::is_nan), &is_nan::<Float64Type>(&bounds.max, f64::is_nan))
        }
        _ => return Some(bounds),
    };
    let nan = nan.ok()?;
    Some(Bounds { min: nullif(&bounds.min, &nan).ok()?, max: nullif(&bounds.max, &nan).ok()?, ..bounds })
}

fn is_nan<T: ArrowPrimitiveType>(values: &ArrayRef, test: fn(T::Native) -> bool) -> BooleanArray {
    let values = values.as_primitive::<T>();
    values.iter().map(|value| Some(value.is_some_and(test))).collect()
}
