//! One message while a plugin looks at it: reads see the changes made so far, and nothing is written before it is done.

use std::ops::Range;

use crate::edits::Edits;
use crate::shape::Kind;
use crate::value::{self, IntoValue, Value};
use crate::wire::{self, Field, Fields, Wire};

/// A message and the changes of it so far.
pub(crate) struct Node<'e> {
    pub(crate) input: &'e [u8],
    pub(crate) body: Range<usize>,
    pub(crate) kind: Kind,
    /// The messages that it stands in.
    pub(crate) place: Place,
    pub(crate) draft: &'e mut Draft,
}

/// Where a message stands: the parts of the input that tell it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) resource_group: Range<usize>,
    pub(crate) scope_group: Range<usize>,
    pub(crate) metric: Range<usize>,
}

/// The changes of one message. Its memory is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Where the attributes of the message stand in the input.
    attributes: Vec<u32>,
    /// Those that are changed or new, by their place.
    touched: Vec<Touched>,
    /// How many are new.
    added: usize,
    /// Where the last field of each number stands in the input; [`NOWHERE`] if there is none.
    places: [u32; PLACES],
    /// Fields that have been set.
    fields: Vec<Set>,
    /// Bytes that take the place of others.
    written: Vec<u8>,
    pub(crate) loss: Option<Loss>,
}

/// Numbers of fields whose places are kept: all that plugins can ask for are below.
const PLACES: usize = 16;

/// The place of a field that is not there. A request is shorter.
const NOWHERE: u32 = u32::MAX;

/// Why a message goes no further.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    pub(crate) fault: Option<String>,
}

/// An attribute that is changed, or new.
#[derive(Debug, Clone)]
struct Touched {
    /// Its place among the attributes; behind those of the input if it is new.
    index: usize,
    /// The `KeyValue` that it is now, in what is written; `None` if it is removed.
    now: Option<Range<usize>>,
}

/// A field that has been set: whole fields, as they are written.
#[derive(Debug, Clone)]
struct Set {
    number: u32,
    written: Range<usize>,
}

impl Draft {
    /// Forgets everything and reads the message in `body`, in one pass: what a plugin asks for then is known.
    pub(crate) fn read(&mut self, input: &[u8], body: &Range<usize>, kind: Kind) {
        self.attributes.clear();
        self.touched.clear();
        self.added = 0;
        self.places = [NOWHERE; PLACES];
        self.fields.clear();
        self.written.clear();
        self.loss = None;
        let attributes = kind.attributes();
        let mut fields = Fields::new(input, body.clone());
        loop {
            // What stands one after the other, and makes up most of an item.
            while let Some(start) = fields.short(attributes) {
                self.attributes.push(start as u32);
            }
            let Some(field) = fields.next() else {
                break;
            };
            if let Some(place) = self.places.get_mut(field.number as usize) {
                *place = field.whole.start as u32;
            }
            if field.number == attributes && field.wire == Wire::Bytes {
                self.attributes.push(field.whole.start as u32);
            }
        }
    }

    /// Adds the changes of the message in `body`, in order.
    pub(crate) fn changes(
        &self,
        input: &[u8],
        body: &Range<usize>,
        kind: Kind,
        changes: &mut Vec<Change>,
    ) {
        if self.touched.is_empty() && self.fields.is_empty() {
            return;
        }
        let place = |start: u32| {
            let mut fields = Fields::new(input, start as usize..body.end);
            fields.next().map(|field| field.whole)
        };
        for Touched { index, now } in &self.touched {
            let old = self.attributes.get(*index).and_then(|start| place(*start));
            let Some(pair) = now else {
                changes.extend(old.map(Change::removal));
                continue;
            };
            let at_end = || {
                let last = self.attributes.last().and_then(|start| place(*start));
                let end = last.map_or(body.end, |last| last.end);
                end..end
            };
            changes.push(Change {
                range: old.unwrap_or_else(at_end),
                head: Some((kind.attributes(), pair.len())),
                written: pair.clone(),
            });
        }
        if !self.fields.is_empty() {
            self.set_fields(input, body, changes);
        }
    }

