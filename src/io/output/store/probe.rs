//! Whether a store can hold an output: asked before anything runs.

use super::client::{Client, Put};
use super::jobs;
use crate::io::error::{IoError, IoResult};

/// What the object that is put twice holds.
const TEXT: &[u8] = b"Mobula puts this object twice to see that the store refuses the second time.\n";
/// More than once, in case the first answer was lost and the object put all the same.
const PUTS: usize = 2;

/// Checks that the store refuses to put an object where one is, and takes uploads in parts. The object stays, so that the
/// next check is one request.
///
/// # Errors
/// If the store lacks either, or cannot be used at all.
pub(super) fn check(client: &Client) -> IoResult<()> {
    let key = client.place().hidden_key("probe");
    let refused = (0..PUTS).try_fold(false, |refused, _| match refused {
        true => Ok(true),
        false => client.put_if_absent(&key, TEXT).map(|put| put == Put::Taken),
    })?;
    if !refused {
        let _ = client.delete(&key);
        return Err(lacks(client, "it puts an object over one that is there although `If-None-Match: *` forbids it"));
    }
    let id = client.begin(&key)?;
    client.abort(&key, &id)?;
    // Those of processes that died here before.
    jobs::abort_uploads_to(client, &key);
    Ok(())
}

fn lacks(client: &Client, reason: &str) -> IoError {
    IoError::Store {
        verb: "keep a ledger in",
        at: client.place().to_string(),
        reason: reason.to_owned(),
        next: "two runs of one job could not be told apart: write to a folder, or to a store with conditional puts",
    }
}
