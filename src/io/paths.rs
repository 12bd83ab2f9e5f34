//! From what a user names (files, directories, globs) to the files to read, in an order that never changes.
//!
//! Names that start with `_` or `.` are skipped below what was named: by convention they are not data (output that is
//! still being written is hidden that way). `~` is not expanded; the shell does that.

use std::path::{Component, Path, PathBuf};

use super::error::{IoError, IoResult, current_dir};

/// What can be given as the paths to read: one or several of `&str`, `String`, `&Path`, `PathBuf`, each a file, a
/// directory or a glob.
///
/// ```
/// use mobula::io::IntoPaths;
/// assert_eq!("data/*.parquet".into_paths().len(), 1);
/// assert_eq!(["2009-01", "2009-02"].into_paths().len(), 2);
/// ```
pub trait IntoPaths {
    /// The paths, in the order they were named.
    fn into_paths(self) -> Vec<PathBuf>;
}

macro_rules! one_path {
    ($($type:ty),*) => {$(
        impl IntoPaths for $type {
            fn into_paths(self) -> Vec<PathBuf> {
                vec![PathBuf::from(self)]
            }
        }
    )*};
}
one_path!(&str, String, &String, &Path, PathBuf);

impl IntoPaths for &PathBuf {
    fn into_paths(self) -> Vec<PathBuf> {
        vec![self.clone()]
    }
}

impl<P: IntoPaths> IntoPaths for Vec<P> {
    fn into_paths(self) -> Vec<PathBuf> {
        self.into_iter().flat_map(IntoPaths::into_paths).collect()
    }
}

impl<P: IntoPaths, const N: usize> IntoPaths for [P; N] {
    fn into_paths(self) -> Vec<PathBuf> {
        self.into_iter().flat_map(IntoPaths::into_paths).collect()
    }
}

impl<P: IntoPaths + Clone> IntoPaths for &[P] {
    fn into_paths(self) -> Vec<PathBuf> {
        self.iter().cloned().flat_map(IntoPaths::into_paths).collect()
    }
}

impl<P: IntoPaths + Clone> IntoPaths for &Vec<P> {
    fn into_paths(self) -> Vec<PathBuf> {
        self.as_slice().into_paths()
    }
}

/// The files that `paths` name: those of each path sorted by name, the paths in the order given. `extensions` chooses
/// the files of a directory.
pub(crate) fn expand(paths: &[PathBuf], extensions: &[&str]) -> IoResult<Vec<PathBuf>> {
    if paths.is_empty() {
        return Err(IoError::NoPaths);
    }
    let mut files = Vec::new();
    for path in paths {
        files.append(&mut expand_one(path, extensions)?);
    }
    Ok(files)
}

fn expand_one(path: &Path, extensions: &[&str]) -> IoResult<Vec<PathBuf>> {
    let mut files = Vec::new();
    // What exists under the very name is meant, even if the name could be read as a glob.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(path, extensions, 0, &mut files)?,
        Ok(_) => return Ok(vec![path.to_owned()]),
        Err(_) if is_glob(path) => matches(path, extensions, &mut files)?,
        Err(source) => return Err(IoError::read(path, source)),
    }
    if files.is_empty() {
        return Err(no_match(path, extensions));
    }
    files.sort();
    Ok(files)
}

fn matches(pattern: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) -> IoResult<()> {
    let text = pattern.to_string_lossy();
    let found = glob::glob(&text).map_err(|source| IoError::Pattern { pattern: text.to_string(), source })?;
    let named = literal_prefix(pattern);
    for path in found {
        let path = path.map_err(|e| {
            let at = e.path().to_owned();
            IoError::read(&at, e.into())
        })?;
        if path.components().skip(named).any(is_hidden) {
            continue;
        }
        if path.is_dir() { walk(&path, extensions, 0, files)? } else { files.push(path) }
    }
    // A glob can find a file twice: on its own and in a directory it also finds.
    files.sort();
    files.dedup();
    Ok(())
}

