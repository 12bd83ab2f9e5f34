//! Which columns feed which tensors: pure, from a signature, a schema and what the user said.
//!
//! A row of a column has *dimensions*: none for a number, `[n]` for a fixed-size list of numbers, `[n, m]` for lists of
//! lists. An input `[batch, ..rest]` takes a column whose elements fill `rest` exactly; one symbolic dimension in `rest`
//! takes the size that makes it fit.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use super::engine::{Dim, Element, Signature, TensorInfo};
use super::error::PredictError;

/// One input of a model with the columns that feed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputBinding {
    pub(super) tensor: String,
    pub(super) element: Element,
    /// One column, or several whose elements are laid side by side.
    pub(super) columns: Vec<String>,
    /// The shape of the tensor without the batch.
    pub(super) row_shape: Vec<usize>,
}

impl InputBinding {
    /// Elements that one row of the tensor takes.
    pub(super) fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }
}

/// Chosen columns by tensor, as the user gave them.
pub(super) type Chosen = BTreeMap<String, Vec<String>>;

/// Decides the columns of each input.
pub(super) fn bind(signature: &Signature, schema: &Schema, chosen: &Chosen) -> Result<Vec<InputBinding>, PredictError> {
    let alone = signature.inputs.len() == 1;
    signature.inputs.iter().map(|input| bind_input(input, schema, chosen.get(&input.name), alone)).collect()
}

fn bind_input(
    input: &TensorInfo,
    schema: &Schema,
    chosen: Option<&Vec<String>>,
    alone: bool,
) -> Result<InputBinding, PredictError> {
    let columns = match chosen {
        Some(columns) => columns.clone(),
        None if schema.field_with_name(&input.name).is_ok() => vec![input.name.clone()],
        None => vec![only_fitting(input, schema, alone)?],
    };
    let fields = columns.iter().map(|column| field(input, schema, column)).collect::<Result<Vec<_>, _>>()?;
    let row_shape = row_shape(input, &fields).map_err(|why| PredictError::Mismatch {
        column: fields.iter().map(|f| format!("{:?} ({})", f.name(), f.data_type())).collect::<Vec<_>>().join(", "),
        tensor: input.name.clone(),
        needs: input.to_string(),
        why,
    })?;
    Ok(InputBinding { tensor: input.name.clone(), element: input.element, columns, row_shape })
}

fn field<'a>(input: &TensorInfo, schema: &'a Schema, column: &str) -> Result<&'a Field, PredictError> {
    schema.field_with_name(column).map_err(|_| PredictError::NoColumn {
        tensor: input.name.clone(),
        column: column.to_owned(),
        choices: names(schema),
    })
}

/// The one column that fits, for a model with one input that no column is named after.
fn only_fitting(input: &TensorInfo, schema: &Schema, alone: bool) -> Result<String, PredictError> {
    let unmatched = |why: String| PredictError::Unmatched { tensor: input.name.clone(), needs: input.to_string(), why };
    if !alone {
        return Err(unmatched(format!("there are: {}", names(schema))));
    }
    let fitting: Vec<_> = schema.fields().iter().filter(|f| row_shape(input, &[f]).is_ok()).map(|f| f.name()).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(unmatched(format!("none fits; there are: {}", described(schema)))),
        several => Err(unmatched(format!("several would fit: {}", quoted(several.iter().map(|s| s.as_str()))))),
    }
}

/// The shape of a row of the tensor when these columns feed it, or why they cannot.
pub(super) fn row_shape(input: &TensorInfo, columns: &[&Field]) -> Result<Vec<usize>, String> {
    let rest = input.shape.get(1..).ok_or("the input has no batch dimension")?;
    let rows = columns.iter().map(|c| RowType::of(c.data_type())).collect::<Result<Vec<_>, _>>()?;
    for row in &rows {
        check_castable(&row.element, input.element)?;
    }
    if let [row] = rows.as_slice()
        && let Some(shape) = same_rank(&row.dims, rest)
    {
        return Ok(shape);
    }
    fill(rest, count(&rows)?)
}

