//! One actor on its node: its mailbox, its incarnations, what they die of, and its snapshot.
//!
//! A message is pushed while it holds a place of the mailbox. While the actor is between two incarnations messages wait in
//! a backlog, and so do those that the dead one had not begun with; the next incarnation gets them in their order before
//! anybody can push past them. Whoever asked something that the dead one had begun with is told once its guardian has
//! decided what comes next.

use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::dev::{ContextFut, channel};
use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, Addr, AsyncContext, Context};
use bytes::Bytes as Data;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ActorError;
use super::here::{self, Here};
use super::lanes::Seat;
use super::work::{Call, WireAnswer, WireCall, Work};
use super::{NamedActor, decode};
use crate::operator::BoxError;
use crate::runtime::env::SharedEnv;
use crate::runtime::guardian::{Guardian, GuardianArguments, Launch};
use crate::runtime::watch::{DeathWatch, guarded};
use crate::runtime::{Exit, RestartBudget};
use crate::task::wire::Blob;

/// What an actor is made of.
pub struct HostRequest {
    pub(crate) label: String,
    pub(crate) start: Arc<[u8]>,
    pub(crate) budget: RestartBudget,
    pub(crate) mailbox: usize,
    pub(crate) snapshot_every: Option<u64>,
    pub(crate) seat: Seat,
    pub(crate) here: Here,
    pub(crate) env: SharedEnv,
    /// Supervises its guardian.
    pub(crate) above: ractor::ActorCell,
    /// Called once it has ended by itself; `true` if nothing of it need be kept, `false` if it gave up.
    pub(crate) ended: Box<dyn Fn(bool) + Send + Sync>,
}

/// An actor whose type its registry entry knows alone.
pub trait AnyHosted: Send + Sync {
    /// Its mailbox: a permit for each message that waits or is handled.
    #[doc(hidden)]
    fn gate(&self) -> &Arc<Semaphore>;

    /// Pushes a message that has its place.
    #[doc(hidden)]
    fn deliver(self: Arc<Self>, message: u16, body: Data, place: OwnedSemaphorePermit, answer: WireAnswer);

    /// The incarnation that lives or is to come.
    ///
    /// # Errors
    /// How the actor ended.
    fn incarnation(&self) -> Result<u64, ActorError>;

    /// Whether the present incarnation has run its first lines; resolves once that is known.
    #[doc(hidden)]
    fn stands(self: Arc<Self>) -> BoxFuture<'static, Result<(), ActorError>>;

    /// Takes a snapshot now.
    #[doc(hidden)]
    fn snapshot(self: Arc<Self>) -> BoxFuture<'static, Result<(), ActorError>>;

    /// Ends it.
    fn stop(&self);

    /// Itself, for callers that know its type.
    #[doc(hidden)]
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Starts an actor; `#[mobula::actor]` names it.
pub fn host_actor<A: NamedActor>(request: HostRequest) -> BoxFuture<'static, Result<Arc<dyn AnyHosted>, BoxError>> {
    async move {
        let hosted = Hosted::<A>::spawn(request).await?;
        Ok(hosted as Arc<dyn AnyHosted>)
    }
    .boxed()
}

/// An actor while it handles a message.
pub struct Hosting<A: NamedActor> {
    pub(crate) home: Arc<Hosted<A>>,
    #[allow(dead_code, reason = "given back when the message is done with")]
    pub(crate) place: OwnedSemaphorePermit,
}

/// One actor.
pub(crate) struct Hosted<A: NamedActor> {
    state: Mutex<State<A>>,
    gate: Arc<Semaphore>,
    /// The incarnation that lives has panicked.
    dying: AtomicBool,
    handled: AtomicU64,
    snapshot_every: Option<u64>,
    /// What the next incarnation begins with.
    start: Mutex<Arc<[u8]>>,
    here: Here,
    env: SharedEnv,
    guardian: std::sync::OnceLock<ractor::ActorCell>,
}

