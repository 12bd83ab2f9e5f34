//! From what a user names (files, directories, globs) to the files to read, in an order that never changes.
//!
//! Names that start with `_` or `.` are skipped below what was named: by convention they are not data (output that is
//! still being written is hidden that way). `~` is not expanded; the shell does that.

mod below;

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::error::{IoError, IoResult, current_dir};
use super::file::check_regular;
use below::{Below, Reached};

/// What can be given as the paths to read: one or several of `&str`, `String`, `&Path`, `PathBuf`, each a file, a
/// directory or a glob.
///
/// A file that is named twice, by itself or by patterns that overlap, is read once, where it is named first; links are
/// followed for that. To read rows twice, join two datasets with [`Dataset::union`](crate::Dataset::union).
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
/// the files of a directory. A file that is named again, also through a link, counts where it was named first.
pub(crate) fn expand(paths: &[PathBuf], extensions: &[&str]) -> IoResult<Vec<PathBuf>> {
    if paths.is_empty() {
        return Err(IoError::NoPaths);
    }
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    for path in paths {
        for file in expand_one(path, extensions)? {
            match check_regular(&file) {
                Err(error @ IoError::NotRegular { .. }) => return Err(error),
                // What cannot be looked at is kept: reading it says why.
                _ if seen.insert(std::fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) => files.push(file),
                _ => {}
            }
        }
    }
    Ok(files)
}

fn expand_one(path: &Path, extensions: &[&str]) -> IoResult<Vec<PathBuf>> {
    let mut found = Found { extensions, files: Vec::new(), visited: HashSet::new() };
    // What exists under the very name is meant, even if the name could be read as a glob.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => found.walk(path)?,
        Ok(_) => found.files.push(path.to_owned()),
        Err(_) if is_glob(path) => found.matches(path)?,
        Err(source) => return Err(IoError::read(path, source)),
    }
    let Found { mut files, .. } = found;
    if files.is_empty() {
        return Err(no_match(path, extensions));
    }
    files.sort();
    match files.iter().find(|file| file.to_str().is_none()) {
        Some(file) => Err(IoError::NotUtf8 { path: file.to_owned() }),
        None => Ok(files),
    }
}

/// The files found under one path so far.
struct Found<'a> {
    extensions: &'a [&'a str],
    files: Vec<PathBuf>,
    /// Directories under their real names, so that links that lead back up end.
    visited: HashSet<PathBuf>,
}

