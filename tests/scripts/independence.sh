#!/usr/bin/env bash
# loadgen and target-svc measure the agent from outside: they must not link it.
. "$(dirname "$0")/lib.sh"
for crate in loadgen target-svc; do
    if cargo tree --locked -p "$crate" -i tidegate >/dev/null 2>&1; then
        die "$crate depends on the agent"
    fi
    echo "$crate: independent"
done