type Victim = Box<dyn FnOnce(ActorError) + Send>;

struct State<A: NamedActor> {
    life: Life<A>,
    incarnation: u64,
    backlog: VecDeque<Work<A>>,
    /// Who is to be told what the incarnation died of.
    victims: Vec<Victim>,
    cause: String,
}

enum Life<A: NamedActor> {
    Starting,
    Alive(Addr<A>),
    Ended(ActorError),
}

impl<A: NamedActor> Hosted<A> {
    async fn spawn(request: HostRequest) -> Result<Arc<Self>, BoxError> {
        let HostRequest { label, start, budget, mailbox, snapshot_every, seat, here, env, above, ended, .. } = request;
        let state = State {
            life: Life::Starting,
            incarnation: 0,
            backlog: VecDeque::new(),
            victims: Vec::new(),
            cause: String::new(),
        };
        let hosted = Arc::new(Self {
            state: Mutex::new(state),
            gate: Arc::new(Semaphore::new(mailbox.max(1))),
            dying: AtomicBool::new(false),
            handled: AtomicU64::new(0),
            snapshot_every,
            start: Mutex::new(start),
            here,
            env: Arc::clone(&env),
            guardian: std::sync::OnceLock::new(),
        });
        let launch = Box::new(LaunchHosted { hosted: Arc::clone(&hosted), seat, ended });
        let arguments = GuardianArguments { name: label.into(), launch, budget, env };
        let (guardian, _) = ractor::Actor::spawn_linked(None, Guardian, arguments, above).await?;
        // Set once, here.
        let _ = hosted.guardian.set(guardian.get_cell());
        Ok(hosted)
    }

    pub(crate) fn now(&self) -> Duration {
        self.env.now()
    }

    /// The thread that it lives on, by number.
    pub(crate) fn lane(&self) -> Option<u64> {
        self.here.lane
    }

    /// Pushes a message that has its place.
    pub(crate) fn push(self: &Arc<Self>, call: Box<dyn Call<A>>, place: OwnedSemaphorePermit) {
        self.take_back(Work::new(call, place, self));
    }

    /// Pushes a message, or keeps it for the next incarnation.
    pub(crate) fn take_back(&self, work: Work<A>) {
        let mut state = self.lock();
        let address = match &state.life {
            Life::Alive(address) if address.connected() && !self.is_dying() => address.clone(),
            Life::Alive(_) | Life::Starting => return state.backlog.push_back(work),
            Life::Ended(error) => {
                let error = error.clone();
                drop(state);
                return work.fail(error);
            }
        };
        drop(state);
        // Refused by one that has just died, it comes back by its drop.
        let _ = address.try_send(work);
    }

    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    /// The incarnation dropped a message that it had begun with.
    pub(crate) fn died_with(&self, victim: Victim) {
        let mut state = self.lock();
        match &state.life {
            Life::Ended(error) => {
                let error = error.clone();
                drop(state);
                victim(error);
            }
            _ => state.victims.push(victim),
        }
    }

