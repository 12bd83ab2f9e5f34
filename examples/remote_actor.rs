//! An actor on another node: asked over the network, crashed, restarted there, and lost with its node.
//!
//!     cargo run --example remote_actor
//!
//! What one learns: an actix actor with handlers for serde messages can be spawned on whatever node one names; its value is
//! its start state. It lives there under a guardian: a panic costs what it had learnt since, not the node. Who asks gets an
//! answer or a typed reason, within a deadline. A name finds it from anywhere in the cluster. All processes run one binary,
//! so this program is its own head and its own node.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/processes.rs"]
mod processes;

use std::error::Error;
use std::time::Duration;

use mobula::actix::{Actor, Context, Handler, Message, MessageResult};
use mobula::actor::ActorError;
use mobula::cluster::RestartBudget;
use processes::Processes;
use serde::{Deserialize, Serialize};

/// An account. What is written here travels, and each incarnation begins with it.
#[derive(Serialize, Deserialize)]
struct Account {
    balance: i64,
}

#[mobula::actor(name = "account@1", messages(Deposit, Withdraw))]
impl Actor for Account {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Statement")]
struct Deposit(i64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Statement")]
struct Withdraw(i64);

/// The balance, and the process that keeps it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Statement {
    balance: i64,
    process: u32,
}

impl Handler<Deposit> for Account {
    type Result = MessageResult<Deposit>;

    fn handle(&mut self, Deposit(amount): Deposit, _: &mut Context<Self>) -> Self::Result {
        self.balance += amount;
        MessageResult(Statement { balance: self.balance, process: std::process::id() })
    }
}

impl Handler<Withdraw> for Account {
    type Result = MessageResult<Withdraw>;

    fn handle(&mut self, Withdraw(amount): Withdraw, _: &mut Context<Self>) -> Self::Result {
        assert!(amount <= self.balance, "{} is less than {amount}", self.balance);
        self.balance -= amount;
        MessageResult(Statement { balance: self.balance, process: std::process::id() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let mut cluster = Processes::start(&[""])?;
    let session = cluster.connect()?;

    // At most one restart in a minute.
    let spawn = |balance| {
        let budget = RestartBudget::new(1, Duration::from_secs(60));
        session.spawn(Account { balance }).on("node-1").restarts(budget)
    };
    let account = spawn(10).name("the account").start()?;
    let statement = account.ask(Deposit(32))?;
    println!("balance: {}", statement.balance);
    println!("kept in the process of the node: {}", cluster.ids() == [statement.process]);

    let crashed = account.ask(Withdraw(50)).expect_err("the account has a bug");
    println!("crashed: {crashed}");
    let found = session.actor::<Account>("the account")?;
    println!("balance of incarnation {}: {}", found.incarnation()?, found.ask(Deposit(1))?.balance);

    // The second crash is one too many.
    let crashed = account.ask(Withdraw(50)).expect_err("the bug is still there");
    println!("crashed: {crashed}");
    println!("given up: {}", account.ask(Deposit(1)).is_err());

    let other = spawn(0).start()?;
    cluster.kill(0)?;
    match other.ask(Deposit(1)) {
        Err(lost @ ActorError::NodeLost) => println!("the node was killed: {lost}"),
        other => println!("the node was killed, and yet: {other:?}"),
    }
    Ok(())
}
