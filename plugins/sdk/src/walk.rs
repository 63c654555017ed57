//! The way through a batch: every message that a plugin wants to see, in order, and what it changes as edits.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::edits::Edits;
use crate::node::{Change, Draft, Loss, Node, Place};
use crate::shape::{Kind, Wanted};
use crate::wire::{self, Field, Fields, Wire};

/// Items that were lost, by why.
pub(crate) type Losses = BTreeMap<Loss, u64>;

/// One pass over a batch.
pub(crate) struct Walk<'e, F> {
    input: &'e [u8],
    wanted: Wanted,
    visit: F,
    pub(crate) edits: Edits,
    pub(crate) losses: &'e mut Losses,
    draft: Draft,
    /// Memory for the changes of the next message.
    spare: Vec<Change>,
    place: Place,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Gone,
}

impl<'e, F: FnMut(&mut Node<'_>)> Walk<'e, F> {
    pub(crate) fn new(input: &'e [u8], wanted: Wanted, losses: &'e mut Losses, visit: F) -> Self {
        Self {
            input,
            wanted,
            visit,
            edits: Edits::default(),
            losses,
            draft: Draft::default(),
            spare: Vec::new(),
            place: Place::default(),
        }
    }

    /// Walks the whole request.
    pub(crate) fn request(&mut self, kind: Kind) {
        self.children(kind, 0..self.input.len(), &Draft::default(), &[]);
        self.edits.finish();
    }

    /// Walks what is in a message, which has `changes` of its own, drafted in `own`.
    fn children(
        &mut self,
        kind: Kind,
        body: Range<usize>,
        own: &Draft,
        changes: &[Change],
    ) -> Fate {
        let known = kind.children();
        let mut changes = changes;
        let (mut gone, mut stay) = (0_usize, 0_usize);
        let message = wire::slice(self.input, 0..body.end);
        let mut at = body.start;
        while let Some(field) = wire::item_at(message, at) {
            at = field.whole.end;
            let Some((_, child)) = known.iter().find(|(number, _)| *number == field.number) else {
                continue;
            };
            if field.wire != Wire::Bytes {
                continue;
            }
            if !changes.is_empty() {
                let start = field.whole.start;
                let before = changes.partition_point(|change| change.range.start <= start);
                let (before, left) = changes.split_at(before);
                own.push(before, &mut self.edits);
                changes = left;
            }
            match self.message(*child, &field) {
                Fate::Gone => gone += 1,
                Fate::Stays => stay += usize::from(child.counts()),
            }
        }
        own.push(changes, &mut self.edits);
        match gone > 0 && stay == 0 {
            true => Fate::Gone,
            false => Fate::Stays,
        }
    }

    fn message(&mut self, kind: Kind, field: &Field) -> Fate {
        match kind {
            Kind::ResourceGroup(_) => self.place.resource_group = field.value.clone(),
            Kind::ScopeGroup(_) => self.place.scope_group = field.value.clone(),
            Kind::Metric => self.place.metric = field.value.clone(),
            _ => {}
        }
        let is_wanted = kind.is_wanted(self.wanted);
        if is_wanted && let Some(loss) = self.look(kind, &field.value) {
            return self.lose(kind, field, loss);
        }
        let leads_on = kind.leads_to(self.wanted);
        if !is_wanted && !leads_on {
            return Fate::Stays;
        }
        if !leads_on && let Some(added) = self.draft.added() {
            let end = field.value.end;
            self.edits.resize(field, added.len() as isize);
            self.edits
                .replace(end..end, |to| to.extend_from_slice(added));
            return Fate::Stays;
        }
        let mut changes = std::mem::take(&mut self.spare);
        changes.clear();
        if is_wanted {
            self.draft.changes(self.input, &field.value, &mut changes);
        }
        let fate = if leads_on {
            self.inside(kind, field, &changes)
        } else {
            if !changes.is_empty() {
                let grown = changes.iter().map(Change::grown).sum();
                self.edits.resize(field, grown);
                self.draft.push(&changes, &mut self.edits);
            }
            Fate::Stays
        };
        self.spare = changes;
        fate
    }

    /// Walks a message that holds others.
    fn inside(&mut self, kind: Kind, field: &Field, changes: &[Change]) -> Fate {
        let mark = self.edits.open(field);
        self.look_at_missing(kind, field);
        let body = field.value.clone();
        let fate = if changes.is_empty() {
            self.children(kind, body, &Draft::default(), changes)
        } else {
            // What is drafted of this message waits, while those in it are drafted elsewhere.
            let own = std::mem::take(&mut self.draft);
            let fate = self.children(kind, body, &own, changes);
            self.draft = own;
            fate
        };
        if fate == Fate::Gone && kind.holds_items() {
            self.edits.undo(&mark);
            self.edits.replace(field.whole.clone(), |_| {});
            return Fate::Gone;
        }
        self.edits.close(&mark, field);
        Fate::Stays
    }

    /// Shows a message to the plugin. Why it goes no further, if it does not.
    fn look(&mut self, kind: Kind, body: &Range<usize>) -> Option<Loss> {
        self.draft.clear();
        let mut node = Node {
            input: self.input,
            body: body.clone(),
            kind,
            place: &self.place,
            draft: &mut self.draft,
        };
        (self.visit)(&mut node);
        self.draft.loss.take()
    }

    /// A resource or scope that was left out because it is empty is shown all the same. If the plugin puts something in, it
    /// is made.
    fn look_at_missing(&mut self, kind: Kind, field: &Field) {
        let child = match kind {
            Kind::ResourceGroup(_) => Kind::Resource,
            Kind::ScopeGroup(_) => Kind::Scope,
            _ => return,
        };
        let is_there = |number| {
            let mut fields = Fields::new(self.input, field.value.clone());
            fields.any(|field| field.number == number)
        };
        if !child.is_wanted(self.wanted) || is_there(MISSING) {
            return;
        }
        let nowhere = field.value.start..field.value.start;
        let _cannot_be_dropped = self.look(child, &nowhere);
        let mut changes = Vec::new();
        self.draft.changes(self.input, &nowhere, &mut changes);
        let length: isize = changes.iter().map(Change::grown).sum();
        if length > 0 {
            let draft = &self.draft;
            self.edits.replace(nowhere, |to| {
                wire::put_head(to, MISSING, length.unsigned_abs());
                changes.iter().for_each(|change| draft.write(change, to));
            });
        }
    }

    /// Removes a message and counts the items in it.
    fn lose(&mut self, kind: Kind, field: &Field, loss: Loss) -> Fate {
        let items = match kind {
            Kind::Metric => points(self.input, &field.value),
            kind => usize::from(kind.is_item()),
        };
        if items > 0 {
            *self.losses.entry(loss).or_default() += items as u64;
        }
        self.edits.replace(field.whole.clone(), |_| {});
        Fate::Gone
    }
}

/// The number of the field of a resource in its group, and of a scope.
const MISSING: u32 = 1;

/// Data points of a metric.
fn points(input: &[u8], metric: &Range<usize>) -> usize {
    let data = Fields::new(input, metric.clone()).filter(|field| {
        let mut known = Kind::Metric.children().iter();
        field.wire == Wire::Bytes && known.any(|(number, _)| *number == field.number)
    });
    data.flat_map(|data| Fields::new(input, data.value))
        .filter(|field| field.number == 1 && field.wire == Wire::Bytes)
        .count()
}
