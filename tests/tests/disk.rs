//! Promise 1 on a disk that fills up and one that becomes read-only: `loadgen prove disk`, on a small file system.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;

use e2e::prove::Proof;

/// The proof with these arguments; `None`, said aloud, where no file system can be mounted.
fn proof(arguments: &[&str]) -> Option<Proof> {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&["disk"], arguments].concat();
    match Proof::attempt(folder.path(), &arguments) {
        Ok(proof) => Some(proof),
        Err(text) if text.contains("cannot mount a file system of its own") => {
            assert!(
                std::env::var_os("TIDEGATE_TEST_EVERYTHING").is_none(),
                "mount namespaces must be permitted where everything is to be tested: {text}"
            );
            // Past the harness, which shows nothing of tests that pass.
            let said = format!(
                "\n*** NOT TESTED: a full and a read-only disk. Mount namespaces are not permitted here.\n*** {text}\n"
            );
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
        Err(text) => panic!("{text}"),
    }
}

#[test]
fn a_full_disk_and_a_read_only_folder_refuse_with_hints_and_lose_nothing() {
    let Some(proof) = proof(&[]) else { return };
    proof.holds();
    let text = &proof.text;
    assert!(proof.number("told.refusals") > 0, "{text}");
    assert_eq!(proof.number("told.refusals_without_hint"), 0, "{text}");
    for protocol in ["HTTP: 503", "gRPC: UNAVAILABLE"] {
        assert!(text.contains(protocol), "no {protocol}\n{text}");
    }
}

#[test]
fn an_agent_declines_to_start_on_a_read_only_disk_and_loses_nothing() {
    let Some(proof) = proof(&["--restart"]) else {
        return;
    };
    proof.holds();
}
