//! Asks the parts of a job what they wait for. Each has a time to answer; one that does not is named as silent.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Why;
use super::picture::{JobPicture, OperatorPicture, PlacedPool};
use crate::cluster::sites::SitesMessage;
use crate::job::actor::Running;
use crate::job::taker::Taker;
use crate::operator::shell::{AskWhy, ShellAnswer};
use crate::pool::supervisor::PoolHandle;
use crate::runtime::tell::tell;

/// An operator's actor answers from memory, between two messages.
const SHELL_TIME: Duration = Duration::from_secs(1);
/// Nodes have a second ([`crate::cluster::sites`]); their answer has a while to get here.
const POOL_TIME: Duration = Duration::from_secs(2);

/// The parts answer one after another. So a thing that changed hands meanwhile may look as if two waited for each other:
/// a cycle counts if it is still there after this time, at each of so many looks.
const SETTLE: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 4;

/// Who waits for whom.
pub(crate) async fn ask(operators: Vec<Running>, taker: Taker) -> Why {
    let mut why = Why::of(&look(&operators, &taker).await);
    for _ in 1..LOOKS_MAX {
        if !why.causes.iter().any(|cause| cause.is_cycle) {
            break;
        }
        sleep(SETTLE).await;
        why = Why::of(&look(&operators, &taker).await);
    }
    why
}

/// What the operators and whoever takes the results say.
async fn look(operators: &[Running], taker: &Taker) -> JobPicture {
    let operators = join_all(operators.iter().cloned().map(operator)).await;
    JobPicture { operators, driver: taker.picture() }
}

async fn operator(running: Running) -> OperatorPicture {
    let (ask, answer) = oneshot::channel();
    tell(&running.shell, AskWhy(ask));
    let answer = timeout(SHELL_TIME, answer).await.ok().and_then(Result::ok);
    let (shell, supervisor) = match answer {
        Some(ShellAnswer { picture, supervisor }) => (Some(picture), supervisor),
        None => (None, None),
    };
    let pools = match supervisor {
        Some(PoolHandle::Here(_)) => {
            let pool = timeout(POOL_TIME, running.pool.picture(Vec::new())).await.ok();
            vec![PlacedPool { pool, silent: POOL_TIME, ..PlacedPool::default() }]
        }
        Some(PoolHandle::Sites(sites)) => {
            let asked = async { ractor::call!(sites, SitesMessage::Why).unwrap_or_default() };
            timeout(POOL_TIME, asked).await.unwrap_or_default()
        }
        None => Vec::new(),
    };
    OperatorPicture { name: running.name, inputs: running.inputs, shell, pools }
}
