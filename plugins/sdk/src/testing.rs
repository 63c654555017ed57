//! Tests of plugins without WebAssembly: make a batch, run the plugin, read what came out as text.
//!
//! ```
//! use tidegate_plugin::prelude::*;
//! use tidegate_plugin::testing::{Tester, spans};
//!
//! struct Shout;
//!
//! impl Plugin for Shout {
//!     type Config = ();
//!     fn new(_: (), _: Signal) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
//!         batch.spans(|span| {
//!             let loud = span.name().to_uppercase();
//!             span.set_name(&loud);
//!         });
//!         Ok(())
//!     }
//! }
//!
//! let mut tester = Tester::<Shout>::new(Signal::Traces, "{}").unwrap();
//! let batch = spans().resource(&[("service.name", "shop")]).item("get", &[("k", "v")]);
//! assert_eq!(tester.run(&batch), "resource service.name=shop\n  span GET k=v\n");
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;

use crate::guest::Runner;
use crate::host::{Level, MetricKind};
use crate::shape::Kind;
use crate::value::{self, OwnedValue, Value};
use crate::wire::{self, Fields, Wire};
use crate::{Data, Error, Lost, Outcome, Plugin, Signal};

thread_local! {
    pub(crate) static WORLD: RefCell<World> = RefCell::default();
}

/// What stands in for the agent, in each thread.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) lines: Vec<(Level, String)>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    metrics: Vec<(MetricKind, String, f64)>,
}

impl World {
    pub(crate) fn metric(&mut self, kind: MetricKind, name: &str, label: &str) -> u32 {
        let name = match label {
            "" => name.to_owned(),
            label => format!("{name}{{{label}}}"),
        };
        let mut known = self.metrics.iter();
        let found = known.position(|(of, called, _)| (*of, called) == (kind, &name));
        let index = found.unwrap_or_else(|| {
            self.metrics.push((kind, name, 0.0));
            self.metrics.len() - 1
        });
        index as u32
    }

    pub(crate) fn record(&mut self, metric: u32, value: f64) {
        if let Some((kind, _, sum)) = self.metrics.get_mut(metric as usize) {
            match kind {
                MetricKind::Gauge => *sum = value,
                MetricKind::Counter | MetricKind::Histogram => *sum += value,
            }
        }
    }
}

/// Gives plugins of this thread a file.
pub fn give_file(name: &str, content: impl Into<Vec<u8>>) {
    WORLD.with_borrow_mut(|world| world.files.insert(name.to_owned(), content.into()));
}

/// The lines that plugins of this thread have logged since this was asked last.
pub fn take_log() -> Vec<(Level, String)> {
    WORLD.with_borrow_mut(|world| std::mem::take(&mut world.lines))
}

/// What a metric stands at: counts and values added up, or what a gauge was set to last. `name`, or `name{label}`.
pub fn metric(name: &str) -> Option<f64> {
    WORLD.with_borrow(|world| {
        let mut metrics = world.metrics.iter();
        metrics
            .find(|(_, of, _)| of == name)
            .map(|(_, _, sum)| *sum)
    })
}

/// A plugin that is being tested.
pub struct Tester<P> {
    signal: Signal,
    runner: Runner<P>,
    losses: Vec<Lost>,
}

impl<P> std::fmt::Debug for Tester<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tester").field(&self.runner).finish()
    }
}

impl<P: Plugin> Tester<P> {
    /// Configures a plugin; `config` is JSON.
    ///
    /// # Errors
    /// What the plugin says against it.
    pub fn new(signal: Signal, config: &str) -> Result<Self, Error> {
        let mut runner = Runner::new();
        runner.configure(signal, config)?;
        Ok(Self {
            signal,
            runner,
            losses: Vec::new(),
        })
    }

    /// Runs a batch through and gives what comes out as text, see [`render`].
    ///
    /// # Panics
    /// When the plugin fails.
    pub fn run(&mut self, batch: &Builder) -> String {
        render(self.signal, &self.run_bytes(&batch.to_bytes()))
    }

    /// Runs OTLP bytes through and gives what comes out.
    ///
    /// # Panics
    /// When the plugin fails.
    pub fn run_bytes(&mut self, batch: &[u8]) -> Vec<u8> {
        let outcome = self.try_run(batch);
        let outcome = outcome.unwrap_or_else(|error| panic!("the plugin failed: {error:?}"));
        self.losses.clone_from(&outcome.losses);
        apply(batch, outcome)
    }

