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

/// The messages of OTLP: number and content of each field. `Items` are spans, records or metrics.
const MESSAGES: [(&str, &str); 25] = [
    ("Request", "1 ResourceItems"),
    ("ResourceItems", "1 Resource 2 ScopeItems 3 text"),
    ("ScopeItems", "1 Scope 2 Items 3 text"),
    ("Resource", "1 KeyValue 2 varint"),
    ("Scope", "1 text 2 text 3 KeyValue 4 varint"),
    (
        "Span",
        "1 id16 2 id8 3 text 4 id8 5 text 6 small 7 fixed 8 fixed 9 KeyValue 10 varint 11 Event 13 Link 15 Status \
         16 fixed32",
    ),
    ("Event", "1 fixed 2 text 3 KeyValue"),
    ("Link", "1 id16 2 id8 3 text 4 KeyValue"),
    ("Status", "2 text 3 small"),
    (
        "Record",
        "1 fixed 2 small 3 text 5 Any 6 KeyValue 8 fixed32 9 id16 10 id8 11 fixed 12 text",
    ),
    (
        "Metric",
        "1 text 2 text 3 text 5 Numbers 7 Numbers 9 Histograms 10 ExponentialHistograms 11 Summaries",
    ),
    ("Numbers", "1 Number 2 small 3 small"),
    (
        "Number",
        "7 KeyValue 2 fixed 3 fixed 4 double 6 fixed 5 Exemplar 8 varint",
    ),
    ("Histograms", "1 Histogram 2 small"),
    (
        "Histogram",
        "9 KeyValue 2 fixed 3 fixed 4 fixed 5 double 6 packed_fixed 7 packed_fixed 8 Exemplar 10 varint 11 double \
         12 double",
    ),
    ("ExponentialHistograms", "1 ExponentialHistogram 2 small"),
    (
        "ExponentialHistogram",
        "1 KeyValue 2 fixed 3 fixed 4 fixed 5 double 6 varint 7 fixed 8 Buckets 9 Buckets 10 varint 11 Exemplar \
         12 double 13 double 14 double",
    ),
    ("Buckets", "1 varint 2 packed_varint"),
    ("Summaries", "1 Summary"),
    (
        "Summary",
        "7 KeyValue 2 fixed 3 fixed 4 fixed 5 double 6 Quantile 8 varint",
    ),
    ("Quantile", "1 double 2 double"),
    (
        "Exemplar",
        "7 KeyValue 2 fixed 3 double 6 fixed 4 id8 5 id16",
    ),
    ("KeyValue", "1 text 2 Any"),
    (
        "Any",
        "1 text 2 small 3 varint 4 double 5 Array 6 Map 7 blob",
    ),
    ("Array", "1 Any"),
];
const MAP: &str = "1 KeyValue";

/// A message's name, in requests of a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind(&'static str, Signal);

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

use Holds::{
    Blob, Double, Fixed, Fixed32, Id, Message, PackedFixed, PackedVarint, Small, Text, Varint,
};

/// The fields of a message.
fn fields(Kind(name, signal): Kind) -> Vec<(u32, Holds)> {
    let found = MESSAGES.iter().find(|(message, _)| *message == name);
    let words: Vec<&'static str> = found
        .map_or(MAP, |(_, fields)| fields)
        .split_whitespace()
        .collect();
    let holds = |word: &'static str| match word {
        "text" => Text,
        "id16" => Id(16),
        "id8" => Id(8),
        "blob" => Blob,
        "varint" => Varint,
        "small" => Small,
        "fixed" => Fixed,
        "double" => Double,
        "fixed32" => Fixed32,
        "packed_fixed" => PackedFixed,
        "packed_varint" => PackedVarint,
        "Items" => Message(Kind(
            match signal {
                Signal::Traces => "Span",
                Signal::Logs => "Record",
                Signal::Metrics => "Metric",
            },
            signal,
        )),
        message => Message(Kind(message, signal)),
    };
    words
        .chunks(2)
        .map(|pair| (pair[0].parse().unwrap(), holds(pair[1])))
        .collect()
}

/// Whether one of the fields is chosen, as in a `oneof`.
fn is_choice(kind: Kind, number: u32) -> bool {
    match kind.0 {
        "Any" => true,
        "Metric" => number >= 5,
        _ => false,
    }
}

const TEXTS: [&str; 22] = [
    "",
    "a",
    "service.name",
    "http.request.method",
    "k8s.pod.name",
    "a key that is longer than sixteen",
    "0123456",
    "01234567",
    "012345678",
    "0123456789abcdef",
    "0123456789abcdefg",
    "0123456789abcdefX",
    "é🌊",
    "\0",
    "quote\" back\\ slash/ <&>",
    "line\nfeed\ttab\r\u{8}\u{c}\u{1f}",
    "\u{2028}\u{2029}\u{7f}",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdeX0123456789abcdef",
    "server.address",
    "server.addrEss",
    "{}",
];
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    127,
    128,
    300,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
    1_780_000_000_000_000_000,
    1 << 53,
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
    if random.one_in(3) {
        random.next()
    } else {
        random.pick(&NUMBERS)
    }
}

fn double(random: &mut Random) -> f64 {
    const SPECIAL: [f64; 12] = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e21,
        1e20,
        1e-6,
        1e-7,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
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
            let bytes: Vec<u8> = (0..random.below(7))
                .map(|byte| u8::try_from(byte * 36).unwrap())
                .collect();
            delimited(&mut out, number_of, &bytes);
        }
        Id(length) => {
            let id: Vec<u8> = match random.below(4) {
                0 => Vec::new(),
                1 => vec![0; length],
                _ => (0..length)
                    .map(|_| u8::try_from(random.below(256)).unwrap())
                    .collect(),
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
    let choices: Vec<(u32, Holds)> = known
        .iter()
        .copied()
        .filter(|(number, _)| is_choice(kind, *number))
        .collect();
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
    message(random, Kind("Request", signal), 0)
}

/// A request with at least `count` items in one scope, many distinct strings among them.
pub(super) fn many(random: &mut Random, signal: Signal, count: usize) -> Vec<u8> {
    let mut scope = field(random, 1, Message(Kind("Scope", signal)), 3);
    let item = fields(Kind("ScopeItems", signal))[1].1;
    for index in 0..count {
        let mut content = field(random, 2, item, 3);
        if signal != Signal::Metrics {
            content = with_attribute(&content, signal, index);
        }
        scope.extend(content);
    }
    let mut resource = field(random, 1, Message(Kind("Resource", signal)), 2);
    delimited(&mut resource, 2, &scope);
    let mut request = Vec::new();
    delimited(&mut request, 1, &resource);
    request
}

/// The item with an attribute whose key is its own.
fn with_attribute(item: &[u8], signal: Signal, index: usize) -> Vec<u8> {
    let Some(Ok(Field {
        value: Value::Bytes(before),
        ..
    })) = Fields::new(item).next()
    else {
        panic!("an item is a message")
    };
    let (mut any, mut pair, mut after) = (Vec::new(), Vec::new(), before.to_vec());
    delimited(&mut any, 1, format!("value {index}").as_bytes());
    delimited(&mut pair, 1, format!("attribute.number.{index}").as_bytes());
    delimited(&mut pair, 2, &any);
    delimited(
        &mut after,
        if signal == Signal::Traces { 9 } else { 6 },
        &pair,
    );
    let mut out = Vec::new();
    delimited(&mut out, 2, &after);
    out
}
