//! Verbs on whole datasets: `limit`, `union`, `unordered`.

use std::sync::Arc;

use super::Dataset;
use crate::error::{Error, Result};
use crate::kernel::schema::unify;
use crate::plan::logical::{Kind, Logical};

impl Dataset {
    /// The first `rows` rows; everything before it stops once they are there.
    ///
    /// # Errors
    /// None today; the verbs share their shape.
    pub fn limit(&self, rows: u64) -> Result<Self> {
        Ok(self.over(Kind::Limit { input: self.plan.clone(), rows }, self.plan.schema.clone()))
    }

    /// The rows of this dataset, then those of `other`. Both have the same columns: names, types and order; a column
    /// is nullable if it is in one of them. What both have in common runs twice, once for each:
    /// [`materialize`](Dataset::materialize) it first where that costs more than keeping its rows.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let session = Session::local()?;
    /// let both = session.range(0..2)?.union(&session.range(5..6)?)?;
    /// assert_eq!(both.count()?, 3);
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the columns differ, naming the first difference; if the other dataset belongs to another session.
    pub fn union(&self, other: &Dataset) -> Result<Self> {
        if !self.session.is(&other.session) {
            return Err(Error::invalid("union", "the other dataset belongs to another session; make both in one"));
        }
        let schema = match (&self.plan.schema, &other.plan.schema) {
            (Some(first), Some(second)) => {
                let unified = unify(first, second);
                Some(unified.map_err(|mismatch| Error::SchemaMismatch {
                    difference: mismatch.between("the first", "the second"),
                })?)
            }
            _ => None,
        };
        Ok(self.over(Kind::Union { inputs: vec![self.plan.clone(), other.plan.clone()] }, schema))
    }

    /// The same rows in any order, which lets fast workers run ahead of slow ones. The verbs after it see them as they
    /// come; a limit or an exact batch size before it still goes by the order of its input.
    ///
    /// # Errors
    /// None today; the verbs share their shape.
    pub fn unordered(&self) -> Result<Self> {
        Ok(self.over(Kind::Unordered { input: self.plan.clone() }, self.plan.schema.clone()))
    }

    /// A dataset that gives these rows without running what made them.
    pub(super) fn in_place_of(&self, plan: Arc<Logical>) -> Self {
        Self { failures: self.failures, ..Self::new(self.session.clone(), plan) }
    }
}