    /// Runs OTLP bytes through.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn try_run(&mut self, batch: &[u8]) -> Result<Outcome, Error> {
        self.runner.process(batch)
    }

    /// What was lost in the last run: reasons and counts.
    pub fn losses(&self) -> Vec<(&str, u64)> {
        let losses = self.losses.iter();
        losses
            .map(|lost| (lost.reason.as_str(), lost.items))
            .collect()
    }

    /// Lets the plugin do what it does from time to time.
    pub fn tick(&mut self) {
        self.runner.tick();
    }
}

/// What the agent makes of an outcome.
pub fn apply(input: &[u8], outcome: Outcome) -> Vec<u8> {
    match outcome.data {
        Data::Unchanged => input.to_vec(),
        Data::Nothing => Vec::new(),
        Data::Replaced(bytes) => bytes,
        Data::Edited { changes, inserted } => {
            let mut output = Vec::new();
            let (mut copied, mut taken) = (0, 0);
            for edit in changes {
                output.extend_from_slice(wire::slice(input, copied..edit.start as usize));
                let end = taken + edit.length as usize;
                output.extend_from_slice(wire::slice(&inserted, taken..end));
                (copied, taken) = (edit.end as usize, end);
            }
            output.extend_from_slice(wire::slice(input, copied..input.len()));
            output
        }
    }
}

// === Batches ===

/// A batch in the making. Items go to the resource that was begun last.
#[derive(Debug, Clone)]
pub struct Builder {
    signal: Signal,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    resource: Vec<u8>,
    scope: Vec<u8>,
    items: Vec<Vec<u8>>,
}

/// Spans.
pub fn spans() -> Builder {
    Builder::new(Signal::Traces)
}

/// Log records.
pub fn logs() -> Builder {
    Builder::new(Signal::Logs)
}

/// Gauges.
pub fn metrics() -> Builder {
    Builder::new(Signal::Metrics)
}

impl Builder {
    fn new(signal: Signal) -> Self {
        Self {
            signal,
            groups: Vec::new(),
        }
    }

    /// Begins a resource.
    pub fn resource(mut self, attributes: &[(&str, &str)]) -> Self {
        let mut resource = Vec::new();
        put_attributes(&mut resource, Kind::Resource, attributes);
        self.groups.push(Group {
            resource,
            ..Group::default()
        });
        self
    }

    /// Names the scope of the resource.
    pub fn scope(mut self, name: &str) -> Self {
        let group = self.group();
        wire::put_bytes(&mut group.scope, 1, name.as_bytes());
        self
    }

    /// Adds an item: a span of that name, a log record with that body, a gauge of that name with one data point.
    pub fn item(self, name: &str, attributes: &[(&str, &str)]) -> Self {
        self.item_with(name, &texts(attributes))
    }

    /// The same with attributes of any kind.
    pub fn item_with(mut self, name: &str, attributes: &[(&str, OwnedValue)]) -> Self {
        let mut item = Vec::new();
        match self.signal {
            Signal::Traces => {
                let number = self
                    .groups
                    .iter()
                    .map(|group| group.items.len())
                    .sum::<usize>()
                    + 1;
                wire::put_bytes(&mut item, 1, &[number as u8; 16]);
                wire::put_bytes(&mut item, 2, &[number as u8; 8]);
                wire::put_bytes(&mut item, 5, name.as_bytes());
                put_values(&mut item, Kind::Span, attributes);
            }
            Signal::Logs => {
                let mut body = Vec::new();
                Value::Str(name).write(&mut body);
                wire::put_bytes(&mut item, 5, &body);
                put_values(&mut item, Kind::LogRecord, attributes);
            }
            Signal::Metrics => {
                let mut point = Vec::new();
                wire::put_fixed64(&mut point, 4, 1.5_f64.to_le_bytes());
                put_values(&mut point, Kind::NumberPoint, attributes);
                let mut gauge = Vec::new();
                wire::put_bytes(&mut gauge, 1, &point);
                wire::put_bytes(&mut item, 1, name.as_bytes());
                wire::put_bytes(&mut item, 5, &gauge);
            }
        }
        self.group().items.push(item);
        self
    }

    /// Gives the last log record a severity.
    pub fn severity(mut self, number: u32, text: &str) -> Self {
        if let Some(record) = self.group().items.last_mut() {
            wire::put_number(record, 2, number.into());
            wire::put_bytes(record, 3, text.as_bytes());
        }
        self
    }

    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    /// OTLP bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut request = Vec::new();
        for group in &self.groups {
            let mut scope = Vec::new();
            if !group.scope.is_empty() {
                wire::put_bytes(&mut scope, 1, &group.scope);
            }
            for item in &group.items {
                wire::put_bytes(&mut scope, 2, item);
            }
            let mut resource = Vec::new();
            if !group.resource.is_empty() {
                wire::put_bytes(&mut resource, 1, &group.resource);
            }
            wire::put_bytes(&mut resource, 2, &scope);
            wire::put_bytes(&mut request, 1, &resource);
        }
        request
    }
}

