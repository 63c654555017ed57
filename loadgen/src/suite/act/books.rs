//! The ledger: what was sent, and what has arrived once everything has had the time to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::super::counter;
use super::super::ledger::Ledger;
use super::super::model::Drain;
use super::super::stage::Stage;

/// A drain ends by then when the suite does not say.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Nothing has arrived for so long: nothing will, when the suite does not say.
const STEADY: Duration = Duration::from_secs(3);
/// Between two looks at the count.
const LOOK: Duration = Duration::from_millis(200);
/// After a failure the backend is asked once, and for no longer than this.
const LAST_LOOK_MAX: Duration = Duration::from_secs(3);

/// Looks at a count until it says all that it ever will. Counting may take long: what is told was true when it was asked.
struct Looks {
    steady: Duration,
    expected: u64,
    delivered: u64,
    /// When the count was told for the first time, and when it was asked for last.
    span: Option<(Instant, Instant)>,
    /// How often in a row it was the expected one.
    equal: u32,
}

impl Looks {
    fn new(steady: Duration, expected: u64) -> Self {
        Self {
            steady,
            expected,
            delivered: 0,
            span: None,
            equal: 0,
        }
    }

    /// What was `asked` for and `told` then; whether it has changed.
    fn look(&mut self, delivered: u64, asked: Instant, told: Instant) -> bool {
        self.equal = match delivered == self.expected {
            true => self.equal + 1,
            false => 0,
        };
        match &mut self.span {
            Some((_, last)) if self.delivered == delivered => {
                *last = asked;
                false
            }
            span => {
                *span = Some((told, asked));
                self.delivered = delivered;
                true
            }
        }
    }

    /// Twice the expected one: what comes twice has had a moment to come. Or one that has not changed for long.
    fn are_enough(&self) -> bool {
        let steady = |(first, last): (Instant, Instant)| last.saturating_duration_since(first);
        self.equal >= 2 || self.span.is_some_and(|span| steady(span) >= self.steady)
    }
}

impl Stage<'_> {
    /// Waits until all that must arrive has, or nothing more comes.
    pub(super) async fn drain(&mut self, step: &Drain) -> anyhow::Result<()> {
        let filler = self.filler();
        let limit = filler.duration(step.timeout.as_ref(), DRAIN_MAX)?;
        let steady = filler.duration(step.steady.as_ref(), STEADY)?;
        self.loads_end(None, Instant::now() + limit * 100).await?;
        let mut ledger = self.sent().await?;
        let deadline = Instant::now() + limit;
        let (asked, mut changed_at) = (Instant::now(), self.run.seconds());
        let delivered = self.counted("delivered").await?.context(NO_COUNTER)?;
        let mut looks = Looks::new(steady, ledger.expected());
        looks.look(delivered, asked, Instant::now());
        while !looks.are_enough() {
            if Instant::now() > deadline {
                self.result
                    .note(format!("the count still changed after {limit:?}"));
                break;
            }
            self.pause(LOOK).await?;
            let (asked, seconds) = (Instant::now(), self.run.seconds());
            let delivered = self.counted("delivered").await?.context(NO_COUNTER)?;
            if looks.look(delivered, asked, Instant::now()) {
                changed_at = seconds;
            }
        }
        ledger.complete = looks.are_enough();
        ledger.delivered = looks.delivered;
        ledger.counted_twice = self.counted("duplicated").await?;
        ledger.seconds = changed_at - self.load_began.unwrap_or(self.result.from);
        self.keep(ledger);
        Ok(())
    }

    /// What is known when a test has failed: the truth as far as it goes.
    pub(crate) async fn close_books_early(&mut self) {
        if self.result.ledger.is_some() || self.load_began.is_none() {
            return;
        }
        let Ok(mut ledger) = self.sent().await else {
            return;
        };
        let delivered = tokio::time::timeout(LAST_LOOK_MAX, self.counted("delivered")).await;
        match delivered {
            Ok(Ok(Some(delivered))) => ledger.delivered = delivered,
            _ => self
                .result
                .note("the backend could not be asked what was delivered".to_owned()),
        }
        ledger.seconds = self.run.seconds() - self.load_began.unwrap_or(self.result.from);
        self.keep(ledger);
    }

    fn keep(&mut self, ledger: Ledger) {
        for note in ledger.notes() {
            self.result.note(note);
        }
        self.result.ledger = Some(ledger);
    }

    /// What loads have reported, and what counters say that stand for them.
    async fn sent(&self) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        for load in &self.result.loads {
            let figure = |name: &str| load.figures.get(name).copied().unwrap_or(0.0);
            let whole = |name: &str| figure(name).max(0.0) as u64;
            ledger.sent += whole("items_sent");
            ledger.accepted += whole("items_accepted");
            ledger.rejected += whole("items_rejected");
            ledger.refused += whole("items_refused");
            ledger.failed += whole("items_failed");
            let per_request = figure("items_sent") / figure("requests_sent").max(1.0);
            ledger.unsent += (figure("requests_unsent") * per_request).max(0.0) as u64;
        }
        ledger.sent += self.counted("sent").await?.unwrap_or(0);
        ledger.accepted += self.counted("accepted").await?.unwrap_or(0);
        ledger.refused += self.counted("refused").await?.unwrap_or(0);
        ledger.failed += self.counted("failed").await?.unwrap_or(0);
        Ok(ledger)
    }

    /// The sum over all counters of this name; `None` if there is none.
    pub(super) async fn counted(&self, name: &str) -> anyhow::Result<Option<u64>> {
        let mut sources = Vec::new();
        for index in 0..self.units.len() {
            let filler = self.filler_of(index);
            if let Some(unit) = self.units.get(index) {
                sources.extend(unit.counters(name, &filler)?);
            }
        }
        let mut sum = None;
        for source in sources {
            let value = counter::read(&source, &self.run.fetch).await;
            let value = match value.with_context(|| format!("counter {name}"))? {
                Some(value) => value,
                // Whoever does not say so has not looked.
                None if name == "duplicated" => continue,
                // Nothing has come yet.
                None => 0.0,
            };
            if value < 0.0 {
                bail!("counter {name} is {value}");
            }
            *sum.get_or_insert(0) += value as u64;
        }
        Ok(sum)
    }
}

const NO_COUNTER: &str =
    "no component has a counter `delivered`: add [component.monitoring.counter.delivered]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_takes_long_is_no_count_that_does_not_change() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut looks = Looks::new(Duration::from_secs(3), 10);
        // Asked before the last of it had come.
        assert!(looks.look(8, at(0), at(5)) && !looks.are_enough());
        assert!(looks.look(10, at(6), at(7)) && !looks.are_enough());
        assert!(!looks.look(10, at(8), at(9)) && looks.are_enough());
        // What is missing is waited for as long as was asked for.
        let mut looks = Looks::new(Duration::from_secs(3), 10);
        looks.look(8, at(0), at(5));
        looks.look(8, at(6), at(20));
        assert!(!looks.are_enough());
        looks.look(8, at(21), at(22));
        assert!(looks.are_enough());
        // More than there should be comes to light as well.
        let mut looks = Looks::new(Duration::from_secs(3), 10);
        looks.look(10, at(0), at(0));
        assert!(looks.look(12, at(1), at(1)) && !looks.are_enough());
    }
}
