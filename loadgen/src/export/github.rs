//! What github-action-benchmark reads: an array of figures that all have to go one way.

use serde::Serialize;

use crate::record::figures::median;
use crate::record::{Better, Metric, Record, titled};

#[derive(Serialize)]
struct Figure {
    name: String,
    unit: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// The metrics that are to go the `better` way.
pub(super) fn render(records: &[Record], better: Better) -> anyhow::Result<String> {
    let figures = records.iter().flat_map(|record| {
        let metrics = record.metrics.iter().filter(|it| it.better == better);
        metrics.filter_map(|metric| figure(record, metric))
    });
    Ok(serde_json::to_string_pretty(&figures.collect::<Vec<_>>())? + "\n")
}

fn figure(record: &Record, metric: &Metric) -> Option<Figure> {
    let least = metric.values.iter().copied().reduce(f64::min)?;
    let greatest = metric.values.iter().copied().reduce(f64::max)?;
    let environment = &record.environment;
    Some(Figure {
        name: format!("{}: {}", record.name, titled(&metric.name, &metric.labels)),
        unit: metric.unit.clone(),
        value: median(&metric.values)?,
        range: (metric.values.len() > 1).then(|| format!("{least} to {greatest}")),
        extra: format!(
            "{} repetitions, {} ({} cores), run {}",
            metric.values.len(),
            environment.cpu,
            environment.cores,
            record.run_id
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_go_one_way() {
        let mut record = crate::record::tests::record();
        let rate = Metric::new("items_per_second", "1/s", Better::Higher);
        record.metrics.push(rate.value(10.0).value(12.0));
        let render = |better| -> serde_json::Value {
            serde_json::from_str(&render(std::slice::from_ref(&record), better).unwrap()).unwrap()
        };
        let higher = render(Better::Higher);
        assert_eq!(higher.as_array().unwrap().len(), 1);
        assert_eq!(higher[0]["name"], "127.0.0.1:4318: items_per_second");
        assert_eq!(
            (&higher[0]["value"], &higher[0]["range"]),
            (&11.0.into(), &"10 to 12".into())
        );
        assert_eq!(render(Better::Lower).as_array().unwrap().len(), 9);
    }
}
