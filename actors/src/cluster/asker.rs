//! A driver as the head sees it while one of its connections lasts: who asks, and what it has here.

use std::sync::{Arc, Mutex, PoisonError};

use mobula_transport::Connection;

use super::objects::DriverHold;

/// Which driver asks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) connection: Connection,
    pub(crate) started: Started,
    pub(crate) brought: Arc<DriverHold>,
}

impl Asker {
    pub(crate) fn new(connection: Connection, brought: DriverHold) -> Self {
        Self { connection, started: Started::default(), brought: Arc::new(brought) }
    }
}

/// The jobs that were started over a driver's connection, and whether it has ended. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Started(Arc<Mutex<(Vec<u64>, bool)>>);

impl Started {
    /// `false` if the driver has gone meanwhile.
    pub(crate) fn add(&self, job: u64) -> bool {
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        started.0.push(job);
        !started.1
    }

    pub(crate) fn end(&self) -> Vec<u64> {
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        started.1 = true;
        std::mem::take(&mut started.0)
    }
}
