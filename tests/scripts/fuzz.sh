#!/usr/bin/env bash
# Each fuzz target for FUZZ_SECONDS (default 60), or FUZZ_RUNS executions of each. FUZZ_TARGETS names some of them.
. "$(dirname "$0")/lib.sh"
need_rust
rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
cd agent/fuzz
limit="-max_total_time=${FUZZ_SECONDS:-60}"
[ -z "${FUZZ_RUNS:-}" ] || limit="-runs=$FUZZ_RUNS"
# The same versions as the workspace; what it does not have is added.
[ -e Cargo.lock ] || cp ../../Cargo.lock .
# Without a sanitizer: the parsers are safe Rust, whose faults are panics, and twice as many executions find more of them. What
# is not safe Rust are the decompressors written in C, which the sanitizer would not see into. How it is built says Cargo.toml.
all=$(basename -s .rs -a fuzz_targets/*.rs)
targets=${FUZZ_TARGETS:-$all}
cargo +nightly build --release $(printf -- '--bin %s ' $targets)
for target in $targets; do
    say "$target: $limit"
    options=("$limit" "-max_len=${FUZZ_LENGTH:-512}" -print_final_stats=1 "-artifact_prefix=artifacts/$target/")
    [ ! -e "dictionaries/$target.dict" ] || options+=("-dict=dictionaries/$target.dict")
    case "$target" in
        # The bookkeeping of how rare each of the ten thousand edges is that an input takes costs more than the execution.
        config | convert) options+=(-entropic=0) ;;
    esac
    mkdir -p "corpus/$target" "artifacts/$target"
    "target/release/$target" "${options[@]}" "corpus/$target"
done
