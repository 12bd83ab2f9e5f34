//! Supervised actors without any data: spawn one, crash it, see it come back; crash it too often, see it given up.
//!
//!     cargo run --example actor_system
//!
//! What one learns: an actor runs on a thread of its own under a guardian. A panic ends the incarnation, not the process;
//! the guardian builds a fresh one as long as the restart budget allows. Callers hold a `Supervised`, which always
//! leads to the incarnation that lives now.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use mobula::actix::{Actor, Context, Handler, Message};
use mobula_actors::runtime::{ActorSystem, RestartBudget};

/// An account; a fresh incarnation begins with nothing.
struct Account {
    balance: u32,
}

impl Actor for Account {
    type Context = Context<Self>;
}

/// Puts money in; the answer is the balance.
struct Deposit(u32);

impl Message for Deposit {
    type Result = u32;
}

impl Handler<Deposit> for Account {
    type Result = u32;

    fn handle(&mut self, message: Deposit, _: &mut Context<Self>) -> u32 {
        self.balance += message.0;
        self.balance
    }
}

/// A message that the actor cannot survive.
struct Crash;

impl Message for Crash {
    type Result = ();
}

impl Handler<Crash> for Account {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("a bug in the account");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const SOON: Duration = Duration::from_secs(5);
    let system = ActorSystem::start()?;
    // At most two restarts in a minute.
    let budget = RestartBudget::new(2, Duration::from_secs(60));
    let account = system.spawn("account", budget, |incarnation| {
        println!("incarnation {incarnation} starts");
        Account { balance: 0 }
    })?;

    account.ask(Deposit(40), SOON)?;
    println!("balance: {}", account.ask(Deposit(2), SOON)?);

    for _ in 0..2 {
        let error = account.ask(Crash, SOON).expect_err("a crashed actor gives no answer");
        println!("crashed: {error}");
        println!("balance after it came back: {}", account.ask(Deposit(1), SOON)?);
    }

    // The third crash is one too many.
    let _ = account.ask(Crash, SOON);
    match account.ask(Deposit(1), SOON) {
        Ok(balance) => println!("still there with {balance}"),
        Err(error) => println!("given up: {error}"),
    }
    Ok(())
}
