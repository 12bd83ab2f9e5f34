//! Binding: an expression meets a schema. Columns become indexes, operands get the types their kernels take, and
//! whatever cannot work is refused, before any row is read.
//!
//! [`BoundExpr`] is the result; [`Binder`] walks the tree; `operators`, `functions` and `align` are its families.

mod align;
mod functions;
mod operators;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, Scalar, new_empty_array};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Schema};

use super::error::{ExprError, column_index};
use super::node::{Kind, Node};
use super::tree::{BinaryOp, DEPTH_MAX, Expr};
use crate::kernel::schema::type_name;

/// An expression bound to a schema: its type is known, and it can be evaluated. Cheap enough to bind once a worker.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
/// use arrow::datatypes::{DataType, Int32Type};
/// use mobula::expr::col;
///
/// let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
/// let batch = RecordBatch::try_from_iter([("a", a)])?;
/// let bound = (col("a") * 2).bind(&batch.schema())?;
/// assert_eq!(bound.data_type(), &DataType::Int32);
/// let doubled = bound.evaluate(&batch)?;
/// assert_eq!(doubled.as_primitive::<Int32Type>(), &Int32Array::from(vec![Some(2), None, Some(6)]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoundExpr {
    node: Node,
    field: Field,
    used: Vec<UsedColumn>,
}

/// A column that an expression reads.
#[derive(Debug, Clone)]
struct UsedColumn {
    index: usize,
    name: String,
    data_type: DataType,
}

impl BoundExpr {
    /// The type of its values.
    pub fn data_type(&self) -> &DataType {
        &self.node.data_type
    }

    /// Whether a value may be null.
    pub fn nullable(&self) -> bool {
        self.node.nullable
    }

    /// The column it makes: name, type, nullability; with the metadata of the column if it is one unchanged.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// Its values for the rows of a batch of the schema it was bound to.
    ///
    /// # Errors
    /// If a value has no result (an overflow, a cast that does not fit), naming the part of the expression; or if the
    /// batch has another schema.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, ExprError> {
        let value = self.node.evaluate(&self.columns(batch)?)?;
        let failed = |source| ExprError::Evaluate { expr: self.node.text.to_string(), source };
        value.into_array(batch.num_rows()).map_err(failed)
    }

    /// The value that it has for every row, if it depends on no column: an array of length 1.
    pub fn constant(&self) -> Option<ArrayRef> {
        self.node.constant().map(|value| value.clone().into_inner())
    }

    fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, ExprError> {
        let column = |used: &UsedColumn| match batch.columns().get(used.index) {
            Some(array) if *array.data_type() == used.data_type => Ok(Arc::clone(array)),
            other => Err(ExprError::SchemaChanged {
                name: used.name.clone(),
                expected: used.data_type.clone(),
                found: other.map_or("missing".to_owned(), |array| type_name(array.data_type())),
            }),
        };
        self.used.iter().map(column).collect()
    }
}

impl Expr {
    /// Binds it to a schema.
    ///
    /// # Errors
    /// If a column is missing, operands do not go together, or the tree is deeper than [`DEPTH_MAX`].
    pub fn bind(&self, schema: &Schema) -> Result<BoundExpr, ExprError> {
        let depth = self.depth();
        if depth > DEPTH_MAX {
            return Err(ExprError::TooDeep { depth });
        }
        let mut binder = Binder { schema, used: Vec::new() };
        let node = binder.bind(self)?;
        rehearse(&node, &binder.used)?;
        let field = match self.unaliased() {
            Self::Column(name) => schema.field(column_index(schema, name)?).clone().with_name(self.name()),
            _ => Field::new(self.name(), node.data_type.clone(), node.nullable),
        };
        Ok(BoundExpr { node, field, used: binder.used })
    }

    /// The type of its values over a schema, and whether they may be null.
    ///
    /// # Errors
    /// As [`Expr::bind`].
    pub fn data_type(&self, schema: &Schema) -> Result<(DataType, bool), ExprError> {
        let bound = self.bind(schema)?;
        Ok((bound.data_type().clone(), bound.nullable()))
    }

