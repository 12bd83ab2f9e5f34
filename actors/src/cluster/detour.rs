//! Which way to a peer's blocks: straight to it, or through the head. Pure: time comes from outside.
//!
//! A way that is blocked is looked at again now and then, while blocks go on to come through the head: whoever needs one
//! never waits for a look.

use std::time::Duration;

/// Pause between two looks whether a blocked way is open again. Shorter: a firewall that is there to stay costs handshakes.
/// Longer: the head goes on to carry what need not go through it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is known of the way to one peer.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    /// When to look again, if it is blocked.
    look_at: Option<Duration>,
}

/// Where to ask for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The peer itself.
    Straight,
    /// The head; `look` says that it is time to see whether the peer can be reached.
    ThroughHead { look: bool },
}

impl Detour {
    /// The way to take now.
    pub(crate) fn way(&mut self, now: Duration) -> Way {
        let Some(look_at) = &mut self.look_at else { return Way::Straight };
        let look = *look_at <= now;
        if look {
            *look_at = now + LOOK_AGAIN;
        }
        Way::ThroughHead { look }
    }

    /// The peer could not be reached.
    pub(crate) fn blocked(&mut self, now: Duration) {
        self.look_at = Some(now + LOOK_AGAIN);
    }

    /// The connection to the peer was lost: it may be back at once, but nobody waits for it.
    pub(crate) fn lost(&mut self, now: Duration) {
        self.look_at = Some(now);
    }

    /// The peer was reached.
    pub(crate) fn open(&mut self) {
        self.look_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_blocked_way_is_looked_at_once_in_a_while_and_nobody_waits_for_it() {
        let mut detour = Detour::default();
        assert_eq!(detour.way(at(0)), Way::Straight);
        detour.blocked(at(1));
        assert_eq!(detour.way(at(1)), Way::ThroughHead { look: false });
        assert_eq!(detour.way(at(11)), Way::ThroughHead { look: true });
        assert_eq!(detour.way(at(11)), Way::ThroughHead { look: false }, "one looks, the others go on");
        detour.open();
        assert_eq!(detour.way(at(12)), Way::Straight);
    }

    #[test]
    fn a_connection_that_was_lost_is_looked_for_at_once() {
        let mut detour = Detour::default();
        detour.lost(at(5));
        assert_eq!(detour.way(at(5)), Way::ThroughHead { look: true });
        assert_eq!(detour.way(at(5)), Way::ThroughHead { look: false });
    }
}
