//! The form in which an expression travels: a flat list of steps in postfix order.
//!
//! A tree decoded by recursion lets a few megabytes of nested `not` run off the end of a stack; steps are decoded in
//! a loop that counts depth. Types travel as text (`Timestamp(µs, "UTC")`), which Arrow prints and parses.

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::error::ExprError;
use super::literal::Literal;
use super::tree::{BinaryOp, DEPTH_MAX, Expr, Function, UnaryOp};

/// An expression as steps: operands before what uses them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Flat(Vec<Step>);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Step {
    Column(String),
    Literal(Literal),
    Alias(String),
    Unary(UnaryOp),
    Binary(BinaryOp),
    Cast(#[serde(with = "type_text")] DataType, bool),
    IsIn(Vec<Literal>),
    When,
    Call(Function, u32),
}

impl From<Expr> for Flat {
    fn from(expr: Expr) -> Self {
        // Node before its children from right to left; reversed, that is postfix.
        let mut steps = Vec::new();
        let mut left = vec![&expr];
        while let Some(next) = left.pop() {
            steps.push(step(next));
            left.extend(next.children());
        }
        steps.reverse();
        Self(steps)
    }
}

fn step(expr: &Expr) -> Step {
    match expr {
        Expr::Column(name) => Step::Column(name.clone()),
        Expr::Literal(value) => Step::Literal(value.clone()),
        Expr::Alias { name, .. } => Step::Alias(name.clone()),
        Expr::Unary { op, .. } => Step::Unary(*op),
        Expr::Binary { op, .. } => Step::Binary(*op),
        Expr::Cast { to, lossy, .. } => Step::Cast(to.clone(), *lossy),
        Expr::IsIn { list, .. } => Step::IsIn(list.clone()),
        Expr::When { .. } => Step::When,
        Expr::Call { function, args } => Step::Call(*function, args.len() as u32),
    }
}

impl TryFrom<Flat> for Expr {
    type Error = ExprError;

    fn try_from(flat: Flat) -> Result<Self, ExprError> {
        let mut stack = Stack(Vec::new());
        for step in flat.0 {
            stack.apply(step)?;
        }
        let expr = stack.pop()?.0;
        if stack.0.is_empty() { Ok(*expr) } else { Err(ExprError::Malformed) }
    }
}

/// Decoded operands that wait for what uses them, with their depths.
struct Stack(Vec<(Box<Expr>, usize)>);

impl Stack {
    fn pop(&mut self) -> Result<(Box<Expr>, usize), ExprError> {
        self.0.pop().ok_or(ExprError::Malformed)
    }

    fn apply(&mut self, step: Step) -> Result<(), ExprError> {
        let (expr, depth) = match step {
            Step::Column(name) => (Expr::Column(name), 0),
            Step::Literal(value) => (Expr::Literal(value), 0),
            Step::Alias(name) => self.over_one(|expr| Expr::Alias { expr, name })?,
            Step::Unary(op) => self.over_one(|expr| Expr::Unary { op, expr })?,
            Step::Cast(to, lossy) => self.over_one(|expr| Expr::Cast { expr, to, lossy })?,
            Step::IsIn(list) => self.over_one(|expr| Expr::IsIn { expr, list })?,
            Step::Binary(op) => {
                let (right, right_depth) = self.pop()?;
                let (left, left_depth) = self.pop()?;
                (Expr::Binary { left, op, right }, left_depth.max(right_depth))
            }
            Step::When => {
                let (otherwise, a) = self.pop()?;
                let (then, b) = self.pop()?;
                let (condition, c) = self.pop()?;
                (Expr::When { condition, then, otherwise }, a.max(b).max(c))
            }
            Step::Call(function, count) => self.call(function, count as usize)?,
        };
        if depth >= DEPTH_MAX {
            return Err(ExprError::TooDeep { depth: depth + 1 });
        }
        self.0.push((Box::new(expr), depth + 1));
        Ok(())
    }

    fn over_one(&mut self, make: impl FnOnce(Box<Expr>) -> Expr) -> Result<(Expr, usize), ExprError> {
        let (expr, depth) = self.pop()?;
        Ok((make(expr), depth))
    }

    fn call(&mut self, function: Function, count: usize) -> Result<(Expr, usize), ExprError> {
        let first = self.0.len().checked_sub(count).ok_or(ExprError::Malformed)?;
        let depth = self.0[first..].iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        let args = self.0.drain(first..).map(|(expr, _)| *expr).collect();
        Ok((Expr::Call { function, args }, depth))
    }
}

/// Serde of a [`DataType`] as the text that Arrow prints and parses.
pub(super) mod type_text {
    use arrow::datatypes::DataType;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(data_type: &DataType, serializer: S) -> Result<S::Ok, S::Error> {
        let text = data_type.to_string();
        match text.parse::<DataType>() {
            Ok(back) if back == *data_type => serializer.serialize_str(&text),
            _ => Err(ser::Error::custom(format!("type {text} cannot be part of an expression that travels"))),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DataType, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Types nest too, and their parser recurses.
        if text.len() > TYPE_BYTES_MAX {
            return Err(de::Error::custom(format!("type of {} bytes is over the limit", text.len())));
        }
        text.parse().map_err(de::Error::custom)
    }

    /// Longest type accepted: more than any sensible one, too short to nest deeply.
    const TYPE_BYTES_MAX: usize = 1024;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{coalesce, col, lit, when};
    use arrow::datatypes::{IntervalUnit, TimeUnit};
    use mobula_actors::function::{decode, encode};

    fn round_trip(expr: &Expr) -> Expr {
        decode(&encode(expr).expect("encodes")).expect("decodes")
    }

    #[test]
    fn every_kind_of_node_comes_back_from_the_wire() {
        let expr = when(col("a").is_in([1, 2]).and(!col("b").is_null()))
            .then(coalesce([col("c").cast(DataType::Int64), -lit(5i64), lit(None::<i64>)]))
            .otherwise(col("s").substring(1, None).length())
            .alias("x");
        assert_eq!(round_trip(&expr), expr);
    }

    #[test]
    fn every_type_one_can_cast_to_comes_back_from_the_wire() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let types = [
            DataType::Null,
            DataType::Float16,
            DataType::Utf8View,
            DataType::FixedSizeBinary(16),
            DataType::Date32,
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
            DataType::Duration(TimeUnit::Millisecond),
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Decimal128(38, -2),
            DataType::Decimal256(70, 10),
            DataType::new_list(DataType::Float32, true),
            DataType::new_fixed_size_list(DataType::Float32, 4, false),
            dictionary,
        ];
        for to in types {
            let expr = col("a").cast(to);
            assert_eq!(round_trip(&expr), expr);
        }
    }

    #[test]
    fn a_tree_deeper_than_the_limit_is_refused_when_decoded() {
        let mut steps = vec![Step::Column("a".into())];
        steps.extend((0..100_000).map(|_| Step::Unary(UnaryOp::Not)));
        let bytes = encode(&Flat(steps)).expect("encodes");
        let error = decode::<Expr>(&bytes).expect_err("too deep").to_string();
        assert!(error.contains("deeper than"), "{error}");
    }

    #[test]
    fn steps_that_make_no_tree_are_refused() {
        for steps in [vec![], vec![Step::When], vec![Step::Call(Function::Coalesce, u32::MAX)]] {
            assert!(matches!(Expr::try_from(Flat(steps)), Err(ExprError::Malformed)));
        }
        let two = Flat(vec![Step::Column("a".into()), Step::Column("b".into())]);
        assert!(matches!(Expr::try_from(two), Err(ExprError::Malformed)));
    }
}
