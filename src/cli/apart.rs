//! Whether a job would read what it writes, if it were run again.

use std::path::{Path, PathBuf};

use super::args::Format;

/// The input (a folder, or a pattern) that takes in the files which are written to the folder `output`.
pub(super) fn input_around<'a>(inputs: &'a [String], read: Format, output: &Path, written: Format) -> Option<&'a str> {
    let part = real(output).join(format!("part-00000.{}", written.ending()));
    inputs.iter().map(String::as_str).find(|input| takes_in(input, output, &part, read == written))
}

fn takes_in(input: &str, output: &Path, part: &Path, same_format: bool) -> bool {
    let path = Path::new(input);
    if path.is_dir() {
        // Of a folder only files of the format that is read count.
        return same_format && part.strip_prefix(real(path)).is_ok_and(|below| !below.components().any(is_hidden));
    }
    if path.exists() {
        return false;
    }
    let Ok(pattern) = glob::Pattern::new(input) else { return false };
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let name = part.file_name().map(|name| output.join(name)).unwrap_or_default();
    [name.as_path(), part].iter().any(|part| pattern.matches_path_with(part, options))
}

/// Names that are not data.
fn is_hidden(component: std::path::Component<'_>) -> bool {
    component.as_os_str().to_str().is_some_and(|name| name.starts_with(['_', '.']))
}

/// The path without links, also of a folder that is still to be made.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    match there {
        Some((above, real)) => path.strip_prefix(above).map_or_else(|_| path.clone(), |rest| real.join(rest)),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_below_a_folder_or_in_reach_of_a_pattern_is_read_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        std::fs::write(dir.path().join("in/a.parquet"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("in"), dir.path().join("link")).unwrap();
        let around = |input: &str, output: &str| {
            let inputs =
                [dir.path().join("in/a.parquet"), dir.path().join(input)].map(|path| path.display().to_string());
            input_around(&inputs, Format::Parquet, &dir.path().join(output), Format::Parquet).is_some()
        };
        for (input, output) in [
            ("in", "in"),
            ("in", "in/deep/er"),
            ("in/", "link/new"),
            ("link", "in/new"),
            ("in/*.parquet", "in"),
            ("in/**/*.parquet", "in/x/y"),
            ("in/*/*.parquet", "in/new"),
        ] {
            assert!(around(input, output), "{input} {output}");
        }
        for (input, output) in [
            ("in", "out"),
            ("in/deep", "in"),
            ("in", "in/_out"),
            ("in", "in/.out/deep"),
            ("in/*.parquet", "in/deep"),
            ("in/*.csv", "in"),
            ("in/a.parquet", "in"),
        ] {
            assert!(!around(input, output), "{input} {output}");
        }
    }
}
