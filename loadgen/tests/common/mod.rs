//! What tests of `loadgen run` share.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Writes a suite into a folder and runs it there, with these arguments besides.
pub(crate) fn run(folder: &Path, suite: &str, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("suite.toml"), suite).unwrap();
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "suite.toml"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Everything that it said.
pub(crate) fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}
