#!/usr/bin/env bash
# Licences, banned and duplicated crates; advisories too where the advisory database can be had.
. "$(dirname "$0")/lib.sh"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny -c .ci/deny.toml --log-level error check licenses bans sources
    cargo deny -c .ci/deny.toml --log-level error check advisories \
        || { cargo deny -c .ci/deny.toml fetch db >/dev/null 2>&1 && exit 1; echo "the advisory database cannot be had here: advisories not checked"; }
    exit 0
fi
echo "cargo-deny is not installed (cargo install --locked cargo-deny): checking licences only"
python3 tests/scripts/licences.py .ci/deny.toml
