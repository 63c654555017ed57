# Shared by the scripts beside it: where things are, and what must be there.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '\n== %s\n' "$*"; }

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND WHAT-TO-DO
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }

need_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    need cargo "install Rust with rustup (https://rustup.rs)"
    cargo --version >/dev/null || die "cargo does not run"
    if ! cc --version >/dev/null 2>&1; then
        die "a C compiler is missing: apt-get install build-essential"
    fi
}

# What plugins are compiled for.
need_plugin_target() {
    rustup target list --installed 2>/dev/null | grep -q '^wasm32-wasip2$' \
        || rustup target add wasm32-wasip2 \
        || die "plugins need a target of Rust: rustup target add wasm32-wasip2"
}

# The embedded ClickHouse engine, fetched once.
need_engine() { # BINARY
    say "The embedded ClickHouse engine"
    need npm "the engine comes as an npm package: apt-get install npm"
    "$1" localdb --fetch-only
}