/// What one row of a column holds.
struct RowType {
    /// Sizes of nested lists from the outside in; `None` where rows may differ.
    dims: Vec<Option<usize>>,
    element: DataType,
}

impl RowType {
    fn of(data_type: &DataType) -> Result<Self, String> {
        let (size, inner) = match data_type {
            DataType::FixedSizeList(inner, size) => (usize::try_from(*size).ok(), inner),
            DataType::List(inner) | DataType::LargeList(inner) => (None, inner),
            other => return Ok(Self { dims: Vec::new(), element: other.clone() }),
        };
        let mut row = Self::of(inner.data_type())?;
        if row.dims.iter().any(Option::is_none) {
            return Err("lists of lists of varying length do not make a tensor".to_owned());
        }
        row.dims.insert(0, size);
        Ok(row)
    }
}

/// The shape as it is, if the column is nested just like the tensor.
fn same_rank(dims: &[Option<usize>], rest: &[Dim]) -> Option<Vec<usize>> {
    if dims.len() != rest.len() {
        return None;
    }
    let fits = |(size, dim): (&Option<usize>, &Dim)| match (size, dim) {
        (Some(size), Dim::Fixed(n)) => (size == n).then_some(*n),
        (None, Dim::Fixed(n)) => Some(*n),
        (Some(size), Dim::Symbolic(_)) => Some(*size),
        (None, Dim::Symbolic(_)) => None,
    };
    dims.iter().zip(rest).map(fits).collect()
}

/// Elements in a row of all columns together; `None` if lists of varying length say so row by row.
fn count(rows: &[RowType]) -> Result<Option<usize>, String> {
    let fixed = |row: &RowType| row.dims.iter().try_fold(1, |n, size| size.map(|size| n * size));
    match rows {
        [row] => Ok(fixed(row)),
        several => several
            .iter()
            .map(|row| fixed(row).ok_or("lists of varying length cannot be laid beside other columns"))
            .sum::<Result<usize, _>>()
            .map(Some)
            .map_err(str::to_owned),
    }
}

/// Fills the dimensions behind the batch with `count` elements.
fn fill(rest: &[Dim], count: Option<usize>) -> Result<Vec<usize>, String> {
    let fixed: usize = rest.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 1 }).product();
    let open = rest.iter().filter(|dim| matches!(dim, Dim::Symbolic(_))).count();
    let size = match (open, count) {
        (0, None) => 1,
        (0, Some(count)) if count == fixed => 1,
        (1, Some(count)) if fixed > 0 && count % fixed == 0 => count / fixed,
        (0 | 1, Some(count)) => {
            let what = if open == 0 { "takes" } else { "takes a multiple of" };
            return Err(format!("the model {what} {fixed} elements a row, the column gives {count}"));
        }
        (_, None) => return Err("the model's length is open: use a fixed-size list".to_owned()),
        _ => return Err("the model's shape is open: use fixed-size lists nested like it".to_owned()),
    };
    Ok(rest.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { size }).collect())
}

/// Whether a column of this type may be cast to the tensor's: integers and booleans to anything that numbers, floats
/// to floats only.
fn check_castable(from: &DataType, to: Element) -> Result<(), String> {
    let refused = |next: &str| Err(format!("it holds {from}, the tensor {to:?}; {next}"));
    match from {
        DataType::Boolean => Ok(()),
        from if from.is_integer() => Ok(()),
        from if from.is_floating() && matches!(to, Element::Float32 | Element::Float64) => Ok(()),
        from if from.is_floating() => refused("cast the column to an integer"),
        _ => refused("only numbers feed a model"),
    }
}

/// `"a", "b"`
pub(super) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// The column names of a schema.
pub(super) fn names(schema: &Schema) -> String {
    quoted(schema.fields().iter().map(|f| f.name().as_str()))
}

fn described(schema: &Schema) -> String {
    schema.fields().iter().map(|f| format!("{:?} ({})", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
}
