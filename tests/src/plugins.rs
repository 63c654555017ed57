//! Plugins for tests, built from the sources in `plugins`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::sdk::{npm_ci, run};

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

/// The folder of the example in another language, with its plugin built, once in each test process.
///
/// # Panics
/// When it cannot be built: what is needed says `docs/plugins-c.md` or `docs/plugins-javascript.md`.
pub fn example(language: &str) -> PathBuf {
    static C: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = folder("c");
        run(Command::new("make").current_dir(&folder));
        folder
    });
    static JAVASCRIPT: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = javascript_project(&folder("javascript"));
        run(Command::new("npm")
            .args(["run", "--silent", "build"])
            .current_dir(&folder));
        folder
    });

    match language {
        "c" => C.clone(),
        "javascript" => JAVASCRIPT.clone(),
        other => panic!("there is no example in {other}"),
    }
}

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../plugins")
        .join(of)
}

/// The project, with the packages that its lock file names.
fn javascript_project(folder: &Path) -> PathBuf {
    let lock =
        std::fs::File::create(folder.join(".lock")).expect("the folder is readable and writable");
    lock.lock().expect("a file can be locked");
    let wanted = std::fs::read(folder.join("package-lock.json"))
        .expect("the folder is readable and writable");
    let stamp = folder.join("node_modules/.installed");
    if std::fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return folder.to_owned();
    }
    npm_ci(folder);
    std::fs::write(stamp, wanted).expect("the folder is readable and writable");
    folder.to_owned()
}

/// Whether `make test` could not get what plugins in this language are built with. It says so at its end.
pub fn cannot_be_tested(language: &str) -> bool {
    let without = std::env::var("TIDEGATE_TEST_WITHOUT").unwrap_or_default();
    without.split_whitespace().any(|it| it == language)
}
