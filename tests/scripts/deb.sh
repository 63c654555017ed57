#!/usr/bin/env bash
# `make deb`: builds target/debian/tidegate_VERSION_ARCHITECTURE.deb. DEB_BINARY=FILE packs that binary instead of building one;
# DEB_ARGUMENTS go to cargo-deb, such as --fast.
# The package has the agent, with its units, manual pages and completions; target-svc and loadgen measure, and are not packaged.
. "$(dirname "$0")/lib.sh"
need_rust
if ! cargo deb --version >/dev/null 2>&1; then
    say "cargo-deb, which makes the package, is installed into ~/.cargo/bin"
    cargo install --locked cargo-deb
fi
binary=${DEB_BINARY:-}
if [ -z "$binary" ]; then
    say "Release binary"
    cargo build --release --locked -p tidegate
    binary=target/release/tidegate
fi
say "What goes into it"
stage=target/package
rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completions"
# Debug information for backtraces is 10 times the program.
if command -v strip >/dev/null; then strip --strip-debug -o "$stage/tidegate" "$binary"; else cp "$binary" "$stage/tidegate"; fi
"$binary" man "$stage/man"
for shell in bash zsh fish; do "$binary" completions "$shell" >"$stage/completions/$shell"; done
cp systemd/tidegate.sysusers "$stage/tidegate.conf"
say "The package"
cargo deb -q -p tidegate --no-build --no-strip ${DEB_ARGUMENTS:-}
if command -v lintian >/dev/null; then lintian --fail-on error,warning --allow-root target/debian/*.deb; fi