fn walk(dir: &Path, extensions: &[&str], depth: usize, files: &mut Vec<PathBuf>) -> IoResult<()> {
    if depth > DEPTH_MAX {
        let reason = std::io::Error::other("more than 64 directories deep, perhaps a link that leads back up");
        return Err(IoError::read(dir, reason));
    }
    for entry in std::fs::read_dir(dir).map_err(|e| IoError::read(dir, e))? {
        let path = entry.map_err(|e| IoError::read(dir, e))?.path();
        if path.components().next_back().is_some_and(is_hidden) {
            continue;
        }
        if path.is_dir() {
            walk(&path, extensions, depth + 1, files)?;
        } else if has_extension(&path, extensions) {
            files.push(path);
        }
    }
    Ok(())
}

fn no_match(path: &Path, extensions: &[&str]) -> IoError {
    let hint = if path.is_dir() {
        format!("the directory holds no .{} files", extensions.join(" or ."))
    } else {
        "check the spelling; names that start with _ or . are skipped".to_owned()
    };
    IoError::NoMatch { pattern: path.display().to_string(), current: current_dir(), hint }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_glob(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Components before the first that is a glob: what the user spelled out is never hidden.
fn literal_prefix(pattern: &Path) -> usize {
    pattern.components().take_while(|c| !is_glob(Path::new(c.as_os_str()))).count()
}

fn is_hidden(component: Component<'_>) -> bool {
    matches!(component, Component::Normal(name) if is_hidden_name(&name.to_string_lossy()))
}

/// Whether a name says that it is not data.
pub(crate) fn is_hidden_name(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

/// Deep enough for any dataset laid out by people, and an end for links that lead back up.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn check(names: &[&str], ask: &str, expected: &[&str]) {
        let dir = tree(names);
        let found = expand(&[dir.path().join(ask)], &["parquet"]).unwrap();
        let expected: Vec<_> = expected.iter().map(|name| dir.path().join(name)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_directory_gives_its_files_of_the_format_recursively_and_sorted() {
        let names = ["b.parquet", "a.PARQUET", "c/d.parquet", "e.csv", "_f.parquet", ".g.parquet", "_h/i.parquet"];
        check(&names, ".", &["a.PARQUET", "b.parquet", "c/d.parquet"]);
    }

    #[test]
    fn a_glob_gives_sorted_files_and_skips_hidden_ones() {
        let names = ["x/2.parquet", "x/1.parquet", "x/_3.parquet", "x/_tmp/4.parquet", "y/5.csv"];
        check(&names, "**/*.parquet", &["x/1.parquet", "x/2.parquet"]);
        check(&names, "?/5.csv", &["y/5.csv"]);
    }

    #[test]
    fn a_hidden_name_that_is_spelled_out_is_read() {
        check(&["_x/1.parquet"], "_x/*", &["_x/1.parquet"]);
        check(&["_x/1.parquet"], "_x/1.parquet", &["_x/1.parquet"]);
    }

    #[test]
    fn a_name_that_exists_is_not_taken_as_a_glob() {
        check(&["a[1].parquet", "a1.parquet"], "a[1].parquet", &["a[1].parquet"]);
    }

    #[test]
    fn zero_matches_name_the_pattern_and_the_current_directory() {
        let dir = tree(&["a.csv"]);
        let error = expand(&[dir.path().join("*.parquet")], &["parquet"]).unwrap_err().to_string();
        assert!(error.contains("*.parquet") && error.contains("current directory"), "{error}");
        let error = expand(&[dir.path().to_owned()], &["parquet"]).unwrap_err().to_string();
        assert!(error.contains("holds no .parquet files"), "{error}");
        let error = expand(&[dir.path().join("b.parquet")], &["parquet"]).unwrap_err().to_string();
        assert!(error.contains("b.parquet does not exist"), "{error}");
    }
}
