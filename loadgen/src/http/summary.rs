//! The result of a scenario file, for people.

use std::fmt::Write as _;

use super::drive::{CUT_SHORT, Finished, Results, Round};
use super::scenario::Plan;
use super::tally::Tally;
use super::value::share;
use crate::record::figures::number;
use crate::record::{Trial, TrialResult};
use crate::text::{Table, grouped};

pub(crate) fn render(plan: &Plan, results: &Results) -> String {
    let round = &results.round;
    let mut text = format!(
        "{} against {}, {}\n",
        plan.name,
        plan.target,
        plan.protocol.name()
    );
    for finished in &round.finished {
        text.push('\n');
        text.push_str(&scenario(finished));
    }
    text.push_str(&checks(round));
    text.push_str(&trials(results));
    text.push_str(&thresholds(round));
    line(&mut text, &format!("\n{}", round.usage.shown()));
    for note in notes(results) {
        line(&mut text, &format!("note: {note}"));
    }
    line(&mut text, &round.verdict().shown());
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes any text");
}

/// What a reader must know.
pub(crate) fn notes(results: &Results) -> Vec<String> {
    let round = &results.round;
    let mut notes = Vec::new();
    if let Some(why) = &round.bottleneck {
        notes.push(format!("{why}; the service may do better than this shows"));
    }
    match &round.aborted {
        Some(threshold) => notes.push(format!("ended early by the threshold `{threshold}`")),
        None if round.interrupted => notes.push(CUT_SHORT.to_owned()),
        None => {}
    }
    for it in &round.finished {
        let total = &it.outcome.total;
        if total.requests == total.errors {
            notes.push(format!("`{}`: no request succeeded", it.name));
        }
        if it.outcome.unsent > 0 {
            let (unsent, workers) = (grouped(it.outcome.unsent), it.load.workers);
            let why = match round.was_cut_short() || round.aborted.is_some() {
                true => "they waited for a worker when the run was cut off".to_owned(),
                false => format!("all {workers} workers waited for answers"),
            };
            notes.push(format!(
                "`{}`: {unsent} were due and never sent: {why}",
                it.name
            ));
        }
        if it.recovery.is_some_and(|it| it.took.is_none()) {
            notes.push(format!(
                "`{}`: the service was not steady again before the end",
                it.name
            ));
        }
    }
    notes
}

fn scenario(it: &Finished) -> String {
    let (total, outcome) = (&it.outcome.total, &it.outcome);
    let seconds = outcome.measured.as_secs_f64().max(1e-9);
    let mut table = Table::new(&[&it.name, it.executor]);
    let mut push = |name: &str, value: String| table.push(vec![name.to_owned(), value]);
    push(
        "measured",
        format!("{seconds:.2} s, {} workers", it.load.workers),
    );
    push(
        "requests",
        format!(
            "{}, {:.1}/s, {} failed ({})",
            grouped(total.requests),
            total.requests as f64 / seconds,
            grouped(total.errors),
            percent(share(total.errors, total.requests))
        ),
    );
    if let Some(lateness) = &outcome.lateness {
        let due = outcome.unsent + total.originals;
        let dropped = percent(share(outcome.unsent, due));
        push(
            "dropped",
            format!("{} ({dropped})", grouped(outcome.unsent)),
        );
        push(
            "late",
            format!(
                "{} sent over 5 ms after due; the generator itself {:.2} ms (p99)",
                grouped(total.late),
                lateness.summary().p99
            ),
        );
    }
    if total.abandoned > 0 {
        push(
            "abandoned",
            format!("{} in flight at the end", grouped(total.abandoned)),
        );
    }
    if it.work.journey.retry.is_some() || it.recovery.is_some() {
        storm(it, seconds, &mut push);
    }
    let statuses: Vec<_> = total
        .statuses
        .iter()
        .map(|(it, count)| format!("{it}: {}", grouped(*count)))
        .collect();
    push(
        "statuses",
        if statuses.is_empty() {
            "none".to_owned()
        } else {
            statuses.join("  ")
        },
    );
    let mut text = table.render();
    for (kind, failure) in &total.failures {
        line(
            &mut text,
            &format!(
                "  {}: {}, first: {}",
                kind.name(),
                grouped(failure.count),
                failure.example
            ),
        );
    }
    text.push_str(&endpoints(it));
    text
}

