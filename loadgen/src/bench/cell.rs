//! What is measured: one signal over one protocol with one compression.

use std::fmt;

use serde::Serialize;

use crate::otlp::client::Protocol;
use crate::otlp::compression::Compression;
use crate::otlp::signal::Signal;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cell {
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    pub(crate) compression: Compression,
}

impl Cell {
    /// Every combination, uncompressed HTTP first: that is where agents are compared.
    pub(crate) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for protocol in [Protocol::Http, Protocol::Grpc] {
            for compression in Compression::ALL {
                let cell = |signal| Self {
                    signal,
                    protocol,
                    compression,
                };
                cells.extend(Signal::ALL.map(cell));
            }
        }
        cells
    }

    /// A few that touch each signal, protocol and compression.
    pub(crate) fn quick() -> Vec<Self> {
        use Compression::{Gzip, None, Zstd};
        use Protocol::{Grpc, Http};

        [
            (Signal::Traces, Http, None),
            (Signal::Logs, Http, Gzip),
            (Signal::Metrics, Http, Zstd),
            (Signal::Traces, Grpc, Zstd),
            (Signal::Logs, Grpc, None),
            (Signal::Metrics, Grpc, Gzip),
        ]
        .map(|(signal, protocol, compression)| Self {
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
        assert_eq!(all.len(), 18);
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
