//! Cuts a checked request into pieces with fewer items, each a request of its own.
//!
//! A cut container (resource, scope, metric, a metric's data) is repeated with all it holds besides its items: resource,
//! scope, schema URLs, a metric's name, unit and temporality, unknown fields. Containers that are not cut are copied
//! as they are, and a piece that needs nothing repeated shares the request's memory.

use std::ops::Range;

use bytes::Bytes;

use super::reader::{Fields, Value};
use super::rewrite::put_head;
use crate::signal::Signal;

/// Cuts `bytes`, a request that [`super::check()`] has passed, into pieces of at most `items_max` items, at least 1.
///
/// All items are there, in order. A request without items gives at most one piece, without items.
pub fn split(signal: Signal, bytes: &Bytes, items_max: usize) -> Vec<(Bytes, usize)> {
    let mut splitter = Splitter::new(signal, bytes.clone());
    std::iter::from_fn(|| splitter.take(items_max)).collect()
}

/// Takes pieces off the front of a checked request, one at a time and of any size.
///
/// Memory is needed for the piece in hand, not for all of them: a big resource is repeated in every piece.
#[derive(Debug)]
pub struct Splitter {
    bytes: Bytes,
    /// The containers that are being read, from the request inwards.
    path: Vec<Container>,
}

impl Splitter {
    /// A splitter at the start of `bytes`, which [`super::check()`] has passed.
    pub fn new(signal: Signal, bytes: Bytes) -> Self {
        let level = Level { signal, depth: 0 };
        let request = Container::new(&bytes, level, 0, 0..bytes.len());
        Self {
            bytes,
            path: vec![request],
        }
    }

    /// The next `items_max` items (at least 1), or what is left, and their number; `None` after the last.
    pub fn take(&mut self, items_max: usize) -> Option<(Bytes, usize)> {
        let items_max = items_max.max(1);
        let mut piece = Piece::default();
        while let Some(container) = self.path.last_mut() {
            let Some(field) = field_at(&self.bytes, container.position, container.content.end)
            else {
                self.leave(&mut piece);
                continue;
            };
            let level = container.level;
            if !level.holds(field.number) {
                container.position = field.raw.end;
                continue;
            }
            let content = slice(&self.bytes, &field.content);
            let items = level.inner().map_or(1, |inner| inner.count(content));
            if items <= items_max - piece.items {
                container.position = field.raw.end;
                piece.enter(&mut self.path);
                piece.copy(field.raw, self.path.last_mut());
                piece.items += items;
                continue;
            }
            let (Some(inner), true) = (level.inner(), piece.items < items_max) else {
                break;
            };
            container.position = field.raw.end;
            let inner = Container::new(&self.bytes, inner, field.number, field.content);
            self.path.push(inner);
        }
        piece.finish(&mut self.path, &self.bytes)
    }

    /// Leaves the innermost container; but the request itself stays, for the piece to be finished.
    fn leave(&mut self, piece: &mut Piece) {
        if let Some(container) = self.path.pop() {
            match self.path.last_mut() {
                Some(parent) => piece.close(&container, parent),
                None => piece.length = container.length,
            }
        }
    }
}

/// How deep a container lies in a request: 0 is the request itself.
#[derive(Debug, Clone, Copy)]
struct Level {
    signal: Signal,
    depth: u32,
}

impl Level {
    /// Whether field `number` of a container at this level holds items or containers of items.
    fn holds(self, number: u32) -> bool {
        match self.depth {
            0 => number == 1,
            1 | 2 => number == 2,
            3 => matches!(number, 5 | 7 | 9 | 10 | 11),
            _ => number == 1,
        }
    }

    /// The level of the containers inside; `None` if there are items inside.
    fn inner(self) -> Option<Self> {
        let innermost = match self.signal {
            Signal::Traces | Signal::Logs => 2,
            Signal::Metrics => 4,
        };
        (self.depth < innermost).then(|| Self {
            depth: self.depth + 1,
            ..self
        })
    }

    /// The number of items in a container at this level.
    fn count(self, content: &[u8]) -> usize {
        let held = Fields::new(content)
            .flatten()
            .filter(|field| self.holds(field.number));
        match self.inner() {
            None => held.count(),
            Some(inner) => held
                .map(|field| match field.value {
                    Value::Bytes(content) => inner.count(content),
                    _ => 0,
                })
                .sum(),
        }
    }
}

/// A message that holds items or other containers. Ranges are positions in the whole request.
#[derive(Debug)]
struct Container {
    level: Level,
    /// Its field number in the container around it.
    number: u32,
    content: Range<usize>,
    /// Where reading goes on.
    position: usize,
    /// What is repeated when the container is cut: the fields that hold no items.
    header: Vec<Range<usize>>,
    /// If the current piece has a part of this container, the [`Step`] that starts it.
    started: Option<usize>,
    /// How long the content of that part is so far.
    length: usize,
}

impl Container {
    fn new(bytes: &Bytes, level: Level, number: u32, content: Range<usize>) -> Self {
        let mut header = Vec::new();
        let mut position = content.start;
        while let Some(field) = field_at(bytes, position, content.end) {
            position = field.raw.end;
            if !level.holds(field.number) {
                append(&mut header, field.raw);
            }
        }
        Self {
            level,
            number,
            position: content.start,
            content,
            header,
            started: None,
            length: 0,
        }
    }
}

