//! Verbs that choose and compute columns: `select`, `with_column`, `drop_columns`, `rename`.

use arrow::datatypes::{Schema, SchemaRef};

use super::Dataset;
use crate::error::{Error, Result};
use crate::expr::{Expr, col};
use crate::plan::columns::{self, Column, Edit};
use crate::plan::logical::Kind;

/// What [`Dataset::select`] takes: a column's name, or an expression.
pub trait IntoColumn {
    /// The expression of it; its name is the column's.
    fn into_column(self) -> Expr;
}

impl IntoColumn for Expr {
    fn into_column(self) -> Expr {
        self
    }
}

macro_rules! column_by_name {
    ($($name:ty),*) => {$(
        impl IntoColumn for $name {
            fn into_column(self) -> Expr {
                col(self.to_string())
            }
        }
    )*};
}
column_by_name!(&str, &&str, String, &String);

impl Dataset {
    /// Exactly these columns, in this order: names, or expressions named by [`Expr::alias`].
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let ids = Session::local()?.range(0..3)?;
    /// let twice = ids.select([col("id"), (col("id") * 2).alias("twice")])?;
    /// assert_eq!(twice.schema()?.field(1).name(), "twice");
    /// assert!(ids.select(["ID"]).unwrap_err().to_string().contains("there are: id"));
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is none, one is not there, two have one name, or an expression does not fit the columns.
    pub fn select<C: IntoColumn>(&self, columns: impl IntoIterator<Item = C>) -> Result<Self> {
        self.selected("select", columns)
    }

    /// `select` on behalf of another verb.
    pub(super) fn selected<C: IntoColumn>(&self, call: &str, columns: impl IntoIterator<Item = C>) -> Result<Self> {
        let columns: Vec<Column> = columns.into_iter().map(|column| named(column.into_column())).collect();
        columns::check_names(call, &columns)?;
        let schema = self.checked(call, &columns)?;
        Ok(self.projected(columns, schema))
    }

    /// Adds a column, or puts it in the place of the one of that name.
    ///
    /// # Errors
    /// If the expression does not fit the columns.
    pub fn with_column(&self, name: impl Into<String>, expr: impl Into<Expr>) -> Result<Self> {
        let expr: Expr = expr.into();
        self.edited(Edit::With(Column::new(name, expr.unaliased().clone())))
    }

    /// Leaves columns out.
    ///
    /// # Errors
    /// If one is not there, or none would be left.
    pub fn drop_columns<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) -> Result<Self> {
        self.edited(Edit::Drop(names.into_iter().map(Into::into).collect()))
    }

    /// Gives columns new names: pairs of old and new, all at once, so that `[("a", "b"), ("b", "a")]` swaps them.
    ///
    /// # Errors
    /// If a column is not there, or two would have one name.
    pub fn rename<A: Into<String>, B: Into<String>>(&self, names: impl IntoIterator<Item = (A, B)>) -> Result<Self> {
        self.edited(Edit::Rename(names.into_iter().map(|(old, new)| (old.into(), new.into())).collect()))
    }

    /// A change of columns: worked out now if the columns are known, else when they are.
    fn edited(&self, edit: Edit) -> Result<Self> {
        let Some(input) = &self.plan.schema else {
            return Ok(self.over(Kind::Edit { input: self.plan.clone(), edit }, None));
        };
        let columns = edit.resolve(input)?;
        let schema = columns::schema_of(edit.call(), &columns, input)?;
        Ok(self.projected(columns, Some(schema)))
    }

    /// The schema of `columns` over this dataset, where its own is known.
    fn checked(&self, call: &str, columns: &[Column]) -> Result<Option<SchemaRef>> {
        self.plan.schema.as_ref().map(|input| columns::schema_of(call, columns, input)).transpose()
    }
}

fn named(expr: Expr) -> Column {
    Column::new(expr.name(), expr.unaliased().clone())
}

/// Checks that a predicate is one over these columns.
pub(super) fn check_predicate(predicate: &Expr, input: &Schema) -> Result<()> {
    match predicate.bind_predicate(input) {
        Ok(_) => Ok(()),
        Err(cause) => Err(Error::Expr { call: format!("filter {predicate}"), cause }),
    }
}
