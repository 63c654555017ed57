//! A batch on its way through a plugin.

use crate::edits::{Edit, Edits};
use crate::node::Node;
use crate::shape::{Kind, Wanted};
use crate::views::{Attributes, DataPoint, Event, Item, LogRecord, Metric, Resource, Scope, Span};
use crate::walk::{Losses, Walk};
use crate::{Data, Lost, Outcome, Signal};

/// Spans, log records or metrics, as OTLP. Each method is one pass over the batch and pays only for what it looks at; what
/// a pass changes, the next one sees. Methods about another signal do nothing.
#[derive(Debug)]
pub struct Batch<'a> {
    signal: Signal,
    input: &'a [u8],
    /// Changes of the input by the only pass that changed something.
    edits: Edits,
    /// The batch as it is now, if more than one pass changed it.
    made: Option<Vec<u8>>,
    losses: Losses,
}

impl<'a> Batch<'a> {
    /// A batch of OTLP bytes.
    pub fn new(signal: Signal, input: &'a [u8]) -> Self {
        Self {
            signal,
            input,
            edits: Edits::default(),
            made: None,
            losses: Losses::default(),
        }
    }

    /// What its items are.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Looks at each resource.
    pub fn resources(&mut self, mut look: impl FnMut(&mut Resource<'_, '_>)) {
        self.walk(Wanted::RESOURCES, |node| look(&mut Resource(node)));
    }

    /// Looks at each scope.
    pub fn scopes(&mut self, mut look: impl FnMut(&mut Scope<'_, '_>)) {
        self.walk(Wanted::SCOPES, |node| look(&mut Scope(node)));
    }

    /// Looks at each span.
    pub fn spans(&mut self, mut look: impl FnMut(&mut Span<'_, '_>)) {
        if self.signal == Signal::Traces {
            self.walk(Wanted::SPANS, |node| look(&mut Span(node)));
        }
    }

    /// Looks at each event of each span.
    pub fn events(&mut self, mut look: impl FnMut(&mut Event<'_, '_>)) {
        if self.signal == Signal::Traces {
            self.walk(Wanted::PARTS, |node| {
                if node.kind == Kind::Event {
                    look(&mut Event(node));
                }
            });
        }
    }

    /// Looks at each log record.
    pub fn log_records(&mut self, mut look: impl FnMut(&mut LogRecord<'_, '_>)) {
        if self.signal == Signal::Logs {
            self.walk(Wanted::LOG_RECORDS, |node| look(&mut LogRecord(node)));
        }
    }

    /// Looks at each metric.
    pub fn metrics(&mut self, mut look: impl FnMut(&mut Metric<'_, '_>)) {
        if self.signal == Signal::Metrics {
            self.walk(Wanted::METRICS, |node| look(&mut Metric(node)));
        }
    }

    /// Looks at each data point of each metric.
    pub fn data_points(&mut self, mut look: impl FnMut(&mut DataPoint<'_, '_>)) {
        if self.signal == Signal::Metrics {
            self.walk(Wanted::POINTS, |node| look(&mut DataPoint(node)));
        }
    }

    /// Looks at each span, log record or data point.
    pub fn items(&mut self, mut look: impl FnMut(&mut Item<'_, '_>)) {
        self.walk(Wanted::ITEMS, |node| look(&mut Item(node)));
    }

    /// Looks at all attributes there are: of resources, scopes, items, and of the events, links and exemplars in them.
    pub fn attributes(&mut self, mut look: impl FnMut(&mut Attributes<'_, '_>)) {
        let wanted = Wanted::ITEMS.and(Wanted::RESOURCES).and(Wanted::SCOPES);
        self.walk(wanted.and(Wanted::PARTS), |node| {
            look(&mut Attributes(node));
        });
    }

    fn walk(&mut self, wanted: Wanted, visit: impl FnMut(&mut Node<'_>)) {
        let kind = Kind::Request(self.signal);
        if !self.edits.is_empty() {
            self.made = Some(self.edits.apply(self.input));
            self.edits = Edits::default();
        }
        let Some(made) = &self.made else {
            let mut walk = Walk::new(self.input, wanted, &mut self.losses, visit);
            walk.request(kind);
            self.edits = walk.edits;
            return;
        };
        let mut walk = Walk::new(made, wanted, &mut self.losses, visit);
        walk.request(kind);
        let edits = walk.edits;
        if !edits.is_empty() {
            self.made = Some(edits.apply(made));
        }
    }

    /// What became of it.
    pub fn into_outcome(self) -> Outcome {
        let data = match self.made {
            Some(made) if made.is_empty() => Data::Nothing,
            Some(made) => Data::Replaced(made),
            None if self.edits.is_empty() => Data::Unchanged,
            None if self.leaves_nothing() => Data::Nothing,
            None => Data::Edited {
                changes: self.edits.list,
                inserted: self.edits.inserted,
            },
        };
        let losses = self.losses.into_iter();
        Outcome {
            data,
            losses: losses
                .map(|(loss, items)| Lost {
                    reason: loss.reason,
                    items,
                    fault: loss.fault,
                })
                .collect(),
        }
    }

    fn leaves_nothing(&self) -> bool {
        let removed = |edit: &Edit| (edit.end - edit.start) as usize;
        let removed: usize = self.edits.list.iter().map(removed).sum();
        self.edits.inserted.is_empty() && removed == self.input.len()
    }

    /// The bytes as they are now.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.made {
            Some(made) => made.clone(),
            None => self.edits.apply(self.input),
        }
    }
}
