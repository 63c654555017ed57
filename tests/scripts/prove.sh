#!/usr/bin/env bash
# `make prove`: kills and faults for PROVE_ROUNDS rounds (200), then an overload of PROVE_OVERLOAD (60s), then a full disk; release binaries.
# PROVE_SEED repeats a run, PROVE_STORAGE says where the agent queues (wal), arguments go to `loadgen prove`.
. "$(dirname "$0")/lib.sh"
need_rust
rounds=${PROVE_ROUNDS:-200}
storage=${PROVE_STORAGE:-wal}
seed=(${PROVE_SEED:+--seed "$PROVE_SEED"})
say "Release binaries"
cargo build --release --locked -p tidegate -p loadgen
need_engine target/release/tidegate
mkdir -p target/prove
failed=0
say "$rounds rounds of killing the agent, $((rounds / 4)) the database, $((rounds / 8)) both, and faults on the way"
target/release/loadgen prove --storage "$storage" "${seed[@]}" --agent-kills "$rounds" --database-kills $((rounds / 4)) \
    --both-kills $((rounds / 8)) --faults all --fault-rounds $((rounds / 50 + 1)) --json target/prove/faults.json "$@" || failed=1
say "The same in order, one batch at a time"
target/release/loadgen prove --storage "$storage" "${seed[@]}" --agent-kills $((rounds / 8)) --database-kills $((rounds / 8)) \
    --both-kills $((rounds / 16)) --check-order --json target/prove/order.json "$@" || failed=1
say "Overload for ${PROVE_OVERLOAD:-60s}"
target/release/loadgen prove overload --storage "$storage" "${seed[@]}" --duration "${PROVE_OVERLOAD:-60s}" \
    --json target/prove/overload.json || failed=1
say "A full disk and a read-only one"
for how in "" --restart; do
    target/release/loadgen prove disk --storage wal "${seed[@]}" $how --size 40 --json "target/prove/disk$how.json" || failed=1
done
exit "$failed"
