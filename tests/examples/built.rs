//! The folder of built examples, for tests that run them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The folder of built examples, beside this test's own. They are built at the first call.
pub(crate) fn examples() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo").success(), "the examples are built");
        let this_test = std::env::current_exe().expect("the path of this test");
        let profile = this_test.ancestors().nth(2).expect("tests are built into <profile>/deps");
        profile.join("examples")
    })
}
