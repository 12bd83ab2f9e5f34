//! Verbs on whole datasets: `limit`, `union`, `unordered`.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::Dataset;
use crate::error::{Error, Result};
use crate::kernel::schema::type_name;
use crate::plan::logical::{Kind, Logical};
use crate::plan::steps::with_nullable;

impl Dataset {
    /// The first `rows` rows; everything before it stops once they are there.
    ///
    /// # Errors
    /// None today; the verbs share their shape.
    pub fn limit(&self, rows: u64) -> Result<Self> {
        Ok(self.over(Kind::Limit { input: self.plan.clone(), rows }, self.plan.schema.clone()))
    }

    /// The rows of this dataset, then those of `other`. Both have the same columns: names, types and order; a column
    /// is nullable if it is in one of them.
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
            (Some(first), Some(second)) => Some(common(first, second)?),
            _ => None,
        };
        Ok(self.over(Kind::Union { inputs: vec![self.plan.clone(), other.plan.clone()] }, schema))
    }

    /// The same rows in any order, which lets fast workers run ahead of slow ones. The verbs after it see them as they
    /// come.
    ///
    /// # Errors
    /// None today; the verbs share their shape.
    pub fn unordered(&self) -> Result<Self> {
        Ok(self.over(Kind::Unordered { input: self.plan.clone() }, self.plan.schema.clone()))
    }

    /// A dataset that gives these rows without running what made them.
    pub(super) fn in_place_of(&self, plan: Arc<Logical>) -> Self {
        Self::new(self.session.clone(), plan)
    }
}

/// The schema that holds the rows of both.
fn common(first: &SchemaRef, second: &SchemaRef) -> Result<SchemaRef> {
    if let Some(difference) = difference(first, second) {
        return Err(Error::SchemaMismatch { difference });
    }
    let nullable: Vec<String> =
        second.fields().iter().filter(|field| field.is_nullable()).map(|field| field.name().clone()).collect();
    Ok(Arc::new(with_nullable(first, &nullable)))
}

/// The first column that differs, in words.
fn difference(first: &Schema, second: &Schema) -> Option<String> {
    let mut pairs = first.fields().iter().zip(second.fields()).enumerate();
    let differs = pairs.find_map(|(index, (a, b))| {
        if a.name() != b.name() {
            return Some(format!("column {index} is {:?} in the first and {:?} in the second", a.name(), b.name()));
        }
        let (left, right) = (type_name(a.data_type()), type_name(b.data_type()));
        let same = a.data_type().equals_datatype(b.data_type());
        (!same).then(|| format!("column {:?} is {left} in the first and {right} in the second", a.name()))
    });
    let shorter = first.fields().len().min(second.fields().len());
    let only = |schema: &Schema, which: &str| {
        let field = schema.fields().get(shorter)?;
        Some(format!("only the {which} has column {:?}", field.name()))
    };
    differs.or_else(|| only(first, "first")).or_else(|| only(second, "second"))
}
