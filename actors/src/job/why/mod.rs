//! Why a job stands still: who waits for whom, down to a call of user code, a port, a lease or another node.
//!
//! [`picture`] is what the parts of a job say of themselves, [`parties`] makes a graph of it, [`graph`] finds the root
//! causes and who waits because of them, [`stall`] says when to look without being asked. All of it is pure; who asks the
//! parts is the job's actor (`gather`).

pub(crate) mod gather;
mod graph;
mod parties;
pub(crate) mod picture;
pub(crate) mod stall;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use parties::{Parties, Party};
use picture::JobPicture;

/// Root causes that an answer lists; of a job whose workers all compute there are as many as workers.
const CAUSES_MAX: usize = 16;
/// Those who wait that are listed behind one cause.
const WAITING_MAX: usize = 64;
/// Lines are not indented further than so many steps.
const INDENT_MAX: usize = 12;

/// What a job waits for at one moment, root causes first.
///
/// Its text has a line for each cause, and behind it, indented, those who wait because of it:
///
/// ```text
/// worker 0 of "score" has been in user code for 61 s, task 3 (700 rows), attempt 1, rows 0 to 700
///   <- task 3 of "score" (700 rows), attempt 1, is under way
///     <- operator "score" waits for the oldest of its 2 tasks
///       <- the port of operator "score" is full: 4 blocks of 32 MiB (it may hold 32 MiB)
///         <- operator "read" waits to pass 8 MiB on for 60 s
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The causes, those that last longest first.
    pub causes: Vec<Cause>,
    /// Causes beyond those that are listed.
    pub more: usize,
}

/// A root cause and those who wait because of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Who waits for nobody else; or those who wait for each other, each for the next and the last for the first.
    pub root: Vec<String>,
    /// Whether they wait for each other: none of them will ever go on.
    pub is_cycle: bool,
    /// The others, each with its depth: it waits for the nearest before it that is one step less deep. The root is at 0.
    pub waiting: Vec<(usize, String)>,
    /// Those beyond the ones that are listed.
    pub more: usize,
}

impl Why {
    /// What a picture tells.
    pub(crate) fn of(picture: &JobPicture) -> Self {
        let parties = Parties::of(picture);
        let mut chains = parties.graph.chains();
        // A cycle goes before all: it will not end.
        chains.sort_by_key(|chain| !chain.is_cycle);
        let more = chains.len().saturating_sub(CAUSES_MAX);
        let says = |party: &Party| parties.says(party).to_owned();
        let causes = chains.iter().take(CAUSES_MAX).map(|chain| Cause {
            root: chain.root.iter().map(says).collect(),
            is_cycle: chain.is_cycle,
            waiting: chain.waiting.iter().take(WAITING_MAX).map(|(depth, party)| (*depth, says(party))).collect(),
            more: chain.waiting.len().saturating_sub(WAITING_MAX),
        });
        Self { causes: causes.collect(), more }
    }

    /// The same with texts that may be shown on a terminal, whoever they are from.
    pub(crate) fn cleaned(mut self) -> Self {
        let clean = |text: &mut String| *text = crate::logs::cleaned(text).into_owned();
        for cause in &mut self.causes {
            cause.root.iter_mut().for_each(clean);
            cause.waiting.iter_mut().for_each(|(_, text)| clean(text));
        }
        self
    }

    /// Its lines, as its text has them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.causes.iter().flat_map(Cause::lines).collect();
        if self.more > 0 {
            lines.push(format!("and {} more causes", self.more));
        }
        lines
    }
}

impl Cause {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![match self.is_cycle {
            false => self.root.join("; "),
            true => format!("these wait for each other, each for the next: {}", self.root.join(" -> ")),
        }];
        let line = |(depth, text): &(usize, String)| format!("{}<- {text}", "  ".repeat((*depth).min(INDENT_MAX)));
        lines.extend(self.waiting.iter().map(line));
        if self.more > 0 {
            lines.push(format!("  <- and {} more", self.more));
        }
        lines
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.causes.is_empty() {
            true => f.write_str("nothing of it waits; it has ended, or is about to"),
            false => f.write_str(&self.lines().join("\n")),
        }
    }
}
