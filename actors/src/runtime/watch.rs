//! How the death of an actix actor is noticed: actix tells nobody, so a guard that lives in the actor's context does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, ActorContext, AsyncContext, Context};
use tokio::sync::oneshot;

use crate::operator::BoxError;

/// How an actor ended.
#[derive(Debug, Clone)]
pub enum Exit {
    /// In good order: it stopped itself or was told to.
    Stopped,
    /// It panicked in one of its own handlers.
    Panicked,
    /// It could not start, or gave up, and says why.
    Failed(Arc<BoxError>),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("it stopped"),
            Self::Panicked => f.write_str("it panicked"),
            Self::Failed(cause) => cause.fmt(f),
        }
    }
}

/// Reports the end of one incarnation of an actor exactly once, when it is dropped with the actor's context: on stop,
/// on a panic, when its arbiter goes, or when its start closure never ran.
pub(crate) struct DeathWatch {
    reason: ExitReason,
    on_exit: Option<Box<dyn FnOnce(Exit) + Send>>,
    end: Option<oneshot::Receiver<()>>,
}

/// Where an actor leaves the reason for its end before it stops itself.
#[derive(Clone, Default)]
pub(crate) struct ExitReason(Arc<Mutex<Option<Exit>>>);

impl ExitReason {
    /// The first reason counts.
    pub(crate) fn set(&self, exit: Exit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(exit);
    }

    fn take(&self) -> Option<Exit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl DeathWatch {
    /// A watch that reports to `on_exit`, and the end of a line: when that is dropped, the actor stops.
    pub(crate) fn new(on_exit: impl FnOnce(Exit) + Send + 'static) -> (Self, Lifeline) {
        let (lifeline, end) = oneshot::channel();
        let watch = Self { reason: ExitReason::default(), on_exit: Some(Box::new(on_exit)), end: Some(end) };
        (watch, Lifeline { _end: lifeline })
    }

    /// Where the actor may leave its reason.
    pub(crate) fn reason(&self) -> ExitReason {
        self.reason.clone()
    }

    /// Resolves when the actor is to stop: for an actor whose watch is kept outside its context.
    pub(crate) fn told_to_end(&mut self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let end = self.end.take();
        async move {
            if let Some(end) = end {
                // Said or dropped, it means the same.
                let _ = end.await;
            }
        }
    }

    /// Ties the watch to an actor: it lives in a future of the actor's context, which goes with the context.
    pub(crate) fn attach<A: Actor<Context = Context<A>>>(mut self, ctx: &mut Context<A>) {
        let end = self.end.take();
        let until_the_line_is_cut = async move {
            if let Some(end) = end {
                let _ = end.await;
            }
            self
        };
        ctx.spawn(wrap_future(until_the_line_is_cut).map(|watch, _, ctx: &mut Context<A>| {
            ctx.stop();
            drop(watch);
        }));
    }
}

/// Keeps a watched actor alive; its drop stops the actor.
pub(crate) struct Lifeline {
    _end: oneshot::Sender<()>,
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        let fallback = if std::thread::panicking() { Exit::Panicked } else { Exit::Stopped };
        let exit = self.reason.take().unwrap_or(fallback);
        if let Some(report) = self.on_exit.take() {
            // This runs while a panic unwinds; a second panic would abort the process.
            let _ = catch_unwind(AssertUnwindSafe(|| report(exit)));
        }
    }
}

/// The panic of user code, as an error.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub(crate) struct UserPanic(String);

/// Runs user code and turns a panic into an error ([`UserPanic`]) with the panic's text.
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, BoxError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| UserPanic(panic_text(&*panic)).into())
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no text)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let error = guarded(|| panic!("row {} is odd", 3)).expect_err("it panicked");
        assert_eq!(error.to_string(), "panicked: row 3 is odd");
    }

    #[test]
    fn a_watch_reports_once_and_keeps_the_first_reason() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let (watch, _lifeline) = DeathWatch::new(move |exit| log.lock().expect("not poisoned").push(exit.to_string()));
        watch.reason().set(Exit::Failed(Arc::new("no model".into())));
        watch.reason().set(Exit::Stopped);
        drop(watch);
        assert_eq!(*seen.lock().expect("not poisoned"), ["no model"]);
    }
}
