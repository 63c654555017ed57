//! The agent's own account of items, read from its metrics: does it add up at every moment?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::watch;

use super::http::Http;

/// Scrapes come at random moments, this far apart at most.
const GAP_MS_MAX: u64 = 150;
/// Accounts that do not add up are kept as examples up to this number.
const EXAMPLES_MAX: usize = 5;

/// One exporter's account in one pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    pub(super) accepted: i64,
    pub(super) delivered: i64,
    pub(super) queued: i64,
    pub(super) dropped: i64,
}

impl Account {
    pub(super) fn is_balanced(&self) -> bool {
        self.accepted == self.delivered + self.queued + self.dropped && self.queued >= 0
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.queued += other.queued;
        self.dropped += other.dropped;
    }
}

/// All accounts of one scrape, by their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Ledger(pub(super) BTreeMap<String, Account>);

impl Ledger {
    /// Reads the metrics in the Prometheus text format.
    fn parse(text: &str) -> Self {
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        for line in text.lines() {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            let account = labels
                .iter()
                .filter(|label| !label.starts_with("reason="))
                .copied()
                .collect::<Vec<_>>()
                .join(",");
            let account = accounts.entry(account).or_default();
            match name {
                "accepted" => account.accepted += value,
                "delivered" => account.delivered += value,
                "queued" => account.queued += value,
                "dropped" => account.dropped += value,
                _ => {}
            }
        }
        Self(accounts)
    }

    /// Reads it from the agent.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub(super) async fn scrape(http: &Http, metrics: SocketAddr) -> anyhow::Result<Self> {
        let text = http.get(&format!("http://{metrics}/metrics")).await?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    pub(super) fn total(&self) -> Account {
        let mut total = Account::default();
        self.0.values().for_each(|account| total.add(account));
        total
    }
}

/// The ledger's `column`, its labels and the value of a line `tidegate_ledger_<column>_items{…} value`.
fn sample(line: &str) -> Option<(&str, Vec<&str>, i64)> {
    let rest = line.strip_prefix("tidegate_ledger_")?;
    let (name, rest) = rest.split_once("_items{")?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let value: f64 = value.trim().parse().ok()?;
    Some((name, labels.split(',').collect(), value as i64))
}

/// What scraping all the time has found.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Watched {
    pub(super) scrapes: u64,
    /// Scrapes in which an account did not add up.
    pub(super) unbalanced: u64,
    /// The first of these accounts.
    pub(super) examples: Vec<String>,
}

/// Scrapes at random moments until `stopped`.
pub(super) async fn watch(
    http: Http,
    metrics: SocketAddr,
    seed: u64,
    mut stopped: watch::Receiver<bool>,
) -> Watched {
    let mut random = StdRng::seed_from_u64(seed);
    let mut watched = Watched::default();
    loop {
        // An agent that is away has no ledger.
        if let Ok(ledger) = Ledger::scrape(&http, metrics).await {
            watched.see(&ledger);
        }
        let gap = Duration::from_millis(random.random_range(0..GAP_MS_MAX));
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return watched,
            () = tokio::time::sleep(gap) => {}
        }
    }
}

impl Watched {
    pub(super) fn see(&mut self, ledger: &Ledger) {
        self.scrapes += 1;
        let wrong = |(_, account): &(&String, &Account)| !account.is_balanced();
        if let Some((labels, account)) = ledger.0.iter().find(wrong) {
            self.unbalanced += 1;
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(format!(
                    "{labels}: accepted {} is not delivered {} + queued {} + dropped {}",
                    account.accepted, account.delivered, account.queued, account.dropped
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP tidegate_ledger_accepted_items Items.
tidegate_ledger_accepted_items{exporter=\"c\",otel_signal=\"logs\",pipeline=\"logs\"} 10
tidegate_ledger_delivered_items{exporter=\"c\",otel_signal=\"logs\",pipeline=\"logs\"} 4
tidegate_ledger_queued_items{exporter=\"c\",otel_signal=\"logs\",pipeline=\"logs\"} 3
tidegate_ledger_dropped_items{exporter=\"c\",otel_signal=\"logs\",pipeline=\"logs\",reason=\"a\"} 1
tidegate_ledger_dropped_items{exporter=\"c\",otel_signal=\"logs\",pipeline=\"logs\",reason=\"b\"} 2
tidegate_ledger_accepted_items{exporter=\"d\",otel_signal=\"logs\",pipeline=\"logs\"} 5
tidegate_held_bytes 7
";

    #[test]
    fn accounts_are_read_and_summed_over_reasons() {
        let ledger = Ledger::parse(TEXT);
        let accounts: Vec<_> = ledger.0.values().copied().collect();
        let whole = Account {
            accepted: 10,
            delivered: 4,
            queued: 3,
            dropped: 3,
        };
        let part = Account {
            accepted: 5,
            ..Account::default()
        };
        assert_eq!(accounts, [whole, part]);
        assert!(whole.is_balanced() && !part.is_balanced());
        assert_eq!(ledger.total().accepted, 15);
        let mut watched = Watched::default();
        watched.see(&ledger);
        assert_eq!((watched.scrapes, watched.unbalanced), (1, 1));
        assert!(watched.examples[0].contains("exporter=\"d\""));
    }
}
