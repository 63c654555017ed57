//! Figures that one run has, and of which the other says that nobody knows them.

use serde::Serialize;

use crate::record::{Better, Labels, Record, titled};

/// A figure of the first run that may be anything in the second.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unknown {
    metric: String,
    labels: Labels,
    why: String,
}

impl Unknown {
    pub(crate) fn title(&self) -> String {
        titled(&self.metric, &self.labels)
    }

    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

/// Of the metrics that have a direction; of those with these names if there are any. Each once, however many repetitions
/// do not know it.
pub(super) fn figures(first: &Record, second: &Record, names: &[String]) -> Vec<Unknown> {
    let wanted = first.metrics.iter().filter(|it| {
        it.better != Better::Neither && (names.is_empty() || names.contains(&it.name))
    });
    let found = wanted.filter_map(|metric| {
        let field = metric.name.strip_prefix("items_")?;
        let mut ledgers = second.ledgers.iter();
        let ledger =
            ledgers.find(|it| it.labels == metric.labels && it.items.get(field) == Some(&None))?;
        Some(Unknown {
            metric: metric.name.clone(),
            labels: metric.labels.clone(),
            why: ledger.unknown.join("; "),
        })
    });
    found.collect()
}