    /// Binds it as the predicate of a filter.
    ///
    /// # Errors
    /// As [`Expr::bind`], and if it is not boolean.
    pub fn bind_predicate(&self, schema: &Schema) -> Result<BoundExpr, ExprError> {
        let bound = self.bind(schema)?;
        match bound.data_type() {
            DataType::Boolean => Ok(bound),
            other => Err(ExprError::NotBoolean { expr: self.unaliased().to_string(), data_type: other.clone() }),
        }
    }
}

/// Evaluates a bound expression over no rows: a type that a kernel does not take is found now, not in a job.
fn rehearse(node: &Node, used: &[UsedColumn]) -> Result<(), ExprError> {
    let columns: Vec<_> = used.iter().map(|column| new_empty_array(&column.data_type)).collect();
    match node.evaluate(&columns) {
        Ok(value) => {
            debug_assert_eq!(value.into_inner().data_type(), &node.data_type, "type of `{}`", node.text);
            Ok(())
        }
        Err(ExprError::Evaluate { expr, source }) => Err(ExprError::Type { expr, reason: source.to_string() }),
        Err(other) => Err(other),
    }
}

/// Walks an expression and makes nodes.
struct Binder<'a> {
    schema: &'a Schema,
    used: Vec<UsedColumn>,
}

impl Binder<'_> {
    fn bind(&mut self, expr: &Expr) -> Result<Node, ExprError> {
        let text: Arc<str> = expr.unaliased().to_string().into();
        match expr {
            Expr::Column(name) => self.column(name, &text),
            Expr::Literal(value) => Ok(Node { adapts: true, ..constant(value.to_array(), &text) }),
            Expr::Alias { expr, .. } => self.bind(expr),
            Expr::Unary { op, expr } => operators::unary(*op, self.bind(expr)?, &text),
            Expr::Binary { left, op, right } => {
                let (left, right) = (self.bind(left)?, self.bind(right)?);
                match op {
                    BinaryOp::And | BinaryOp::Or => operators::logical(left, *op, right, &text),
                    op if op.is_comparison() => operators::comparison(left, *op, right, &text),
                    op => operators::arithmetic(left, *op, right, &text),
                }
            }
            Expr::Cast { expr, to, lossy } => cast(self.bind(expr)?, to, *lossy, &text),
            Expr::IsIn { expr, list } => operators::is_in(self.bind(expr)?, list, &text),
            Expr::When { condition, then, otherwise } => {
                let (condition, then, otherwise) = (self.bind(condition)?, self.bind(then)?, self.bind(otherwise)?);
                functions::when(condition, then, otherwise, &text)
            }
            Expr::Call { function, args } => {
                let args = args.iter().map(|arg| self.bind(arg)).collect::<Result<Vec<_>, _>>()?;
                functions::call(*function, args, &text)
            }
        }
    }

    fn column(&mut self, name: &str, text: &Arc<str>) -> Result<Node, ExprError> {
        let index = column_index(self.schema, name)?;
        let field = self.schema.field(index);
        let (data_type, nullable) = (field.data_type().clone(), field.is_nullable());
        let at = self.used.iter().position(|used| used.index == index).unwrap_or_else(|| {
            self.used.push(UsedColumn { index, name: name.to_owned(), data_type: data_type.clone() });
            self.used.len() - 1
        });
        Node::new(Kind::Column(at), data_type, nullable, text)
    }
}

/// The node of a constant, given as an array of length 1.
fn constant(value: ArrayRef, text: &Arc<str>) -> Node {
    let (data_type, nullable) = (value.data_type().clone(), value.logical_null_count() > 0);
    Node { kind: Kind::Constant(Scalar::new(value)), data_type, nullable, text: Arc::clone(text), adapts: false }
}

/// The cast that the user asked for.
fn cast(node: Node, to: &DataType, lossy: bool, text: &Arc<str>) -> Result<Node, ExprError> {
    if node.data_type == *to {
        return Ok(Node { adapts: false, ..node });
    }
    if !can_cast_types(&node.data_type, to) {
        let reason = format!("cannot cast {} to {}", type_name(&node.data_type), type_name(to));
        return Err(type_error(text, reason));
    }
    let nullable = node.nullable || lossy;
    Node::new(Kind::Cast(Box::new(node), lossy), to.clone(), nullable, text)
}

fn type_error(text: &str, reason: impl Into<String>) -> ExprError {
    ExprError::Type { expr: text.to_owned(), reason: reason.into() }
}
