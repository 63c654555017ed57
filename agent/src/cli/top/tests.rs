//! Tests of `tidegate top`.

use std::collections::BTreeMap;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::screen::State;
use super::table::{Order, Wish, lines};
use super::view::View;
use crate::overview::{
    Agent, Document, Exporter, Flow, MemoryLimit, Pipeline, Processor, Queue, Receiver, Reload,
};

/// What an agent says `seconds` after it has started, at 1,000 items a second.
fn document(seconds: u64) -> Document {
    let items = seconds * 1000;
    Document {
        version: 1,
        agent: Agent {
            version: "1.2.3".to_owned(),
            pid: 7,
            phase: "ready".to_owned(),
            uptime_seconds: seconds as f64,
            cpu_seconds: seconds as f64 / 4.0,
            resident_bytes: 50 << 20,
            ..Agent::default()
        },
        reload: Reload {
            refused: 1,
            last_outcome: Some("refused".to_owned()),
            last_at: Some("2026-01-02T03:04:05.67Z".to_owned()),
            problems: vec!["a.toml:1:1: error: x: unknown key".to_owned()],
            ..Reload::default()
        },
        pipelines: vec![Pipeline {
            id: "logs/audit".to_owned(),
            signal: "logs".to_owned(),
            exporters: vec!["clickhouse".to_owned()],
            flows: vec![
                Flow {
                    exporter: "clickhouse".to_owned(),
                    accepted: items,
                    delivered: items / 2,
                    queued: items / 4,
                    dropped: BTreeMap::from([("filtered".to_owned(), items / 4)]),
                },
                Flow {
                    exporter: "debug".to_owned(),
                    accepted: 10,
                    delivered: 10,
                    ..Flow::default()
                },
            ],
            ..Pipeline::default()
        }],
        receivers: vec![receiver(items)],
        processors: vec![Processor {
            id: "memory_limiter".to_owned(),
            signal: "logs".to_owned(),
            memory_limit: Some(MemoryLimit {
                refuses_above_bytes: 100 << 20,
            }),
            ..Processor::default()
        }],
        exporters: vec![Exporter {
            id: "clickhouse".to_owned(),
            signal: "logs".to_owned(),
            sent: items / 2,
            retries: 3,
            queue: Queue {
                unit: "bytes".to_owned(),
                size: 3 << 20,
                capacity: 1 << 30,
                oldest_age_seconds: Some(75),
                ..Queue::default()
            },
            ..Exporter::default()
        }],
    }
}

fn receiver(items: u64) -> Receiver {
    Receiver {
        id: "otlp".to_owned(),
        transport: "grpc".to_owned(),
        signal: "logs".to_owned(),
        accepted: items,
        accepted_bytes: items * 512,
        ..Receiver::default()
    }
}

fn view() -> View {
    View::of(&document(12), Some(&document(10)))
}

