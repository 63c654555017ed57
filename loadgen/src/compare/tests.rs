use super::*;
use crate::record::tests::record;
use crate::record::{Better, Kind, Labels, Metric, Series};

fn with_rate(values: &[f64]) -> Record {
    let mut record = record();
    let metric = Metric::new("items_per_second", "1/s", Better::Higher);
    record
        .metrics
        .push(values.iter().fold(metric, |it, value| it.value(*value)));
    record
}

fn compare(first: &Record, second: &Record, metric: &str, max: Option<f64>) -> Comparison {
    Comparison::new(first, second, &[metric.to_owned()], max)
}

#[test]
fn repetitions_of_a_run_are_merged() {
    let merged = merged(vec![with_rate(&[1.0, 2.0]), with_rate(&[3.0])]).unwrap();
    let rates: Vec<_> = merged
        .metrics
        .iter()
        .filter(|it| it.name == "items_per_second")
        .collect();
    assert_eq!(rates.len(), 1);
    assert_eq!(rates[0].values, [1.0, 2.0, 3.0]);
}

#[test]
fn what_one_run_lacks_is_told() {
    let first = with_rate(&[1.0]);
    let mut second = record();
    let own = Labels::from([("process".to_owned(), "loadgen".to_owned())]);
    let rss = Metric::new("rss_max", "bytes", Better::Neither);
    second.metrics.push(rss.labels(&own).value(1.0));
    let of_all = Comparison::new(&first, &second, &[], Some(5.0));
    assert!(of_all.tells_of_what_was_measured());
    let shown = of_all.to_string();
    for line in [
        "only in the first run: items_per_second",
        "only in the second run: rss_max{process=\"loadgen\"}",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    second.metrics.retain(|it| it.name == "rss_max");
    let of_itself = Comparison::new(&second, &second, &[], Some(5.0));
    assert!(!of_itself.tells_of_what_was_measured());
}

#[test]
fn unlike_kinds_are_refused() {
    let first = record();
    let mut second = record();
    second.kind = Kind::Http;
    let error = ensure_alike(&first, &second).unwrap_err().to_string();
    assert!(
        error.contains("kind otlp") && error.contains("kind http"),
        "{error}"
    );
}

#[test]
fn a_regression_beyond_the_limit_is_told_and_chance_is_not() {
    let before = with_rate(&[100.0, 101.0, 99.0, 100.0]);
    let worse = with_rate(&[80.0, 81.0, 79.0, 80.0]);
    let noisy = with_rate(&[40.0, 140.0, 60.0, 80.0]);
    let check = |after: &Record, limit, crossed, text: &str| {
        let comparison = compare(&before, after, "items_per_second", Some(limit));
        assert_eq!(comparison.has_crossed(), crossed);
        let shown = comparison.to_string();
        assert!(shown.contains(text), "{shown}");
    };
    check(
        &worse,
        10.0,
        true,
        "REGRESSION  items_per_second by more than 10 %",
    );
    check(&worse, 30.0, false, "second is WORSE");
    check(&noisy, 10.0, false, "no difference shown");
    check(&before, 0.0, false, "equal");
}

#[test]
fn one_run_each_is_judged_by_histograms_and_seconds() {
    let rate = |shift: f64| {
        let mut record = with_rate(&[1000.0 + shift]);
        record.series.retain(|it| it.name != "items");
        let second = |it: u32| f64::from(it * 7919 % 100) - 49.5 + 1000.0 + shift;
        record.series.push(Series {
            name: "items".to_owned(),
            labels: Labels::new(),
            unit: "1/s".to_owned(),
            points: (0..60).map(|it| (f64::from(it), second(it))).collect(),
        });
        record
    };
    let (before, same, after) = (rate(0.0), rate(2.0), rate(100.0));
    let verdict = |other, metric| {
        let comparison = compare(&before, other, metric, None);
        serde_json::to_value(comparison.differences[0].verdict).unwrap()
    };
    assert_eq!(verdict(&same, "items_per_second"), "not_shown");
    assert_eq!(verdict(&after, "items_per_second"), "better");
    let mut slower = before.clone();
    let metric = slower
        .metrics
        .iter_mut()
        .find(|it| it.name == "latency_p50");
    metric.unwrap().values = vec![750.0];
    slower.distributions[0]
        .buckets
        .iter_mut()
        .for_each(|it| it.0 = it.0 * 3 / 2);
    assert_eq!(verdict(&slower, "latency_p50"), "worse");
    assert_eq!(
        verdict(&slower, "latency_p999"),
        "equal",
        "its figure was left"
    );
}

#[test]
fn slow_seconds_that_come_together_widen_the_intervals() {
    let wave = |record: &mut Record| {
        record.series.push(Series {
            name: "latency_p50".to_owned(),
            labels: Labels::new(),
            unit: "ms".to_owned(),
            points: (0..60_u32)
                .map(|it| (f64::from(it), if it / 15 % 2 == 0 { 300.0 } else { 700.0 }))
                .collect(),
        });
    };
    let (plain, mut first) = (record(), record());
    wave(&mut first);
    let width = |record: &Record| {
        let (from, to) = compare(record, record, "latency_p90", None).differences[0]
            .interval
            .unwrap();
        to - from
    };
    assert!(
        width(&first) > 3.0 * width(&plain),
        "{} {}",
        width(&first),
        width(&plain)
    );
}
