//! An actor system: the runtime that a node stands on, and that a program may use for supervised actors of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use super::allocator;
use super::env::{SharedEnv, SystemEnv};
use super::guardian::{Guardian, GuardianArguments, Launch, pass_failure_up};
use super::host::{Host, Lane};
use super::restart::RestartBudget;
use super::threads::One;
use super::watch::{DeathWatch, Exit};

/// Threads of the control plane. Its messages are few and small; two keep one slow handler from delaying the rest.
const CONTROL_THREADS: usize = 2;

/// The control plane (ractor on tokio) and the data plane (actix on arbiters) of a process. Cheap to clone; the last
/// clone stops all its actors.
///
/// ```
/// use mobula_actors::runtime::{ActorSystem, RestartBudget};
/// use actix::{Actor, Context, Handler, Message};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Counter(u32);
/// impl Actor for Counter { type Context = Context<Self>; }
///
/// #[derive(Message)]
/// #[rtype(result = "u32")]
/// struct Add(u32);
/// impl Handler<Add> for Counter {
///     type Result = u32;
///     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u32 { self.0 += n; self.0 }
/// }
///
/// let system = ActorSystem::start()?;
/// let counter = system.spawn("counter", RestartBudget::new(3, Duration::from_secs(60)), |_| Counter::default())?;
/// assert_eq!(counter.ask(Add(2), Duration::from_secs(5))?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ActorSystem {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    env: SharedEnv,
    root: ActorRef<()>,
    control: Control,
}

/// Has a write beyond the limit of a file's size (`ulimit -f`) fail, as one to a full disk does, where the signal for it
/// would end the process without a word.
#[cfg(unix)]
fn file_sizes_are_errors(control: &Runtime) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _inside = control.enter();
    // Once it was listened to, its handler stays.
    signal(SignalKind::from_raw(FILE_SIZE)).map(drop)
}

#[cfg(not(unix))]
fn file_sizes_are_errors(_control: &Runtime) -> io::Result<()> {
    Ok(())
}

/// SIGXFSZ, as it is on Linux (but for MIPS), macOS and the BSDs.
#[cfg(unix)]
const FILE_SIZE: i32 = 25;

/// What the control plane runs on.
enum Control {
    Own(Option<Runtime>),
    Simulated(Handle),
}

impl ActorSystem {
    /// Starts the threads of both planes.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Arc::new(SystemEnv::new()))
    }

    /// The same in a world of the caller's.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start_with(env: SharedEnv) -> io::Result<Self> {
        allocator::keep_little();
        let control = Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("mobula-control")
            .enable_all()
            .build()?;
        file_sizes_are_errors(&control)?;
        let host = Host::start()?;
        let root = control.block_on(ractor::Actor::spawn(None, Root, ())).map_err(io::Error::other)?.0;
        let control = Control::Own(Some(control));
        Ok(Self { inner: Arc::new(Inner { host, env, root, control }) })
    }

    /// A system on the thread of a simulation.
    ///
    /// # Errors
    /// If its root cannot be started.
    pub(crate) async fn simulated(one: &One) -> io::Result<Self> {
        let (env, control) = (Arc::clone(&one.env), Control::Simulated(one.runtime.clone()));
        let host = Host::simulated(one.arbiter.clone());
        let root = ractor::Actor::spawn(None, Root, ()).await.map_err(io::Error::other)?.0;
        Ok(Self { inner: Arc::new(Inner { host, env, root, control }) })
    }

    /// Spawns an actor under supervision, on a thread of its own. `make` builds each incarnation, on that thread, and
    /// is told its number, from 0.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn spawn<A>(
        &self,
        name: &str,
        budget: RestartBudget,
        make: impl Fn(u64) -> A + Send + Sync + 'static,
    ) -> io::Result<Supervised<A>>
    where
        A: Actor<Context = Context<A>>,
    {
        let (live, seen) = watch::channel(Life::Starting);
        let launch = {
            let host = self.inner.host.clone();
            let lane = self.block_on(async move { host.lane().await })?;
            Box::new(LaunchOwn { make: Arc::new(make), lane, live: Arc::new(live) })
        };
        let arguments = GuardianArguments { name: name.into(), launch, budget, env: Arc::clone(&self.inner.env) };
        let root = self.inner.root.get_cell();
        let spawned = self.block_on(ractor::Actor::spawn_linked(None, Guardian, arguments, root));
        let guardian = spawned.map_err(io::Error::other)?.0.get_cell();
        Ok(Supervised { name: name.into(), seen, guardian, system: self.clone() })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    pub(crate) fn env(&self) -> &SharedEnv {
        &self.inner.env
    }

    pub(crate) fn root(&self) -> ActorCell {
        self.inner.root.get_cell()
    }

    /// Where actors of the control plane are spawned from other threads.
    pub(crate) fn control_handle(&self) -> Handle {
        match &self.inner.control {
            Control::Own(control) => {
                control.as_ref().expect("the control runtime lives until the last clone is dropped").handle().clone()
            }
            Control::Simulated(control) => control.clone(),
        }
    }

    /// Whether it is on the thread of a simulation, where nobody may block.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.inner.control, Control::Simulated(_))
    }

    /// Runs a future on the control plane and waits for it, from any thread that is not one of the system's own.
    ///
    /// # Panics
    /// In a simulation, which would wait for itself.
    pub(crate) fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        assert!(!self.is_simulated(), "a simulation has one thread, which must not block: use the asynchronous way");
        let task = self.control_handle().spawn(future);
        match futures::executor::block_on(task) {
            Ok(output) => output,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.root.stop(None);
        if let Control::Own(control) = &mut self.control
            && let Some(control) = control.take()
        {
            // Not waiting: the last clone may be dropped on a thread of the control plane itself.
            control.shutdown_background();
        }
    }
}

