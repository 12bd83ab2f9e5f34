//! Names in an output directory: which are data, which are ours, which are free.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mobula_actors::runtime::Disk;

use super::{Format, WriteMode};
use crate::io::error::{IoError, IoResult};
use crate::io::paths::is_hidden_name;

/// The name of a part.
pub(super) fn part_name(number: u64, format: Format) -> String {
    format!("part-{number:05}.{}", format.extension())
}

/// Whether the mode allows what is in the directory.
pub(super) fn check_content(disk: &dyn Disk, dir: &Path, mode: WriteMode, format: Format) -> IoResult<()> {
    let seen = visible_names(disk, dir)?.into_iter().map(|name| (name.clone(), dir.join(name)));
    check_seen(disk, dir, seen.collect(), mode, format)
}

/// Whether the mode allows these names in the directory, each with where its file is now.
pub(super) fn check_seen(
    disk: &dyn Disk,
    dir: &Path,
    seen: BTreeMap<String, PathBuf>,
    mode: WriteMode,
    format: Format,
) -> IoResult<()> {
    match mode {
        WriteMode::Append => Ok(()),
        WriteMode::Error => match seen.into_keys().next() {
            Some(file) => Err(IoError::OutputNotEmpty { dir: dir.to_owned(), file }),
            None => Ok(()),
        },
        WriteMode::Overwrite => match seen.into_iter().find(|(name, path)| !is_own(disk, path, name, format)) {
            Some((file, _)) => Err(IoError::OutputForeign { dir: dir.to_owned(), file, extension: format.extension() }),
            None => Ok(()),
        },
    }
}

fn is_own(disk: &dyn Disk, path: &Path, name: &str, format: Format) -> bool {
    let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(&format!(".{}", format.extension())));
    let own_name = number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit()));
    own_name && disk.is_file(path)
}

/// Names in a directory that are data, sorted; none if it is not there.
pub(super) fn visible_names(disk: &dyn Disk, dir: &Path) -> IoResult<Vec<String>> {
    let mut names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|e| IoError::write(dir, e))?,
    };
    names.retain(|name| !is_hidden_name(name));
    Ok(names)
}

/// One more than the highest number of a part that is there.
pub(super) fn next_number(disk: &dyn Disk, dir: &Path, format: Format) -> IoResult<u64> {
    let names = visible_names(disk, dir)?;
    let last = names.iter().filter_map(|name| number_of(name, format)).max();
    Ok(last.map_or(0, |last| last.saturating_add(1)))
}

/// The number of a part, if it has the name of one.
pub(super) fn number_of(name: &str, format: Format) -> Option<u64> {
    name.strip_prefix("part-")?.strip_suffix(&format!(".{}", format.extension()))?.parse().ok()
}
