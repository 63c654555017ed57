//! The three signals and where they travel, and counting of items in an encoded request.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::wire::{Fields, Malformed};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    pub(crate) const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    pub(crate) fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    pub(crate) fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// The signal a request path (OTLP/HTTP or gRPC) is for.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.http_path() == path || signal.grpc_path() == path)
    }

    /// What one item of this signal is called, in the plural.
    pub(crate) fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "log records",
            Self::Metrics => "data points",
        }
    }

    /// Counts the items of an encoded `Export…ServiceRequest`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not protobuf down to the level of items.
    pub(crate) fn count(self, request: &[u8]) -> Result<u64, Malformed> {
        let mut items = 0;
        self.each_item(request, |_| items += 1)?;
        Ok(items)
    }

    /// Gives the bytes of each item of an encoded `Export…ServiceRequest` to `visit`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not protobuf down to the level of items.
    pub(crate) fn each_item(
        self,
        request: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        for resource in only(Fields::new(request), 1) {
            for scope in only(resource?.message(), 2) {
                for element in only(scope?.message(), 2) {
                    let element = element?;
                    match self {
                        Self::Traces | Self::Logs => visit(element.bytes()),
                        Self::Metrics => each_point(element.message(), &mut visit)?,
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        })
    }
}

/// Data points of one `Metric`: field 1 of whichever of its kinds (5, 7, 9, 10, 11) is there.
fn each_point(metric: Fields<'_>, visit: &mut impl FnMut(&[u8])) -> Result<(), Malformed> {
    for field in metric {
        let field = field?;
        if matches!(field.number, 5 | 7 | 9 | 10 | 11) {
            for point in only(field.message(), 1) {
                visit(point?.bytes());
            }
        }
    }
    Ok(())
}

/// The fields with this number, and every error.
fn only<'a>(
    fields: Fields<'a>,
    number: u64,
) -> impl Iterator<Item = Result<super::wire::Field<'a>, Malformed>> {
    fields.filter(move |field| field.is_err() || field.is_ok_and(|field| field.number == number))
}
