//! Calls into the decoder, which panics on some damaged files instead of returning an error.
//!
//! A panic there says nothing of this process: it is taken for what it is, a file that cannot be decoded, so that the
//! error names the file, and a lenient job goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::io::error::{IoError, IoResult};

/// What `decode` returns, or an error if it panics. Whatever it was changing must be thrown away then.
pub(super) fn guard<T>(path: &Path, decode: impl FnOnce() -> T) -> IoResult<T> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        IoError::corrupt(path, format!("the decoder failed ({})", text.unwrap_or("no reason given")))
    })
}