    /// A message is done with, but for its reply.
    pub(crate) fn handled(&self, actor: &A) {
        let Some(every) = self.snapshot_every else { return };
        if (self.handled.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
            && let Err(error) = self.keep_snapshot(actor)
        {
            tracing::warn!(actor = A::NAME, %error, "a snapshot was not taken; the last one stands");
        }
    }

    fn keep_snapshot(&self, actor: &A) -> Result<(), BoxError> {
        let take =
            A::SNAPSHOT.ok_or("it has none; say `snapshot` in `#[mobula::actor(..)]` and implement `Snapshot`")?;
        let snapshot = take(actor)?;
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.into();
        Ok(())
    }

    /// An incarnation is up: it gets what waits first.
    fn stand(&self, incarnation: u64, address: Addr<A>) {
        self.dying.store(false, Ordering::Release);
        let mut state = self.lock();
        state.incarnation = incarnation;
        if matches!(state.life, Life::Ended(_)) {
            return;
        }
        while let Some(work) = state.backlog.pop_front() {
            if let Err(error) = address.clone().try_send(work) {
                // Dead already: it stays first, and the next one gets it.
                state.backlog.push_front(error.into_inner());
                break;
            }
        }
        state.life = Life::Alive(address);
    }

    /// An incarnation is over.
    fn fell(&self, exit: &Exit, restarting: bool) {
        let mut state = self.lock();
        let cause = match exit {
            Exit::Failed(error) => crate::job::texts(&***error).join(": "),
            _ => std::mem::take(&mut state.cause),
        };
        let error = match (exit, restarting) {
            (_, true) => ActorError::Panicked { cause, incarnation: state.incarnation + 1 },
            (Exit::Stopped, false) => ActorError::NotHere,
            (_, false) => ActorError::GaveUp { restarts: state.incarnation, cause },
        };
        if restarting && !matches!(state.life, Life::Ended(_)) {
            state.life = Life::Starting;
            let victims = std::mem::take(&mut state.victims);
            drop(state);
            victims.into_iter().for_each(|victim| victim(error.clone()));
        } else {
            drop(state);
            self.end(error);
        }
    }

    /// It answers no more, by this error; the first one stands.
    fn end(&self, error: ActorError) {
        let mut state = self.lock();
        if !matches!(state.life, Life::Ended(_)) {
            state.life = Life::Ended(error.clone());
        }
        let (victims, backlog) = (std::mem::take(&mut state.victims), std::mem::take(&mut state.backlog));
        drop(state);
        victims.into_iter().for_each(|victim| victim(error.clone()));
        backlog.into_iter().for_each(|work| work.fail(error.clone()));
    }

    fn build(&self) -> Result<A, BoxError> {
        let start = Arc::clone(&*self.start.lock().unwrap_or_else(PoisonError::into_inner));
        match guarded(|| decode("start state", &start)) {
            Ok(Ok(actor)) => Ok(actor),
            Ok(Err(error)) | Err(error) => {
                Err(format!("could not be built: {}", crate::job::texts(&*error).join(": ")).into())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: NamedActor> AnyHosted for Hosted<A> {
    fn gate(&self) -> &Arc<Semaphore> {
        &self.gate
    }

    fn deliver(self: Arc<Self>, message: u16, body: Data, place: OwnedSemaphorePermit, answer: WireAnswer) {
        match A::MESSAGES.get(usize::from(message)) {
            Some(entry) => self.push((entry.call)(WireCall { body: Blob(body), answer }), place),
            None => answer.fail(ActorError::Refused(format!("{} has no message {message}", A::NAME))),
        }
    }

    fn incarnation(&self) -> Result<u64, ActorError> {
        let state = self.lock();
        match &state.life {
            Life::Ended(error) => Err(error.clone()),
            Life::Starting => Ok(state.incarnation + 1),
            Life::Alive(_) => Ok(state.incarnation),
        }
    }

    fn stands(self: Arc<Self>) -> BoxFuture<'static, Result<(), ActorError>> {
        visit(self, |_, _| Ok(()))
    }

    fn snapshot(self: Arc<Self>) -> BoxFuture<'static, Result<(), ActorError>> {
        visit(self, |home, actor| home.keep_snapshot(actor).map_err(ActorError::refused))
    }

    fn stop(&self) {
        self.end(ActorError::NotHere);
        if let Some(guardian) = self.guardian.get() {
            guardian.stop(None);
        }
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Looks at an actor between two messages.
fn visit<A: NamedActor>(home: Arc<Hosted<A>>, look: Look<A>) -> BoxFuture<'static, Result<(), ActorError>> {
    async move {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let place = Arc::clone(&home.gate).acquire_owned().await.map_err(|_| ActorError::NotHere)?;
        home.push(Box::new(Visit { look, answer }), place);
        drop(home);
        answered.await.unwrap_or_else(|_| Err(ActorError::Refused("the actor died meanwhile; ask again".to_owned())))
    }
    .boxed()
}

type Look<A> = fn(&Hosted<A>, &A) -> Result<(), ActorError>;

struct Visit<A: NamedActor> {
    look: Look<A>,
    answer: tokio::sync::oneshot::Sender<Result<(), ActorError>>,
}

impl<A: NamedActor> Call<A> for Visit<A> {
    fn run(self: Box<Self>, actor: &mut A, _: &mut Context<A>, hosting: Hosting<A>) {
        // Who asked may have given up.
        let _ = self.answer.send((self.look)(&hosting.home, actor));
    }

    fn fail(self: Box<Self>, error: ActorError) {
        let _ = self.answer.send(Err(error));
    }
}

/// What starts the incarnations of an actor.
struct LaunchHosted<A: NamedActor> {
    hosted: Arc<Hosted<A>>,
    seat: Seat,
    ended: Box<dyn Fn(bool) + Send + Sync>,
}

impl<A: NamedActor> Launch for LaunchHosted<A> {
    fn launch(&mut self, incarnation: u64, watch: DeathWatch) {
        let (tx, rx) = channel::channel(1);
        let (hosted, seat) = (Arc::clone(&self.hosted), self.seat.clone());
        // A thread that is gone drops this, and with it the watch, which reports the end.
        self.seat.handle().spawn_fn(move || Body::start(hosted, seat, watch, rx));
        self.hosted.stand(incarnation, Addr::new(tx));
    }

    fn ended(&mut self, _incarnation: u64, exit: &Exit, restarting: bool) {
        self.hosted.fell(exit, restarting);
        if !restarting {
            (self.ended)(matches!(exit, Exit::Stopped));
        }
    }
}

/// An incarnation as its thread runs it. A panic of its actor ends here, with its text.
struct Body<A: NamedActor> {
    run: Option<Pin<Box<ContextFut<A, Context<A>>>>>,
    hosted: Arc<Hosted<A>>,
    /// Behind the actor: it reports when all of the incarnation is gone.
    watch: Option<DeathWatch>,
    _seat: Seat,
}

impl<A: NamedActor> Body<A> {
    fn start(hosted: Arc<Hosted<A>>, seat: Seat, mut watch: DeathWatch, rx: channel::AddressReceiver<A>) {
        let _here = here::enter(hosted.here.clone());
        match hosted.build() {
            Ok(actor) => {
                let mut ctx = Context::with_receiver(rx);
                ctx.spawn(wrap_future(watch.told_to_end()).map(|(), _, ctx: &mut Context<A>| ctx.stop()));
                let run = Some(Box::pin(ctx.into_future(actor)));
                actix_rt::spawn(Self { run, hosted, watch: Some(watch), _seat: seat });
            }
            Err(error) => {
                // What waits in its mailbox goes to the backlog first.
                drop(rx);
                watch.reason().set(Exit::Failed(Arc::new(error)));
            }
        }
    }

    fn end(&mut self, panic: Option<BoxError>) {
        if let Some(panic) = panic {
            self.hosted.dying.store(true, Ordering::Release);
            self.hosted.lock().cause = panic.to_string();
            if let Some(watch) = &self.watch {
                watch.reason().set(Exit::Panicked);
            }
        }
        let run = self.run.take();
        if let Err(error) = guarded(|| drop(run)) {
            tracing::debug!(actor = A::NAME, %error, "an actor panicked on its way out");
        }
        self.watch = None;
    }
}

impl<A: NamedActor> Future for Body<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let _here = here::enter(self.hosted.here.clone());
        let this = &mut *self;
        let Some(run) = &mut this.run else { return Poll::Ready(()) };
        match guarded(|| run.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => this.end(None),
            Err(panic) => this.end(Some(panic)),
        }
        Poll::Ready(())
    }
}

impl<A: NamedActor> Drop for Body<A> {
    fn drop(&mut self) {
        let _here = here::enter(self.hosted.here.clone());
        self.end(None);
    }
}