impl Found<'_> {
    fn matches(&mut self, pattern: &Path) -> IoResult<()> {
        let text = pattern.to_str().ok_or_else(|| IoError::NotUtf8 { path: pattern.to_owned() })?;
        let named = literal_prefix(pattern);
        let components: Vec<_> = pattern.components().collect();
        if let Some(at) = components.iter().position(|component| component.as_os_str() == "**") {
            let (above, below) = components.split_at(at);
            let below = Below::new(&below.iter().collect::<PathBuf>(), text.ends_with(std::path::is_separator));
            let below = below.map_err(|source| IoError::Pattern { pattern: text.to_owned(), source })?;
            return self.matches_below(&above.iter().collect::<PathBuf>(), named, &below);
        }
        for path in glob_paths(text)? {
            let path = path?;
            if path.components().skip(named).any(is_hidden) {
                continue;
            }
            if path.is_dir() { self.walk(&path)? } else { self.files.push(path) }
        }
        refuse_unmatched(pattern, named, true)
    }

    /// What matches below the directories that `above` names. The glob library would follow links that lead back up
    /// without end.
    fn matches_below(&mut self, above: &Path, named: usize, below: &Below) -> IoResult<()> {
        let mut looked = HashSet::new();
        if named == above.components().count() {
            return self.walk_below(above, below.start(), below, &mut looked);
        }
        for dir in glob_paths(&above.to_string_lossy())? {
            let dir = dir?;
            if !dir.components().skip(named).any(is_hidden) {
                self.walk_below(&dir, below.start(), below, &mut looked)?;
            }
        }
        refuse_unmatched(above, named, false)
    }

    fn walk_below(
        &mut self,
        dir: &Path,
        reached: Reached,
        below: &Below,
        looked: &mut HashSet<(PathBuf, Reached)>,
    ) -> IoResult<()> {
        let real = or_current(dir);
        if !real.is_dir() {
            return Ok(());
        }
        if below.is_match(&reached, true) {
            self.walk(real)?;
        }
        let canonical = std::fs::canonicalize(real).map_err(|e| IoError::read(dir, e))?;
        if !looked.insert((canonical, reached.clone())) {
            return Ok(());
        }
        for entry in entries(real)? {
            let Some(name) = entry.file_name() else { continue };
            let path = dir.join(name);
            let is_dir = path.is_dir();
            let reached = below.step(&reached, &name.to_string_lossy());
            let is_match = below.is_match(&reached, is_dir);
            if name.to_str().is_none() && (is_match || is_dir && !reached.is_empty()) {
                return Err(IoError::NotUtf8 { path });
            }
            if is_dir && !reached.is_empty() {
                self.walk_below(&path, reached, below, looked)?;
            } else if is_match {
                self.files.push(path);
            }
        }
        Ok(())
    }

    fn walk(&mut self, dir: &Path) -> IoResult<()> {
        let real = std::fs::canonicalize(dir).map_err(|e| IoError::read(dir, e))?;
        if !self.visited.insert(real) {
            return Ok(());
        }
        for path in entries(dir)? {
            if path.is_dir() {
                self.walk(&path)?;
            } else if has_extension(&path, self.extensions) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// What is in a directory and not hidden, sorted.
fn entries(dir: &Path) -> IoResult<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| IoError::read(dir, e))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|e| IoError::read(dir, e))?;
    paths.retain(|path| !path.components().next_back().is_some_and(is_hidden));
    paths.sort();
    Ok(paths)
}

fn glob_paths(pattern: &str) -> IoResult<impl Iterator<Item = IoResult<PathBuf>> + use<>> {
    let found = glob::glob(pattern).map_err(|source| IoError::Pattern { pattern: pattern.to_owned(), source })?;
    Ok(found.map(|path| {
        path.map_err(|e| {
            let at = e.path().to_owned();
            IoError::read(&at, e.into())
        })
    }))
}

/// A glob passes over names that are not UTF-8. Those that it would have matched are an error rather than rows that
/// are silently missing. Where `whole` is false the pattern is the beginning of one, and files are not meant.
fn refuse_unmatched(pattern: &Path, named: usize, whole: bool) -> IoResult<()> {
    let components: Vec<_> = pattern.components().collect();
    for (at, component) in components.iter().enumerate().skip(named) {
        let name = component.as_os_str().to_string_lossy();
        let Ok(matcher) = glob::Pattern::new(&name) else { continue };
        let last = whole && at + 1 == components.len();
        let parent: PathBuf = components.iter().take(at).collect();
        for dir in glob_paths(&or_current(&parent).to_string_lossy())? {
            let dir = dir?;
            let below = dir.components().skip(named);
            if !dir.is_dir() || below.into_iter().any(is_hidden) {
                continue;
            }
            let is_lost = |path: &PathBuf| {
                let Some(name) = path.file_name().filter(|name| name.to_str().is_none()) else { return false };
                matcher.matches(&name.to_string_lossy()) && (last || path.is_dir())
            };
            if let Some(path) = entries(&dir)?.into_iter().find(is_lost) {
                return Err(IoError::NotUtf8 { path });
            }
        }
    }
    Ok(())
}

