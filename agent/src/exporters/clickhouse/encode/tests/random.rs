//! Random requests: every value type, extremes, and wire forms that no encoder makes but protobuf allows.

use crate::otlp::{Field, Fields, Value};
use crate::signal::Signal;

/// xorshift64*.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap();
            items.swap(last, other);
        }
    }
}

/// The messages of OTLP, as far as they nest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Request(Signal),
    ResourceItems(Signal),
    ScopeItems(Signal),
    Resource,
    Scope,
    Span,
    Event,
    Link,
    Status,
    Record,
    Metric,
    Numbers,
    Number,
    Histograms,
    Histogram,
    ExponentialHistograms,
    ExponentialHistogram,
    Buckets,
    Summaries,
    Summary,
    Quantile,
    Exemplar,
    KeyValue,
    Any,
    Array,
    Map,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Text,
    Id(usize),
    Blob,
    Varint,
    Small,
    Fixed,
    Double,
    Fixed32,
    PackedFixed,
    PackedVarint,
    Message(Kind),
}

use Holds::{Blob, Double, Fixed, Fixed32, Id, Message, PackedFixed, PackedVarint, Small, Text, Varint};

/// The fields of a message.
fn fields(kind: Kind) -> Vec<(u32, Holds)> {
    let pair = Message(Kind::KeyValue);
    let of = |signal| match signal {
        Signal::Traces => Kind::Span,
        Signal::Logs => Kind::Record,
        Signal::Metrics => Kind::Metric,
    };
    match kind {
        Kind::Request(signal) => vec![(1, Message(Kind::ResourceItems(signal)))],
        Kind::ResourceItems(signal) => vec![
            (1, Message(Kind::Resource)),
            (2, Message(Kind::ScopeItems(signal))),
            (3, Text),
        ],
        Kind::ScopeItems(signal) => vec![(1, Message(Kind::Scope)), (2, Message(of(signal))), (3, Text)],
        Kind::Resource => vec![(1, pair), (2, Varint)],
        Kind::Scope => vec![(1, Text), (2, Text), (3, pair), (4, Varint)],
        Kind::Span => vec![
            (1, Id(16)), (2, Id(8)), (3, Text), (4, Id(8)), (5, Text), (6, Small), (7, Fixed), (8, Fixed),
            (9, pair), (10, Varint), (11, Message(Kind::Event)), (13, Message(Kind::Link)),
            (15, Message(Kind::Status)), (16, Fixed32),
        ],
        Kind::Event => vec![(1, Fixed), (2, Text), (3, pair)],
        Kind::Link => vec![(1, Id(16)), (2, Id(8)), (3, Text), (4, pair)],
        Kind::Status => vec![(2, Text), (3, Small)],
        Kind::Record => vec![
            (1, Fixed), (2, Small), (3, Text), (5, Message(Kind::Any)), (6, pair), (8, Fixed32), (9, Id(16)),
            (10, Id(8)), (11, Fixed), (12, Text),
        ],
        Kind::Metric => vec![
            (1, Text), (2, Text), (3, Text), (5, Message(Kind::Numbers)), (7, Message(Kind::Numbers)),
            (9, Message(Kind::Histograms)), (10, Message(Kind::ExponentialHistograms)),
            (11, Message(Kind::Summaries)),
        ],
        Kind::Numbers => vec![(1, Message(Kind::Number)), (2, Small), (3, Small)],
        Kind::Number => vec![
            (7, pair), (2, Fixed), (3, Fixed), (4, Double), (6, Fixed), (5, Message(Kind::Exemplar)), (8, Varint),
        ],
        Kind::Histograms => vec![(1, Message(Kind::Histogram)), (2, Small)],
        Kind::Histogram => vec![
            (9, pair), (2, Fixed), (3, Fixed), (4, Fixed), (5, Double), (6, PackedFixed), (7, PackedFixed),
            (8, Message(Kind::Exemplar)), (10, Varint), (11, Double), (12, Double),
        ],
        Kind::ExponentialHistograms => vec![(1, Message(Kind::ExponentialHistogram)), (2, Small)],
        Kind::ExponentialHistogram => vec![
            (1, pair), (2, Fixed), (3, Fixed), (4, Fixed), (5, Double), (6, Varint), (7, Fixed),
            (8, Message(Kind::Buckets)), (9, Message(Kind::Buckets)), (10, Varint),
            (11, Message(Kind::Exemplar)), (12, Double), (13, Double), (14, Double),
        ],
        Kind::Buckets => vec![(1, Varint), (2, PackedVarint)],
        Kind::Summaries => vec![(1, Message(Kind::Summary))],
        Kind::Summary => vec![
            (7, pair), (2, Fixed), (3, Fixed), (4, Fixed), (5, Double), (6, Message(Kind::Quantile)), (8, Varint),
        ],
        Kind::Quantile => vec![(1, Double), (2, Double)],
        Kind::Exemplar => vec![(7, pair), (2, Fixed), (3, Double), (6, Fixed), (4, Id(8)), (5, Id(16))],
        Kind::KeyValue => vec![(1, Text), (2, Message(Kind::Any))],
        Kind::Any => vec![
            (1, Text), (2, Small), (3, Varint), (4, Double), (5, Message(Kind::Array)), (6, Message(Kind::Map)),
            (7, Blob),
        ],
        Kind::Array => vec![(1, Message(Kind::Any))],
        Kind::Map => vec![(1, pair)],
    }
}

