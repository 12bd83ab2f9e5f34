//! What the error of an operator says about its process. Pure.

use std::collections::TryReserveError;
use std::error::Error;
use std::io;

use arrow::error::ArrowError;

use crate::operator::BoxError;
use crate::pool::chain::StepFailed;
use crate::runtime::watch::UserPanic;

/// The error that user code gave, without the name of its step.
fn cause(error: &BoxError) -> &BoxError {
    error.downcast_ref::<StepFailed>().map_or(error, |step| &step.cause)
}

/// Whether user code panicked.
pub(crate) fn panicked(error: &BoxError) -> bool {
    cause(error).is::<UserPanic>()
}

/// Whether memory could not be had, according to any error of the chain.
pub(crate) fn is_out_of_memory(error: &BoxError) -> bool {
    let first: &(dyn Error + 'static) = cause(error).as_ref();
    std::iter::successors(Some(first), |&error| error.source()).any(|error| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || error.is::<TryReserveError>()
            || matches!(error.downcast_ref::<ArrowError>(), Some(ArrowError::MemoryError(_)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::watch::guarded;

    #[test]
    fn too_little_memory_is_known_by_the_types_of_the_chain() {
        let reserve = Vec::<u8>::new().try_reserve(usize::MAX).expect_err("more than there is");
        assert!(is_out_of_memory(&reserve.into()));
        assert!(is_out_of_memory(&io::Error::from_raw_os_error(12).into()));
        assert!(is_out_of_memory(&ArrowError::MemoryError("full".into()).into()));
        assert!(!is_out_of_memory(&io::Error::other("out of memory, said a file name").into()));
        assert!(panicked(&guarded(|| panic!("torn")).expect_err("it panicked")));
        assert!(!panicked(&"an error".into()));
    }
}
