//! Whole plans against stand-ins, on paused time.

use super::*;
use crate::http::journey::Outgoing;
use crate::http::record;
use crate::http::scenario::{Source, read};
use crate::http::worker::{Answer, Failure};
use crate::record::Start;

/// Takes 10 ms; fails from the second second on.
#[derive(Clone)]
struct Failing(Instant);

impl Executor for Failing {
    async fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn execute(&mut self, _: &Outgoing) -> Result<Answer, Failure> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let status = if self.0.elapsed() < Duration::from_secs(2) {
            200
        } else {
            503
        };
        Ok(Answer {
            status,
            ..Answer::default()
        })
    }

    fn abandon(&mut self) {}
}

const CLOSED: &str = "executor = 'closed'\nduration = '60s'";

fn plan(executor: &str, thresholds: &str) -> Plan {
    let text = format!(
        "target = 'http://h'\n[[scenario]]\nname = 'a'\n{executor}\nworkers = 2\n\
         [[scenario.request]]\nname = 'x'\npath = '/'\nchecks = {{ status = 200 }}\n[thresholds]\n{thresholds}"
    );
    let source = Source {
        path: "s.toml".into(),
        text,
        settings: Vec::new(),
    };
    read(&source, None).unwrap()
}

async fn run_plan(thresholds: &str) -> Round {
    run_executor(CLOSED, thresholds).await.round
}

async fn run_executor(executor: &str, thresholds: &str) -> Results {
    let plan = plan(executor, thresholds);
    let stop = Stop(Arc::new(watch::channel(false).0));
    let service = Failing(Instant::now());
    let results = run(&plan, View::default(), &stop, move |_, _| service.clone()).await;
    results.unwrap()
}

#[tokio::test(start_paused = true)]
async fn thresholds_are_held_against_the_whole_run() {
    let limits = "limits = ['error_rate < 1%', 'latency_max{endpoint=x} < 50ms', 'checks > 99%', 'requests > 100']";
    let round = run_plan(limits).await;
    let passed: Vec<_> = round.thresholds.iter().map(|it| it.passed).collect();
    assert_eq!(passed, [false, true, false, true]);
    assert!(!round.held() && round.aborted.is_none() && !round.interrupted);
    // 2 of 60 seconds were good.
    let errors = round.thresholds[0].value.unwrap();
    assert!((errors - 58.0 / 60.0).abs() < 0.01, "{errors}");
}

#[tokio::test(start_paused = true)]
async fn a_threshold_ends_the_run_early_but_not_before_its_delay() {
    let round = run_plan("limits = ['error_rate < 1%']\nabort_on_fail = true").await;
    assert_eq!(round.aborted.as_deref(), Some("error_rate < 1%"));
    assert!(
        round.usage.wall < Duration::from_secs(5),
        "{:?}",
        round.usage.wall
    );

    let delayed =
        run_plan("limits = ['error_rate < 1%']\nabort_on_fail = true\ndelay_abort = '30s'").await;
    let wall = delayed.usage.wall.as_secs();
    assert!((29..=32).contains(&wall), "{wall}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_short_has_no_verdict_unless_a_limit_was_crossed() {
    for (limit, crossed) in [("error_rate < 100%", false), ("error_rate < 1%", true)] {
        let plan = plan(CLOSED, &format!("limits = ['{limit}']"));
        let stop = Stop(Arc::new(watch::channel(false).0));
        let service = Failing(Instant::now());
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stopper.0.send_replace(true);
        });
        let results = run(&plan, View::default(), &stop, move |_, _| service.clone()).await;
        let round = results.unwrap().round;
        let expected = match crossed {
            true => Verdict::Failed,
            false => Verdict::None(CUT_SHORT.to_owned()),
        };
        assert_eq!(round.verdict(), expected, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_measured_does_not_hold() {
    let round = run_plan("limits = ['recovery < 1s']").await;
    assert!(!round.thresholds[0].passed && round.thresholds[0].value.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_explained_by_what_happened() {
    let round = run_plan("limits = ['error_rate < 100%']").await;
    let search = None;
    let mut results = Results { round, search };
    results.round.finished[0].outcome.unsent = 5;
    let told = |results: &Results| crate::http::summary::notes(results).join("\n");
    let said = told(&results);
    assert!(said.contains("never sent: all 2 workers waited"), "{said}");
    results.round.interrupted = true;
    let said = told(&results);
    let expected = "never sent: they waited for a worker when the run was cut off";
    assert!(said.contains(expected), "{said}");
}

/// Suites may ask for every figure of the record.
async fn knows_all_figures(executor: &str, is_open_loop: bool) {
    let results = run_executor(executor, "limits = ['requests > 1']").await;
    let source = Source {
        path: "s.toml".into(),
        text: String::new(),
        settings: Vec::new(),
    };
    let record = record::of_plan("plan", &source, &Start::now(), &results);
    let known = record::figures(is_open_loop);
    for metric in record.metrics {
        assert!(known.contains(&metric.name), "{executor}: {}", metric.name);
    }
}

#[tokio::test(start_paused = true)]
async fn all_figures_of_a_closed_loop_are_known() {
    knows_all_figures(CLOSED, false).await;
}

/// The pacer of an open loop has a thread and a clock of its own, so that no time is skipped here.
#[tokio::test]
async fn all_figures_of_an_open_loop_are_known() {
    let executor = "executor = 'constant_rate'\nrate = 20\nduration = '200ms'";
    knows_all_figures(executor, true).await;
}
