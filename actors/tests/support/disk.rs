//! What spilling leaves on a disk, as a test sees it.

use std::path::{Path, PathBuf};
use std::time::Instant;

/// Waits until it is so, but not for ever.
#[track_caller]
#[allow(clippy::disallowed_methods)]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 60, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Files of spilled blocks below a folder.
pub(crate) fn spilled_files(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    below(dir).iter().flat_map(|dir| below(dir)).filter(|path| path.extension().is_some()).collect()
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("it is there").next().is_none()
}

/// Changes a byte in each file that is whole.
pub(crate) fn damage_all(dir: &Path) -> Vec<PathBuf> {
    let files = spilled_files(dir);
    for path in &files {
        let mut bytes = std::fs::read(path).unwrap_or_default();
        if let Some(byte) = bytes.get_mut(40) {
            *byte ^= 0xff;
            std::fs::write(path, bytes).expect("written");
        }
    }
    files
}
