//! What a guest makes of a batch: its edits applied, its bytes checked, its losses counted.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::bindings::{Data, Edits, Outcome};
use super::instance::Failure;
use crate::otlp::{Checked, Edit, WireError, check, check_edited};
use crate::signal::Signal;

/// Different reasons that one plugin may give; those beyond count as [`OTHER`].
const REASONS_MAX: usize = 32;

/// Characters of a reason.
const REASON_LENGTH_MAX: usize = 40;

/// What is said to a sender of items at fault.
const FAULT_LENGTH_MAX: usize = 300;

/// The reason of losses that a plugin does not explain.
const UNEXPLAINED: &str = "plugin";

/// The reason of losses whose reason is no word, or one too many.
const OTHER: &str = "plugin_other";

/// What becomes of a batch.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) data: Next,
    pub(super) losses: Vec<Lost>,
}

/// What goes on.
#[derive(Debug)]
pub(super) enum Next {
    Same,
    Changed(Checked),
    Nothing,
}

/// Items that do not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) reason: Cow<'static, str>,
    pub(super) items: usize,
    /// What their sender is told.
    pub(super) fault: Option<String>,
}

/// The reasons that a plugin has given so far.
#[derive(Debug, Default)]
pub(super) struct Reasons(BTreeSet<String>);

impl Reasons {
    fn take(&mut self, reason: String) -> Cow<'static, str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_word = (1..=REASON_LENGTH_MAX).contains(&reason.len()) && reason.chars().all(plain);
        if !is_word || (!self.0.contains(&reason) && self.0.len() >= REASONS_MAX) {
            return OTHER.into();
        }
        if !self.0.contains(&reason) {
            self.0.insert(reason.clone());
        }
        reason.into()
    }
}

/// Makes a verdict of what a guest gave for `input`, which has `items`.
///
/// # Errors
/// When it is not OTLP, too large, or has more items than came in.
pub(super) fn judge(
    outcome: Outcome,
    signal: Signal,
    input: &Bytes,
    items: usize,
    output_max: usize,
    reasons: &mut Reasons,
) -> Result<Verdict, Failure> {
    let data = match outcome.data {
        Data::Unchanged => {
            return Ok(Verdict {
                data: Next::Same,
                losses: Vec::new(),
            });
        }
        Data::Nothing => Next::Nothing,
        Data::Replaced(bytes) => {
            within(bytes.len(), output_max)?;
            changed(check(signal, bytes.into()), items)?
        }
        Data::Edited(edits) => {
            let edited = apply(input, &edits, output_max)?;
            let checked = check_edited(signal, input, changes(&edits), edited.into());
            changed(checked, items)?
        }
    };
    let left = match &data {
        Next::Changed(checked) => checked.items,
        Next::Same | Next::Nothing => 0,
    };
    let mut gone = items - left;
    let mut losses = Vec::new();
    for loss in outcome.losses {
        let lost = usize::try_from(loss.items).unwrap_or(usize::MAX).min(gone);
        if lost == 0 {
            continue;
        }
        gone -= lost;
        losses.push(Lost {
            reason: reasons.take(loss.reason),
            items: lost,
            fault: loss.fault.map(cut),
        });
    }
    if gone > 0 {
        losses.push(Lost {
            reason: UNEXPLAINED.into(),
            items: gone,
            fault: None,
        });
    }
    Ok(Verdict { data, losses })
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(FAULT_LENGTH_MAX));
    message
}

fn within(length: usize, output_max: usize) -> Result<(), Failure> {
    match length > output_max {
        true => Err(Failure::OutputLimit(format!("{length} bytes"))),
        false => Ok(()),
    }
}

/// The checked result; [`Next::Nothing`] if no items are left in it.
fn changed(checked: Result<Checked, WireError>, items: usize) -> Result<Next, Failure> {
    let checked =
        checked.map_err(|error| Failure::InvalidOutput(format!("it is not OTLP: {error}")))?;
    match checked.items {
        0 => Ok(Next::Nothing),
        more if more > items => Err(Failure::InvalidOutput(format!(
            "{more} items came out of {items}"
        ))),
        _ => Ok(Next::Changed(checked)),
    }
}

/// The changes that [`apply`] has made.
fn changes(edits: &Edits) -> impl Iterator<Item = Edit<'_>> {
    let mut inserted = edits.inserted.as_slice();
    edits.changes.iter().map(move |edit| {
        let new = inserted.split_off(..edit.length as usize);
        Edit {
            range: edit.start as usize..edit.end as usize,
            new: new.unwrap_or_default(),
        }
    })
}

/// The input with changes.
fn apply(input: &[u8], edits: &Edits, output_max: usize) -> Result<Vec<u8>, Failure> {
    let wrong = |what: &str| Failure::InvalidOutput(what.to_owned());
    let mut removed = 0;
    for edit in &edits.changes {
        removed += edit
            .end
            .checked_sub(edit.start)
            .ok_or_else(|| wrong("an edit ends before it starts"))? as usize;
    }
    let length = (input.len() + edits.inserted.len())
        .checked_sub(removed)
        .ok_or_else(|| wrong("edits remove more than there is"))?;
    within(length, output_max)?;
    let mut output = Vec::with_capacity(length);
    let (mut copied, mut inserted) = (0_usize, edits.inserted.as_slice());
    for edit in &edits.changes {
        let untouched = input
            .get(copied..edit.start as usize)
            .ok_or_else(|| wrong("edits overlap, are out of order, or lie outside of the input"))?;
        output.extend_from_slice(untouched);
        let (new, rest) = inserted
            .split_at_checked(edit.length as usize)
            .ok_or_else(|| wrong("edits insert more than they bring"))?;
        output.extend_from_slice(new);
        (copied, inserted) = (edit.end as usize, rest);
    }
    let untouched = input
        .get(copied..)
        .ok_or_else(|| wrong("an edit lies outside of the input"))?;
    output.extend_from_slice(untouched);
    if !inserted.is_empty() {
        return Err(wrong("edits bring more than they insert"));
    }
    Ok(output)
}
