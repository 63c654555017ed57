#!/usr/bin/env bash
# Each fuzz target for FUZZ_SECONDS (default 60), or FUZZ_RUNS executions of each. FUZZ_TARGETS names some of them.
. "$(dirname "$0")/lib.sh"
need_rust
rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
cd agent/fuzz
limit="-max_total_time=${FUZZ_SECONDS:-60}"
[ -z "${FUZZ_RUNS:-}" ] || limit="-runs=$FUZZ_RUNS"
# Without a sanitizer: the parsers are safe Rust, whose faults are panics, and twice as many executions find more of them. What
# is not safe Rust are the decompressors written in C, which the sanitizer would not see into.
for target in ${FUZZ_TARGETS:-$(cargo +nightly fuzz list)}; do
    say "$target: $limit"
    cargo +nightly fuzz run --sanitizer none "$target" -- "$limit" -max_len="${FUZZ_LENGTH:-512}" -print_final_stats=1
done
