//! The flags of a command that does again what another did, to other rows: text in, text out.

use std::path::Path;

/// Flags whose values are files or folders that are read.
const PATHS: [&str; 4] = ["--model", "--onnxruntime-lib", "--identity", "--spill-dir"];
/// What is not done again: where the results go and how they are shown, how many rows may be given up, and the short forms.
const ONCE: [&str; 11] = [
    "--output",
    "--append",
    "--overwrite",
    "--restart",
    "--detach",
    "--error-budget",
    "--progress",
    "--quiet",
    "--verbose",
    "-q",
    "-v",
];

/// The arguments as they mean the same in any folder: paths that are read become absolute.
pub(crate) fn absolute(args: impl IntoIterator<Item = String>, current: &Path) -> Vec<String> {
    let path = |value: &str| current.join(value).to_string_lossy().into_owned();
    let mut is_path = false;
    let arg = |arg: String| {
        let was_path = std::mem::take(&mut is_path);
        match arg.split_once('=') {
            Some((flag, value)) if PATHS.contains(&flag) => format!("{flag}={}", path(value)),
            _ if was_path => path(&arg),
            _ => {
                is_path = PATHS.contains(&arg.as_str());
                arg
            }
        }
    };
    args.into_iter().map(arg).collect()
}

/// The flags of `args` without those that are not done again and those that `changes` gives anew, which come behind.
pub(crate) fn changed(args: &[String], changes: &[String]) -> Vec<String> {
    let given: Vec<&str> = changes.iter().map(|change| flag(change)).filter(|flag| flag.starts_with('-')).collect();
    let is_dropped = |flag: &str| ONCE.contains(&flag) || given.contains(&flag) || is_repeated(flag);
    without(args, is_dropped).into_iter().chain(changes.iter().cloned()).collect()
}

/// The flags without some, each with its values.
pub(crate) fn without(args: &[String], is_dropped: impl Fn(&str) -> bool) -> Vec<String> {
    let mut drops = false;
    let stays = |arg: &&String| {
        if arg.starts_with('-') {
            drops = is_dropped(flag(arg));
        }
        !drops
    };
    args.iter().filter(stays).cloned().collect()
}

/// `-vv`
fn is_repeated(flag: &str) -> bool {
    flag.len() > 2 && flag.starts_with('-') && flag.chars().skip(1).all(|c| matches!(c, 'v' | 'q'))
}

/// The flag without a value behind `=`.
fn flag(arg: &str) -> &str {
    arg.split_once('=').map_or(arg, |(flag, _)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn check(args: &str, changes: &str, expected: &str) {
        assert_eq!(changed(&words(args), &words(changes)).join(" "), expected);
    }

    #[test]
    fn what_is_given_anew_takes_the_place_of_what_was() {
        check("--model a --input x y --output o", "", "--model a --input x y");
        check("--model a --input x y --output=o", "--model b", "--input x y --model b");
        check("--model=a --workers 2", "--workers=3 --model b", "--workers=3 --model b");
        check("-q --model a -vv --error-budget 5 --allow-nan --overwrite", "", "--model a --allow-nan");
        check("--columns a b --keep a", "--columns c", "--keep a --columns c");
    }

    #[test]
    fn paths_that_are_read_mean_the_same_elsewhere() {
        let args =
            absolute(words("--model a/b.onnx --onnxruntime-lib=/ort.so --keep id --model=c"), Path::new("/data"));
        assert_eq!(args.join(" "), "--model /data/a/b.onnx --onnxruntime-lib=/ort.so --keep id --model=/data/c");
    }
}
