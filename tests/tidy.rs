//! House rules as tests: layers, sizes, module docs, banned text, examples. Each failure names file, line and rule.
//!
//! It reads text, not types; what needs types is in `clippy.toml`. A rule is a function from a [`SourceFile`] to
//! [`Breach`]es; start at [`RULES`].

#[path = "tidy/lex.rs"]
mod lex;

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;
const EXAMPLE_LINES_MAX: usize = 100;

/// The rules that look at one Rust file.
const RULES: [fn(&SourceFile) -> Vec<Breach>; 6] =
    [module_doc, file_length, function_length, banned_text, layer_of_paths, machine_paths];

/// Crates that each layer must not name in code: (folder, words, why).
const LAYER_WORDS: [(&str, &[&str], &str); 3] = [
    ("transport/", &["mobula", "mobula_actors", "mobula_macros", "arrow", "ractor", "actix"], "the lowest layer"),
    ("actors/src/", &["mobula", "quinn", "rustls"], "who computes, not what a column means, nor QUIC"),
    (
        "src/",
        &["mobula_transport", "quinn", "ractor", "actix", "actix_rt"],
        "what to compute: no mailboxes, no sockets",
    ),
];

/// Workspace crates that each manifest may depend on; the layers are a straight line.
const LAYER_EDGES: [(&str, &[&str]); 4] = [
    ("Cargo.toml", &["mobula-actors"]),
    ("actors/Cargo.toml", &["mobula-transport", "mobula-macros"]),
    ("actors/macros/Cargo.toml", &[]),
    ("transport/Cargo.toml", &[]),
];

/// Text that is banned in code: (text, where, what to do instead).
const BANNED: [(&str, Where, &str); 8] = [
    ("todo!", Where::Anywhere, "finish it, or leave it out"),
    ("unimplemented!", Where::Anywhere, "finish it, or leave it out"),
    ("#[ignore", Where::Anywhere, "a test runs, or is not there"),
    ("thread::sleep", Where::Tests, "wait for what happens, not for time"),
    ("tokio::time::sleep", Where::Tests, "wait for what happens, not for time"),
    ("unbounded_channel", Where::Anywhere, "a channel has a bound"),
    (".do_send(", Where::Engine, "`do_send` ignores the mailbox's capacity: go through a port"),
    (".unwrap()", Where::OutsideTests, "return the error, or `expect` with the invariant as its text"),
];

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Anywhere,
    Tests,
    OutsideTests,
    /// Code of the actor runtime, where messages carry blocks.
    Engine,
}

/// A Rust file as the rules see it.
struct SourceFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
    /// The text with comments and literals blanked.
    code: String,
    /// Lines under `#[cfg(test)]`.
    test_lines: Vec<Range<usize>>,
}

/// One place that breaks a rule.
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        let code = lex::code(text);
        Self { path: path.to_owned(), text: text.to_owned(), test_lines: lex::test_lines(&code), code }
    }

    fn breach(&self, line: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line, rule: rule.into() }
    }

    fn is_test_file(&self) -> bool {
        let in_tests = self.path.starts_with("tests/") || self.path.contains("/tests/");
        in_tests || self.path.ends_with("tests.rs") || self.path.ends_with("/testing.rs")
    }

    fn is_test(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|range| range.contains(&line))
    }

    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn module_doc(file: &SourceFile) -> Vec<Breach> {
    let opens_with_doc = file.text.trim_start().starts_with("//!");
    (!opens_with_doc).then(|| file.breach(1, "a module opens with a `//!` doc")).into_iter().collect()
}

fn file_length(file: &SourceFile) -> Vec<Breach> {
    let tests: usize = if file.is_test_file() { 0 } else { file.test_lines.iter().map(Range::len).sum() };
    let lines = file.text.lines().count().saturating_sub(tests);
    let too_long = lines > FILE_LINES_MAX;
    let rule = format!("{lines} lines without tests; a file has at most {FILE_LINES_MAX}");
    too_long.then(|| file.breach(FILE_LINES_MAX + 1, rule)).into_iter().collect()
}

