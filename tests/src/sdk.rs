//! The official SDKs, installed once under `target/sdk-clients` in the versions that `tests/clients` pins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;

/// The folder of the programs that use them.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs `command` to its end, which must be a success.
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A folder under `target` in which `install` has run for exactly these files.
fn installed(name: &str, files: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let target = binary("tidegate")
        .parent()
        .expect("a binary lies in a folder")
        .join("../sdk-clients");
    let folder = target.join(name);
    fs::create_dir_all(&folder).expect("the folder is readable and writable");
    let lock = File::create(folder.join(".lock")).expect("the folder is readable and writable");
    lock.lock().expect("a file can be locked");
    let source = clients().join(name);
    let wanted: String = files
        .iter()
        .map(|file| {
            fs::read_to_string(source.join(file)).expect("the folder is readable and writable")
        })
        .collect();
    let stamp = folder.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return folder;
    }
    for file in files {
        fs::copy(source.join(file), folder.join(file))
            .expect("the folder is readable and writable");
    }
    install(&folder);
    fs::write(stamp, wanted).expect("the folder is readable and writable");
    folder
}

/// The interpreter that has the SDK.
pub fn python() -> PathBuf {
    let folder = installed("python", &["requirements.txt"], |folder| {
        let venv = folder.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(folder.join("requirements.txt")));
    });
    folder.join("venv/bin/python")
}

/// The folder that has the SDK's packages.
pub fn javascript() -> PathBuf {
    let folder = installed("js", &["package.json", "package-lock.json"], |folder| {
        npm_ci(folder);
    });
    folder.join("node_modules")
}

/// Installs the packages that a project's lock file names, and runs none of their scripts.
pub(crate) fn npm_ci(folder: &Path) {
    run(Command::new("npm")
        .args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--silent",
        ])
        .current_dir(folder));
}