fn put_attributes(to: &mut Vec<u8>, kind: Kind, attributes: &[(&str, &str)]) {
    put_values(to, kind, &texts(attributes));
}

fn texts<'a>(attributes: &[(&'a str, &str)]) -> Vec<(&'a str, OwnedValue)> {
    let attributes = attributes.iter();
    let owned = attributes.map(|(key, value)| (*key, OwnedValue::Str((*value).to_owned())));
    owned.collect()
}

fn put_values(to: &mut Vec<u8>, kind: Kind, attributes: &[(&str, OwnedValue)]) {
    for (key, given) in attributes {
        let mut written = Vec::new();
        given.write(&mut written);
        let length = value::pair_length(key.as_bytes(), &written);
        wire::put_head(to, kind.attributes(), length);
        value::put_pair(to, key.as_bytes(), &written);
    }
}

// === Text ===

/// A batch as text: a line for each resource and scope that has something to tell, and one for each item with its name or
/// body, its severity or value, and its attributes.
pub fn render(signal: Signal, batch: &[u8]) -> String {
    let mut text = String::new();
    for group in messages(batch, 1) {
        for resource in messages(group, 1) {
            line(&mut text, 0, "resource", "", resource, Kind::Resource);
        }
        for scope_group in messages(group, 2) {
            for scope in messages(scope_group, 1) {
                line(&mut text, 1, "scope", &name(scope, 1), scope, Kind::Scope);
            }
            for item in messages(scope_group, 2) {
                render_item(&mut text, signal, item);
            }
        }
    }
    text
}

fn render_item(text: &mut String, signal: Signal, item: &[u8]) {
    match signal {
        Signal::Traces => {
            line(text, 1, "span", &name(item, 5), item, Kind::Span);
            for event in messages(item, 11) {
                line(text, 2, "event", &name(event, 2), event, Kind::Event);
            }
        }
        Signal::Logs => {
            let body = messages(item, 5).last().map_or(Value::Empty, Value::read);
            let severity = name(item, 3);
            let said = format!(
                "{severity}{}{}",
                if severity.is_empty() { "" } else { " " },
                Plain(body)
            );
            line(text, 1, "log", &said, item, Kind::LogRecord);
        }
        Signal::Metrics => {
            line(text, 1, "metric", &name(item, 1), &[], Kind::Metric);
            for (number, data) in Kind::Metric.children() {
                let points = messages(item, *number).flat_map(|data| messages(data, 1));
                for point in points {
                    let kind = data
                        .children()
                        .first()
                        .map_or(Kind::NumberPoint, |(_, kind)| *kind);
                    line(text, 2, "point", "", point, kind);
                }
            }
        }
    }
}

fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message, 0..message.len())
        .filter(move |field| field.number == number && field.wire == Wire::Bytes)
        .map(|field| wire::slice(message, field.value))
}

fn name(message: &[u8], number: u32) -> String {
    let last = messages(message, number).last();
    wire::text(last.unwrap_or_default()).to_owned()
}

fn line(text: &mut String, depth: usize, what: &str, name: &str, message: &[u8], kind: Kind) {
    let _cannot_fail = write!(text, "{:1$}{what}", "", 2 * depth);
    if !name.is_empty() {
        let _cannot_fail = write!(text, " {name}");
    }
    for pair in messages(message, kind.attributes()) {
        let (key, value) = value::pair(pair);
        let _cannot_fail = write!(text, " {key}={}", Plain(value));
    }
    text.push('\n');
}

/// A value as text.
struct Plain<'a>(Value<'a>);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Value::Empty => Ok(()),
            Value::Str(text) => f.write_str(text),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Double(number) => write!(f, "{number:?}"),
            Value::Bytes(bytes) => write!(f, "{bytes:02x?}"),
            Value::List(list) => {
                let all: Vec<_> = list.iter().map(|value| Plain(value).to_string()).collect();
                write!(f, "[{}]", all.join(", "))
            }
            Value::Map(map) => {
                let pair = |(key, value)| format!("{key}={}", Plain(value));
                let all: Vec<_> = map.iter().map(pair).collect();
                write!(f, "{{{}}}", all.join(", "))
            }
        }
    }
}
