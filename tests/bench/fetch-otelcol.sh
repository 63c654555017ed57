#!/bin/sh
# Builds the Collector that the suite `peers` compares with, from its released modules through the official builder, into
# target/bench/otelcol: what the suite uses of it, and what its neighbours are asked with by hand. Needs Go; the first time takes
# some minutes, and the modules are checked against Go's checksum database.
set -eu

version=0.165.0
# The modules that are called stable, of the same release.
stable=1.71.0

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/target/bench/otelcol
wanted="$version of $(sha256sum <"$0")"

if [ "$(cat "$target/version" 2>/dev/null)" = "$wanted" ] && "$target/otelcol-contrib" --version >/dev/null; then
    echo "Collector $version is there: $target/otelcol-contrib"
    exit 0
fi
command -v go >/dev/null || {
    echo "the Collector is built with Go, and there is none" >&2
    exit 1
}

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT INT TERM

core=go.opentelemetry.io/collector
contrib=github.com/open-telemetry/opentelemetry-collector-contrib
cat >"$build/builder.yaml" <<EOF
dist:
  name: otelcol-contrib
  description: the OpenTelemetry Collector, with what Tidegate is compared with
  version: $version
  output_path: $build/otelcol
receivers:
  - gomod: $core/receiver/otlpreceiver v$version
processors:
  - gomod: $core/processor/batchprocessor v$version
  - gomod: $core/processor/memorylimiterprocessor v$version
exporters:
  - gomod: $core/exporter/otlpexporter v$version
  - gomod: $core/exporter/otlphttpexporter v$version
  - gomod: $core/exporter/debugexporter v$version
  - gomod: $core/exporter/nopexporter v$version
  - gomod: $contrib/exporter/clickhouseexporter v$version
extensions:
  - gomod: $contrib/extension/healthcheckextension v$version
  - gomod: $contrib/extension/storage/filestorage v$version
providers:
  - gomod: $core/confmap/provider/envprovider v$stable
  - gomod: $core/confmap/provider/fileprovider v$stable
  - gomod: $core/confmap/provider/yamlprovider v$stable
EOF

GOBIN=$build go install "$core/cmd/builder@v$version"
"$build/builder" --config "$build/builder.yaml"
mkdir -p "$target"
install -m 755 "$build/otelcol/otelcol-contrib" "$target/otelcol-contrib"
"$target/otelcol-contrib" --version
echo "$wanted" >"$target/version"
echo "Collector $version: $target/otelcol-contrib"
