#!/usr/bin/env bash
# `make demo`: builds, fetches the engine once, then the whole flow for DEMO_SECONDS with a report at the end.
#
# Environment: DEMO_SECONDS (20), DEMO_RATE (1000 requests per second), DEMO_WORKERS (16), DEMO_OTLP_RATE (1000 items per second
# of each signal beside them), DEMO_PROFILE (release; or debug), DEMO_BUILD (1; 0 takes the binaries as they are).
. "$(dirname "$0")/lib.sh"

fail() { # WHY: as the last line of a run that could not begin
    printf 'demo: FAILED %s\n' "$*"
    exit 1
}

for name in DEMO_SECONDS DEMO_RATE DEMO_WORKERS DEMO_OTLP_RATE; do
    [[ ${!name:-1} =~ ^0*[1-9][0-9]*$ ]] || fail "$name is a whole number above 0, not \`${!name}\`"
done
profile=${DEMO_PROFILE:-release}
case $profile in
release) flags=(--release) ;;
debug) flags=() ;;
*) fail "DEMO_PROFILE is release or debug, not \`$profile\`" ;;
esac
binaries=${CARGO_TARGET_DIR:-target}/$profile

if [ "${DEMO_BUILD:-1}" != 0 ]; then
    need_rust
    say "Building"
    cargo build --locked "${flags[@]}" -p tidegate -p target-svc -p loadgen || fail "the build"
fi
for name in tidegate target-svc loadgen; do
    [ -x "$binaries/$name" ] || fail "$binaries/$name is not built"
done
(need_engine "$binaries/tidegate") || fail "the ClickHouse engine cannot be had"

folder=.data/demo
say "The data of the last run stays in $folder; to look at it"
echo "$binaries/tidegate localdb --path $folder/run/demo/1/localdb/db --listen 127.0.0.1:8123"
echo "$binaries/loadgen history"
echo

# Its last line is the verdict, unless it did not come to one.
status=0
"$binaries/loadgen" run configs/suites/demo.toml --out "$folder" "$@" || status=$?
case $status in
0) ;;
1 | 99) exit 1 ;;
*) fail "loadgen ended with status $status" ;;
esac