/// The top of the tree: it outlives the failure of any child.
struct Root;

impl ractor::Actor for Root {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Err(error) = pass_failure_up(event) {
            tracing::error!(%error, "an actor failed for good");
        }
        Ok(())
    }
}

/// Where a supervised actor is in its life.
enum Life<A: Actor> {
    Starting,
    Alive { incarnation: u64, address: Addr<A> },
    Ended(Exit),
}

struct LaunchOwn<A: Actor> {
    make: Arc<dyn Fn(u64) -> A + Send + Sync>,
    lane: Lane,
    live: Arc<watch::Sender<Life<A>>>,
}

impl<A: Actor<Context = Context<A>>> Launch for LaunchOwn<A> {
    fn launch(&mut self, incarnation: u64, watch: DeathWatch) {
        let make = Arc::clone(&self.make);
        let address = A::start_in_arbiter(&self.lane.handle(), move |ctx| {
            watch.attach(ctx);
            make(incarnation)
        });
        self.live.send_replace(Life::Alive { incarnation, address });
    }

    fn ended(&mut self, _incarnation: u64, exit: &Exit, restarting: bool) {
        self.live.send_replace(if restarting { Life::Starting } else { Life::Ended(exit.clone()) });
    }
}

/// Why an ask got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The actor died while it had the message; it may or may not have acted on it. A fresh incarnation may be up.
    #[error("actor {0:?} died while it had the message")]
    Died(String),
    /// The actor has ended for good.
    #[error("actor {name:?} has ended: {exit}")]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        exit: Exit,
    },
    /// No answer in time.
    #[error("actor {name:?} did not answer within {deadline:?}")]
    Late {
        /// Its name.
        name: String,
        /// What it was given.
        deadline: Duration,
    },
}

/// A supervised actor as its callers see it: they reach the incarnation that lives now. Cheap to clone.
pub struct Supervised<A: Actor> {
    name: Arc<str>,
    seen: watch::Receiver<Life<A>>,
    guardian: ActorCell,
    system: ActorSystem,
}

impl<A: Actor> Clone for Supervised<A> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            seen: self.seen.clone(),
            guardian: self.guardian.clone(),
            system: self.system.clone(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> Supervised<A> {
    /// Sends a message and waits for the answer. Blocks the calling thread; waits for the next incarnation while the
    /// actor is being restarted.
    ///
    /// # Errors
    /// If the actor died while it had the message, has ended for good, or did not answer before the deadline.
    pub fn ask<M>(&self, message: M, deadline: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let this = self.clone();
        self.system.block_on(async move {
            let late = AskError::Late { name: this.name.to_string(), deadline };
            tokio::time::timeout(deadline, this.answer(message)).await.unwrap_or(Err(late))
        })
    }

    async fn answer<M>(&self, message: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (incarnation, address) = self.alive().await?;
        // One message in flight for each caller, who waits for the answer: nothing unbounded is added.
        #[allow(clippy::disallowed_methods)]
        let answer = address.send(message).await;
        if answer.is_err() {
            self.has_ended(incarnation).await;
        }
        answer.map_err(|_| AskError::Died(self.name.to_string()))
    }

    /// Waits until the guardian knows of the death of this incarnation, so that the caller's next ask meets the next.
    pub(crate) async fn has_ended(&self, dead: u64) {
        let lives = |life: &Life<A>| matches!(life, Life::Alive { incarnation, .. } if *incarnation == dead);
        // A guardian that is gone has no more to say.
        let _ = self.seen.clone().wait_for(|life| !lives(life)).await;
    }

    /// The number of the incarnation that lives now, from 0; waits while the actor is being restarted.
    ///
    /// # Errors
    /// If the actor has ended for good.
    pub fn incarnation(&self) -> Result<u64, AskError> {
        let this = self.clone();
        self.system.block_on(async move { this.alive().await.map(|(incarnation, _)| incarnation) })
    }

    /// The address of the incarnation that lives now, for ports and for messages of the caller's own; waits while the
    /// actor is being restarted. It is of no use any more once that incarnation has died.
    ///
    /// # Errors
    /// If the actor has ended for good.
    pub fn address(&self) -> Result<Addr<A>, AskError> {
        let this = self.clone();
        self.system.block_on(async move { this.alive().await.map(|(_, address)| address) })
    }

    /// The incarnation that lives now; waits while the actor is being restarted.
    pub(crate) async fn alive(&self) -> Result<(u64, Addr<A>), AskError> {
        let mut seen = self.seen.clone();
        loop {
            match &*seen.borrow_and_update() {
                Life::Alive { incarnation, address } if address.connected() => {
                    return Ok((*incarnation, address.clone()));
                }
                Life::Ended(exit) => {
                    return Err(AskError::Ended { name: self.name.to_string(), exit: exit.clone() });
                }
                Life::Alive { .. } | Life::Starting => {}
            }
            if seen.changed().await.is_err() {
                return Err(AskError::Ended { name: self.name.to_string(), exit: Exit::Stopped });
            }
        }
    }

    /// Stops the actor and its guardian; messages it has not handled yet are dropped.
    pub fn stop(&self) {
        self.guardian.stop(None);
    }
}
