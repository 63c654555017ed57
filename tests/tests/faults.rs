//! Promise 1 under faults: `loadgen prove` against the real agent and engine. What it found is printed when it fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use e2e::prove::Proof;

/// What goes wrong between agent and database without either being killed.
const PROXY_FAULTS: &str = "refuse,delay,cut-before,cut-request,cut-after,cut-answer,black-hole,black-hole:read,\
                            status:code=500,status:code=503:retry-after=1,status:code=503:forwarded,exception,\
                            exception:bare,exception:tagged,exception:tagged:split,exception:forwarded,slow:gap=1ms";

#[test]
fn faults_on_the_way_to_the_database_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let proof = Proof::run(
        folder.path(),
        &[
            "--storage",
            "memory",
            "--rate",
            "1500",
            "--agent-kills",
            "0",
            "--database-kills",
            "0",
            "--both-kills",
            "0",
            "--faults",
            PROXY_FAULTS,
        ],
    );
    proof.holds();
    assert!(
        proof.number("proxy.injected.cut-after") > 0,
        "{}",
        proof.text
    );
}

#[test]
fn a_database_that_is_killed_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let proof = Proof::run(
        folder.path(),
        &[
            "--storage",
            "memory",
            "--rate",
            "1500",
            "--agent-kills",
            "0",
            "--database-kills",
            "3",
            "--both-kills",
            "0",
        ],
    );
    proof.holds();
    assert_eq!(proof.number("told.unanswered"), 0, "{}", proof.text);
}

#[test]
fn rows_stay_in_order_while_the_database_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let proof = Proof::run(
        folder.path(),
        &[
            "--storage",
            "memory",
            "--rate",
            "1500",
            "--agent-kills",
            "0",
            "--database-kills",
            "2",
            "--both-kills",
            "0",
            "--faults",
            "cut-after,status",
            "--check-order",
        ],
    );
    proof.holds();
    assert!(proof.number("order.blocks") > 0, "{}", proof.text);
}

/// Kills of everything, with what is not delivered yet in `storage`.
fn kills(folder: &Path, storage: &str, agent_kills: &str) -> Proof {
    Proof::run(
        folder,
        &[
            "--storage",
            storage,
            "--rate",
            "1500",
            "--agent-kills",
            agent_kills,
            "--database-kills",
            "2",
            "--both-kills",
            "1",
            "--faults",
            "cut-after,cut-before,black-hole:read,status",
        ],
    )
}

#[test]
fn kills_lose_and_double_nothing_that_was_acknowledged_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    kills(folder.path(), "wal", "5").holds();
}

/// A proof that could not fail would prove nothing.
#[test]
fn kills_lose_what_was_acknowledged_from_memory_and_the_proof_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let proof = kills(folder.path(), "memory", "3");
    assert_eq!(proof.status, 99, "{}", proof.text);
    assert!(proof.number("wrong.lost") > 0, "{}", proof.text);
    // An insert that the database was killed in stays half done, without its lookup rows, when nobody is left to repeat it.
    for right in [
        "wrong.duplicated",
        "wrong.refused_but_stored",
        "wrong.unanswered_and_duplicated",
        "wrong.never_sent",
        "wrong.misplaced",
        "ledger.unbalanced",
    ] {
        assert_eq!(proof.number(right), 0, "{right}\n{}", proof.text);
    }
}

#[test]
fn five_times_too_much_is_refused_with_hints_and_arrives_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let proof = Proof::run(
        folder.path(),
        &[
            "overload",
            "--storage",
            "memory",
            "--duration",
            "2s",
            "--measure",
            "2s",
            "--memory-max",
            "128",
        ],
    );
    proof.holds();
    assert!(proof.number("told.refusals") > 0, "{}", proof.text);
}

/// `RELOADS` says how many; 1,000 by hand.
fn reloads(folder: &Path, storage: &str) -> Proof {
    let count = std::env::var("RELOADS").unwrap_or_else(|_| "40".to_owned());
    Proof::run(
        folder,
        &[
            "--storage",
            storage,
            "--rate",
            "1500",
            "--agent-kills",
            "0",
            "--database-kills",
            "0",
            "--both-kills",
            "0",
            "--reloads",
            &count,
        ],
    )
}

#[test]
fn reloads_refuse_lose_and_double_nothing() {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let proof = reloads(folder.path(), storage);
        proof.holds();
        assert!(proof.number("reloads.reloaded") > 0, "{}", proof.text);
        assert!(proof.number("reloads.beside.count") > 0, "{}", proof.text);
    }
}

#[test]
fn reloads_beside_kills_and_faults_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let proof = Proof::run(
        folder.path(),
        &[
            "--storage",
            "wal",
            "--rate",
            "1500",
            "--agent-kills",
            "0",
            "--database-kills",
            "2",
            "--both-kills",
            "0",
            "--reloads",
            "20",
            "--faults",
            "cut-after,cut-before,black-hole:read,status",
        ],
    );
    proof.holds();
}
