//! What a node says about itself when it joins. It comes from another process, so it is checked before it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::Resources;

/// Labels, and named extras, of one node.
pub const ABOUT_ENTRIES_MAX: usize = 64;

/// Bytes of each text that a node says about itself: enough for a DNS name or a URL, and a member stays below 64 KiB.
pub const ABOUT_TEXT_MAX: usize = 256;

/// The largest amount of cpus, gpus or an extra that is believed: above it, thousandths are no longer exact as `f64`.
pub const AMOUNT_MAX: f64 = 1e9;

/// Facts about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// What it has.
    pub resources: Resources,
    /// What its operator calls it by, for placement (`zone` = `a`).
    pub labels: BTreeMap<String, String>,
    /// Where it listens.
    pub address: String,
    /// Version of its program.
    pub version: String,
}

/// Why facts about a node are not believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AboutError {
    /// There are too many labels or extras.
    #[error("it has {entries} {what}; at most {ABOUT_ENTRIES_MAX} are kept")]
    Entries {
        /// `labels` or `extras`.
        what: &'static str,
        /// How many.
        entries: usize,
    },
    /// A text is too long.
    #[error("its {what} has {bytes} bytes; at most {ABOUT_TEXT_MAX} are kept")]
    Text {
        /// Which text.
        what: &'static str,
        /// How long.
        bytes: usize,
    },
    /// An amount is below zero, not a number, or absurd.
    #[error("its amount of {what} is {amount}; 0 to {AMOUNT_MAX} are believed")]
    Amount {
        /// Of what.
        what: String,
        /// How much.
        amount: f64,
    },
}

impl About {
    /// Checks sizes and amounts.
    ///
    /// # Errors
    /// Naming the first fact that is out of its limits.
    pub fn check(&self) -> Result<(), AboutError> {
        let extras = &self.resources.extras;
        for (what, entries) in [("labels", self.labels.len()), ("extras", extras.len())] {
            if entries > ABOUT_ENTRIES_MAX {
                return Err(AboutError::Entries { what, entries });
            }
        }
        let labels = self.labels.iter().flat_map(|(name, value)| [("label", name), ("label", value)]);
        let names = extras.keys().map(|name| ("extra", name));
        let mut texts = labels.chain(names).chain([("address", &self.address), ("version", &self.version)]);
        if let Some((what, text)) = texts.find(|(_, text)| text.len() > ABOUT_TEXT_MAX) {
            return Err(AboutError::Text { what, bytes: text.len() });
        }
        let extras = extras.iter().map(|(name, amount)| (name.as_str(), *amount));
        let mut amounts = [("cpus", self.resources.cpus), ("gpus", self.resources.gpus)].into_iter().chain(extras);
        match amounts.find(|(_, amount)| !(0.0..=AMOUNT_MAX).contains(amount)) {
            Some((what, amount)) => Err(AboutError::Amount { what: what.to_owned(), amount }),
            None => Ok(()),
        }
    }
}
