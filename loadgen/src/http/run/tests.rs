//! Whole runs against stand-ins for a service, on paused time.

use super::*;
use crate::http::journey::Outgoing;
use crate::http::schedule::pace;
use crate::http::worker::{Answer, Failure};

const MILLI: Duration = Duration::from_millis(1);

/// A service that takes `usual` for an answer, but answers nothing from `stall_from` to `stall_until`.
#[derive(Clone)]
struct Service {
    start: Instant,
    usual: Duration,
    stall_from: Duration,
    stall_until: Duration,
}

impl Service {
    fn steady(usual_ms: u32) -> Self {
        Self::stalling(usual_ms, 0, 0)
    }

    fn stalling(usual_ms: u32, from_ms: u32, until_ms: u32) -> Self {
        let start = Instant::now();
        Self {
            start,
            usual: MILLI * usual_ms,
            stall_from: MILLI * from_ms,
            stall_until: MILLI * until_ms,
        }
    }
}

impl Executor for Service {
    async fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn execute(&mut self, _: &Outgoing) -> Result<Answer, Failure> {
        tokio::time::sleep(self.usual).await;
        let elapsed = self.start.elapsed();
        if elapsed >= self.stall_from && elapsed < self.stall_until {
            tokio::time::sleep(self.stall_until - elapsed).await;
        }
        Ok(Answer {
            status: 200,
            bytes: 1,
            ..Answer::default()
        })
    }

    fn abandon(&mut self) {}
}

fn closed(workers: usize, duration_ms: u32) -> Load {
    let duration = Some(MILLI * duration_ms);
    Load {
        workers,
        mode: Mode::Closed,
        warm_up: Duration::ZERO,
        duration,
        requests: None,
    }
}

fn open(workers: usize, rate: f64, duration_ms: u32) -> Load {
    Load {
        mode: Mode::Open { rate },
        ..closed(workers, duration_ms)
    }
}

fn outgoing() -> Outgoing {
    Outgoing {
        uri: http::Uri::from_static("http://service/"),
        method: http::Method::GET,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        keep_body: false,
    }
}

fn work(load: &Load) -> Work {
    let journey = Journey::single("service".to_owned(), outgoing());
    Work::new(Arc::new(journey), Arc::default(), load, 1)
}

async fn drive(load: &Load, service: Service) -> Outcome {
    let (_stop, stop) = watch::channel(false);
    drive_until(load, service, stop).await
}

async fn drive_until(load: &Load, service: Service, stop: watch::Receiver<bool>) -> Outcome {
    let control = Control {
        timeout: MILLI * 5000,
        start_after: Duration::ZERO,
        stop,
    };
    let clockwork = |gate| Ok(Clockwork::Task(tokio::spawn(pace(gate))));
    let work = work(load);
    measure_with(load, &work, control, |_| service.clone(), clockwork)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_sends_as_fast_as_answers_come() {
    let outcome = drive(&closed(2, 1000), Service::steady(10)).await;
    assert!(
        (180..=202).contains(&outcome.total.requests),
        "{}",
        outcome.total.requests
    );
    assert_eq!((outcome.unsent, outcome.total.late), (0, 0));
    assert!(outcome.total.corrected.is_none());
    assert_eq!(outcome.workers.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_stops_after_its_requests() {
    let load = Load {
        requests: Some(7),
        duration: None,
        ..closed(3, 0)
    };
    assert_eq!(drive(&load, Service::steady(10)).await.total.requests, 7);
}

#[tokio::test(start_paused = true)]
async fn warm_up_is_not_measured() {
    let load = Load {
        warm_up: MILLI * 500,
        ..closed(1, 1000)
    };
    let outcome = drive(&load, Service::stalling(10, 0, 400)).await;
    assert!(
        (8..=11).contains(&outcome.total.warm_up),
        "{}",
        outcome.total.warm_up
    );
    assert!(outcome.total.service.summary().max < 20.0);
    assert!(
        outcome.measured >= MILLI * 1000 && outcome.measured < MILLI * 1020,
        "{:?}",
        outcome.measured
    );

    let load = Load {
        warm_up: MILLI * 500,
        ..open(1, 50.0, 1000)
    };
    let outcome = drive(&load, Service::stalling(10, 0, 200)).await;
    assert_eq!((outcome.total.warm_up, outcome.total.requests), (25, 50));
    assert!(outcome.total.corrected.unwrap().summary().max < 20.0);
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_keeps_its_rate_whatever_the_service_does() {
    for answer_ms in [1, 15] {
        let outcome = drive(&open(2, 100.0, 1000), Service::steady(answer_ms)).await;
        assert_eq!(
            (outcome.total.requests, outcome.unsent, outcome.total.late),
            (100, 0, 0)
        );
        let measured = outcome.measured;
        assert!(
            measured >= MILLI * 1000 && measured < MILLI * 1010,
            "{measured:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_corrected_latency_and_hides_in_a_closed_loop() {
    let stalling = || Service::stalling(1, 200, 700);
    let hidden = drive(&closed(1, 2000), stalling())
        .await
        .total
        .service
        .summary();
    assert!(hidden.p99 < 5.0 && hidden.max > 400.0, "{hidden:?}");

    let outcome = drive(&open(1, 100.0, 2000), stalling()).await;
    let service = outcome.total.service.summary();
    let corrected = outcome.total.corrected.unwrap().summary();
    assert!(
        service.p90 < 5.0,
        "one request in 200 was slow by itself: {service:?}"
    );
    // 50 of 200 requests fell due in the stall and waited 250 ms on average.
    assert!(corrected.p90 > 200.0, "{corrected:?}");
    assert!(
        corrected.max > 400.0 && corrected.p50 < 60.0,
        "{corrected:?}"
    );
    assert!(
        (45..=65).contains(&outcome.total.late),
        "{}",
        outcome.total.late
    );
    assert_eq!((outcome.total.requests, outcome.unsent), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_service_leaves_unsent_is_counted() {
    let outcome = drive(&open(2, 100.0, 1000), Service::steady(100)).await;
    let sent = outcome.total.requests;
    assert!(
        (20..=24).contains(&sent),
        "two workers at 10 requests a second sent {sent}"
    );
    assert_eq!(sent + outcome.unsent, 100);
    assert!(
        outcome.measured < MILLI * 1250,
        "the backlog prolonged the run to {:?}",
        outcome.measured
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_a_request_and_the_run_goes_on() {
    let load = Load {
        requests: Some(3),
        duration: None,
        ..closed(1, 0)
    };
    let outcome = drive(&load, Service::stalling(1, 0, 7000)).await;
    assert_eq!((outcome.total.requests, outcome.total.errors), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn an_interruption_ends_the_run_and_keeps_what_was_measured() {
    for load in [closed(2, 60_000), open(2, 100.0, 60_000)] {
        let (interrupt, stop) = watch::channel(false);
        let service = Service::stalling(10, 995, 50_000);
        let run = tokio::spawn(async move { drive_until(&load, service, stop).await });
        tokio::time::sleep(MILLI * 1100).await;
        interrupt.send_replace(true);
        let outcome = run.await.unwrap();
        assert!(outcome.interrupted);
        assert!(outcome.total.requests >= 98, "{}", outcome.total.requests);
        assert_eq!(outcome.total.abandoned, 2);
        assert!(outcome.measured < MILLI * 1200);
        let open_loop = outcome.total.corrected.is_some();
        assert_eq!(outcome.unsent > 0, open_loop, "{} unsent", outcome.unsent);
    }
}
