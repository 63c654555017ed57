//! Variables of the OpenTelemetry SDK that its Rust version leaves to the program, or ignores in silence.

/// The samplers that the SDK makes by name.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Whether OTEL_SDK_DISABLED turns all telemetry off: only `true` does, in any case.
pub(super) fn sdk_is_disabled() -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Logs a warning for each variable whose value is not understood.
pub(super) fn warn_of_what_is_ignored() {
    let sampler = variable("OTEL_TRACES_SAMPLER");
    let argument = variable("OTEL_TRACES_SAMPLER_ARG");
    let temporality = variable("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
    let sampling = problems(sampler.as_deref(), argument.as_deref());
    for problem in sampling
        .into_iter()
        .chain(temporality_problem(temporality.as_deref()))
    {
        tracing::warn!("{problem}");
    }
}

fn problems(sampler: Option<&str>, argument: Option<&str>) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(name) = sampler.filter(|name| !SAMPLERS.contains(name)) {
        problems.push(format!(
            "OTEL_TRACES_SAMPLER=`{name}` is ignored, every trace is sampled: use one of {}",
            SAMPLERS.join(", ")
        ));
    }
    let ratio = sampler.is_some_and(|name| name.ends_with("traceidratio"));
    let share = |text: &str| {
        text.parse::<f64>()
            .is_ok_and(|share| (0.0..=1.0).contains(&share))
    };
    if let Some(argument) = argument.filter(|argument| ratio && !share(argument)) {
        problems.push(format!(
            "OTEL_TRACES_SAMPLER_ARG=`{argument}` is ignored, every trace is sampled: write a number from 0 to 1"
        ));
    }
    problems
}

fn temporality_problem(preference: Option<&str>) -> Option<String> {
    let other = preference.filter(|it| !it.eq_ignore_ascii_case("cumulative"))?;
    Some(format!(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=`{other}` is ignored, metrics are cumulative"
    ))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_sdk_ignores_are_told() {
        let check = |sampler, argument, expected: usize| {
            let problems = problems(sampler, argument);
            assert_eq!(
                problems.len(),
                expected,
                "{sampler:?} {argument:?}: {problems:?}"
            );
        };
        check(None, None, 0);
        check(None, Some("x"), 0);
        check(Some("always_on"), Some("x"), 0);
        check(Some("parentbased_traceidratio"), Some("0.5"), 0);
        check(Some("traceidratio"), None, 0);
        check(Some("nope"), None, 1);
        check(Some("traceidratio"), Some("2"), 1);
        check(Some("traceidratio"), Some("half"), 1);
        assert!(temporality_problem(Some("delta")).is_some());
        assert!(temporality_problem(Some("Cumulative")).is_none());
        assert!(temporality_problem(None).is_none());
    }
}
