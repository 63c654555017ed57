//! Turns good requests into bad and odd ones: at the level of bytes, and at the level of fields with lengths kept right.

use super::super::reader::{Fields, Value};
use super::super::rewrite::{put_head, put_varint};
use super::super::schema::{self, Form, Message};
use super::random::Random;
use crate::signal::Signal;

/// Damages bytes without regard for structure: flips, cuts, repeats, overwrites, splices with `other`.
pub fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            bytes.push(random.number() as u8);
        }
        let at = random.below(bytes.len());
        let end = at + random.below((bytes.len() - at).min(64)) + 1;
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.one_of(&[0, 1, 0x0a, 0x12, 0x7f, 0x80, 0xff, 0x0b, 0x0c]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            5 => drop(bytes.splice(at..at, odd_varint(random))),
            6 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = from + random.below((other.len() - from).min(64)) + 1;
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes[at] = random.number() as u8,
        }
    }
}

/// Changes fields somewhere in the tree and writes all lengths anew, so that the damage is where it was meant to be:
/// duplicated, unknown and mistyped fields, groups, invalid UTF-8, overlong varints, unpacked scalars, wrong ids.
pub fn mutate_fields(random: &mut Random, signal: Signal, bytes: &[u8]) -> Vec<u8> {
    let mut nodes = parse(schema::request(signal), bytes);
    for _ in 0..=random.below(3) {
        mutate(random, schema::request(signal), &mut nodes);
    }
    let mut out = Vec::new();
    encode(&nodes, &mut out);
    out
}

/// A request of `signal` with one item, in which values are nested `messages` deep, the request itself not counted.
pub fn nested_values(signal: Signal, messages: usize) -> Vec<u8> {
    // An attribute of an item is the fourth message; metrics have the data and the point in between.
    let path: &[u32] = match signal {
        Signal::Traces => &[1, 2, 2, 9],
        Signal::Logs => &[1, 2, 2, 6],
        Signal::Metrics => &[1, 2, 2, 5, 1, 7],
    };
    let mut content = Vec::new();
    for depth in (path.len()..messages).rev() {
        // Below the key-value comes its value, then arrays (field 5) and their values (field 1) in turns.
        let number = match depth - path.len() {
            0 => 2,
            odd if odd % 2 == 1 => 5,
            _ => 1,
        };
        content = wrapped(number, &content);
    }
    path.iter()
        .rev()
        .fold(content, |content, number| wrapped(*number, &content))
}

