//! One message while a plugin looks at it: reads see the changes made so far, and nothing is written before it is done.

use std::cell::OnceCell;
use std::ops::Range;

use crate::edits::Edits;
use crate::search;
use crate::shape::Kind;
use crate::value::{self, IntoValue, Value};
use crate::wire::{self, Field, Fields, Wire};

/// A message and the changes of it so far.
pub(crate) struct Node<'e> {
    pub(crate) input: &'e [u8],
    pub(crate) body: Range<usize>,
    pub(crate) kind: Kind,
    /// The messages that it stands in.
    pub(crate) place: &'e Place,
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
    /// Attributes that are changed or new, by their place.
    touched: Vec<Touched>,
    /// How many are new.
    added: u32,
    /// Where the last field of each number stands in the input, [`NOWHERE`] if there is none, once a plugin asks for one: those
    /// that look at attributes only do not pay for it.
    places: OnceCell<[u32; PLACES]>,
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

/// The place of the first new attribute, behind all that an input can have: where plugins run, a slice is shorter than 2 GiB.
const NEW: u32 = 1 << 31;

/// Why a message goes no further.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    pub(crate) fault: Option<String>,
}

/// An attribute that is changed, or new.
#[derive(Debug, Clone)]
struct Touched {
    /// Where it stands in the input; from [`NEW`] on if it is new.
    place: u32,
    /// The field that it is now, in what is written; `None` if it is removed.
    now: Option<Range<usize>>,
}

/// A field that has been set: whole fields, as they are written.
#[derive(Debug, Clone)]
struct Set {
    number: u32,
    written: Range<usize>,
}

impl Draft {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.touched.clear();
        self.added = 0;
        self.places = OnceCell::new();
        self.fields.clear();
        self.written.clear();
        self.loss = None;
    }

    /// Which of those touched is in this place, or where it belongs among them.
    fn touched_at(&self, place: u32) -> Result<usize, usize> {
        self.touched
            .binary_search_by_key(&place, |touched| touched.place)
    }

    /// Where the last field of this number stands in the message in `body`.
    fn place(&self, input: &[u8], body: &Range<usize>, number: u32) -> Option<usize> {
        let places = self.places.get_or_init(|| {
            let mut places = [NOWHERE; PLACES];
            for field in Fields::new(input, body.clone()) {
                if let Some(place) = places.get_mut(field.number as usize) {
                    *place = field.whole.start as u32;
                }
            }
            places
        });
        let place = *places.get(number as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }

    /// All that is changed, if it is one new attribute.
    pub(crate) fn added(&self) -> Option<&[u8]> {
        match self.touched.as_slice() {
            [
                Touched {
                    place: NEW,
                    now: Some(now),
                },
            ] if self.fields.is_empty() => Some(wire::slice(&self.written, now.clone())),
            _ => None,
        }
    }

    /// Adds the changes of the message in `body`, in order.
    pub(crate) fn changes(&self, input: &[u8], body: &Range<usize>, changes: &mut Vec<Change>) {
        if self.touched.is_empty() && self.fields.is_empty() {
            return;
        }
        for Touched { place, now } in &self.touched {
            let old = (*place < NEW).then(|| wire::field_at(input, *place as usize));
            let old = old.flatten().map(|field| field.whole);
            let Some(field) = now else {
                changes.extend(old.map(Change::removal));
                continue;
            };
            changes.push(Change {
                range: old.unwrap_or(body.end..body.end),
                written: field.clone(),
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
            let is_there = self.place(input, body, set.number).is_some();
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
                written: set.written.clone(),
            });
        }
        changes.sort_by_key(|change| (change.range.start, change.range.end));
    }

    /// Writes changes as edits.
    #[inline]
    pub(crate) fn push(&self, changes: &[Change], edits: &mut Edits) {
        for change in changes {
            edits.replace(change.range.clone(), |to| self.write(change, to));
        }
    }

    /// Writes what a change puts in.
    pub(crate) fn write(&self, change: &Change, to: &mut Vec<u8>) {
        to.extend_from_slice(wire::slice(&self.written, change.written.clone()));
    }
}

/// A change of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) range: Range<usize>,
    written: Range<usize>,
}

impl Change {
    fn removal(range: Range<usize>) -> Self {
        Self {
            range,
            written: 0..0,
        }
    }

    /// By how much it makes the message longer.
    pub(crate) fn grown(&self) -> isize {
        self.written.len() as isize - self.range.len() as isize
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
        let place = self.draft.place(self.input, &self.body, number)?;
        wire::field_at(self.input, place)
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

/// How far a look at the attributes of a message has come.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Where the next field of the input stands.
    at: usize,
    /// New attributes that have been seen.
    new: u32,
}

impl Node<'_> {
    /// The `KeyValue` in a place.
    #[inline]
    fn pair_of(&self, place: u32) -> Option<&[u8]> {
        if let Ok(found) = self.draft.touched_at(place) {
            let now = self.draft.touched.get(found)?.now.as_ref()?;
            let field = wire::field_at(&self.draft.written, now.start)?;
            return Some(wire::slice(&self.draft.written, field.value));
        }
        let field = wire::field_at(self.input, place as usize)?;
        Some(wire::slice(self.input, field.value))
    }

