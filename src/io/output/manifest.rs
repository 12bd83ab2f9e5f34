//! The manifest: the files that a finished job made visible, as JSON for whoever wants to check them.

use std::path::Path;

use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

use super::Written;
use super::folder::Folder;
use super::skips::LeftOut;

/// What a job made visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u32,
    /// Rows in all files.
    pub(crate) rows: u64,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// The files, in the order of the rows.
    pub(crate) files: Vec<ManifestFile>,
    /// Rows of the input that were given up.
    #[serde(default)]
    pub(crate) given_up: u64,
    /// Parts of the input that could not be read and were left out.
    #[serde(default)]
    pub(crate) left_out: LeftOut,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// Its name in the output directory.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3 of its bytes, 64 bits, as hexadecimal digits.
    pub(crate) xxh3: String,
}

const VERSION: u32 = 1;

impl Manifest {
    pub(super) fn new(files: Vec<ManifestFile>, given_up: u64, left_out: LeftOut) -> Self {
        let sum = |of: fn(&ManifestFile) -> u64| files.iter().map(of).sum();
        Self { version: VERSION, rows: sum(|file| file.rows), bytes: sum(|file| file.bytes), files, given_up, left_out }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|manifest| manifest.version == VERSION)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// What was written, as callers see it.
    pub(super) fn written(&self, dir: &Path, folder: &Folder) -> Written {
        let files = self.files.iter().map(|file| dir.join(&file.name)).collect();
        let dead_letters = (self.given_up > 0).then(|| folder.dead_letters());
        let (rows, bytes, left_out) = (Rows(self.rows), Bytes(self.bytes), self.left_out.clone());
        Written { files, rows, bytes, given_up: self.given_up, dead_letters, left_out }
    }
}
