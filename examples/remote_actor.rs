//! An actor on another node: asked over the network, crashed, restarted there, and lost with its node.
//!
//!     cargo run --example remote_actor
//!
//! What one learns: a value of a registered type is the start state of an actor on whatever node one names. It lives there on a
//! thread of its own under a guardian: a panic costs what it had learnt since, not the node. Who asks gets an answer or a
//! typed reason, within a deadline. All processes run one binary, so this program is its own head and its own node.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;

use std::error::Error;
use std::time::Duration;

use mobula::cluster::{RemoteActor, RemoteError, RemoteHandle, RestartBudget};
use processes::Processes;
use serde::{Deserialize, Serialize};

/// An account. What is written here travels, and each incarnation begins with it.
#[derive(Serialize, Deserialize)]
struct Account {
    balance: i64,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Deposit(i64),
    Withdraw(i64),
}

/// The balance, and the process that keeps it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Statement {
    balance: i64,
    process: u32,
}

#[mobula::remote_actor(name = "account@1")]
impl RemoteActor for Account {
    type Request = Request;
    type Reply = Statement;

    fn handle(&mut self, request: Request) -> Statement {
        match request {
            Request::Deposit(amount) => self.balance += amount,
            Request::Withdraw(amount) if amount > self.balance => panic!("{} is less than {amount}", self.balance),
            Request::Withdraw(amount) => self.balance -= amount,
        }
        Statement { balance: self.balance, process: std::process::id() }
    }
}

fn ask(account: &RemoteHandle<Account>, request: Request) -> Result<Statement, RemoteError> {
    account.ask(request, Duration::from_secs(10))
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let mut cluster = Processes::start(&[""])?;
    let driver = cluster.driver()?;

    // At most one restart in a minute.
    let budget = RestartBudget::new(1, Duration::from_secs(60));
    let account = driver.spawn_actor("node-1", Account { balance: 10 }, budget.clone())?;
    let statement = ask(&account, Request::Deposit(32))?;
    println!("balance: {}", statement.balance);
    println!("kept in the process of the node: {}", cluster.ids() == [statement.process]);

    let crashed = ask(&account, Request::Withdraw(50)).expect_err("the account has a bug");
    println!("crashed: {crashed}");
    println!("balance of incarnation {}: {}", account.incarnation()?, ask(&account, Request::Deposit(1))?.balance);

    // The second crash is one too many.
    let crashed = ask(&account, Request::Withdraw(50)).expect_err("the bug is still there");
    println!("crashed: {crashed}");
    println!("given up: {}", ask(&account, Request::Deposit(1)).is_err());

    let other = driver.spawn_actor("node-1", Account { balance: 0 }, budget)?;
    cluster.kill(0)?;
    match ask(&other, Request::Deposit(1)) {
        Err(lost @ RemoteError::NodeLost) => println!("the node was killed: {lost}"),
        other => println!("the node was killed, and yet: {other:?}"),
    }
    Ok(())
}