/// Appends a range, to the last one if they touch.
fn append(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// A field and where it stands in the request.
struct FieldAt {
    number: u32,
    /// With key and length.
    raw: Range<usize>,
    /// Of a delimited field; empty for others.
    content: Range<usize>,
}

fn field_at(bytes: &Bytes, start: usize, end: usize) -> Option<FieldAt> {
    let mut fields = Fields::new(slice(bytes, &(start..end)));
    let field = fields.next()?.ok()?;
    let raw_end = end - fields.rest().len();
    let length = match field.value {
        Value::Bytes(content) => content.len(),
        _ => 0,
    };
    Some(FieldAt {
        number: field.number,
        raw: start..raw_end,
        content: raw_end - length..raw_end,
    })
}

fn slice<'a>(bytes: &'a Bytes, range: &Range<usize>) -> &'a [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

/// What to write for a piece. It is written when all lengths are known, so nothing is moved afterwards.
#[derive(Debug)]
enum Step {
    /// Bytes of the request.
    Copy(Range<usize>),
    /// Key and length of a container.
    Start { number: u32, length: usize },
}

/// The piece in hand.
#[derive(Debug, Default)]
struct Piece {
    steps: Vec<Step>,
    items: usize,
    /// Of the whole piece, once the request has been left.
    length: usize,
}

impl Piece {
    /// Starts those containers on the path that the piece has no part of yet, and repeats what stands beside their items.
    fn enter(&mut self, path: &mut [Container]) {
        for container in path
            .iter_mut()
            .filter(|container| container.started.is_none())
        {
            container.started = Some(self.steps.len());
            container.length = 0;
            if container.level.depth > 0 {
                self.steps.push(Step::Start {
                    number: container.number,
                    length: 0,
                });
            }
            for range in &container.header {
                container.length += range.len();
                self.steps.push(Step::Copy(range.clone()));
            }
        }
    }

    /// Copies a field into the innermost container.
    fn copy(&mut self, raw: Range<usize>, container: Option<&mut Container>) {
        if let Some(container) = container {
            container.length += raw.len();
        }
        match self.steps.last_mut() {
            Some(Step::Copy(last)) if last.end == raw.start => last.end = raw.end,
            _ => self.steps.push(Step::Copy(raw)),
        }
    }

    /// Ends the piece's part of a container, if it has one.
    fn close(&mut self, container: &Container, parent: &mut Container) {
        let step = container.started.and_then(|step| self.steps.get_mut(step));
        if let Some(Step::Start { number, length }) = step {
            *length = container.length;
            parent.length += head_len(*number, *length) + *length;
        }
    }

    /// Ends all containers on the path, which the next piece may start anew, and writes the piece.
    fn finish(mut self, path: &mut [Container], bytes: &Bytes) -> Option<(Bytes, usize)> {
        let mut rest = path;
        while let Some((container, outer)) = rest.split_last_mut() {
            match outer.last_mut() {
                Some(parent) => self.close(container, parent),
                None => self.length = container.length,
            }
            container.started = None;
            rest = outer;
        }
        match self.steps.as_slice() {
            [] => None,
            [Step::Copy(range)] => Some((bytes.slice(range.clone()), self.items)),
            _ => Some((self.write(bytes), self.items)),
        }
    }

    fn write(&self, bytes: &Bytes) -> Bytes {
        let mut out = Vec::with_capacity(self.length);
        for step in &self.steps {
            match step {
                Step::Copy(range) => out.extend_from_slice(slice(bytes, range)),
                Step::Start { number, length } => put_head(*number, *length, &mut out),
            }
        }
        debug_assert_eq!(out.len(), self.length, "a piece is as long as planned");
        out.into()
    }
}

/// How many bytes [`put_head`] writes.
fn head_len(number: u32, length: usize) -> usize {
    varint_len(u64::from(number << 3 | 2)) + varint_len(length as u64)
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Splits what [`super::check()`] accepts, in several ways, and panics unless the pieces hold all items in order.
pub(super) fn fuzz_split(signal: Signal, input: &[u8]) {
    use super::testing::Tree;

    let Ok(checked) = super::check(signal, Bytes::copy_from_slice(input)) else {
        return;
    };
    let whole = Tree::decode(signal, &checked.bytes).expect("checked bytes decode");
    for items_max in [1, 2, 3, 7, usize::MAX] {
        // A hostile request repeated for each of its items is the splitter's work, but not the fuzzer's.
        if checked.bytes.len().saturating_mul(checked.items) / items_max > 1 << 22 {
            continue;
        }
        let pieces = split(signal, &checked.bytes, items_max);
        let (last, full) = pieces
            .split_last()
            .map_or((None, &[][..]), |(last, full)| (Some(last), full));
        assert!(
            full.iter().all(|(_, items)| *items == items_max),
            "full pieces"
        );
        assert!(
            last.is_none_or(|(_, items)| *items <= items_max),
            "last piece"
        );
        let trees: Vec<_> = pieces
            .iter()
            .map(|(piece, items)| {
                let again = super::check(signal, piece.clone()).expect("pieces pass the check");
                assert_eq!(again.items, *items, "items of a piece");
                assert_eq!(again.bytes, *piece, "pieces need no repair");
                Tree::decode(signal, piece).expect("pieces decode")
            })
            .collect();
        assert_eq!(
            Tree::items_in_context(&trees),
            Tree::items_in_context(std::slice::from_ref(&whole))
        );
    }
}

#[cfg(test)]
mod tests;
