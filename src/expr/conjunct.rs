//! Taking a predicate apart at its `and`s and putting it together again, for rules that move parts of filters.

use super::tree::{BinaryOp, Expr};

/// The conditions that a predicate joins by `and`, from left to right; itself if there is no `and`.
///
/// A row passes the predicate exactly if it passes each of them.
///
/// ```
/// use mobula::expr::{col, conjoin, split_conjuncts};
/// let predicate = col("a").gt(1).and(col("b").lt(2)).and(col("c").is_null());
/// let parts = split_conjuncts(&predicate);
/// assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a > 1", "b < 2", "c is null"]);
/// assert_eq!(conjoin(parts).map(|p| p.to_string()).as_deref(), Some("a > 1 and b < 2 and c is null"));
/// ```
pub fn split_conjuncts(predicate: &Expr) -> Vec<Expr> {
    let mut parts = Vec::new();
    let mut left = vec![predicate];
    while let Some(expr) = left.pop() {
        match expr.unaliased() {
            Expr::Binary { left: first, op: BinaryOp::And, right: second } => left.extend([second.as_ref(), first]),
            other => parts.push(other.clone()),
        }
    }
    parts
}

/// The predicate that holds where all of these hold; `None` if there are none.
///
/// The tree is balanced, so that hundreds of conditions stay far from the limit on depth.
pub fn conjoin(predicates: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    let mut level: Vec<Expr> = predicates.into_iter().collect();
    while level.len() > 1 {
        let mut pairs = level.into_iter();
        let mut next = Vec::new();
        while let Some(first) = pairs.next() {
            next.push(match pairs.next() {
                Some(second) => first.and(second),
                None => first,
            });
        }
        level = next;
    }
    level.pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::col;

    #[test]
    fn many_conditions_make_a_flat_tree_and_keep_their_order() {
        let parts: Vec<_> = (0..1000).map(|n| col(format!("c{n}")).gt(n)).collect();
        let joined = conjoin(parts.clone()).expect("not empty");
        assert!(joined.depth() < 15, "depth {}", joined.depth());
        assert_eq!(split_conjuncts(&joined), parts);
    }

    #[test]
    fn an_or_is_one_condition() {
        let predicate = col("a").gt(1).or(col("b").gt(1)).and(col("c"));
        assert_eq!(split_conjuncts(&predicate), [col("a").gt(1).or(col("b").gt(1)), col("c")]);
        assert_eq!(conjoin([]), None);
    }
}
