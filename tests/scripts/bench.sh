#!/usr/bin/env bash
# `make bench`: release binaries and the peers from their packages, measured side by side. Three parts, whose statuses count together:
# what plugins cost alone (`tidegate plugin bench`), agents next to each other (`loadgen bench`: every signal, protocol and
# compression, passing through next to nginx, the queue on disk, twice the load that is taken, ten reloads a second), and the
# short suites, with one table over them as the last thing that is printed.
#
#     tests/scripts/bench.sh                    everything
#     tests/scripts/bench.sh --suites [OPTION]  the suites only, with options of `loadgen run`
#     tests/scripts/bench.sh OPTION...          `loadgen bench` with these options only
#
# Environment: BENCH_PROFILE (release; debug binaries show that it works, and measure nothing), BENCH_BUILD (1; 0 takes what is built).
. "$(dirname "$0")/lib.sh"
need_rust

# A few minutes together. `demo` has no figures to compare, `soak` is for hours.
SUITES=(idle 100klrps saturation batch-size connections backpressure outage reload plugin-cost gateway peers)

profile=${BENCH_PROFILE:-release}
case $profile in
release) flags=(--release) ;;
debug) flags=() ;;
*) die "BENCH_PROFILE is release or debug, not \`$profile\`" ;;
esac
binaries=${CARGO_TARGET_DIR:-target}/$profile

build() {
    [ "${BENCH_BUILD:-1}" != 0 ] || return 0
    say "Binaries ($profile)"
    cargo build --locked "${flags[@]}" -p tidegate -p loadgen
}

peer() { tests/bench/fetch-rotel.sh || say "Rotel cannot be had here: the report will say so"; }

peers() {
    peer
    tests/bench/fetch-otelcol.sh || say "The Collector cannot be had here: the report will say so"
}

suites() {
    say "Suites: ${SUITES[*]}"
    local paths=("${SUITES[@]/#/configs/suites/}")
    "$binaries/loadgen" run "${paths[@]/%/.toml}" "$@"
}

agents() { "$binaries/loadgen" bench --tidegate "$binaries/tidegate" "$@"; }

build
case ${1:-} in
'')
    peers
    status=0
    tests/bench/plugins.sh "$binaries/tidegate" || status=$?
    agents || status=$?
    suites || status=$?
    exit "$status"
    ;;
--suites)
    shift
    peers
    suites "$@"
    ;;
*)
    case " $* " in
    *" --quick "*) ;;
    *) peer ;;
    esac
    agents "$@"
    ;;
esac
