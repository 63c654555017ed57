#!/usr/bin/env bash
# Each fuzz target for FUZZ_SECONDS (default 60).
. "$(dirname "$0")/lib.sh"
need_rust
rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
cd agent/fuzz
for target in $(cargo +nightly fuzz list); do
    say "$target for ${FUZZ_SECONDS:-60} s"
    cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}" -max_len=65536
done