/// Whether one of the fields is chosen, as in a `oneof`.
fn is_choice(kind: Kind, number: u32) -> bool {
    match kind {
        Kind::Any => true,
        Kind::Metric => number >= 5,
        _ => false,
    }
}

const TEXTS: [&str; 22] = [
    "", "a", "service.name", "http.request.method", "k8s.pod.name", "a key that is longer than sixteen",
    "0123456", "01234567", "012345678", "0123456789abcdef", "0123456789abcdefg", "0123456789abcdefX",
    "é🌊", "\0", "quote\" back\\ slash/ <&>", "line\nfeed\ttab\r\u{8}\u{c}\u{1f}", "\u{2028}\u{2029}\u{7f}",
    "0123456789abcdef0123456789abcdef", "0123456789abcdeX0123456789abcdef", "server.address", "server.addrEss", "{}",
];
const NUMBERS: [u64; 12] = [
    0, 1, 2, 127, 128, 300, u32::MAX as u64, i64::MAX as u64, 1 << 63, u64::MAX, 1_780_000_000_000_000_000, 1 << 53,
];

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn delimited(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn text(random: &mut Random) -> String {
    if random.one_in(40) {
        let count = usize::try_from(random.below(400)).unwrap();
        return random.pick(&TEXTS).repeat(count);
    }
    if random.one_in(4) {
        return format!("{}{}", random.pick(&TEXTS), random.below(1000));
    }
    random.pick(&TEXTS).to_owned()
}

fn number(random: &mut Random) -> u64 {
    if random.one_in(3) { random.next() } else { random.pick(&NUMBERS) }
}

fn double(random: &mut Random) -> f64 {
    const SPECIAL: [f64; 12] = [
        0.0, -0.0, 1.0, 0.1, 1e21, 1e20, 1e-6, 1e-7, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE,
    ];
    match random.below(3) {
        0 => random.pick(&SPECIAL),
        1 => f64::from_bits(random.next()),
        _ => random.below(100_000) as f64 / 100.0,
    }
}

/// One field, as it may stand on the wire.
fn field(random: &mut Random, number_of: u32, holds: Holds, depth: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let tag = |out: &mut Vec<u8>, wire: u64| varint(out, u64::from(number_of) << 3 | wire);
    match holds {
        Text => delimited(&mut out, number_of, text(random).as_bytes()),
        Blob => {
            let bytes: Vec<u8> = (0..random.below(7)).map(|byte| u8::try_from(byte * 36).unwrap()).collect();
            delimited(&mut out, number_of, &bytes);
        }
        Id(length) => {
            let id: Vec<u8> = match random.below(4) {
                0 => Vec::new(),
                1 => vec![0; length],
                _ => (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect(),
            };
            delimited(&mut out, number_of, &id);
        }
        Varint => {
            let value = number(random);
            tag(&mut out, 0);
            varint(&mut out, value);
        }
        Small => {
            let value = random.below(8);
            tag(&mut out, 0);
            varint(&mut out, value);
        }
        Fixed => {
            tag(&mut out, 1);
            out.extend(number(random).to_le_bytes());
        }
        Double => {
            tag(&mut out, 1);
            out.extend(double(random).to_le_bytes());
        }
        Fixed32 => {
            tag(&mut out, 5);
            let [a, b, c, d, ..] = number(random).to_le_bytes();
            out.extend([a, b, c, d]);
        }
        PackedFixed | PackedVarint => packed(random, number_of, holds, &mut out),
        Message(kind) => {
            let inner = message(random, kind, depth + 1);
            delimited(&mut out, number_of, &inner);
        }
    }
    out
}

/// Repeated numbers: packed, or each with a tag of its own.
fn packed(random: &mut Random, number_of: u32, holds: Holds, out: &mut Vec<u8>) {
    let values: Vec<u64> = (0..random.below(6)).map(|_| number(random)).collect();
    let fixed = matches!(holds, PackedFixed);
    let append = |out: &mut Vec<u8>, value: u64| match fixed {
        true => out.extend(value.to_le_bytes()),
        false => varint(out, value),
    };
    if random.one_in(2) {
        let mut content = Vec::new();
        values.iter().for_each(|value| append(&mut content, *value));
        return delimited(out, number_of, &content);
    }
    for value in values {
        varint(out, u64::from(number_of) << 3 | u64::from(fixed));
        append(out, value);
    }
}

/// Some of a message's fields, some of them more than once, usually in order.
fn message(random: &mut Random, kind: Kind, depth: u32) -> Vec<u8> {
    let known = fields(kind);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let choices: Vec<(u32, Holds)> =
        known.iter().copied().filter(|(number, _)| is_choice(kind, *number)).collect();
    if !choices.is_empty() && !random.one_in(12) {
        let (number, holds) = choices[usize::try_from(random.below(choices.len() as u64)).unwrap()];
        if depth < 12 || !matches!(holds, Message(_)) {
            parts.push(field(random, number, holds, depth));
        }
    }
    for (number, holds) in &known {
        let choice = is_choice(kind, *number);
        let times = match holds {
            Message(_) if !choice && depth < 12 => random.below(3),
            Message(_) if choice && depth >= 12 => 0,
            _ if choice => u64::from(random.one_in(40)),
            _ if random.one_in(6) => 0,
            _ if random.one_in(25) => 2,
            _ => 1,
        };
        for _ in 0..times {
            parts.push(field(random, *number, *holds, depth));
        }
    }
    if random.one_in(20) {
        let mut unknown = Vec::new();
        delimited(&mut unknown, 1000, b"from the future");
        parts.push(unknown);
    }
    if random.one_in(4) {
        random.shuffle(&mut parts);
    }
    parts.concat()
}

/// A random request.
pub(super) fn request(random: &mut Random, signal: Signal) -> Vec<u8> {
    message(random, Kind::Request(signal), 0)
}

/// A request with at least `count` items in one scope, many distinct strings among them.
pub(super) fn many(random: &mut Random, signal: Signal, count: usize) -> Vec<u8> {
    let mut scope = field(random, 1, Message(Kind::Scope), 3);
    let item = fields(Kind::ScopeItems(signal))[1].1;
    for index in 0..count {
        let mut content = field(random, 2, item, 3);
        if signal != Signal::Metrics {
            content = with_attribute(&content, signal, index);
        }
        scope.extend(content);
    }
    let mut resource = field(random, 1, Message(Kind::Resource), 2);
    delimited(&mut resource, 2, &scope);
    let mut request = Vec::new();
    delimited(&mut request, 1, &resource);
    request
}

/// The item with an attribute whose key is its own.
fn with_attribute(item: &[u8], signal: Signal, index: usize) -> Vec<u8> {
    let Some(Ok(Field { value: Value::Bytes(before), .. })) = Fields::new(item).next() else {
        panic!("an item is a message")
    };
    let (mut any, mut pair, mut after) = (Vec::new(), Vec::new(), before.to_vec());
    delimited(&mut any, 1, format!("value {index}").as_bytes());
    delimited(&mut pair, 1, format!("attribute.number.{index}").as_bytes());
    delimited(&mut pair, 2, &any);
    delimited(&mut after, if signal == Signal::Traces { 9 } else { 6 }, &pair);
    let mut out = Vec::new();
    delimited(&mut out, 2, &after);
    out
}
