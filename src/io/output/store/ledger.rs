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
    /// Reads a ledger, for a process of this random number to write on: behind what was read and nowhere else, so whoever
    /// has written meanwhile is not passed over. What it says may be damaged; who gives the job up does not mind.
    pub(super) fn open(
        client: &Arc<Client>,
        job: u64,
        writer: u64,
    ) -> IoResult<(Self, Result<Vec<Record>, LedgerError>)> {
        let objects = Objects::list(client, job)?;
        let next = objects.numbers.last().map_or(0, |last| last + 1);
        let records = objects.records(client)?;
        Ok((Self { client: Arc::clone(client), job, next, writer, failed: false }, records))
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
    Ok(Objects::list(client, job)?.records(client)??)
}

/// What its last object says, whatever became of those before: whoever gives a job up puts that last.
pub(super) fn read_last(client: &Client, job: u64) -> IoResult<Result<Vec<Record>, LedgerError>> {
    let Objects { job, numbers } = Objects::list(client, job)?;
    read_numbers(client, job, numbers.last().map_or(&[][..], std::slice::from_ref))
}

/// The objects of a ledger.
struct Objects {
    job: u64,
    /// Sorted.
    numbers: Vec<u64>,
}

impl Objects {
    fn list(client: &Client, job: u64) -> IoResult<Self> {
        let place = client.place();
        let (objects, _) = client.list(&place.job_key(job, "ledger"))?;
        let number = |(key, _): (String, u64)| {
            let number = key.rsplit('/').next()?.parse().ok()?;
            // What somebody else put there is not of the ledger.
            (key == place.job_key(job, &ledger_name(number))).then_some(number)
        };
        let mut numbers: Vec<u64> = objects.into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(Self { job, numbers })
    }

    fn records(&self, client: &Client) -> IoResult<Result<Vec<Record>, LedgerError>> {
        match (0..).zip(&self.numbers).find(|(expected, found)| expected != *found) {
            None => read_numbers(client, self.job, &self.numbers),
            // Somebody removed it.
            Some((missing, _)) => {
                let key = client.place().job_key(self.job, &ledger_name(missing));
                Ok(Err(LedgerError::Damaged { path: client.place().uri(&key).into(), at: 0 }))
            }
        }
    }
}

fn read_numbers(client: &Client, job: u64, numbers: &[u64]) -> IoResult<Result<Vec<Record>, LedgerError>> {
    let keys: Vec<String> = numbers.iter().map(|number| client.place().job_key(job, &ledger_name(*number))).collect();
    let objects = client.get_all(&keys)?;
    let read = |(key, bytes): (&String, &Bytes)| from_bytes(bytes, || client.place().uri(key).into());
    Ok(keys.iter().zip(&objects).map(read).collect::<Result<Vec<_>, _>>().map(|records| records.concat()))
}

fn to_bytes(writer: u64, records: &[Record]) -> IoResult<Bytes> {
    let payload = encode(&(writer, records)).map_err(|e| IoError::Internal(format!("a record of the ledger: {e}")))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(xxh3_64(&payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes.into())
}

fn from_bytes(bytes: &[u8], path: impl Fn() -> PathBuf) -> Result<Vec<Record>, LedgerError> {
    let foreign = || LedgerError::Foreign { path: path() };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(foreign)?;
    let (sum, payload) = rest.split_first_chunk::<8>().ok_or_else(foreign)?;
    if u64::from_le_bytes(*sum) != xxh3_64(payload) {
        return Err(LedgerError::Damaged { path: path(), at: 0 });
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