    /// Where the attribute with this key stands, the first of them if there are several.
    #[inline]
    fn find(&self, key: &str) -> Option<u32> {
        let key = key.as_bytes();
        let untouched = self.find_untouched(key);
        if self.draft.touched.is_empty() {
            return untouched;
        }
        let has_key = |place: &u32| {
            self.pair_of(*place)
                .is_some_and(|pair| value::key(pair) == key)
        };
        let places = self.draft.touched.iter().map(|touched| touched.place);
        let touched = places.filter(has_key).min();
        match (touched, untouched) {
            (Some(touched), Some(untouched)) => Some(touched.min(untouched)),
            (touched, untouched) => touched.or(untouched),
        }
    }

    /// The same of those that are as they came. A key that stands nowhere in the message is no attribute's, and to see that costs
    /// half of a walk over its fields.
    fn find_untouched(&self, key: &[u8]) -> Option<u32> {
        let bytes = wire::slice(self.input, 0..self.body.end);
        let number = self.kind.attributes();
        let mut at = self.body.start;
        if !search::contains(wire::slice(bytes, at..self.body.end), key) {
            return None;
        }
        loop {
            at = wire::pass_over(bytes, at, number, key.len());
            let field = wire::field_at(bytes, at)?;
            at = field.whole.end;
            if field.number == number && field.wire == Wire::Bytes {
                let place = field.whole.start as u32;
                let has_key = value::key(wire::slice(bytes, field.value)) == key;
                if has_key && self.draft.touched_at(place).is_err() {
                    return Some(place);
                }
            }
        }
    }

    /// The start of a look at the attributes.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            at: self.body.start,
            new: 0,
        }
    }

    /// The place of the next attribute and its `KeyValue`, unless it has been removed.
    #[inline]
    pub(crate) fn next_pair(&self, cursor: &mut Cursor) -> Option<(u32, Option<&[u8]>)> {
        let number = self.kind.attributes();
        let bytes = wire::slice(self.input, 0..self.body.end);
        while let Some(field) = wire::field_at(bytes, cursor.at) {
            cursor.at = field.whole.end;
            if field.number == number && field.wire == Wire::Bytes {
                let place = field.whole.start as u32;
                // Nearly always nothing has been changed.
                let pair = match self.draft.touched.is_empty() {
                    true => Some(wire::slice(bytes, field.value)),
                    false => self.pair_of(place),
                };
                return Some((place, pair));
            }
        }
        if cursor.new >= self.draft.added {
            return None;
        }
        let place = NEW + cursor.new;
        cursor.new += 1;
        Some((place, self.pair_of(place)))
    }

    /// The attribute in a place.
    fn at(&self, place: u32) -> Option<(&str, Value<'_>)> {
        self.pair_of(place).map(value::pair)
    }

    /// Notes what an attribute is now.
    fn touch(&mut self, place: u32, now: Option<Range<usize>>) {
        let new = Touched { place, now };
        match self.draft.touched_at(place) {
            Ok(found) => {
                if let Some(old) = self.draft.touched.get_mut(found) {
                    *old = new;
                }
            }
            Err(index) => self.draft.touched.insert(index, new),
        }
    }

    pub(crate) fn attribute(&mut self, key: &str) -> Option<Value<'_>> {
        let place = self.find(key)?;
        self.at(place).map(|(_, value)| value)
    }

    pub(crate) fn set_attribute(&mut self, key: &str, value: &(impl IntoValue + ?Sized)) {
        let place = self.find(key);
        self.write(place, key, value);
    }

    /// Writes an attribute into a place, or a new one after a search for it has found none.
    pub(crate) fn write(
        &mut self,
        place: Option<u32>,
        key: &str,
        value: &(impl IntoValue + ?Sized),
    ) {
        let draft = &mut *self.draft;
        let start = draft.written.len();
        value::write_attribute(
            &mut draft.written,
            self.kind.attributes(),
            key.as_bytes(),
            value,
        );
        let now = Some(start..draft.written.len());
        let place = place.unwrap_or_else(|| {
            draft.added += 1;
            NEW + draft.added - 1
        });
        self.touch(place, now);
    }

    pub(crate) fn remove_at(&mut self, place: u32) {
        self.touch(place, None);
    }

    pub(crate) fn remove_attribute(&mut self, key: &str) -> bool {
        let mut found = false;
        // Senders should not, but some do: the same key twice.
        while let Some(place) = self.find(key) {
            self.remove_at(place);
            found = true;
        }
        found
    }

    pub(crate) fn rename_attribute(&mut self, from: &str, to: &str) -> bool {
        if from == to {
            return false;
        }
        let Some(place) = self.find(from) else {
            return false;
        };
        self.remove_attribute(to);
        let value = self.at(place).map(|(_, value)| value.to_owned());
        self.write(Some(place), to, &value.unwrap_or_default());
        true
    }
}
