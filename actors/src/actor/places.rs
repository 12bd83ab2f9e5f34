//! Places of calls about actors on one control connection.
//!
//! A connection takes [`calls_in_flight`](mobula_transport::Limits::calls_in_flight) unanswered calls and reads no more. A
//! spawn may be unanswered for a minute, while it waits for a device, and heartbeats and the letting go of blocks go the same
//! way: without a limit of their own, waiting spawns would have a healthy node declared dead.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::message::{ActorCall, DirectoryCall};

/// Spawns that may be unanswered: half of what a connection takes. Fewer: actors that could start wait for those that
/// cannot. More: less is left for all else.
const SPAWNS_MAX: usize = 128;
/// Their start states together, in units of [`UNIT_BYTES`]: 32 MiB, half of what a connection takes.
const SPAWN_UNITS_MAX: u32 = 32 << 10;
const UNIT_BYTES: usize = 1 << 10;
/// Other calls that some actor answers, which takes it up to ten seconds: a quarter of what a connection takes.
const ASKED_MAX: usize = 64;

/// The places of one side of a connection.
#[derive(Debug)]
pub(crate) struct Places {
    spawns: Semaphore,
    spawn_units: Semaphore,
    asked: Semaphore,
}

/// How long a call may be unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Until there is room for an actor, with a start state of so many bytes.
    Spawn { bytes: usize },
    /// Until an actor answers.
    Asked,
    /// No time: the directory answers from memory. Not limited, since those that wait may wait for just that.
    Quick,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            spawns: Semaphore::new(SPAWNS_MAX),
            spawn_units: Semaphore::new(SPAWN_UNITS_MAX as usize),
            asked: Semaphore::new(ASKED_MAX),
        }
    }
}

impl Places {
    /// Makes a call once there is a place for it, in the order of asking; `call` is told how long that took. `Err` is the
    /// deadline of both, if it is over.
    pub(crate) async fn call<T, F: Future<Output = T>>(
        &self,
        kind: Kind,
        deadline: Duration,
        call: impl FnOnce(Duration) -> F,
    ) -> Result<T, Duration> {
        let placed = async {
            let start = Instant::now();
            let _place = self.take(kind).await;
            call(start.elapsed()).await
        };
        timeout(deadline, placed).await.map_err(|_| deadline)
    }

    /// Free again when what is returned is dropped. The semaphores are never closed.
    async fn take(&self, kind: Kind) -> [Option<SemaphorePermit<'_>>; 2] {
        match kind {
            Kind::Spawn { bytes } => {
                let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(SPAWN_UNITS_MAX);
                [self.spawns.acquire().await.ok(), self.spawn_units.acquire_many(units).await.ok()]
            }
            Kind::Asked => [self.asked.acquire().await.ok(), None],
            Kind::Quick => [None, None],
        }
    }
}

impl ActorCall {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Spawn { order } => Kind::Spawn { bytes: order.start.0.len() },
            Self::Find { .. } | Self::Incarnation | Self::Snapshot | Self::Stop => Kind::Asked,
        }
    }

    /// The same after so much of its time has gone by.
    pub(crate) fn after(mut self, waited: Duration) -> Self {
        if let Self::Spawn { order } = &mut self {
            order.within = order.within.saturating_sub(waited);
        }
        self
    }
}

impl DirectoryCall {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Spawn { order, .. } => Kind::Spawn { bytes: order.start.0.len() },
            Self::To { .. } => Kind::Asked,
            Self::Lookup { .. } | Self::Detach { .. } | Self::Ended { .. } | Self::Lives { .. } => Kind::Quick,
        }
    }

    /// The same after so much of its time has gone by.
    pub(crate) fn after(mut self, waited: Duration) -> Self {
        if let Self::Spawn { order, .. } = &mut self {
            order.within = order.within.saturating_sub(waited);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn spawns_that_wait_leave_places_for_all_else_and_their_bytes_are_weighed() {
        let places = Places::default();
        let taken: Vec<_> =
            (0..SPAWNS_MAX).filter_map(|_| places.take(Kind::Spawn { bytes: 10 }).now_or_never()).collect();
        assert_eq!(taken.len(), SPAWNS_MAX);
        assert!(places.take(Kind::Spawn { bytes: 10 }).now_or_never().is_none());
        let asked: Vec<_> = (0..=ASKED_MAX).filter_map(|_| places.take(Kind::Asked).now_or_never()).collect();
        assert_eq!(asked.len(), ASKED_MAX);
        assert!(places.take(Kind::Quick).now_or_never().is_some());
        drop(taken);
        let large = Kind::Spawn { bytes: 20 << 20 };
        let one = places.take(large).now_or_never();
        assert!(one.is_some() && places.take(large).now_or_never().is_none());
        drop(one);
        assert!(places.take(Kind::Spawn { bytes: usize::MAX }).now_or_never().is_some(), "alone, however large");
    }

    #[test]
    fn a_connection_has_room_for_more_than_all_places() {
        let limits = mobula_transport::Limits::default();
        assert!(2 * SPAWNS_MAX <= limits.calls_in_flight && 4 * ASKED_MAX <= limits.calls_in_flight);
        assert!(2 * SPAWN_UNITS_MAX as usize * UNIT_BYTES <= limits.calls_in_flight_bytes);
    }
}
