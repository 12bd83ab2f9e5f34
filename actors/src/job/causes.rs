//! Serde of the cause of an error: the texts of its chain. The types stay in the process where it happened; what is
//! printed is the same on the other side.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::operator::BoxError;

/// Longest chain that travels. Real ones have three or four links; a longer one is cut at its end.
const CAUSES_MAX: usize = 32;
/// Most bytes of one text that travel. Some decoders quote a whole record; beyond this the text is cut.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The texts of an error and of its causes, outermost first.
pub(crate) fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.take(CAUSES_MAX).map(|error| cut(error.to_string(), TEXT_BYTES_MAX)).collect()
}

/// An error that prints like the one whose texts these are.
pub(crate) fn told(mut texts: Vec<String>) -> BoxError {
    texts.truncate(CAUSES_MAX);
    let chain = texts.into_iter().rev().fold(None, |source, text| Some(Box::new(Told { text, source })));
    chain.unwrap_or_else(|| Box::new(Told { text: "(no text)".to_owned(), source: None }))
}

pub(super) fn serialize<S: Serializer>(cause: &Arc<BoxError>, to: S) -> Result<S::Ok, S::Error> {
    texts(cause.as_ref().as_ref()).serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<BoxError>, D::Error> {
    Ok(Arc::new(told(Vec::<String>::deserialize(from)?)))
}

/// What another process said of an error.
#[derive(Debug)]
struct Told {
    text: String,
    source: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The text, cut at a character if it is longer than so many bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobError;
    use mobula_transport::codec;
    use proptest::prelude::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {0}")]
    struct Unreadable(String, #[source] std::io::Error);

    fn printed(error: &(dyn Error + 'static)) -> Vec<String> {
        std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
    }

    fn told(error: &JobError) -> JobError {
        let bytes = codec::encode(error, 1 << 20).expect("it travels");
        codec::decode(&bytes, 1 << 20).expect("it comes back")
    }

    fn failed(cause: BoxError) -> JobError {
        let (operator, input) = ("score".into(), "a.parquet, row group 3".to_owned());
        JobError::Task { operator, task: 7, input, attempt: 4, attempts: 4, cause: Arc::new(cause) }
    }

    #[test]
    fn an_error_from_elsewhere_prints_as_it_does_there() {
        let io = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied");
        let error = failed(Unreadable("a.parquet".to_owned(), io).into());
        let back = told(&error);
        let (JobError::Task { cause: here, .. }, JobError::Task { cause: there, .. }) = (&error, &back) else {
            panic!("{back:?}")
        };
        assert_eq!(error.to_string(), back.to_string());
        assert_eq!(printed(here.as_ref().as_ref()), printed(there.as_ref().as_ref()));
        assert_eq!(printed(there.as_ref().as_ref()), ["cannot read a.parquet", "permission denied"]);
    }

    #[test]
    fn every_kind_of_error_travels() {
        let cause = || Arc::new(BoxError::from("no such model"));
        let operator = || "score".into();
        let errors = [
            JobError::Worker { operator: operator(), worker: 2, restarts: 5, cause: cause() },
            JobError::Source { operator: operator(), cause: cause() },
            JobError::Infeasible { operator: operator(), reason: "gpu 2 of 1".to_owned() },
            JobError::Topology(crate::job::TopologyError::Input { operator: operator(), input: 9 }),
            JobError::Threads("none left".to_owned()),
            JobError::LeftBehind { operator: operator(), most: 16, cause: cause() },
            JobError::Cancelled,
            JobError::Internal { actor: "the job".to_owned(), reason: "it panicked".to_owned() },
        ];
        for error in errors {
            let back = told(&error);
            assert_eq!(printed(&error), printed(&back));
            assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&back));
        }
    }

    #[test]
    fn a_text_beyond_the_limit_is_cut_at_a_character() {
        let JobError::Task { cause, .. } = told(&failed("ä".repeat(TEXT_BYTES_MAX).into())) else {
            panic!("a task's")
        };
        let text = cause.to_string();
        assert!(text.ends_with("ä…") && text.len() <= TEXT_BYTES_MAX + '…'.len_utf8(), "{}", text.len());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_harm(bytes: Vec<u8>) {
            let _ = codec::decode::<JobError>(&bytes, 1 << 20).map(|error| error.to_string());
        }
    }
}
