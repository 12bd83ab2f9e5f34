//! Rows as an aligned text table, for people to look at.

use std::fmt::Write as _;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::schema::type_name;

/// How much of a table is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// Rows printed at most.
    pub rows_max: usize,
    /// Characters a cell takes at most; longer ones end in `…`.
    pub cell_chars_max: usize,
    /// Characters a line takes at most; columns that do not fit are left out, and counted in the header. The first
    /// column is always printed.
    pub line_chars_max: usize,
}

impl Default for TableOptions {
    /// 20 rows, cells of 40 characters, lines of 160: a terminal.
    fn default() -> Self {
        Self { rows_max: 20, cell_chars_max: 40, line_chars_max: 160 }
    }
}

/// Prints batches of one schema as a table: names, types, then rows; numbers to the right, null as `null`.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
/// use mobula::kernel::table::{TableOptions, table};
///
/// let fare: ArrayRef = Arc::new(Float64Array::from(vec![Some(9.5), None]));
/// let name: ArrayRef = Arc::new(StringArray::from(vec!["Ada", "Grace"]));
/// let batch = RecordBatch::try_from_iter([("fare", fare), ("name", name)])?;
/// let printed = table(&batch.schema(), &[batch], &TableOptions::default())?;
/// let lines: Vec<_> = printed.lines().collect();
/// assert_eq!(lines, [
///     "   fare  name",
///     "float64  utf8",
///     "-------  -----",
///     "    9.5  Ada",
///     "   null  Grace",
/// ]);
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
///
/// # Errors
/// If a value cannot be printed (a timestamp in an unknown time zone).
pub fn table(schema: &Schema, batches: &[RecordBatch], options: &TableOptions) -> Result<String, ArrowError> {
    let mut columns: Vec<Column> = (0..schema.fields().len()).map(|n| Column::new(schema, n, options)).collect();
    for (n, column) in columns.iter_mut().enumerate() {
        column.fill(n, batches, options)?;
    }
    let shown = fitting(&columns, options.line_chars_max);
    let left_out = columns.len() - shown;
    columns.truncate(shown);
    let mut out = String::new();
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    for row in 0..rows {
        let cells: Vec<_> = columns.iter().map(|column| column.cell(row)).collect();
        let mut line = cells.join(GAP).trim_end().to_owned();
        if row == 0 && left_out > 0 {
            let _ = write!(line, "{GAP}(+{left_out} columns)");
        }
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

const GAP: &str = "  ";

/// The cells of a column from top to bottom: name, type, rule, values.
struct Column {
    cells: Vec<String>,
    width: usize,
    right: bool,
}

impl Column {
    fn new(schema: &Schema, n: usize, options: &TableOptions) -> Self {
        let field = schema.field(n);
        let mut column = Self { cells: Vec::new(), width: 0, right: is_right_aligned(field.data_type()) };
        column.push(cut(field.name(), options.cell_chars_max));
        column.push(cut(&type_name(field.data_type()), options.cell_chars_max));
        column.cells.push(String::new());
        column
    }

    fn push(&mut self, cell: String) {
        self.width = self.width.max(cell.chars().count());
        self.cells.push(cell);
    }

    fn fill(&mut self, n: usize, batches: &[RecordBatch], options: &TableOptions) -> Result<(), ArrowError> {
        let format = FormatOptions::new().with_null("null");
        let mut rows_left = options.rows_max;
        for batch in batches {
            let array = batch.column(n);
            let formatter = ArrayFormatter::try_new(array.as_ref(), &format)?;
            let rows = array.len().min(rows_left);
            rows_left -= rows;
            for row in 0..rows {
                self.push(cut(&formatter.value(row).try_to_string()?, options.cell_chars_max));
            }
        }
        if let Some(rule) = self.cells.get_mut(RULE) {
            *rule = "-".repeat(self.width);
        }
        Ok(())
    }

    fn cell(&self, row: usize) -> String {
        let (cell, width) = (self.cells.get(row).map_or("", String::as_str), self.width);
        if self.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    }
}

/// The line between header and values.
const RULE: usize = 2;

fn is_right_aligned(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// How many columns fit into a line.
fn fitting(columns: &[Column], line_chars_max: usize) -> usize {
    let mut used = 0;
    let fits = columns.iter().take_while(|column| {
        used += column.width + GAP.len();
        used <= line_chars_max.saturating_add(GAP.len())
    });
    fits.count().max(1).min(columns.len())
}

/// A text on one line, ending in `…` if it was longer than `chars_max`.
fn cut(text: &str, chars_max: usize) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn batch(names: &[&str]) -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..names.len() as i64));
        let name: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter([("id", id), ("name", name)]).expect("two columns")
    }

    fn check(batches: &[RecordBatch], options: TableOptions, printed: &str) {
        assert_eq!(table(&batch(&[]).schema(), batches, &options).expect("prints"), printed);
    }

    #[test]
    fn long_cells_are_cut_and_stay_on_one_line() {
        let options = TableOptions { cell_chars_max: 8, ..TableOptions::default() };
        let lines =
            ["   id  name", "int64  utf8", "-----  --------", "    0  exactly8", "    1  nine ch…", "    2  a b", ""];
        check(&[batch(&["exactly8", "nine char", "a\nb"])], options, &lines.join("\n"));
    }

    #[test]
    fn rows_are_counted_over_all_batches() {
        let options = TableOptions { rows_max: 3, ..TableOptions::default() };
        let lines = ["   id  name", "int64  utf8", "-----  ----", "    0  a", "    1  b", "    0  c", ""];
        check(&[batch(&["a", "b"]), batch(&["c", "d"])], options, &lines.join("\n"));
    }

    #[test]
    fn columns_that_do_not_fit_are_counted_in_the_header() {
        let options = TableOptions { line_chars_max: 7, ..TableOptions::default() };
        check(&[batch(&["a"])], options, "   id  (+1 columns)\nint64\n-----\n    0\n");
    }

    #[test]
    fn no_rows_print_the_header_and_no_columns_print_nothing() {
        check(&[], TableOptions::default(), "   id  name\nint64  utf8\n-----  ----\n");
        assert_eq!(table(&Schema::empty(), &[], &TableOptions::default()).expect("prints"), "");
    }
}
