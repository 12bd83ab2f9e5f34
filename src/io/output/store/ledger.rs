//! The ledger of a job on a store: small objects with running numbers, each put only where none is.
//!
//! The put is the commit, and it is the lock as well. Whoever goes on with a job puts the next object; if somebody else did
//! that before, the number is taken, and this process stops. So of two processes that run one job, the older one cannot
//! commit anything from the moment on at which the younger has begun.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mobula_actors::function::{decode, encode};
use mobula_actors::ledger::{LedgerError, Record};
use xxhash_rust::xxh3::xxh3_64;

use super::client::{Client, Put};
use super::keys::ledger_name;
use crate::io::error::{IoError, IoResult};

/// What an object of a ledger begins with: what it is, and its version.
const MAGIC: &[u8; 8] = b"MOBLST01";

/// A ledger that is being written.
pub(super) struct StoreLedger {
    client: Arc<Client>,
    job: u64,
    next: u64,
    /// Random, so that what two processes put is never the same.
    writer: u64,
    failed: bool,
}

impl StoreLedger {
    /// Reads a ledger, for a process of this random number to write on.
    pub(super) fn open(client: &Arc<Client>, job: u64, writer: u64) -> IoResult<(Self, Vec<Record>)> {
        let keys = keys(client, job)?;
        let records = read_keys(client, &keys)?;
        Ok((Self { client: Arc::clone(client), job, next: keys.len() as u64, writer, failed: false }, records))
    }

    /// Puts records as one object. They are durable when this returns.
    ///
    /// # Errors
    /// If another process goes on with the job, or the store refuses; then this ledger takes no more, because nobody knows
    /// whether the object is there.
    pub(super) fn append(&mut self, records: &[Record]) -> IoResult<()> {
        let key = self.client.place().job_key(self.job, &ledger_name(self.next));
        if self.failed {
            return Err(LedgerError::Failed { path: self.client.place().uri(&key).into() }.into());
        }
        self.failed = true;
        let bytes = to_bytes(self.writer, records)?;
        match self.client.put_new(&key, &bytes)? {
            Put::Done => {
                self.next += 1;
                self.failed = false;
                Ok(())
            }
            Put::Taken => Err(IoError::StoreFenced { place: self.client.place().to_string() }),
        }
    }
}

/// What a ledger says, without touching it; nothing if there is none.
pub(super) fn read(client: &Client, job: u64) -> IoResult<Vec<Record>> {
    read_keys(client, &keys(client, job)?)
}

/// What its last object says: whoever gives a job up puts that last.
pub(super) fn read_last(client: &Client, job: u64) -> IoResult<Vec<Record>> {
    let last = keys(client, job)?.pop();
    read_keys(client, last.as_slice())
}

/// Gives a job up: whoever runs it is kept out, and nobody goes on with it. What is damaged before that does not matter.
pub(super) fn close(client: &Arc<Client>, job: u64, writer: u64, last: Record) -> IoResult<()> {
    let next = keys(client, job)?.len() as u64;
    StoreLedger { client: Arc::clone(client), job, next, writer, failed: false }.append(&[last])
}

/// The keys of its objects, in order. One that is missing was removed by somebody.
fn keys(client: &Client, job: u64) -> IoResult<Vec<String>> {
    let place = client.place();
    let (mut objects, _) = client.list(&place.job_key(job, "ledger"))?;
    objects.sort();
    let found: Vec<String> = objects.into_iter().map(|(key, _)| key).collect();
    let expected = (0..).map(|number| place.job_key(job, &ledger_name(number)));
    match expected.zip(&found).find(|(expected, found)| expected != *found) {
        None => Ok(found),
        Some((missing, _)) => Err(LedgerError::Damaged { path: place.uri(&missing).into(), at: 0 }.into()),
    }
}

fn read_keys(client: &Client, keys: &[String]) -> IoResult<Vec<Record>> {
    let mut records = Vec::new();
    for (key, bytes) in keys.iter().zip(client.get_all(keys)?) {
        records.extend(from_bytes(&bytes, || client.place().uri(key).into())?);
    }
    Ok(records)
}

fn to_bytes(writer: u64, records: &[Record]) -> IoResult<Bytes> {
    let payload = encode(&(writer, records)).map_err(|e| IoError::Internal(format!("a record of the ledger: {e}")))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(xxh3_64(&payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes.into())
}

fn from_bytes(bytes: &[u8], path: impl Fn() -> PathBuf) -> IoResult<Vec<Record>> {
    let foreign = || IoError::Ledger(LedgerError::Foreign { path: path() });
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(foreign)?;
    let (sum, payload) = rest.split_first_chunk::<8>().ok_or_else(foreign)?;
    if u64::from_le_bytes(*sum) != xxh3_64(payload) {
        return Err(LedgerError::Damaged { path: path(), at: 0 }.into());
    }
    let (_, records): (u64, Vec<Record>) = decode(payload).map_err(|_| foreign())?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_what_was_put_or_that_it_is_damaged() {
        let records = [Record::Begun { epoch: 3 }, Record::Noted(vec![1, 2])];
        let bytes = to_bytes(7, &records).unwrap();
        let read = |bytes: &[u8]| from_bytes(bytes, || "s3://b/l".into());
        assert_eq!(read(&bytes).unwrap(), records);
        assert_ne!(bytes, to_bytes(8, &records).unwrap(), "two processes never put the same");
        let mut damaged = bytes.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(read(&damaged).unwrap_err().to_string().contains("damaged"));
        assert!(read(b"hello").unwrap_err().to_string().contains("no ledger of this version"));
    }
}
