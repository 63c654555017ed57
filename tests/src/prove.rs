//! `loadgen prove`, and what it has found.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::binary;

/// What a proof has found.
#[derive(Debug)]
pub struct Proof {
    /// The exit status of `loadgen`: 0 the promise holds, 99 it does not, 1 it could not be found out.
    pub status: i32,
    /// What it printed.
    pub text: String,
    report: Value,
}

impl Proof {
    /// Runs it in `folder`.
    #[track_caller]
    pub fn run(folder: &Path, arguments: &[&str]) -> Self {
        Self::attempt(folder, arguments).unwrap_or_else(|text| panic!("{text}"))
    }

    /// The same.
    ///
    /// # Errors
    /// What it printed if there was no report.
    pub fn attempt(folder: &Path, arguments: &[&str]) -> Result<Self, String> {
        let json = folder.join("report.json");
        let output = Command::new(binary("loadgen"))
            .arg("prove")
            .args(arguments)
            .arg("--tidegate")
            .arg(binary("tidegate"))
            .arg("--dir")
            .arg(folder.join("stage"))
            .arg("--json")
            .arg(&json)
            .output()
            .expect("loadgen runs");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        let Ok(report) = std::fs::read(&json) else {
            return Err(text);
        };
        Ok(Self {
            status: output.status.code().expect("loadgen was not killed"),
            report: serde_json::from_slice(&report).expect("the report is JSON"),
            text,
        })
    }

    /// Fails with what was found unless the promise holds.
    #[track_caller]
    pub fn holds(&self) {
        assert_eq!(self.status, 0, "{}", self.text);
    }

    /// A number of the report, such as `wrong.lost`.
    #[track_caller]
    pub fn number(&self, path: &str) -> u64 {
        let pointer = format!("/{}", path.replace('.', "/"));
        let found = self.report.pointer(&pointer).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no {path} in the report\n{}", self.text))
    }
}