fn function_length(file: &SourceFile) -> Vec<Breach> {
    let too_long = |(name, lines): (String, Range<usize>)| {
        let rule = format!("function `{name}` has {} lines; at most {FUNCTION_LINES_MAX}", lines.len());
        (lines.len() > FUNCTION_LINES_MAX).then(|| file.breach(lines.start, rule))
    };
    lex::functions(&file.code).into_iter().filter_map(too_long).collect()
}

fn banned_text(file: &SourceFile) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (number, line) in file.code_lines() {
        let in_test = file.is_test(number);
        for (text, place, instead) in BANNED {
            let applies = match place {
                Where::Anywhere => true,
                Where::Tests => in_test,
                Where::OutsideTests => !in_test,
                Where::Engine => !in_test && file.path.starts_with("actors/src/"),
            };
            if applies && line.contains(text) {
                breaches.push(file.breach(number, format!("`{text}` is banned here: {instead}")));
            }
        }
    }
    breaches
}

fn layer_of_paths(file: &SourceFile) -> Vec<Breach> {
    let Some((_, words, why)) = LAYER_WORDS.iter().find(|(folder, ..)| file.path.starts_with(folder)) else {
        return Vec::new();
    };
    let mut breaches = Vec::new();
    for (number, line) in file.code_lines().filter(|(number, _)| !file.is_test(*number)) {
        for word in words.iter().filter(|word| names_crate(line, word)) {
            breaches.push(file.breach(number, format!("`{word}` does not belong into this layer ({why})")));
        }
    }
    breaches
}

/// Whether a line of code names a crate, as in `use word;`, `word::x` or `::word::x`.
fn names_crate(line: &str, word: &str) -> bool {
    let bytes = line.as_bytes();
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].trim_end();
        let after = &line[at + word.len()..];
        let whole = at == 0 || !lex::is_word(bytes[at - 1]);
        let inner = before.ends_with("::") && before.trim_end_matches(':').ends_with(|c: char| c.is_alphanumeric());
        let imported = before == "use" || before.ends_with(" use");
        whole && !inner && (after.starts_with("::") || (imported && after.starts_with([';', ' '])))
    })
}

fn machine_paths(file: &SourceFile) -> Vec<Breach> {
    let bad = |(index, line): (usize, &str)| {
        let found = MACHINE_PATHS.iter().find(|path| line.contains(*path))?;
        Some(file.breach(index + 1, format!("a path of one machine (`{found}`) does not belong here")))
    };
    file.text.lines().enumerate().filter_map(bad).collect()
}

/// Written in pieces, so that this file passes its own rule.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the project whose name ends in one of `endings`, as (path relative to the root, text).
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut |path| {
        let name = path.strip_prefix(root()).expect("walked from the root").to_string_lossy().replace('\\', "/");
        if endings.iter().any(|ending| name.ends_with(ending)) {
            let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"));
            found.push((name, text));
        }
    });
    found.sort();
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry that can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = name == ".ci" || !(name == "target" || name.starts_with('.'));
        match path.is_dir() {
            true if is_ours => walk(&path, visit),
            true => {}
            false => visit(&path),
        }
    }
}

#[track_caller]
fn assert_tidy(breaches: Vec<Breach>) {
    let lines: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert!(lines.is_empty(), "{} broken house rules:\n{}", lines.len(), lines.join("\n"));
}

/// The names of the examples, one file each.
fn examples() -> Vec<(String, String)> {
    let is_example = |path: &str| path.starts_with("examples/") && path.matches('/').count() == 1;
    files(&[".rs"]).into_iter().filter(|(path, _)| is_example(path)).collect()
}

#[test]
fn every_rust_file_keeps_the_house_rules() {
    let files: Vec<_> = files(&[".rs"]).iter().map(|(path, text)| SourceFile::new(path, text)).collect();
    assert!(files.len() > 10, "the walk found the sources");
    assert_tidy(files.iter().flat_map(|file| RULES.iter().flat_map(move |rule| rule(file))).collect());
}

