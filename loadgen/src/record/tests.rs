use std::time::Duration;

use super::*;

pub(crate) fn record() -> Record {
    let mut record = Record::new(Kind::Otlp, "127.0.0.1:4318", &Start::now());
    let mut latencies = Latencies::new();
    for millis in 1..=1000 {
        latencies.record(Duration::from_millis(millis));
    }
    record.add_latencies("latency", &Labels::new(), &latencies);
    let labels = Labels::from([("status".to_owned(), "503, \"busy\"".to_owned())]);
    let refused = Metric::new("items_refused", "", Better::Lower);
    record.metrics.push(refused.labels(&labels).value(7.0));
    record.series.push(Series {
        name: "items".to_owned(),
        labels: Labels::new(),
        unit: "1/s".to_owned(),
        points: vec![(1.0, 10.0), (2.0, 12.5)],
    });
    record
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let mut record = record();
    // JSON's reader may differ from the writer in the last bit of a number.
    (record.seconds, record.metrics[0].values) = (2.5, vec![500.5]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let output = Output {
        record: Some(path.clone()),
        ..Output::default()
    };
    output.write(&record).unwrap();
    assert!(Record::read(&path).unwrap() == record);
}

#[test]
fn where_nothing_can_be_written_is_told_before_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let output = |path: &Path| Output {
        html: Some(path.to_owned()),
        ..Output::default()
    };
    let old = dir.path().join("old.html");
    std::fs::write(&old, "old").unwrap();
    output(&old).check().unwrap();
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "old");
    let new = dir.path().join("new.html");
    output(&new).check().unwrap();
    assert!(!new.exists());
    for wrong in [dir.path().to_owned(), dir.path().join("none/new.html")] {
        let error = output(&wrong).check().unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}", wrong.display()));
    }
}

#[test]
fn a_verdict_is_one_of_four() {
    let mut record = record();
    assert_eq!(record.verdict(), "passed");
    record.passed = false;
    assert_eq!(record.verdict(), "failed");
    record.no_verdict = Some("the machine was busy".to_owned());
    assert_eq!(record.verdict(), "no verdict");
    record.interrupted = true;
    assert_eq!(record.verdict(), "interrupted");
}

#[test]
fn what_is_no_record_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = Record::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("{}", "schema");
    check("{\"schema\": 2}", "reads 1");
    check("{\"schema\": 1}", "run_id");
    check("[", "EOF");
}

#[test]
fn csv_has_a_line_for_each_value_and_point() {
    let csv = record().csv();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 8 + 1 + 2, "{csv}");
    assert!(
        lines[9].ends_with(",metric,items_refused,\"status=503, \"\"busy\"\"\",,1,,7"),
        "{csv}"
    );
    assert!(lines[11].ends_with(",series,items,,1/s,,2,12.5"), "{csv}");
}

#[test]
fn what_is_no_number_is_left_out() {
    let metric = Metric::new("share", "", Better::Neither)
        .value(f64::NAN)
        .value(1.0);
    assert_eq!(metric.values, [1.0]);
}

#[test]
fn repetitions_are_taken_in() {
    let (mut one, mut two) = (record(), record());
    two.series[0].points = vec![(3.0, 1.0)];
    two.metrics
        .push(Metric::new("new", "", Better::Lower).value(1.0));
    two.passed = false;
    one.absorb(two);
    assert_eq!(one.metrics[0].values.len(), 2);
    assert_eq!(one.metrics.last().unwrap().name, "new");
    assert_eq!(
        (one.distributions.len(), one.distributions[0].count()),
        (1, 2000)
    );
    assert_eq!(one.series[0].points.len(), 3);
    assert!(!one.passed);
}