    /// Fields that were set take the place of the last one of their number; others of it go.
    fn set_fields(&self, input: &[u8], body: &Range<usize>, changes: &mut Vec<Change>) {
        for set in &self.fields {
            let mut place = body.start..body.start;
            let is_there = self.places.get(set.number as usize) != Some(&NOWHERE);
            let from = if is_there { body.start } else { body.end };
            for field in Fields::new(input, from..body.end) {
                if field.number == set.number {
                    if !place.is_empty() {
                        changes.push(Change::removal(place));
                    }
                    place = field.whole;
                }
            }
            changes.push(Change {
                range: place,
                head: None,
                written: set.written.clone(),
            });
        }
        changes.sort_by_key(|change| (change.range.start, change.range.end));
    }

    /// Writes changes as edits.
    pub(crate) fn push(&self, changes: &[Change], edits: &mut Edits) {
        for change in changes {
            edits.replace(change.range.clone(), |to| self.write(change, to));
        }
    }

    /// Writes what a change puts in.
    pub(crate) fn write(&self, change: &Change, to: &mut Vec<u8>) {
        if let Some((number, length)) = change.head {
            wire::put_head(to, number, length);
        }
        to.extend_from_slice(wire::slice(&self.written, change.written.clone()));
    }
}

/// A change of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) range: Range<usize>,
    /// The number and length of the field that is written, if that is not part of it.
    head: Option<(u32, usize)>,
    written: Range<usize>,
}

impl Change {
    fn removal(range: Range<usize>) -> Self {
        Self {
            range,
            head: None,
            written: 0..0,
        }
    }

    /// By how much it makes the message longer.
    pub(crate) fn grown(&self) -> isize {
        let head = self.head;
        let head = head.map_or(0, |(number, length)| wire::head_length(number, length));
        (head + self.written.len()) as isize - self.range.len() as isize
    }
}

// === impl Node: fields ===

impl<'e> Node<'e> {
    /// The last field of this number, as it is now: its value without a length.
    fn field(&self, number: u32) -> Option<(Wire, &[u8])> {
        let mut set = self.draft.fields.iter();
        if let Some(set) = set.find(|set| set.number == number) {
            let written = &self.draft.written;
            let field = Fields::new(written, set.written.clone()).last()?;
            return Some((field.wire, wire::slice(written, field.value)));
        }
        let field = self.original(number)?;
        Some((field.wire, wire::slice(self.input, field.value)))
    }

    fn original(&self, number: u32) -> Option<Field> {
        let place = *self.draft.places.get(number as usize)?;
        if place == NOWHERE {
            return None;
        }
        Fields::new(self.input, place as usize..self.body.end).next()
    }

    pub(crate) fn text(&self, number: u32) -> &str {
        wire::text(self.bytes(number))
    }

    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        match self.field(number) {
            Some((Wire::Bytes, value)) => value,
            _ => &[],
        }
    }

    pub(crate) fn number(&self, number: u32) -> u64 {
        match self.field(number) {
            Some((Wire::Varint, value)) => wire::varint(value, &mut 0).unwrap_or_default(),
            Some((Wire::Fixed64, value)) => wire::fixed64(value),
            _ => 0,
        }
    }

    /// The value of a field with eight bytes, if it is there.
    pub(crate) fn fixed64(&self, number: u32) -> Option<u64> {
        match self.field(number) {
            Some((Wire::Fixed64, value)) => Some(wire::fixed64(value)),
            _ => None,
        }
    }

    /// Whether the field is in the input.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.original(number).is_some()
    }

    /// Sets a field; `write` writes all of it, or nothing to remove it.
    pub(crate) fn set(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let draft = &mut *self.draft;
        let start = draft.written.len();
        write(&mut draft.written);
        let written = start..draft.written.len();
        draft.fields.retain(|set| set.number != number);
        draft.fields.push(Set { number, written });
    }

    pub(crate) fn set_text(&mut self, number: u32, text: &str) {
        if self.text(number) == text {
            return;
        }
        self.set(number, |to| wire::put_bytes(to, number, text.as_bytes()));
    }

    pub(crate) fn lose(&mut self, reason: &str, fault: Option<&str>) {
        self.draft.loss = Some(Loss {
            reason: reason.to_owned(),
            fault: fault.map(str::to_owned),
        });
    }
}

