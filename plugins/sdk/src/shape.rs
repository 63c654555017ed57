//! Which messages OTLP has, and what of each a plugin can look at.

use crate::Signal;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Export*ServiceRequest`.
    Request(Signal),
    /// `ResourceSpans` and its sisters.
    ResourceGroup(Signal),
    Resource,
    /// `ScopeSpans` and its sisters.
    ScopeGroup(Signal),
    Scope,
    Span,
    Event,
    Link,
    LogRecord,
    Metric,
    /// `Gauge`, `Sum`, …: the number of the field of `Metric` that it stands in.
    Data(u32),
    NumberPoint,
    HistogramPoint,
    ExponentialPoint,
    SummaryPoint,
    Exemplar,
}

/// What a plugin wants to see: a set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted(u16);

impl Wanted {
    pub(crate) const RESOURCES: Self = Self(1);
    pub(crate) const SCOPES: Self = Self(1 << 1);
    pub(crate) const SPANS: Self = Self(1 << 2);
    pub(crate) const LOG_RECORDS: Self = Self(1 << 3);
    pub(crate) const METRICS: Self = Self(1 << 4);
    pub(crate) const POINTS: Self = Self(1 << 5);
    /// What batches are counted in.
    pub(crate) const ITEMS: Self = Self::SPANS.and(Self::LOG_RECORDS).and(Self::POINTS);
    /// Events, links and exemplars: parts of items.
    pub(crate) const PARTS: Self = Self(1 << 6);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const NUMBER_POINTS: &[(u32, Kind)] = &[(1, Kind::NumberPoint)];
const HISTOGRAM_POINTS: &[(u32, Kind)] = &[(1, Kind::HistogramPoint)];
const EXPONENTIAL_POINTS: &[(u32, Kind)] = &[(1, Kind::ExponentialPoint)];
const SUMMARY_POINTS: &[(u32, Kind)] = &[(1, Kind::SummaryPoint)];

impl Kind {
    /// The number of the field with attributes; 0 if it has none.
    pub(crate) const fn attributes(self) -> u32 {
        match self {
            Self::Resource | Self::ExponentialPoint => 1,
            Self::Scope | Self::Event => 3,
            Self::Link => 4,
            Self::LogRecord => 6,
            Self::NumberPoint | Self::SummaryPoint | Self::Exemplar => 7,
            Self::Span | Self::HistogramPoint => 9,
            Self::Request(_)
            | Self::ResourceGroup(_)
            | Self::ScopeGroup(_)
            | Self::Metric
            | Self::Data(_) => 0,
        }
    }

    /// The messages in it, by the number of their field.
    pub(crate) const fn children(self) -> &'static [(u32, Self)] {
        match self {
            Self::Request(Signal::Traces) => &[(1, Self::ResourceGroup(Signal::Traces))],
            Self::Request(Signal::Metrics) => &[(1, Self::ResourceGroup(Signal::Metrics))],
            Self::Request(Signal::Logs) => &[(1, Self::ResourceGroup(Signal::Logs))],
            Self::ResourceGroup(Signal::Traces) => {
                &[(1, Self::Resource), (2, Self::ScopeGroup(Signal::Traces))]
            }
            Self::ResourceGroup(Signal::Metrics) => {
                &[(1, Self::Resource), (2, Self::ScopeGroup(Signal::Metrics))]
            }
            Self::ResourceGroup(Signal::Logs) => {
                &[(1, Self::Resource), (2, Self::ScopeGroup(Signal::Logs))]
            }
            Self::ScopeGroup(Signal::Traces) => &[(1, Self::Scope), (2, Self::Span)],
            Self::ScopeGroup(Signal::Metrics) => &[(1, Self::Scope), (2, Self::Metric)],
            Self::ScopeGroup(Signal::Logs) => &[(1, Self::Scope), (2, Self::LogRecord)],
            Self::Span => &[(11, Self::Event), (13, Self::Link)],
            Self::Metric => &[
                (5, Self::Data(5)),
                (7, Self::Data(7)),
                (9, Self::Data(9)),
                (10, Self::Data(10)),
                (11, Self::Data(11)),
            ],
            Self::Data(9) => HISTOGRAM_POINTS,
            Self::Data(10) => EXPONENTIAL_POINTS,
            Self::Data(11) => SUMMARY_POINTS,
            Self::Data(_) => NUMBER_POINTS,
            Self::NumberPoint => &[(5, Self::Exemplar)],
            Self::HistogramPoint => &[(8, Self::Exemplar)],
            Self::ExponentialPoint => &[(11, Self::Exemplar)],
            Self::Resource
            | Self::Scope
            | Self::Event
            | Self::Link
            | Self::LogRecord
            | Self::SummaryPoint
            | Self::Exemplar => &[],
        }
    }

    /// The set that it belongs to; an empty one for what only holds others together.
    const fn set(self) -> Wanted {
        match self {
            Self::Resource => Wanted::RESOURCES,
            Self::Scope => Wanted::SCOPES,
            Self::Span => Wanted::SPANS,
            Self::LogRecord => Wanted::LOG_RECORDS,
            Self::Metric => Wanted::METRICS,
            Self::NumberPoint
            | Self::HistogramPoint
            | Self::ExponentialPoint
            | Self::SummaryPoint => Wanted::POINTS,
            Self::Event | Self::Link | Self::Exemplar => Wanted::PARTS,
            Self::Request(_) | Self::ResourceGroup(_) | Self::ScopeGroup(_) | Self::Data(_) => {
                Wanted(0)
            }
        }
    }

    pub(crate) const fn is_wanted(self, wanted: Wanted) -> bool {
        wanted.has(self.set())
    }

    /// Whether there may be something in it that is wanted.
    pub(crate) const fn leads_to(self, wanted: Wanted) -> bool {
        let below = match self {
            Self::Request(_) | Self::ResourceGroup(_) => return true,
            Self::ScopeGroup(Signal::Traces) => {
                Wanted::SCOPES.and(Wanted::SPANS).and(Wanted::PARTS)
            }
            Self::ScopeGroup(Signal::Logs) => Wanted::SCOPES.and(Wanted::LOG_RECORDS),
            Self::ScopeGroup(Signal::Metrics) => Wanted::SCOPES
                .and(Wanted::METRICS)
                .and(Wanted::POINTS)
                .and(Wanted::PARTS),
            Self::Metric | Self::Data(_) => Wanted::POINTS.and(Wanted::PARTS),
            Self::Span | Self::NumberPoint | Self::HistogramPoint | Self::ExponentialPoint => {
                Wanted::PARTS
            }
            Self::Resource
            | Self::Scope
            | Self::Event
            | Self::Link
            | Self::LogRecord
            | Self::SummaryPoint
            | Self::Exemplar => return false,
        };
        wanted.has(below)
    }

    /// Whether items are in it, so that it goes when all of them are dropped.
    pub(crate) const fn holds_items(self) -> bool {
        matches!(
            self,
            Self::ResourceGroup(_) | Self::ScopeGroup(_) | Self::Metric | Self::Data(_)
        )
    }

    /// Whether it is an item, or holds items.
    pub(crate) const fn counts(self) -> bool {
        self.holds_items() || self.is_item()
    }

    /// Whether it is what batches are counted in.
    pub(crate) const fn is_item(self) -> bool {
        matches!(
            self,
            Self::Span
                | Self::LogRecord
                | Self::NumberPoint
                | Self::HistogramPoint
                | Self::ExponentialPoint
                | Self::SummaryPoint
        )
    }
}