#[test]
fn the_layers_are_a_straight_line_in_every_manifest() {
    let crates = ["mobula", "mobula-actors", "mobula-macros", "mobula-transport"];
    let mut breaches = Vec::new();
    for (path, allowed) in LAYER_EDGES {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut section = String::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let is_edge =
                section.ends_with("dependencies]") && !section.contains("dev-") && !section.contains("workspace");
            if is_edge && crates.contains(&name) && !allowed.contains(&name) {
                let rule =
                    format!("an edge to `{name}`; the layers are mobula, mobula-actors, mobula-transport, downwards");
                breaches.push(Breach { path: path.to_owned(), line: index + 1, rule });
            }
        }
    }
    assert_tidy(breaches);
}

#[test]
fn every_example_is_short_listed_in_the_readme_and_run_by_a_test() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README.md");
    let tests = fs::read_to_string(root().join("tests/examples.rs")).expect("there is a tests/examples.rs");
    let mut breaches = Vec::new();
    for (path, text) in examples() {
        let name = path.trim_start_matches("examples/").trim_end_matches(".rs").to_owned();
        let lines = text.lines().count();
        let mut check = |holds: bool, line: usize, rule: String| {
            if !holds {
                breaches.push(Breach { path: path.clone(), line, rule });
            }
        };
        check(readme.contains(&format!("examples/{name}.rs")), 1, "an example is listed in README.md".to_owned());
        check(tests.contains(&format!("\"{name}\"")), 1, "an example is run by tests/examples.rs".to_owned());
        check(lines <= EXAMPLE_LINES_MAX, lines, format!("{lines} lines; an example has at most {EXAMPLE_LINES_MAX}"));
    }
    assert_tidy(breaches);
}

#[test]
fn no_text_names_a_path_of_one_machine() {
    let texts = files(&[".md", ".toml", ".ci/run"]);
    assert_tidy(texts.iter().flat_map(|(path, text)| machine_paths(&SourceFile::new(path, text))).collect());
}

mod the_rules_themselves {
    use super::*;

    fn breaches(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile::new(path, text);
        RULES.iter().flat_map(|rule| rule(&file)).map(|breach| breach.to_string()).collect()
    }

    #[test]
    fn comments_strings_and_chars_are_not_code() {
        let text = "//! todo!\nlet a = \"todo!\"; /* todo! /* { */ */ let b = r#\"todo!\"\"#; let c = '{'; let d: &'a u8 = b'\\'';";
        assert_eq!(breaches("src/a.rs", text), Vec::<String>::new());
        assert!(!lex::code(text).contains('{'));
        assert!(lex::code(text).contains("&'a u8"));
    }

    #[test]
    fn unwrap_is_refused_outside_tests_and_allowed_under_cfg_test() {
        let text = "//! Doc.\nfn a() {\n    b.unwrap();\n}\n#[cfg(test)]\nmod tests {\n    fn c() {\n        b.unwrap();\n    }\n}\n";
        let found = breaches("src/a.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("src/a.rs:3: `.unwrap()`"), "{found:?}");
    }

    #[test]
    fn a_function_of_sixty_one_lines_is_named_with_its_first_line() {
        let text =
            format!("//! Doc.\nfn long(a: [u8; 2]) {{\n{}}}\nfn short() {{}}\n", "    let s = \"}\";\n".repeat(59));
        assert_eq!(breaches("src/a.rs", &text), ["src/a.rs:2: function `long` has 61 lines; at most 60"]);
    }

    #[test]
    fn a_layer_may_not_name_a_crate_above_or_beside_it() {
        assert_eq!(breaches("actors/src/a.rs", "//! Doc.\nuse mobula::prelude::*;\n").len(), 1);
        assert_eq!(breaches("src/a.rs", "//! Doc.\nuse mobula_transport::codec;\n").len(), 1);
        assert!(
            breaches("actors/src/a.rs", "//! Doc.\nuse crate::mobula::x;\nuse mobula_transport::codec;\n").is_empty()
        );
    }

    #[test]
    fn a_file_without_doc_or_with_too_many_lines_is_refused() {
        let text = "fn a() {}\n".repeat(501);
        let found = breaches("src/a.rs", &text);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
