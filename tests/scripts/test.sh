#!/usr/bin/env bash
# `make test`: everything that must hold, and a last line with the number of tests.
. "$(dirname "$0")/lib.sh"
need_rust
need python3 "apt-get install python3 python3-venv"
need node "the JavaScript SDK is one of the tested clients: apt-get install nodejs npm"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
log=target/test-output.txt
mkdir -p target
: >"$log"
failed=0

# step NAME COMMAND...: runs it, goes on after a failure, remembers it.
step() {
    say "$1"
    shift
    if ! "$@"; then
        failed=$((failed + 1))
        echo "FAILED: $*"
    fi
}

# tests COMMAND...: a step whose output is counted.
tests() { step "$*" bash -c '"$@" 2>&1 | tee -a "$0"; exit "${PIPESTATUS[0]}"' "$log" "$@"; }

rustup component add rustfmt clippy >/dev/null 2>&1 || true
need_plugin_target
need_c_plugins
step "Format" cargo fmt --all --check
step "Lints" cargo clippy --workspace --all-targets --locked -- -D warnings
step "Format of plugins" cargo fmt --manifest-path plugins/Cargo.toml --all --check
step "Lints of plugins" cargo clippy --manifest-path plugins/Cargo.toml --workspace --all-targets --locked -- -D warnings
step "Documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
step "Licences and dependencies" tests/scripts/deny.sh
step "loadgen does not know the agent" tests/scripts/independence.sh
say "Binaries for the end-to-end tests"
cargo build --workspace --bins --locked || die "the workspace does not build"
need_engine target/debug/tidegate
tests cargo test --manifest-path plugins/Cargo.toml --workspace --locked --no-fail-fast
tests cargo test --workspace --locked --no-fail-fast

passed=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
broken=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
# A failed step that counted no failed test (lints, a crash) still fails the run.
[ "$failed" -gt 0 ] && [ "$broken" -eq 0 ] && broken=$failed
[ "$passed" -gt 0 ] || die "no test ran"
for part in "${NOT_TESTED[@]}"; do printf '\nNOT TESTED: %s\n' "$part"; done
printf '\n%s passed, %s failed\n' "$passed" "$broken"
[ "$failed" -eq 0 ]
