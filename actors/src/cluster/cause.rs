//! Errors that crossed the wire: a chain of texts, printed as the original was.

use std::error::Error;
use std::fmt;

use crate::operator::BoxError;

/// One link of a chain of causes.
#[derive(Debug)]
struct Link {
    text: String,
    source: Option<BoxError>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Links of a chain that travel: deeper ones are left out.
const CAUSES_MAX: usize = 32;

/// The texts of an error and of its causes, outermost first.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| texts.len() < CAUSES_MAX) {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

/// An error that prints like the one whose chain this is.
pub(crate) fn from_chain(texts: Vec<String>) -> BoxError {
    let fold = |source: Option<BoxError>, text: String| Some(Box::new(Link { text, source }) as BoxError);
    let error = texts.into_iter().take(CAUSES_MAX).rev().fold(None, fold);
    error.unwrap_or_else(|| "an error without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_prints_as_before() {
        let texts = vec!["outer".to_owned(), "middle".to_owned(), "inner".to_owned()];
        assert_eq!(chain(&*from_chain(texts.clone())), texts);
        assert_eq!(from_chain(Vec::new()).to_string(), "an error without a text");
    }
}
