//! Tests of taps.

use std::pin::Pin;

use http_body::Body as _;

use super::*;
use crate::component::Shutdown;
use crate::testing::{DEADLINE, log_numbers, numbered_logs, request};

fn wanted(query: &str) -> Wanted {
    Wanted::parse(query).unwrap()
}

fn open(taps: &Taps, query: &str) -> (feed::Feed, Shutdown) {
    let shutdown = Shutdown::default();
    let feed = start(taps, wanted(query), shutdown.clone()).unwrap();
    (feed.unwrap(), shutdown)
}

/// What comes until the end.
async fn rest(feed: &mut feed::Feed) -> String {
    let reading = async {
        let mut text = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|context| Pin::new(&mut *feed).poll_frame(context)).await
        {
            text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        String::from_utf8(text).unwrap()
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap()
}

fn logs(numbers: Range<u64>) -> Payload {
    numbered_logs(numbers).into()
}

#[tokio::test]
async fn items_are_shown_as_json_one_a_line() {
    for signal in Signal::ALL {
        let taps = Taps::default();
        let (mut feed, _) = open(&taps, "pipeline=a&format=json&limit=3");
        let payload: Payload = request(signal, "checkout", 5).into();
        taps.show("b", Point::Processors, signal, &payload);
        taps.show("a", Point::Receivers, signal, &payload);
        taps.show("a", Point::Processors, signal, &payload);
        let text = rest(&mut feed).await;
        assert_eq!(text.lines().count(), 3, "{text}");
        for line in text.lines() {
            let bytes = crate::otlp::json::decode(signal, line.as_bytes()).unwrap();
            let checked = crate::otlp::check(signal, bytes.into()).unwrap();
            assert_eq!(checked.items, 1);
            assert!(line.contains("checkout"), "{line}");
        }
        drop(feed);
        assert!(!taps.is_open());
    }
}

#[tokio::test]
async fn what_is_sent_is_shown_to_those_whose_it_is() {
    let taps = Taps::default();
    let (mut first, _) = open(&taps, "pipeline=a&at=exporters&limit=2&filter=body~message");
    let (mut second, _) = open(
        &taps,
        "pipeline=b&at=exporters&exporter=x&limit=3&format=json",
    );
    let payload = logs(1..6);
    taps.show_sent("y", Signal::Logs, &payload, [("b", 5)].into_iter());
    taps.show_sent(
        "x",
        Signal::Logs,
        &payload,
        [("a", 2), ("b", 3)].into_iter(),
    );
    let text = rest(&mut first).await;
    assert!(
        text.contains("message 1") && text.contains("message 2"),
        "{text}"
    );
    let text = rest(&mut second).await;
    for number in 3..6 {
        assert!(text.contains(&format!("message {number}\"")), "{text}");
    }
}

#[tokio::test]
async fn a_tap_ends_with_its_pipeline_and_with_the_door() {
    let taps = Taps::default();
    let (mut gone, _) = open(&taps, "pipeline=a");
    let (mut kept, shutdown) = open(&taps, "pipeline=b");
    taps.keep(&["b".to_owned()]);
    let line = rest(&mut gone).await;
    let ended = Notice::Ended("the pipeline is gone".to_owned());
    assert_eq!(Notice::parse(line.trim_end()), Some(ended));
    shutdown.trigger();
    let line = rest(&mut kept).await;
    assert!(
        matches!(Notice::parse(line.trim_end()), Some(Notice::Ended(_))),
        "{line}"
    );
    drop((gone, kept));
    assert!(!taps.is_open());
}

#[tokio::test]
async fn what_the_rate_leaves_out_is_told() {
    let taps = Taps::default();
    let (mut feed, _) = open(&taps, "pipeline=a&rate=2");
    taps.show("a", Point::Processors, Signal::Logs, &logs(0..10));
    taps.keep(&[]);
    let text = rest(&mut feed).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(Notice::parse(lines[2]), Some(Notice::NotShown(8)));
}

/// Nobody takes anything from this tap: what it keeps is bounded, and the rest is counted.
#[test]
fn a_tap_that_is_not_read_keeps_little() {
    let taps = Taps::default();
    let (_open, passed, tally) = taps.open("a", Point::Processors, None).unwrap();
    let large = logs(0..200_000);
    assert!(large.byte_len() > WAITING_BYTES_MAX);
    let show = |payload: &Payload| taps.show("a", Point::Processors, Signal::Logs, payload);
    show(&large);
    show(&large);
    assert_eq!(
        tally.missed.load(Ordering::Relaxed),
        200_000,
        "one is taken if it is alone"
    );
    drop(passed.recv().unwrap());
    let small = logs(0..3);
    for _ in 0..WAITING_MAX + 2 {
        show(&small);
    }
    assert_eq!(tally.missed.load(Ordering::Relaxed), 200_006);
    assert_eq!(log_numbers(&passed.recv().unwrap().payload), [0, 1, 2]);
    drop(passed);
    show(&small);
    assert_eq!(tally.missed.load(Ordering::Relaxed), 200_009);
    assert_eq!(tally.waiting_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn there_are_so_many_taps_and_no_more() {
    let taps = Taps::default();
    let open = || taps.open("a", Point::Processors, None);
    let all: Vec<_> = (0..TAPS_MAX).map(|_| open().unwrap()).collect();
    assert!(open().is_none());
    drop(all);
    assert!(open().is_some());
}

#[test]
fn queries_that_mean_nothing_are_refused() {
    let check = |query: &str, expected: &str| {
        let problem = Wanted::parse(query).unwrap_err();
        assert!(problem.contains(expected), "{query}: {problem}");
    };
    check("", "say which pipeline");
    check(
        "pipeline=a&at=here",
        "none of receivers, processors, exporters",
    );
    check("pipeline=a&exporter=x", "goes with at=exporters only");
    check("pipeline=a&limit=0", "no number above 0");
    check("pipeline=a&color=1", "`color` is none of");
    check("pipeline=a&filter=x", "is no field");
}
