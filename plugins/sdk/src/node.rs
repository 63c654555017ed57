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
    attributes: Vec<Entry>,
    /// Where the last field of each number stands in the input; [`NOWHERE`] if there is none.
    places: [u32; PLACES],
    /// Fields that have been set.
    fields: Vec<Set>,
    /// Whether there are changes.
    is_changed: bool,
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

/// An attribute.
#[derive(Debug, Clone)]
struct Entry {
    /// Where it stands in the input, its key and length included; `start` is `end` if it is new.
    start: u32,
    /// Where its value starts, a `KeyValue`.
    value: u32,
    end: u32,
    now: Now,
}

impl Entry {
    fn whole(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What an attribute is now: a `KeyValue`.
#[derive(Debug, Clone)]
enum Now {
    InInput,
    Written(Range<u32>),
    Removed,
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
        self.places = [NOWHERE; PLACES];
        self.fields.clear();
        self.written.clear();
        self.loss = None;
        self.is_changed = false;
        let attributes = kind.attributes();
        let mut fields = Fields::new(input, body.clone());
        loop {
            // What stands one after the other, and makes up most of an item.
            while let Some((start, end)) = fields.short(attributes) {
                self.attributes.push(Entry {
                    start: start as u32,
                    value: start as u32 + 2,
                    end: end as u32,
                    now: Now::InInput,
                });
            }
            let Some(field) = fields.next() else {
                break;
            };
            if let Some(place) = self.places.get_mut(field.number as usize) {
                *place = field.whole.start as u32;
            }
            if field.number == attributes && field.wire == Wire::Bytes {
                self.attributes.push(Entry {
                    start: field.whole.start as u32,
                    value: field.value.start as u32,
                    end: field.whole.end as u32,
                    now: Now::InInput,
                });
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
        if !self.is_changed {
            return;
        }
        let mut end = body.end;
        for entry in &self.attributes {
            let is_new = entry.start == entry.end;
            match &entry.now {
                Now::InInput => end = entry.end as usize,
                Now::Removed if is_new => {}
                Now::Removed => {
                    changes.push(Change::removal(entry.whole()));
                    end = entry.end as usize;
                }
                Now::Written(pair) => {
                    let place = if is_new { end..end } else { entry.whole() };
                    end = place.end;
                    changes.push(Change {
                        range: place,
                        head: Some((kind.attributes(), pair.len())),
                        written: pair.start as usize..pair.end as usize,
                    });
                }
            }
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
        draft.is_changed = true;
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
    fn pair_of(&self, entry: &Entry) -> Option<&[u8]> {
        match &entry.now {
            Now::InInput => {
                let place = entry.value as usize..entry.end as usize;
                Some(wire::slice(self.input, place))
            }
            Now::Written(pair) => {
                let place = pair.start as usize..pair.end as usize;
                Some(wire::slice(&self.draft.written, place))
            }
            Now::Removed => None,
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        let mut entries = self.draft.attributes.iter();
        entries.position(|entry| {
            self.pair_of(entry)
                .is_some_and(|pair| value::key(pair) == key.as_bytes())
        })
    }

    /// How many attributes there are places for, those that are removed among them.
    pub(crate) fn places(&self) -> usize {
        self.draft.attributes.len()
    }

    /// The attribute in a place.
    pub(crate) fn at(&self, index: usize) -> Option<(&str, Value<'_>)> {
        let entry = self.draft.attributes.get(index)?;
        self.pair_of(entry).map(value::pair)
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
        let now = Now::Written(start as u32..draft.written.len() as u32);
        draft.is_changed = true;
        match index.and_then(|index| draft.attributes.get_mut(index)) {
            Some(entry) => entry.now = now,
            None => draft.attributes.push(Entry {
                start: 0,
                value: 0,
                end: 0,
                now,
            }),
        }
    }

    pub(crate) fn remove_at(&mut self, index: usize) {
        if let Some(entry) = self.draft.attributes.get_mut(index) {
            entry.now = Now::Removed;
            self.draft.is_changed = true;
        }
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
