//! The ledger: what was sent, and what has arrived once everything has had the time to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use super::super::counter::{self, ANSWER_MAX};
use super::super::ledger::Ledger;
use super::super::model::Drain;
use super::super::results::LoadResult;
use super::super::stage::{Interrupted, Stage};
use crate::count::Count;

/// A drain ends by then when the suite does not say.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Nothing has arrived for so long: nothing will, when the suite does not say.
const STEADY: Duration = Duration::from_secs(3);
/// Between two looks at the count.
const LOOK: Duration = Duration::from_millis(200);
/// After a failure each counter is asked once, and for no longer than this.
const LAST_LOOK_MAX: Duration = Duration::from_secs(3);
/// The counters that the ledger is made of.
const COUNTERS: [&str; 6] = [
    "delivered",
    "duplicated",
    "sent",
    "accepted",
    "refused",
    "failed",
];

/// Looks at a count until it says all that it ever will. Counting may take long: what is told was true when it was asked.
struct Looks {
    steady: Duration,
    /// Where it is known how many must come.
    expected: Option<u64>,
    delivered: u64,
    /// When the count was told for the first time, and when it was asked for last.
    span: Option<(Instant, Instant)>,
    /// How often in a row it was the expected one.
    equal: u32,
}

impl Looks {
    fn new(steady: Duration, expected: Option<u64>) -> Self {
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
        self.equal = match Some(delivered) == self.expected {
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

/// What all counters of a name say together.
#[derive(Default)]
struct Counted {
    /// `None` if there is none, or none has looked.
    sum: Option<Count>,
    /// Which could not be asked, when, and why.
    silent: Vec<String>,
    /// Which have begun anew since they were asked last.
    forgetful: Vec<String>,
}

/// What a counter had counted before it began anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgotten {
    count: u64,
    /// When it was found to have, in seconds since the run began.
    at: f64,
}

/// Of a component and one of its counters.
type CounterName = (String, &'static str);

/// What is remembered of counters that may forget: those of components that were killed or stopped.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What they said at last.
    before: BTreeMap<CounterName, u64>,
    forgotten: BTreeMap<CounterName, Forgotten>,
}

impl Stage<'_> {
    /// Waits until all that must arrive has, or nothing more comes.
    pub(super) async fn drain(&mut self, step: &Drain) -> anyhow::Result<()> {
        let drained = self.drained(step).await;
        if let Err(error) = &drained
            && !error.is::<Interrupted>()
        {
            self.close_books_early("the drain failed").await;
        }
        drained
    }

    async fn drained(&mut self, step: &Drain) -> anyhow::Result<()> {
        let filler = self.filler();
        let limit = filler.duration(step.timeout.as_ref(), DRAIN_MAX)?;
        let steady = filler.duration(step.steady.as_ref(), STEADY)?;
        self.loads_end(None, Instant::now() + limit * 100).await?;
        let mut silent = Vec::new();
        let mut ledger = self.sent(ANSWER_MAX, &mut silent).await;
        let deadline = Instant::now() + limit;
        let (asked, mut changed_at) = (Instant::now(), self.run.seconds());
        let mut looks = Looks::new(steady, ledger.expected().known());
        looks.look(self.delivered(&mut ledger).await?, asked, Instant::now());
        while !looks.are_enough() {
            if Instant::now() > deadline {
                ledger.not_drained = Some(format!("the count still changed after {limit:?}"));
                break;
            }
            self.pause(LOOK).await?;
            let (asked, seconds) = (Instant::now(), self.run.seconds());
            let delivered = self.delivered(&mut ledger).await?;
            if looks.look(delivered, asked, Instant::now()) {
                changed_at = seconds;
            }
        }
        let twice = self.counted("duplicated", ANSWER_MAX).await;
        ledger.counted_twice = twice.add_to(&mut ledger, &mut silent);
        ledger.seconds = changed_at - self.first_request();
        self.result.ledger = Some(ledger);
        silent.first().map_or(Ok(()), |why| bail!("{why}"))
    }

    /// What is known when a test has failed: the truth as far as it goes. A ledger that has everything stays.
    pub(crate) async fn close_books_early(&mut self, why: &str) {
        if self.loads_started == 0 || self.has_ledger() {
            return;
        }
        let closed = self.run.seconds();
        let mut silent = Vec::new();
        let mut ledger = self.sent(LAST_LOOK_MAX, &mut silent).await;
        let delivered = self.counted("delivered", LAST_LOOK_MAX).await;
        let delivered = delivered.add_to(&mut ledger, &mut silent);
        ledger.delivered = delivered.unwrap_or_else(|| {
            ledger.not_asked.push(NO_COUNTER.to_owned());
            Count::at_least(0)
        });
        // Later than the others: what came meanwhile is not called lost.
        let twice = self.counted("duplicated", LAST_LOOK_MAX).await;
        ledger.counted_twice = twice.add_to(&mut ledger, &mut silent);
        ledger.not_drained = Some(why.to_owned());
        ledger.seconds = closed - self.first_request();
        self.result.ledger = Some(ledger);
    }

    /// There is a ledger, and it has every load.
    fn has_ledger(&self) -> bool {
        let ledger = self.result.ledger.as_ref();
        ledger.is_some_and(|it| it.loads == self.loads_started)
    }

    /// When the first request was sent, as far as loads tell: before, they built their payload.
    fn first_request(&self) -> f64 {
        let ended = self.result.loads.iter().map(|load| load.began);
        let under_way = self.loads.iter().map(|load| load.started);
        ended
            .chain(under_way)
            .reduce(f64::min)
            .unwrap_or(self.result.from)
    }

    /// What loads have reported, and what counters say that stand for them.
    async fn sent(&self, limit: Duration, silent: &mut Vec<String>) -> Ledger {
        let mut ledger = Ledger {
            loads: self.result.loads.len(),
            ..Ledger::default()
        };
        for load in &self.result.loads {
            add_load(&mut ledger, load);
        }
        let sent = self.counted("sent", limit).await;
        let sent = sent.add_to(&mut ledger, silent);
        let accepted = self.counted("accepted", limit).await;
        let accepted = accepted.add_to(&mut ledger, silent);
        let refused = self.counted("refused", limit).await;
        let refused = refused.add_to(&mut ledger, silent);
        let failed = self.counted("failed", limit).await;
        let failed = failed.add_to(&mut ledger, silent);
        let countless = self.result.loads.iter().find(|it| !it.counts_items);
        // What neither a load nor a counter tells is not 0.
        let untold = countless.map(|load| &load.label);
        for (name, count) in [("sent", sent), ("accepted", accepted)] {
            if let (Some(label), None) = (untold, count) {
                ledger.not_asked.push(format!(
                    "load {label} counts no items, and no component has a counter `{name}`"
                ));
            }
        }
        let otherwise = untold.map_or_else(Count::default, |_| Count::at_least(0));
        ledger.sent = ledger.sent + sent.unwrap_or(otherwise);
        ledger.accepted = ledger.accepted + accepted.unwrap_or(otherwise);
        ledger.refused = ledger.refused + refused.unwrap_or_default();
        ledger.failed = ledger.failed + failed.unwrap_or_default();
        ledger
    }

    /// How many have arrived.
    async fn delivered(&self, ledger: &mut Ledger) -> anyhow::Result<u64> {
        let counted = self.counted("delivered", ANSWER_MAX).await;
        let mut silent = Vec::new();
        let sum = counted.add_to(ledger, &mut silent);
        if let Some(why) = silent.first() {
            bail!("{why}");
        }
        ledger.delivered = sum.context(NO_COUNTER)?;
        Ok(ledger.delivered.at_least)
    }

    /// The sum over all counters of this name.
    async fn counted(&self, name: &'static str, limit: Duration) -> Counted {
        let mut counted = Counted::default();
        for (index, unit) in self.units.iter().enumerate() {
            let told = self.told(index, name, limit).await;
            let key = (unit.name.clone(), name);
            let forgotten = self.memory.forgotten.get(&key);
            let earlier = forgotten.map_or(0, |it| it.count);
            let count = match (told, forgotten) {
                (Ok(None), _) => continue,
                (Ok(Some(number)), None) => Count::of(number),
                (Ok(Some(number)), Some(before)) => {
                    counted.forgetful.push(format!(
                        "{} counted `{name}` anew from {:.2} s on, when it had counted {earlier} at least",
                        unit.name, before.at
                    ));
                    Count::at_least(number + earlier)
                }
                (Err(error), _) => {
                    let before = self.memory.before.get(&key).copied();
                    counted.silent.push(self.silence(&key, before, &error));
                    Count::at_least(earlier + before.unwrap_or(0))
                }
            };
            counted.sum = Some(counted.sum.unwrap_or_default() + count);
        }
        counted
    }

    /// What a component's counters of this name say together; `None` if it has none, or none has looked.
    async fn told(&self, index: usize, name: &str, limit: Duration) -> anyhow::Result<Option<u64>> {
        let filler = self.filler_of(index);
        let unit = self.units.get(index).context("there is a component")?;
        let mut sum = None;
        for source in unit.counters(name, &filler)? {
            let told = tokio::time::timeout(limit, counter::read(&source, &self.run.fetch)).await;
            let value = match told.map_err(|_| anyhow!("no answer within {limit:?}"))?? {
                Some(value) => value,
                // Whoever does not say so has not looked.
                None if name == "duplicated" => continue,
                // Nothing has come yet.
                None => 0.0,
            };
            if value < 0.0 {
                bail!("it is {value}");
            }
            *sum.get_or_insert(0) += value as u64;
        }
        Ok(sum)
    }

    /// A counter that could not be asked, in a line.
    fn silence(
        &self,
        (component, name): &CounterName,
        before: Option<u64>,
        error: &anyhow::Error,
    ) -> String {
        let why = format!("{error:#}");
        let before = before.map(|it| format!(", after it had said {it} at last"));
        format!(
            "counter `{name}` of {component} could not be asked at {:.2} s{}: {}",
            self.run.seconds(),
            before.unwrap_or_default(),
            why.lines().next().unwrap_or_default()
        )
    }

    /// Before a component is killed or stopped under load: what it has counted may end with it.
    pub(super) async fn remember_counts(&mut self, index: usize) {
        let unit = self.units.get(index).filter(|unit| !unit.frozen);
        let Some(component) = unit.map(|unit| unit.name.clone()) else {
            return;
        };
        if self.loads_started == 0 || self.has_ledger() {
            return;
        }
        for name in COUNTERS {
            // One that does not answer is not known to have forgotten anything, either.
            if let Ok(Some(count)) = self.told(index, name, LAST_LOOK_MAX).await {
                self.memory.before.insert((component.clone(), name), count);
            }
        }
    }

    /// When it has started again: whether it goes on counting where it was.
    pub(super) async fn compare_counts(&mut self, index: usize) {
        let Some(component) = self.units.get(index).map(|unit| unit.name.clone()) else {
            return;
        };
        let mut pairs = Vec::new();
        for name in COUNTERS {
            let key = (component.clone(), name);
            if let Some(before) = self.memory.before.remove(&key) {
                let now = self.told(index, name, LAST_LOOK_MAX).await;
                // Where nothing has come, nothing is told of what came twice.
                pairs.push((key, before, now.ok().flatten().unwrap_or(0)));
            }
        }
        // One that has forgotten its items knows no longer which of them come twice, either.
        if pairs.iter().all(|(_, before, now)| now >= before) {
            return;
        }
        let at = self.run.seconds();
        for (key, before, now) in pairs {
            let forgotten = self.memory.forgotten.entry(key);
            let forgotten = forgotten.or_insert(Forgotten { count: 0, at });
            forgotten.count += before.saturating_sub(now);
        }
    }
}

impl Counted {
    /// The sum, and why it is not known to a `ledger`.
    fn add_to(self, ledger: &mut Ledger, silent: &mut Vec<String>) -> Option<Count> {
        silent.extend(self.silent.iter().cloned());
        for why in self.silent.into_iter().chain(self.forgetful) {
            if !ledger.not_asked.contains(&why) {
                ledger.not_asked.push(why);
            }
        }
        self.sum
    }
}

/// Adds what a load has reported. One that has left no record may have sent any number, but no less than it once said.
fn add_load(ledger: &mut Ledger, load: &LoadResult) {
    if !load.counts_items {
        return;
    }
    ledger.not_asked.extend(load.unknown.clone());
    let told = load.progress.unwrap_or_default();
    let count = |name: &str, told: u64| match load.unknown {
        Some(_) => Count::at_least(told),
        None => Count::of(load.figures.get(name).copied().unwrap_or(0.0).max(0.0) as u64),
    };
    for (sum, count) in [
        (&mut ledger.sent, count("items_sent", told.sent)),
        (&mut ledger.accepted, count("items_accepted", told.accepted)),
        (&mut ledger.rejected, count("items_rejected", told.rejected)),
        (&mut ledger.refused, count("items_refused", told.refused)),
        (&mut ledger.failed, count("items_failed", told.failed)),
        (&mut ledger.unsent, count("items_unsent", 0)),
    ] {
        *sum = *sum + count;
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
        let mut looks = Looks::new(Duration::from_secs(3), Some(10));
        // Asked before the last of it had come.
        assert!(looks.look(8, at(0), at(5)) && !looks.are_enough());
        assert!(looks.look(10, at(6), at(7)) && !looks.are_enough());
        assert!(!looks.look(10, at(8), at(9)) && looks.are_enough());
        // What is missing is waited for as long as was asked for.
        let mut looks = Looks::new(Duration::from_secs(3), Some(10));
        looks.look(8, at(0), at(5));
        looks.look(8, at(6), at(20));
        assert!(!looks.are_enough());
        looks.look(8, at(21), at(22));
        assert!(looks.are_enough());
        // More than there should be comes to light as well.
        let mut looks = Looks::new(Duration::from_secs(3), Some(10));
        looks.look(10, at(0), at(0));
        assert!(looks.look(12, at(1), at(1)) && !looks.are_enough());
    }
}
