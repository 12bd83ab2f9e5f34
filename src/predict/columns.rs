//! Columns as a user names them for an input of a model: a name, or several.

/// The columns that feed one input: one name, or several whose values are laid side by side in each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumns(pub(super) Vec<String>);

impl From<&str> for InputColumns {
    fn from(column: &str) -> Self {
        Self(vec![column.to_owned()])
    }
}

impl From<&String> for InputColumns {
    fn from(column: &String) -> Self {
        Self(vec![column.clone()])
    }
}

impl From<String> for InputColumns {
    fn from(column: String) -> Self {
        Self(vec![column])
    }
}

impl<const N: usize> From<[&str; N]> for InputColumns {
    fn from(columns: [&str; N]) -> Self {
        Self(columns.map(str::to_owned).to_vec())
    }
}

impl From<Vec<String>> for InputColumns {
    fn from(columns: Vec<String>) -> Self {
        Self(columns)
    }
}
