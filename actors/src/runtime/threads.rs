//! Which threads a process of the engine runs on: its own, or the one thread of a simulation.
//!
//! In a simulation the control plane, the data plane and the sockets of a process are tasks of one tokio runtime of one
//! thread, which the simulation steps on paused time. Nothing waits by blocking then: who starts a process there uses the
//! asynchronous ways (`HeadServer::open`, `Member::open`, `Driver::open`).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use actix_rt::{ArbiterHandle, System};
use tokio::runtime::Handle;

use super::env::{SharedEnv, SystemEnv};

/// The threads of a process. Cheap to clone. The default is threads of its own, in the real world.
#[derive(Clone, Default)]
pub struct Threads {
    one: Option<Arc<One>>,
}

/// The thread of a simulation, as a process finds it there.
pub(crate) struct One {
    pub(crate) env: SharedEnv,
    pub(crate) arbiter: ArbiterHandle,
    pub(crate) runtime: Handle,
}

thread_local! {
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// For simulations only: all of a process is run by the actix system, and the tokio runtime of one thread under it, in
    /// which this is called; time, chance and disk are those of `env`. The process ends when the runtime is dropped, as by
    /// a signal that cannot be caught.
    ///
    /// # Panics
    /// Outside of an actix system.
    pub fn simulated(env: SharedEnv) -> Self {
        SIMULATES.set(true);
        let one = One { env, arbiter: System::current().arbiter().clone(), runtime: Handle::current() };
        Self { one: Some(Arc::new(one)) }
    }

    /// The world of the process that it runs in.
    pub(crate) fn env(&self) -> SharedEnv {
        self.one.as_ref().map_or_else(|| Arc::new(SystemEnv::new()) as SharedEnv, |one| Arc::clone(&one.env))
    }

    pub(crate) fn simulation(&self) -> Option<&Arc<One>> {
        self.one.as_ref()
    }

    /// What the chance of connections is to follow from; in the real world from the system.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.one.as_ref().map(|one| one.env.random())
    }
}

/// Whether this thread is that of a simulation: what elsewhere runs on a thread that may block runs in place there.
pub(crate) fn simulates() -> bool {
    SIMULATES.get()
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.one.is_some() { "Threads(simulated)" } else { "Threads(own)" })
    }
}