// === impl Node: attributes ===

impl Node<'_> {
    /// The `KeyValue` in a place.
    #[inline]
    fn pair_of(&self, index: usize) -> Option<&[u8]> {
        let touched = &self.draft.touched;
        if !touched.is_empty()
            && let Ok(found) = touched.binary_search_by_key(&index, |touched| touched.index)
        {
            let now = touched.get(found)?.now.clone()?;
            return Some(wire::slice(&self.draft.written, now));
        }
        let start = *self.draft.attributes.get(index)? as usize;
        let field = Fields::new(self.input, start..self.body.end).next()?;
        Some(wire::slice(self.input, field.value))
    }

    #[inline]
    fn find(&self, key: &str) -> Option<usize> {
        (0..self.places()).find(|index| {
            self.pair_of(*index)
                .is_some_and(|pair| value::key(pair) == key.as_bytes())
        })
    }

    /// How many attributes there are places for, those that are removed among them.
    pub(crate) fn places(&self) -> usize {
        self.draft.attributes.len() + self.draft.added
    }

    /// The attribute in a place.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<(&str, Value<'_>)> {
        self.pair_of(index).map(value::pair)
    }

    /// Notes what an attribute is now.
    fn touch(&mut self, index: usize, now: Option<Range<usize>>) {
        let touched = &mut self.draft.touched;
        let new = Touched { index, now };
        match touched.binary_search_by_key(&index, |touched| touched.index) {
            Ok(found) => {
                if let Some(old) = touched.get_mut(found) {
                    *old = new;
                }
            }
            Err(place) => touched.insert(place, new),
        }
    }

    pub(crate) fn attribute(&mut self, key: &str) -> Option<Value<'_>> {
        let index = self.find(key)?;
        self.at(index).map(|(_, value)| value)
    }

    pub(crate) fn set_attribute(&mut self, key: &str, value: &(impl IntoValue + ?Sized)) {
        let index = self.find(key);
        self.write(index, key, value);
    }

    /// Writes an attribute into a place, or a new one.
    pub(crate) fn write(
        &mut self,
        index: Option<usize>,
        key: &str,
        value: &(impl IntoValue + ?Sized),
    ) {
        let draft = &mut *self.draft;
        let scratch = draft.written.len();
        value.write_to(&mut draft.written);
        let start = draft.written.len();
        let length = start - scratch;
        // The value's length stands before it, so it is written twice; what comes first is never looked at.
        wire::put_bytes(&mut draft.written, 1, key.as_bytes());
        wire::put_head(&mut draft.written, 2, length);
        draft.written.extend_from_within(scratch..start);
        let now = Some(start..draft.written.len());
        let index = index.unwrap_or_else(|| {
            let end = self.places();
            self.draft.added += 1;
            end
        });
        self.touch(index, now);
    }

    pub(crate) fn remove_at(&mut self, index: usize) {
        self.touch(index, None);
    }

    pub(crate) fn remove_attribute(&mut self, key: &str) -> bool {
        let mut found = false;
        // Senders should not, but some do: the same key twice.
        while let Some(index) = self.find(key) {
            self.remove_at(index);
            found = true;
        }
        found
    }

    pub(crate) fn rename_attribute(&mut self, from: &str, to: &str) -> bool {
        if from == to {
            return false;
        }
        let Some(index) = self.find(from) else {
            return false;
        };
        self.remove_attribute(to);
        let value = self.at(index).map(|(_, value)| value.to_owned());
        self.write(Some(index), to, &value.unwrap_or_default());
        true
    }
}
