//! What else differs between two runs than their figures: machine, inputs, disturbance.

use crate::record::{Input, Metric, Record, titled};
use crate::text::bytes;

/// Lines of difference shown of one input.
const LINES_MAX: usize = 20;
/// CPU that others may steal, as a share of all there was, before it is worth a word.
const STOLEN_MAX: f64 = 0.02;
/// Percent of the machine's CPU by which the use by others may differ before it is worth a word.
const COMPANY_MAX: f64 = 10.0;
/// Percent of the machine's CPU that others, the service among them, may use before they wait for each other.
const FULL: f64 = 85.0;
/// Options that say where results go, and so nothing about the run.
const PLACES: [&str; 9] = [
    "--record",
    "--html",
    "--csv",
    "--json",
    "--save",
    "--clickhouse",
    "--database",
    "--user",
    "--password",
];

/// Lines for the reader; none if everything was the same.
pub(super) fn differences(first: &Record, second: &Record) -> Vec<String> {
    let mut lines = environment(first, second);
    lines.extend(disturbances("first", first));
    lines.extend(disturbances("second", second));
    lines.extend(company(first, second));
    lines.extend(inputs(first, second));
    let mut seen = std::collections::BTreeSet::new();
    lines.retain(|line| line.starts_with(' ') || seen.insert(line.clone()));
    lines
}

/// Metrics that are in one of the runs only: nothing can be said of them.
pub(super) fn missing(first: &Record, second: &Record, names: &[String]) -> Vec<String> {
    let only_in = |which: &str, one: &Record, other: &Record| {
        let is_there = |metric: &Metric| {
            let mut others = other.metrics.iter();
            others.any(|it| it.name == metric.name && it.labels == metric.labels)
        };
        let wanted = one
            .metrics
            .iter()
            .filter(|it| names.is_empty() || names.contains(&it.name));
        let alone: Vec<_> = wanted.filter(|it| !is_there(it)).collect();
        let example = alone.first()?;
        let title = titled(&example.name, &example.labels);
        let more = match alone.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!("only in the {which} run: {title}{more}"))
    };
    let lines = [
        only_in("first", first, second),
        only_in("second", second, first),
    ];
    lines.into_iter().flatten().collect()
}

/// How much of the machine others used, if that was not the same or was nearly all of it.
fn company(first: &Record, second: &Record) -> Option<String> {
    let share = |record: &Record| {
        let used = record.environment.disturbed?.others_cpu_seconds;
        Some(used / (record.seconds * record.environment.cores as f64) * 100.0)
    };
    let (one, two) = (share(first)?, share(second)?);
    let used = format!(
        "other processes used {one:.0} % of the CPU during the first run, {two:.0} % during the second"
    );
    if one.max(two) > FULL {
        return Some(format!(
            "{used}: the machine was full, and what differs may be its doing"
        ));
    }
    ((one - two).abs() > COMPANY_MAX).then_some(used)
}

fn environment(first: &Record, second: &Record) -> Vec<String> {
    let facts = |record: &Record| {
        let it = &record.environment;
        [
            ("host", it.host.clone()),
            ("CPU", it.cpu.clone()),
            ("cores", it.cores.to_string()),
            ("memory", bytes(it.memory_bytes)),
            ("kernel", it.kernel.clone()),
            ("loadgen", it.loadgen.clone()),
        ]
    };
    let pairs = facts(first).into_iter().zip(facts(second));
    let differing = pairs.filter(|(one, two)| one != two);
    differing
        .map(|((name, one), (_, two))| format!("environment differs, {name}: {one} / {two}"))
        .collect()
}

/// What happened to one of the runs that makes its figures doubtful.
fn disturbances(which: &str, record: &Record) -> Vec<String> {
    let mut lines: Vec<_> = record
        .notes
        .iter()
        .map(|note| format!("{which} run: {note}"))
        .collect();
    if record.interrupted {
        lines.push(format!("{which} run: it was interrupted"));
    }
    if let Some(disturbed) = record.environment.disturbed {
        let share = disturbed.stolen_seconds / (record.seconds * record.environment.cores as f64);
        if share > STOLEN_MAX {
            lines.push(format!(
                "{which} run: {:.0} % of the CPU was taken by other machines",
                share * 100.0
            ));
        }
    }
    lines
}

