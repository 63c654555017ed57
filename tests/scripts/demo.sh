#!/usr/bin/env bash
# `make demo`: builds, fetches the engine once, then the whole flow for DEMO_SECONDS with a report at the end.
. "$(dirname "$0")/lib.sh"
need_rust
need python3 "apt-get install python3"
exec python3 tests/demo/demo.py "$@"
