# The work is in scripts and binaries; `make help` lists what there is.
.PHONY: help demo test prove bench fuzz build deb clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##|^[a-z]+:  *##' $(MAKEFILE_LIST) | sed 's/ *##/ -/'

demo:            ## the whole flow for DEMO_SECONDS (20): ClickHouse engine, agent, service, load, report
	@tests/scripts/demo.sh

test:            ## everything: format, lints, docs, unit, component, end-to-end tests
	@tests/scripts/test.sh

prove:           ## kill and disturb agent and database for PROVE_ROUNDS (200) rounds; nothing may be lost or doubled
	@tests/scripts/prove.sh

bench:           ## CPU-seconds per million items, side by side with peers; then the short suites, with one table at the end
	@tests/scripts/bench.sh

fuzz:            ## each fuzz target for FUZZ_SECONDS (60), or FUZZ_RUNS times; needs a nightly toolchain
	@tests/scripts/fuzz.sh

build:           ## release binaries in target/release
	cargo build --release -p tidegate -p target-svc -p loadgen

deb:             ## a Debian package with the service, in target/debian
	@tests/scripts/deb.sh

clean:           ## remove build output and demo data
	cargo clean
	rm -rf .data
