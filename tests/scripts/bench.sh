#!/usr/bin/env bash
# `make bench`: release binaries, the peer from its package, one run side by side.
. "$(dirname "$0")/lib.sh"
need_rust
say "Release binaries"
cargo build --release --locked -p tidegate -p loadgen
case " $* " in
*" --quick "*) ;;
*)
    tests/bench/fetch-rotel.sh || say "Rotel cannot be had here: the report will say so"
    tests/bench/plugins.sh
    ;;
esac
exec target/release/loadgen bench "$@"
