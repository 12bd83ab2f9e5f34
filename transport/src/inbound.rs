//! Reading what a peer opens: the first byte of each stream, then its first frame, within the connection's limits.
//!
//! Streams are read beside each other, so one that is slow holds up no other. A call is read only when it has a place among
//! the unanswered ones, counted and weighed.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::block::IncomingFetch;
use crate::call::IncomingCall;
use crate::connection::Inbound;
use crate::frame::{FrameError, Reader, Writer};
use crate::limits::Limits;
use crate::link::Link;
use crate::stream::{FrameReceiver, FrameSender};

/// First byte of a stream that carries one call.
pub(crate) const CALL: u8 = 1;
/// First byte of a task stream.
pub(crate) const STREAM: u8 = 2;
/// First byte of a stream that carries one block.
pub(crate) const FETCH: u8 = 3;

/// First byte of an answer that is what was asked for.
pub(crate) const ANSWERED: u8 = 0;
/// First byte of an answer that is a reason.
pub(crate) const REFUSED: u8 = 1;

/// Bytes are counted in units of this many, so that the count fits a semaphore.
const UNIT_BYTES: usize = 1 << 10;

/// The places of one connection's incoming calls.
pub(crate) struct Admission {
    calls: Arc<Semaphore>,
    units: Arc<Semaphore>,
    units_max: u32,
}

/// A place among the unanswered calls, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _call: OwnedSemaphorePermit,
    _units: OwnedSemaphorePermit,
}

impl Admission {
    fn new(limits: &Limits) -> Self {
        let units = (limits.calls_in_flight_bytes / UNIT_BYTES).clamp(1, 1 << 28);
        Self {
            calls: Arc::new(Semaphore::new(limits.calls_in_flight.clamp(1, 1 << 28))),
            units: Arc::new(Semaphore::new(units)),
            units_max: units as u32,
        }
    }

    async fn call(&self) -> OwnedSemaphorePermit {
        self.calls.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Room for a request; one heavier than all there is gets all there is.
    async fn weight(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units_max);
        self.units.clone().acquire_many_owned(units).await.expect("the semaphore is never closed")
    }
}

/// Reads until the connection is no more.
pub(crate) async fn run(link: Link, limits: Arc<Limits>, deliver: mpsc::Sender<Inbound>) {
    let admission = Admission::new(&limits);
    // Bounded by the number of streams that the peer may have open.
    let mut opening = FuturesUnordered::new();
    loop {
        tokio::select! {
            // In order, so that a simulated run is repeated by its seed.
            biased;
            Some(()) = opening.next() => {}
            stream = link.accept() => {
                let Ok((writer, reader)) = stream else { return };
                opening.push(open(writer, reader, &limits, &admission, &deliver));
            }
        }
    }
}

async fn open(
    writer: Writer,
    reader: Reader,
    limits: &Arc<Limits>,
    admission: &Admission,
    deliver: &mpsc::Sender<Inbound>,
) {
    // Whoever gave up or broke the protocol has been dealt with where that was seen.
    if let Ok(inbound) = read(writer, reader, limits, admission).await {
        let _ = deliver.send(inbound).await;
    }
}

async fn read(
    writer: Writer,
    mut reader: Reader,
    limits: &Arc<Limits>,
    admission: &Admission,
) -> Result<Inbound, FrameError> {
    match reader.bytes::<1>().await? {
        [CALL] => {
            let call = admission.call().await;
            let length = opening_length(&mut reader, limits.call_frame_bytes).await?;
            let units = admission.weight(length).await;
            let body = reader.frame_body(length).await?;
            reader.end().await?;
            let place = Place { _call: call, _units: units };
            Ok(Inbound::Call(IncomingCall::new(body, writer, limits.clone(), place)))
        }
        [STREAM] => {
            let length = opening_length(&mut reader, limits.stream_frame_bytes).await?;
            let _units = admission.weight(length).await;
            let head = reader.frame_body(length).await?;
            let tx = FrameSender::new(writer, limits.stream_frame_bytes);
            Ok(Inbound::Stream { head, tx, rx: FrameReceiver::new(reader, limits.stream_frame_bytes) })
        }
        [FETCH] => {
            let length = opening_length(&mut reader, limits.call_frame_bytes).await?;
            let units = admission.weight(length).await;
            let body = reader.frame_body(length).await?;
            reader.end().await?;
            Ok(Inbound::Fetch(IncomingFetch::new(body, writer, limits.clone(), units)))
        }
        [kind] => Err(reader.violation(format!("there is no kind {kind} of stream"))),
    }
}

async fn opening_length(reader: &mut Reader, limit: usize) -> Result<usize, FrameError> {
    match reader.frame_length(limit).await? {
        Some(length) => Ok(length),
        None => Err(reader.violation("a stream ended before its first frame".to_owned())),
    }
}
