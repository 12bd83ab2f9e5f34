//! How an expression is printed: as it would be written by hand, with no more parentheses than it needs.

use std::fmt;

use super::tree::{BinaryOp, Expr, Function, UnaryOp};
use crate::kernel::schema::type_name;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => write_name(f, name),
            Self::Literal(value) => write!(f, "{value}"),
            Self::Alias { expr, name } => {
                write!(f, "{expr} as ")?;
                write_name(f, name)
            }
            Self::Unary { op, expr } => write_unary(f, *op, expr),
            Self::Binary { left, op, right } => {
                write_inside(f, left, binary_strength(*op), !op.is_comparison())?;
                write!(f, " {op} ")?;
                write_inside(f, right, binary_strength(*op), matches!(op, BinaryOp::And | BinaryOp::Or))
            }
            Self::Cast { expr, to, lossy } => {
                write!(f, "{}cast({expr} as {})", if *lossy { "try_" } else { "" }, type_name(to))
            }
            Self::IsIn { expr, list } => {
                write_inside(f, expr, COMPARISON, false)?;
                f.write_str(" in [")?;
                write_list(f, list)?;
                f.write_str("]")
            }
            Self::When { condition, then, otherwise } => {
                write!(f, "when {condition} then {then} otherwise {otherwise} end")
            }
            Self::Call { function, args } => write_call(f, *function, args),
        }
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
            Self::And => "and",
            Self::Or => "or",
        })
    }
}

impl Function {
    /// Its name, as printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Round => "round",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Sqrt => "sqrt",
            Self::IsNan => "is_nan",
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Trim => "trim",
            Self::Length => "length",
            Self::Substring { .. } => "substring",
            Self::Replace => "replace",
            Self::Contains => "contains",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
            Self::Like => "like",
            Self::ILike => "ilike",
            Self::Coalesce => "coalesce",
        }
    }
}

fn write_unary(f: &mut fmt::Formatter<'_>, op: UnaryOp, expr: &Expr) -> fmt::Result {
    match op {
        UnaryOp::Not => {
            f.write_str("not ")?;
            write_inside(f, expr, NOT, true)
        }
        UnaryOp::Negate => {
            f.write_str("-")?;
            write_inside(f, expr, NEGATE, false)
        }
        UnaryOp::IsNull | UnaryOp::IsNotNull => {
            write_inside(f, expr, COMPARISON, false)?;
            f.write_str(if op == UnaryOp::IsNull { " is null" } else { " is not null" })
        }
    }
}

fn write_call(f: &mut fmt::Formatter<'_>, function: Function, args: &[Expr]) -> fmt::Result {
    if let (Function::Like | Function::ILike, [text, pattern]) = (function, args) {
        write_inside(f, text, COMPARISON, false)?;
        write!(f, " {} ", function.name())?;
        return write_inside(f, pattern, COMPARISON, false);
    }
    write!(f, "{}(", function.name())?;
    write_list(f, args)?;
    if let Function::Substring { start, length } = function {
        write!(f, ", {start}")?;
        length.map_or(Ok(()), |length| write!(f, ", {length}"))?;
    }
    f.write_str(")")
}

fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, list: &[T]) -> fmt::Result {
    for (n, value) in list.iter().enumerate() {
        f.write_str(if n > 0 { ", " } else { "" })?;
        write!(f, "{value}")?;
    }
    Ok(())
}

/// Prints an operand, in parentheses if it binds weaker than what is around it (or equally, unless `equal` is fine).
fn write_inside(f: &mut fmt::Formatter<'_>, expr: &Expr, around: u8, equal: bool) -> fmt::Result {
    let own = strength(expr);
    if own > around || (own == around && equal) { write!(f, "{expr}") } else { write!(f, "({expr})") }
}

const ALIAS: u8 = 0;
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const NEGATE: u8 = 7;
const ATOM: u8 = 8;

/// How strongly the outermost operation of an expression binds.
fn strength(expr: &Expr) -> u8 {
    match expr {
        Expr::Alias { .. } => ALIAS,
        Expr::Unary { op: UnaryOp::Not, .. } => NOT,
        Expr::Unary { op: UnaryOp::Negate, .. } => NEGATE,
        Expr::Unary { .. } | Expr::IsIn { .. } => COMPARISON,
        Expr::Call { function: Function::Like | Function::ILike, args } if args.len() == 2 => COMPARISON,
        Expr::Binary { op, .. } => binary_strength(*op),
        _ => ATOM,
    }
}

fn binary_strength(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => OR,
        BinaryOp::And => AND,
        BinaryOp::Add | BinaryOp::Subtract => SUM,
        BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => PRODUCT,
        _ => COMPARISON,
    }
}

/// A name that could be read as something else is put between back quotes.
fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if plain { f.write_str(name) } else { write!(f, "`{name}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Literal, coalesce, col, lit, when};
    use arrow::datatypes::{DataType, TimeUnit};

    fn check(expr: Expr, printed: &str) {
        assert_eq!(expr.to_string(), printed);
    }

    #[test]
    fn parentheses_appear_only_where_the_meaning_needs_them() {
        check((col("a") + col("b")) * 2 - 1, "(a + b) * 2 - 1");
        check(col("a") - (col("b") - col("c")), "a - (b - c)");
        check(col("a") - col("b") - col("c"), "a - b - c");
        check(col("a") + col("b") * col("c"), "a + b * c");
        check(-(col("a") + 1), "-(a + 1)");
        check(col("a").gt(1).and(col("b").or(col("c"))), "a > 1 and (b or c)");
        check(col("a").and(col("b")).or(col("c")), "a and b or c");
        check(col("a").and(col("b").and(col("c"))), "a and b and c");
        check(!col("a").gt(1), "not a > 1");
        check(!col("a").and(col("b")), "not (a and b)");
        check((!col("a")).is_null(), "(not a) is null");
        check(col("a").gt(1).eq(lit(true)), "(a > 1) = true");
    }

    #[test]
    fn each_kind_prints_as_it_is_written() {
        check(col("a").between(1, 5), "a >= 1 and a <= 5");
        check(col("a").is_in(["x", "y"]), r#"a in ["x", "y"]"#);
        check(col("a").cast(DataType::Int64).alias("b"), "cast(a as int64) as b");
        check(col("a").try_cast(DataType::Timestamp(TimeUnit::Microsecond, None)), "try_cast(a as timestamp(us))");
        check(col("a").like("x%"), r#"a like "x%""#);
        check(col("a").replace("x", "y").lower(), r#"lower(replace(a, "x", "y"))"#);
        check(when(col("a")).then(1).otherwise(2), "when a then 1 otherwise 2 end");
        check(coalesce([col("a"), col("b")]), "coalesce(a, b)");
        check(col("a").fill_null(0.5), "coalesce(a, 0.5)");
        check(lit(None::<i32>), "null");
        check(lit(Literal::Binary(vec![0, 255])), r#"x"00ff""#);
        check(col("trip distance").gt(1.0), "`trip distance` > 1.0");
    }
}