/// A path without components is the current directory, which needs a name to be looked at.
fn or_current(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn no_match(path: &Path, extensions: &[&str]) -> IoError {
    let hint = if path.is_dir() {
        format!("the directory holds no .{} files{}", extensions.join(" or ."), other_files(path))
    } else {
        "check the spelling; names that start with _ or . are skipped".to_owned()
    };
    IoError::NoMatch { pattern: path.display().to_string(), current: current_dir(), hint }
}

/// What a directory holds in place of the files that were looked for, of those that tables come in.
fn other_files(dir: &Path) -> String {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = names.filter_map(|path| path.extension()?.to_str().map(str::to_ascii_lowercase));
    let is_table = |ending: &String| matches!(ending.as_str(), "parquet" | "csv" | "json" | "jsonl" | "ndjson" | "gz");
    match found.filter(is_table).min() {
        Some(ending) if ending == "gz" => ", but compressed .gz files, which are not read: decompress them".to_owned(),
        Some(ending) => format!(", but .{ending} files: read those as what they are (--input-format)"),
        None => String::new(),
    }
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

    #[test]
    fn a_file_that_is_named_again_is_read_once() {
        let dir = tree(&["a.parquet", "b.parquet", "x/c.parquet"]);
        let ask = ["b.parquet", "*.parquet", "x", "./x/../b.parquet", "."].map(|name| dir.path().join(name));
        let names = ["b.parquet", "a.parquet", "x/c.parquet"].map(|name| dir.path().join(name));
        assert_eq!(expand(&ask, &["parquet"]).unwrap(), names);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_back_up_end() {
        let dir = tree(&["a.parquet", "x/b.parquet"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("x/up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("x"), dir.path().join("x/self")).unwrap();
        let names = ["a.parquet", "x/b.parquet"].map(|name| dir.path().join(name));
        for ask in ["", "*", "**", "**/*.parquet", "**/*", "**/**/*.parquet", "**/?.*"] {
            assert_eq!(expand(&[dir.path().join(ask)], &["parquet"]).unwrap(), names, "{ask}");
        }
        // Links that cross: as many ways as there are orders of the names.
        for name in ["p", "q", "r", "s", "t", "u", "v", "w"] {
            std::os::unix::fs::symlink(dir.path(), dir.path().join(name)).unwrap();
            std::os::unix::fs::symlink(dir.path(), dir.path().join("x").join(name)).unwrap();
        }
        assert_eq!(expand(&[dir.path().join("**/*.parquet")], &["parquet"]).unwrap().len(), 2);
        // A directory under another name is another match, though it was looked at before.
        let found = expand(&[dir.path().join("**/w/x/*.parquet")], &["parquet"]).unwrap();
        assert_eq!(found, [dir.path().join("w/x/b.parquet")]);
    }

    #[test]
    fn any_directories_may_stand_between_globs() {
        let names =
            ["1/x/a.parquet", "1/y/x/b.parquet", "2/x/c.parquet", "2/d.parquet", "1/_h/x/e.parquet", "1/x/z/f.csv"];
        check(&names, "*/**/x/*.parquet", &["1/x/a.parquet", "1/y/x/b.parquet", "2/x/c.parquet"]);
        check(&names, "2/**", &["2/d.parquet", "2/x/c.parquet"]);
        check(&names, "**/x", &["1/x/a.parquet", "1/y/x/b.parquet", "2/x/c.parquet"]);
        check(&names, "[1]/**/*.csv", &["1/x/z/f.csv"]);
        check(&names, "**/y/**/", &["1/y/x/b.parquet"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_an_error_however_it_is_found() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&["a.parquet", "x/b.parquet"]);
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9.parquet");
        std::fs::write(dir.path().join("x").join(name), "").unwrap();
        for ask in ["x", "x/*.parquet", "*/*.parquet", "**/*.parquet", "*"] {
            let error = expand(&[dir.path().join(ask)], &["parquet"]).unwrap_err().to_string();
            assert!(error.contains("caf\u{fffd}.parquet is not UTF-8; rename it"), "{ask}: {error}");
        }
        assert!(expand(&[dir.path().join("*.parquet"), dir.path().join("x/b*")], &["parquet"]).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_device_is_refused_without_opening_it() {
        let dir = tree(&["a.parquet"]);
        let pipe = dir.path().join("pipe.parquet");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for ask in [pipe, dir.path().to_owned(), PathBuf::from("/dev/zero")] {
            let error = expand(&[ask], &["parquet"]).unwrap_err().to_string();
            assert!(error.contains(" is not a regular file; write what it gives into a file"), "{error}");
        }
    }
}