fn shown(wish: &Wish) -> String {
    let lines = lines(&view(), wish);
    let lines = lines.iter().map(|line| line.text().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_table_has_rates_and_totals() {
    let expected = "\
tidegate 1.2.3  pid 7  ready  up 12s  cpu 25.0 %  resident 50.0 MiB  held 0 B  tasks 0
memory  memory_limiter: 50.0 MiB of 100 MiB, 50 %
reload  refused 2026-01-02T03:04:05Z  (0 taken, 0 unchanged, 1 refused)
        a.toml:1:1: error: x: unknown key

RECEIVERS
receiver   signal   in/s  bytes/s  refused/s  accepted  refused  failed
otlp grpc  logs    1.00k  500 KiB          0     12.0k        0       0

PIPELINES
pipeline > exporter          signal   in/s  out/s  accepted  delivered  queued         dropped
logs/audit > clickhouse      logs    1.00k    500     12.0k      6.00k   3.00k  filtered 3.00k
logs/audit > debug (before)  logs        0      0        10         10       0               0

PROCESSORS
processor       signal  in/s  out/s  refused  rejected
memory_limiter  logs       0      0        0         0

EXPORTERS
exporter    signal  sent/s  bytes/s  waiting                 queue  oldest  sending  retries  failed  letters
clickhouse  logs       500      0 B        0  3.00 MiB of 1.00 GiB   1m15s        0        3       0        0";
    assert_eq!(shown(&Wish::default()), expected);
}

#[test]
fn rows_are_filtered_and_sorted() {
    let wish = Wish {
        filter: "debug".to_owned(),
        ..Wish::default()
    };
    let text = shown(&wish);
    assert!(
        text.contains("debug (before)") && !text.contains("otlp grpc"),
        "{text}"
    );
    let place = |order| {
        let text = shown(&Wish {
            order,
            ..Wish::default()
        });
        text.find("> debug").unwrap() < text.find("> clickhouse").unwrap()
    };
    assert!(!place(Order::Name) && !place(Order::Trouble) && !place(Order::Rate));
}

#[test]
fn figures_of_another_process_make_no_rates() {
    let mut before = document(10);
    before.agent.pid = 8;
    for view in [
        View::of(&document(12), None),
        View::of(&document(12), Some(&before)),
    ] {
        assert!(view.agent.cpu_percent.is_none());
        assert!(
            view.exporters
                .iter()
                .all(|row| row.sent_per_second.is_none())
        );
    }
    let json = serde_json::to_value(view()).unwrap();
    assert_eq!(json["exporters"][0]["sent_per_second"], 500.0);
    assert_eq!(json["agent"]["pid"], 7);
    assert_eq!(json["pipelines"][0]["dropped"]["filtered"], 3000);
}

fn state() -> State {
    let mut state = State::new("127.0.0.1:1".to_owned(), Duration::from_secs(1));
    state.take(Ok(document(10)));
    state.take(Ok(document(12)));
    state
}

fn text(state: &mut State, height: usize) -> String {
    let lines = state.fit(height);
    assert_eq!(lines.len(), height);
    let lines: Vec<_> = lines.iter().map(|line| line.text()).collect();
    lines.join("\n")
}

fn press(state: &mut State, keys: &[KeyCode]) -> bool {
    let pressed = keys
        .iter()
        .map(|key| state.press(KeyEvent::new(*key, KeyModifiers::NONE)));
    pressed.last().unwrap()
}

#[test]
fn keys_sort_filter_pause_scroll_and_leave() {
    let mut state = state();
    assert!(text(&mut state, 30).contains("s sort: configuration"));
    press(&mut state, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert!(text(&mut state, 30).contains("s sort: rate"));
    let typed = "/qs".chars().map(KeyCode::Char);
    press(&mut state, &typed.collect::<Vec<_>>());
    assert!(text(&mut state, 30).contains("/qs_"));
    assert!(!press(
        &mut state,
        &[
            KeyCode::Backspace,
            KeyCode::Backspace,
            KeyCode::Char('o'),
            KeyCode::Enter
        ]
    ));
    assert!(text(&mut state, 30).contains("/ filter: o"));
    assert!(
        !press(&mut state, &[KeyCode::Esc]),
        "drops the filter first"
    );
    press(&mut state, &[KeyCode::Char('p')]);
    state.take(Ok(document(100)));
    let paused = text(&mut state, 30);
    assert!(
        paused.contains("up 12s") && paused.contains("PAUSED"),
        "{paused}"
    );
    press(&mut state, &[KeyCode::Char('p')]);
    state.take(Ok(document(101)));
    assert!(text(&mut state, 30).contains("up 1m41s"));
    press(&mut state, &[KeyCode::End]);
    let end = text(&mut state, 6);
    assert!(
        end.contains("clickhouse") && !end.contains("RECEIVERS"),
        "{end}"
    );
    press(&mut state, &[KeyCode::Home, KeyCode::Char('?')]);
    assert!(text(&mut state, 30).contains("accepted = delivered + queued + dropped"));
    assert!(!press(&mut state, &[KeyCode::Esc]), "leaves the help first");
    assert!(press(&mut state, &[KeyCode::Char('q')]));
}

#[test]
fn an_agent_that_is_away_is_told_above_what_was_known() {
    let mut state = state();
    state.take(Err(anyhow::anyhow!("refused")));
    let away = text(&mut state, 30);
    assert!(
        away.starts_with("the agent at 127.0.0.1:1 is away for 0s: refused; trying again"),
        "{away}"
    );
    assert!(away.contains("otlp grpc"));
    state.take(Ok(document(13)));
    assert!(!text(&mut state, 30).contains("away"));
    for height in [1, 2, 3] {
        text(&mut state, height);
    }
}
