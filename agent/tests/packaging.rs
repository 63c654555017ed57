//! What `make deb` packs is there, and the units are right: building the package takes too long for every run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Made by `tests/scripts/deb.sh` while it builds the package.
const MADE: &str = "../target/package/";

/// Ten times what `systemd-analyze security` may say.
const EXPOSURE_MAX: &str = "20";

fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> toml::Table {
    let text = fs::read_to_string(manifest().join("Cargo.toml")).unwrap();
    let whole: toml::Table = text.parse().unwrap();
    whole["package"]["metadata"]["deb"]
        .as_table()
        .unwrap()
        .clone()
}

/// Source and target of everything that is packed.
fn assets() -> Vec<(String, String)> {
    let metadata = metadata();
    let assets = metadata["assets"].as_array().unwrap();
    assets
        .iter()
        .map(|asset| {
            let part = |index: usize| asset[index].as_str().unwrap().to_owned();
            (part(0), part(1))
        })
        .collect()
}

fn units() -> Vec<PathBuf> {
    let folder = manifest().join("../systemd");
    let mut units: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "service" || extension == "socket")
        })
        .collect();
    units.sort();
    assert!(units.len() >= 4, "{units:?}");
    units
}

/// Runs a command that this machine may not have: then `None`, and it is said.
fn run(command: &mut Command) -> Option<(bool, String)> {
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            Some((output.status.success(), text))
        }
        Err(error) => {
            // Not captured by the test runner, unlike `eprintln!`.
            let program = command.get_program().display();
            let mut terminal = std::io::stderr();
            writeln!(terminal, "SKIP: {program}: {error}").unwrap();
            None
        }
    }
}

#[test]
fn everything_that_is_packed_is_there() {
    for (source, target) in assets() {
        if source.starts_with(MADE) {
            continue;
        }
        let path = manifest().join(&source);
        let found = match source.split_once('*') {
            Some((folder, ending)) => fs::read_dir(manifest().join(folder))
                .unwrap()
                .any(|entry| entry.unwrap().path().to_string_lossy().ends_with(ending)),
            None => path.is_file(),
        };
        assert!(found, "{source}, which is packed as {target}, is missing");
    }
    let metadata = metadata();
    for key in ["license-file", "changelog", "maintainer-scripts"] {
        let value = &metadata[key];
        let path = value.as_str().or_else(|| value[0].as_str()).unwrap();
        assert!(manifest().join(path).exists(), "{key}: {path}");
    }
}

#[test]
fn everything_below_etc_is_a_conffile() {
    let packed: BTreeSet<String> = assets()
        .into_iter()
        .filter(|(_, target)| target.starts_with("etc/"))
        .map(|(source, target)| match target.ends_with('/') {
            true => {
                let name = Path::new(&source).file_name().unwrap();
                format!("/{target}{}", name.display())
            }
            false => format!("/{target}"),
        })
        .collect();
    let metadata = metadata();
    let listed = metadata["conf-files"].as_array().unwrap();
    let listed: BTreeSet<String> = listed
        .iter()
        .map(|file| file.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(packed, listed);
}

#[test]
fn the_changelog_is_of_this_version() {
    let path = manifest().join(metadata()["changelog"].as_str().unwrap());
    let text = fs::read_to_string(path).unwrap();
    let expected = format!("tidegate ({}-1)", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&expected), "{expected} is not first");
}

#[test]
fn maintainer_scripts_are_shell() {
    for script in ["postinst", "prerm", "postrm"] {
        let path = manifest().join("../systemd/deb").join(script);
        if let Some((succeeded, text)) = run(Command::new("sh").arg("-n").arg(&path)) {
            assert!(succeeded, "{script}: {text}");
        }
    }
}

#[test]
fn units_are_understood_whole() {
    let folder = tempfile::tempdir().unwrap();
    for unit in units() {
        let text = fs::read_to_string(&unit).unwrap();
        // They need not be installed here.
        let text = text
            .replace("/usr/bin/tidegate ", "/bin/true ")
            .replace("/usr/local/bin/target-svc ", "/bin/true ");
        fs::write(folder.path().join(unit.file_name().unwrap()), text).unwrap();
    }
    for unit in units() {
        let copy = folder.path().join(unit.file_name().unwrap());
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]);
        let Some((succeeded, text)) = run(command.arg(&copy)) else {
            return;
        };
        let complains = |line: &str| line.contains("tidegate") || line.contains("target-svc");
        assert!(
            succeeded && !text.lines().any(complains),
            "{}: {text}",
            unit.display()
        );
    }
}

#[test]
fn services_are_hardened() {
    let services = units().into_iter();
    for unit in services.filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager"]);
        command
            .arg(format!("--threshold={EXPOSURE_MAX}"))
            .arg(&unit);
        let Some((succeeded, text)) = run(&mut command) else {
            return;
        };
        assert!(succeeded, "{}: {text}", unit.display());
    }
}

/// What the agent waits for has to be less than what its unit allows, and what it listens on is what the socket opens.
#[test]
fn units_and_the_default_configuration_agree() {
    let read = |name: &str| fs::read_to_string(manifest().join("../systemd").join(name)).unwrap();
    let (service, socket, config) = (
        read("tidegate.service"),
        read("tidegate.socket"),
        read("agent.toml"),
    );
    let config: toml::Table = config.parse().unwrap();
    let protocols = &config["receivers"]["otlp"]["protocols"];
    for protocol in ["grpc", "http"] {
        let endpoint = protocols[protocol]["endpoint"].as_str().unwrap();
        let line = format!("ListenStream={endpoint}");
        assert!(socket.lines().any(|found| found == line), "{line}");
    }
    for line in [
        "Type=notify",
        "RestartPreventExitStatus=2 78",
        "StateDirectory=tidegate",
        "RuntimeDirectory=tidegate",
    ] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    assert_eq!(tidegate::cli::EXIT_CONFIG, 78);
}
