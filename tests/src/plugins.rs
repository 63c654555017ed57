//! Plugins for tests, built from the sources in `plugins`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The target that plugins are built for.
const TARGET: &str = "wasm32-wasip2";

/// The plugin of a crate in `plugins`, built once in each test process.
///
/// # Panics
/// When it cannot be built, as without `rustup target add wasm32-wasip2`.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let file = format!("{}.wasm", name.replace('-', "_"));
    let path = folder
        .join("target")
        .join(TARGET)
        .join("release")
        .join(file);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(name.to_owned()) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                TARGET,
                "-p",
                name,
            ])
            .current_dir(&folder)
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .unwrap_or_else(|error| panic!("build the plugin {name}: {error}"));
        assert!(
            status.success(),
            "the plugin {name} does not build; is the target there? rustup target add {TARGET}"
        );
    }
    path
}
