//! What is measured: one kind of work on one signal over one protocol with one compression.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::otlp::client::Protocol;
use crate::otlp::compression::Compression;
use crate::otlp::signal::Signal;

/// What an agent does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// It writes to a ClickHouse server.
    #[value(name = "clickhouse")]
    ClickHouse,
    /// It sends it on as OTLP, by the protocol it came by and uncompressed.
    Passthrough,
    /// It writes to a ClickHouse server, and what waits for that is on disk, or in memory to compare.
    Durable,
    /// It sends it on as OTLP under a memory limit, and is offered twice what it can take.
    Overload,
    /// It writes to a ClickHouse server, and its configuration changes all the time.
    Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    pub(crate) compression: Compression,
}

impl Cell {
    /// Every combination, uncompressed HTTP first: that is where agents are compared. Passing through and queues on disk
    /// are measured without compression, and so are overload and reloads.
    pub(crate) fn all() -> Vec<Self> {
        let protocols = [Protocol::Http, Protocol::Grpc];
        let mut cells = Vec::new();
        for protocol in protocols {
            for compression in Compression::ALL {
                let cell = |signal| Self {
                    work: Work::ClickHouse,
                    signal,
                    protocol,
                    compression,
                };
                cells.extend(Signal::ALL.map(cell));
            }
        }
        for signal in Signal::ALL {
            cells.extend(protocols.map(|protocol| Self {
                work: Work::Passthrough,
                signal,
                protocol,
                compression: Compression::None,
            }));
        }
        for protocol in protocols {
            cells.extend([Signal::Traces, Signal::Logs].map(|signal| Self {
                work: Work::Durable,
                signal,
                protocol,
                compression: Compression::None,
            }));
        }
        for work in [Work::Overload, Work::Reload] {
            cells.extend(protocols.map(|protocol| Self {
                work,
                signal: Signal::Traces,
                protocol,
                compression: Compression::None,
            }));
        }
        cells
    }

    /// A few that touch each signal, protocol and compression.
    pub(crate) fn quick() -> Vec<Self> {
        use Compression::{Gzip, None, Zstd};
        use Protocol::{Grpc, Http};
        use Work::{ClickHouse, Durable, Overload, Passthrough, Reload};

        [
            (ClickHouse, Signal::Traces, Http, None),
            (ClickHouse, Signal::Logs, Http, Gzip),
            (ClickHouse, Signal::Metrics, Http, Zstd),
            (ClickHouse, Signal::Traces, Grpc, Zstd),
            (ClickHouse, Signal::Logs, Grpc, None),
            (ClickHouse, Signal::Metrics, Grpc, Gzip),
            (Passthrough, Signal::Traces, Http, None),
            (Passthrough, Signal::Traces, Grpc, None),
            (Durable, Signal::Traces, Http, None),
            (Overload, Signal::Traces, Grpc, None),
            (Reload, Signal::Traces, Http, None),
        ]
        .map(|(work, signal, protocol, compression)| Self {
            work,
            signal,
            protocol,
            compression,
        })
        .to_vec()
    }

    /// Whether other agents are measured here too.
    pub(crate) fn is_compared(self) -> bool {
        self.protocol == Protocol::Http && self.compression == Compression::None
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.work {
            Work::ClickHouse => {}
            Work::Passthrough => formatter.write_str("passthrough, ")?,
            Work::Durable => formatter.write_str("durable, ")?,
            Work::Overload => formatter.write_str("overload, ")?,
            Work::Reload => formatter.write_str("reload, ")?,
        }
        write!(
            formatter,
            "{}, {}, {}",
            self.signal, self.protocol, self.compression
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_there_once_and_the_quick_ones_touch_everything() {
        let mut all = Cell::all();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 32);
        for signal in Signal::ALL {
            assert!(Cell::quick().iter().any(|cell| cell.signal == signal));
        }
        for compression in Compression::ALL {
            assert!(
                Cell::quick()
                    .iter()
                    .any(|cell| cell.compression == compression)
            );
        }
    }
}
