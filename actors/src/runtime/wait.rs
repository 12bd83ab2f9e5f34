//! Waiting for a future on a thread that may wait, with a deadline.
//!
//! Asks of actors are answered in microseconds: the thread that asks polls the future itself and parks, rather than have
//! another thread do it and be woken by that.
//!
//! The thread may be that of an actor, in the midst of a task of tokio, which gives each poll of a task a budget: used up,
//! its channels and semaphores say that nothing has come until the task returns, which it does not while it waits here. So
//! what is waited for here is polled without a budget.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::task::unconstrained;

use super::env::Env;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// What the future gives; `None` if that takes longer than `time`.
pub(crate) fn within<F: Future>(env: &dyn Env, time: Duration, future: F) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(unconstrained(future)));
    let mut until = None;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let now = env.now();
        let until = *until.get_or_insert_with(|| now.saturating_add(time));
        if now >= until {
            return None;
        }
        thread::park_timeout(until - now);
    }
}

/// What the future gives, however long it takes.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(unconstrained(future))
}

#[cfg(test)]
mod tests {
    use super::super::env::SystemEnv;
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn what_comes_in_time_is_given_and_what_does_not_is_given_up() {
        let env = SystemEnv::new();
        let (tx, rx) = oneshot::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| tx.send(7).expect("it is waited for"));
            assert_eq!(within(&env, Duration::from_secs(60), rx), Some(Ok(7)));
        });
        let (_tx, rx) = oneshot::channel::<()>();
        assert_eq!(within(&env, Duration::from_millis(1), rx), None);
    }

    #[tokio::test]
    async fn a_task_may_wait_more_often_than_its_budget_allows() {
        let env = SystemEnv::new();
        for n in 0..1_000 {
            let (tx, rx) = oneshot::channel();
            tx.send(n).expect("it is waited for");
            assert_eq!(within(&env, Duration::from_secs(60), rx), Some(Ok(n)));
            let (tx, rx) = oneshot::channel();
            tx.send(n).expect("it is waited for");
            assert_eq!(block_on(rx), Ok(n));
        }
    }
}