fn wrapped(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    put_head(number, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

/// A field: bytes as they are, or a message.
#[derive(Clone)]
enum Node {
    Raw(Vec<u8>),
    Message {
        schema: &'static Message,
        number: u32,
        fields: Vec<Self>,
    },
}

fn parse(schema: &'static Message, bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut fields = Fields::new(bytes);
    loop {
        let before = fields.rest();
        let Some(Ok(field)) = fields.next() else {
            return nodes;
        };
        let raw = &before[..before.len() - fields.rest().len()];
        let form = schema.field(field.number).map(|field| field.form);
        nodes.push(match (form, field.value) {
            (Some(Form::Message(schema) | Form::Messages(schema)), Value::Bytes(content)) => {
                Node::Message {
                    schema,
                    number: field.number,
                    fields: parse(schema, content),
                }
            }
            _ => Node::Raw(raw.to_vec()),
        });
    }
}

fn encode(nodes: &[Node], out: &mut Vec<u8>) {
    for node in nodes {
        match node {
            Node::Raw(bytes) => out.extend_from_slice(bytes),
            Node::Message { number, fields, .. } => {
                let mut content = Vec::new();
                encode(fields, &mut content);
                put_head(*number, content.len(), out);
                out.extend_from_slice(&content);
            }
        }
    }
}

fn mutate(random: &mut Random, schema: &'static Message, nodes: &mut Vec<Node>) {
    let messages = nodes.iter_mut().filter_map(|node| match node {
        Node::Message { schema, fields, .. } => Some((*schema, fields)),
        Node::Raw(_) => None,
    });
    let mut messages: Vec<_> = messages.collect();
    if !messages.is_empty() && !random.once_in(5) {
        let chosen = random.below(messages.len());
        let (schema, fields) = &mut messages[chosen];
        return mutate(random, schema, fields);
    }
    let at = random.below(nodes.len() + 1);
    match random.below(4) {
        0 if !nodes.is_empty() => drop(nodes.remove(at % nodes.len())),
        1 if !nodes.is_empty() => {
            let copy = nodes[random.below(nodes.len())].clone();
            nodes.insert(at, copy);
        }
        2 if at > 0 => nodes.swap(0, at - 1),
        _ => nodes.insert(at, Node::Raw(odd_field(random, schema))),
    }
}

/// A field that a usual encoder would not write there.
fn odd_field(random: &mut Random, schema: &Message) -> Vec<u8> {
    let known = 1 + random.below(16) as u32;
    let number = random.one_of(&[known, known, known, 17, 1000, (1 << 29) - 1]);
    let mut out = Vec::new();
    match (
        schema.field(number).map(|field| field.form),
        random.below(8),
    ) {
        (Some(Form::String | Form::Strings), 0..=4) => {
            let invalid: &[u8] =
                random.one_of(&[b"\xff".as_slice(), b"a\xc3", b"\xe2\x82b", b"\xed\xa0\x80"]);
            let text = [random.string().as_bytes(), invalid].concat();
            put_head(number, text.len(), &mut out);
            out.extend(text);
        }
        (Some(Form::Id), 0..=4) => {
            let length = random.one_of(&[0, 8, 16, 16, 8, 1, 7, 9, 15, 17]);
            put_head(number, length, &mut out);
            out.resize(out.len() + length, 0xab);
        }
        (
            Some(Form::Fixed64 | Form::Sfixed64 | Form::Double | Form::Fixed64s | Form::Doubles),
            0..=3,
        ) => {
            put_varint(u64::from(number << 3 | 1), &mut out);
            out.extend(random.number().to_le_bytes());
        }
        (
            Some(
                Form::Bool
                | Form::Uint32
                | Form::Int32
                | Form::Sint32
                | Form::Int64
                | Form::Varints,
            ),
            0..=3,
        ) => {
            put_varint(u64::from(number << 3), &mut out);
            out.extend(odd_varint(random));
        }
        (Some(Form::Varints | Form::Fixed64s | Form::Doubles), _) => {
            let length = random.one_of(&[0, 3, 8, 16]);
            put_head(number, length, &mut out);
            out.extend((0..length).map(|_| random.number() as u8));
        }
        (Some(Form::Message(_) | Form::Messages(_)), 0..=3) => put_head(number, 0, &mut out),
        _ => any_field(random, number, &mut out),
    }
    out
}

/// A field of any wire type, valid or not.
fn any_field(random: &mut Random, number: u32, out: &mut Vec<u8>) {
    let wire_type = random.one_of(&[0, 1, 2, 3, 3, 5, 0, 1, 2, 3, 5, 4, 6, 7]);
    put_varint(u64::from(number) << 3 | wire_type, out);
    match wire_type {
        0 => out.extend(odd_varint(random)),
        1 => out.extend([0x80; 8]),
        2 => {
            let text = random.string();
            put_varint(text.len() as u64, out);
            out.extend(text.bytes());
        }
        3 => {
            let depth = random.one_of(&[0, 1, 2, 90, 95, 99, 100, 101]);
            out.extend((0..depth).map(|_| 0x0b));
            if random.once_in(2) {
                out.extend([0x10, 5]);
            }
            out.extend((0..depth).map(|_| 0x0c));
            put_varint(u64::from(number) << 3 | 4, out);
        }
        5 => out.extend([0xff; 4]),
        _ => (),
    }
}

/// Varints of all lengths: overlong, of the largest value, one byte too long.
fn odd_varint(random: &mut Random) -> Vec<u8> {
    let length = random.below(11);
    let mut bytes = vec![random.one_of(&[0x80, 0xff]); length];
    bytes.push(random.one_of(&[0, 1, 2, 0x7f]));
    bytes
}
