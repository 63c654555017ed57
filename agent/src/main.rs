//! `tidegate`: the agent daemon.

use clap::Parser;

/// An OpenTelemetry agent made for ClickHouse.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
enum Cli {
    Localdb(tidegate::localdb::Options),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Cli::Localdb(options) = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tidegate::localdb::run(options))
}
