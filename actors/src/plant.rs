//! Bugs that are planted on purpose, to see that the simulation finds them: each leaves out one thing that recovery stands
//! on. They are in no build but with the feature `plant`, which only tests use.

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "plant"), allow(unreachable_pub, reason = "nobody sees it in this build"))]
pub enum Bug {
    /// What a lost node had under way is done again, and what it had done already counts too.
    RequeueUnfenced = 1,
    /// Room that was taken is not given back.
    LeakPermit,
    /// The ledger is written and not synced.
    SkipFsync,
    /// Results count as recorded before the ledger says so, and whatever it says.
    AcknowledgeFirst,
    /// A node that joins again is taken for the life that it had before, whose work and blocks still count.
    SkipIncarnation,
}

#[cfg(feature = "plant")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a bug in this process, in place of the one before.
#[cfg(feature = "plant")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "plant")]
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// No bug is planted in this build.
#[cfg(not(feature = "plant"))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