fn inputs(first: &Record, second: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for input in &first.inputs {
        let mut others = second.inputs.iter();
        match others.find(|other| other.name == input.name) {
            Some(other) => lines.extend(changed(input, other)),
            None => lines.push(format!("input {}: only in the first", input.name)),
        }
    }
    let is_new = |input: &&Input| !first.inputs.iter().any(|other| other.name == input.name);
    for input in second.inputs.iter().filter(is_new) {
        lines.push(format!("input {}: only in the second", input.name));
    }
    lines
}

/// The lines that only one of them has. Which line became which is left to the reader.
fn changed(first: &Input, second: &Input) -> Vec<String> {
    let (one, two) = (parts(first), parts(second));
    let gone = only_in(&one, &two)
        .into_iter()
        .map(|it| format!("  - {it}"));
    let new = only_in(&two, &one)
        .into_iter()
        .map(|it| format!("  + {it}"));
    let mut lines: Vec<_> = gone.chain(new).collect();
    if lines.is_empty() {
        return lines;
    }
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(format!("  … and {more} more lines"));
    }
    lines.insert(0, format!("input {} differs:", first.name));
    lines
}

/// Lines of a text; options of a command line, each with its value.
fn parts(input: &Input) -> Vec<String> {
    if input.name != Input::COMMAND_LINE {
        return input.text.lines().map(str::to_owned).collect();
    }
    let mut parts: Vec<String> = Vec::new();
    for word in input.text.split_ascii_whitespace() {
        let follows_option = parts
            .last()
            .is_some_and(|it| it.starts_with('-') && !it.contains([' ', '=']));
        match parts.last_mut() {
            Some(option) if follows_option && !word.starts_with('-') => {
                option.push(' ');
                option.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    let is_place = |part: &String| {
        let name = part.split([' ', '=']).next().unwrap_or_default();
        PLACES.contains(&name)
    };
    parts.retain(|part| !is_place(part));
    parts
}

fn only_in<'a>(one: &'a [String], two: &[String]) -> Vec<&'a String> {
    let mut left: Vec<_> = two.iter().collect();
    let missing = one.iter().filter(|line| {
        let place = left.iter().position(|other| other == line);
        place.map(|place| left.swap_remove(place)).is_none()
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Disturbance;

    #[test]
    fn changed_lines_are_shown() {
        let input = |text: &str| Input::new("agent.toml", text);
        let changed = changed(&input("a = 1\nb = 2\nb = 2"), &input("b = 2\na = 3"));
        assert_eq!(
            changed,
            [
                "input agent.toml differs:",
                "  - a = 1",
                "  - b = 2",
                "  + a = 3"
            ]
        );
    }

    #[test]
    fn where_results_go_is_no_difference() {
        let input = |text: &str| Input {
            name: Input::COMMAND_LINE.to_owned(),
            text: text.to_owned(),
        };
        let one = input("loadgen otlp a:1 -r 100 --record one.json --save");
        let two = input("loadgen otlp a:1 --record two.json --save -r 200");
        assert_eq!(
            changed(&one, &two),
            ["input command line differs:", "  - -r 100", "  + -r 200"]
        );
    }

    #[test]
    fn other_machines_and_disturbances_are_told() {
        let mut first = crate::record::tests::record();
        // Of this test's machine.
        first.environment.disturbed = None;
        let mut second = first.clone();
        assert_eq!(differences(&first, &second), Vec::<String>::new());
        second.environment.kernel = "7.0".to_owned();
        second.notes.push("slow".to_owned());
        let lines = differences(&first, &second);
        assert!(
            lines[0].starts_with("environment differs, kernel: "),
            "{lines:?}"
        );
        assert_eq!(lines[1], "second run: slow");
    }

    #[test]
    fn a_machine_that_was_full_is_told_also_if_it_was_in_both() {
        let with_others = |percent: f64| {
            let mut record = crate::record::tests::record();
            record.seconds = 10.0;
            record.environment.disturbed = Some(Disturbance {
                stolen_seconds: 0.0,
                others_cpu_seconds: percent / 10.0 * record.environment.cores as f64,
            });
            record
        };
        let check = |one: f64, two: f64, expected: Option<&str>| {
            let told = company(&with_others(one), &with_others(two));
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(
                told.unwrap_or_default()
                    .ends_with(expected.unwrap_or_default())
            );
        };
        check(50.0, 55.0, None);
        check(50.0, 65.0, Some("65 % during the second"));
        check(
            95.0,
            96.0,
            Some("the machine was full, and what differs may be its doing"),
        );
    }
}
