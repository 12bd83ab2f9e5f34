//! `when(condition).then(value).otherwise(value)`: the choice between values, row by row.

use super::tree::Expr;

/// Starts a choice: the value of the first condition that holds.
///
/// Both values are computed for all rows, and a null condition counts as one that does not hold.
///
/// ```
/// use mobula::expr::{col, when};
/// let size = when(col("n").lt(10)).then("small").when(col("n").lt(100)).then("middle").otherwise("large");
/// assert_eq!(
///     size.to_string(),
///     r#"when n < 10 then "small" otherwise when n < 100 then "middle" otherwise "large" end end"#
/// );
/// ```
pub fn when(condition: impl Into<Expr>) -> When {
    When { branches: Vec::new(), condition: condition.into() }
}

/// A choice that waits for the value of its last condition. See [`when`].
#[derive(Debug, Clone)]
#[must_use = "a choice is an expression once it has `then` and `otherwise`"]
pub struct When {
    branches: Vec<(Expr, Expr)>,
    condition: Expr,
}

impl When {
    /// The value where the condition holds.
    pub fn then(mut self, value: impl Into<Expr>) -> Then {
        self.branches.push((self.condition, value.into()));
        Then { branches: self.branches }
    }
}

/// A choice that waits for one more condition or its last value. See [`when`].
#[derive(Debug, Clone)]
#[must_use = "a choice is an expression once it has `otherwise`"]
pub struct Then {
    branches: Vec<(Expr, Expr)>,
}

impl Then {
    /// Another condition, for the rows where those before do not hold.
    pub fn when(self, condition: impl Into<Expr>) -> When {
        When { branches: self.branches, condition: condition.into() }
    }

    /// The value where no condition holds.
    pub fn otherwise(self, value: impl Into<Expr>) -> Expr {
        self.branches.into_iter().rev().fold(value.into(), |otherwise, (condition, then)| Expr::When {
            condition: Box::new(condition),
            then: Box::new(then),
            otherwise: Box::new(otherwise),
        })
    }
}