fn storm(it: &Finished, seconds: f64, push: &mut impl FnMut(&str, String)) {
    let total = &it.outcome.total;
    let amplification = share(total.requests, total.originals).unwrap_or(0.0);
    push(
        "originals",
        format!(
            "{}, {} succeeded in the end",
            grouped(total.originals),
            grouped(total.succeeded)
        ),
    );
    push(
        "amplification",
        format!("{} requests for each", number(amplification)),
    );
    push(
        "goodput",
        format!("{:.1}/s", total.succeeded as f64 / seconds),
    );
    if let Some(recovery) = it.recovery {
        let took = match recovery.took {
            Some(took) => format!("{:.1} s", took.as_secs_f64()),
            None => "not before the end".to_owned(),
        };
        push(
            "recovery",
            format!(
                "{took} after the service was back at {:.1} s",
                recovery.back.as_secs_f64()
            ),
        );
    }
}

fn endpoints(it: &Finished) -> String {
    let mut table = Table::new(&[
        "endpoint",
        "requests",
        "failed",
        "avg ms",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "service p99",
    ]);
    let mut push = |name: &str, tally: &Tally| {
        let service = tally.service.summary();
        let latency = tally.corrected.as_ref().map_or(service, |it| it.summary());
        let figures = [
            latency.avg,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
            service.p99,
        ];
        let mut row = vec![
            name.to_owned(),
            tally.requests.to_string(),
            tally.errors.to_string(),
        ];
        row.extend(figures.iter().map(|it| format!("{it:.3}")));
        table.push(row);
    };
    for (label, tally) in it.labels.iter().zip(&it.outcome.endpoints) {
        push(label, tally);
    }
    if it.labels.len() > 1 {
        push("all", &it.outcome.total);
    }
    table.render()
}

fn checks(round: &Round) -> String {
    let mut table = Table::new(&["check", "held", "failed", "first failure"]);
    let mut any = false;
    for it in &round.finished {
        for (label, tally) in it.labels.iter().zip(&it.outcome.endpoints) {
            for (name, count) in &tally.checks {
                any = true;
                table.push(vec![
                    format!("{label}: {name}"),
                    count.passed.to_string(),
                    count.failed.to_string(),
                    count.example.clone().unwrap_or_default(),
                ]);
            }
        }
    }
    if any {
        format!("\n{}", table.render())
    } else {
        String::new()
    }
}

fn trials(results: &Results) -> String {
    let Some((search, trials)) = &results.search else {
        return String::new();
    };
    let mut table = Table::new(&["rate tried", "result", "why"]);
    for trial in trials {
        table.push(vec![
            format!("{:.1}", trial.rate),
            trial.result.name().to_owned(),
            trial.why.clone(),
        ]);
    }
    let highest = match search.highest() {
        Some(rate) => format!("highest rate that kept the thresholds: {rate:.1}/s"),
        None => no_rate(trials).to_owned(),
    };
    format!("\n{}{highest}\n", table.render())
}

/// Why no rate was found.
fn no_rate(trials: &[Trial]) -> &'static str {
    match trials.iter().any(|it| it.result == TrialResult::Crossed) {
        true => "not even the lowest rate kept the thresholds",
        false => "no rate was judged: the search was cut off, or the generator was the bottleneck",
    }
}

fn thresholds(round: &Round) -> String {
    if round.thresholds.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["threshold", "measured", ""]);
    for result in &round.thresholds {
        let passed = if result.passed { "held" } else { "CROSSED" };
        table.push(vec![
            result.expression.clone(),
            result.measured(),
            passed.to_owned(),
        ]);
    }
    format!("\n{}", table.render())
}

fn percent(share: Option<f64>) -> String {
    format!("{:.2} %", share.unwrap_or(0.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_no_rate_was_found_is_what_trials_say() {
        let check = |result, expected: &str| {
            let trial = Trial {
                rate: 5.0,
                result,
                why: String::new(),
            };
            let told = no_rate(&[trial]);
            assert!(told.contains(expected), "{told}");
        };
        check(TrialResult::Crossed, "not even the lowest rate");
        check(TrialResult::NoVerdict, "no rate was judged");
    }
}
