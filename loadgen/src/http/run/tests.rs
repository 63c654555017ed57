//! Whole runs against stand-ins for a service, on paused time.

use super::*;
use crate::http::journey::{Course, Outgoing};
use crate::http::retry::{Budget, Retry, Wait};
use crate::http::schedule::pace;
use crate::http::stages::Stage;
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
    drive_work(load, &work(load), control, service).await
}

async fn drive_work<E: Executor + Clone>(
    load: &Load,
    work: &Work,
    control: Control,
    service: E,
) -> Outcome {
    let clockwork = |gate| Ok(Clockwork::Task(tokio::spawn(pace(gate))));
    measure_with(load, work, control, |_| service.clone(), clockwork)
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

/// Answers by the number of the request: how long it takes, and its status.
#[derive(Clone)]
struct Scripted {
    asked: Arc<AtomicU64>,
    start: Instant,
    script: fn(u64, Duration) -> (Duration, u16),
}

impl Scripted {
    fn new(script: fn(u64, Duration) -> (Duration, u16)) -> Self {
        Self {
            asked: Arc::default(),
            start: Instant::now(),
            script,
        }
    }
}

impl Executor for Scripted {
    async fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn execute(&mut self, _: &Outgoing) -> Result<Answer, Failure> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let (time, status) = (self.script)(number, self.start.elapsed());
        tokio::time::sleep(time).await;
        Ok(Answer {
            status,
            ..Answer::default()
        })
    }

    fn abandon(&mut self) {}
}

fn forever() -> Control {
    Control {
        timeout: MILLI * 60_000,
        start_after: Duration::ZERO,
        stop: watch::channel(false).1,
    }
}

fn retrying(load: &Load, wait: Wait, budget: Option<Budget>) -> Work {
    let mut journey = Journey::single("service".to_owned(), outgoing());
    journey.retry = Some(Retry {
        wait,
        attempts: 4,
        budget,
    });
    Work::new(Arc::new(journey), Arc::default(), load, 1)
}

#[tokio::test(start_paused = true)]
async fn scripted_delays_give_the_scripted_histogram() {
    let load = Load {
        requests: Some(1000),
        duration: None,
        ..closed(1, 0)
    };
    let service = Scripted::new(|number, _| (MILLI * (number as u32 + 1), 200));
    let outcome = drive_work(&load, &work(&load), forever(), service).await;
    let summary = outcome.total.service.summary();
    assert_eq!(summary.count, 1000);
    for (figure, expected) in [
        (summary.min, 1.0),
        (summary.p50, 500.0),
        (summary.p90, 900.0),
        (summary.p99, 990.0),
        (summary.max, 1000.0),
    ] {
        // tokio's clock goes in milliseconds.
        assert!(
            (figure - expected).abs() <= 1.0 + expected * 0.001,
            "{summary:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_storm_multiplies_what_fails_and_nothing_else() {
    // Everything fails between the second and the fourth second.
    let script = |_, elapsed: Duration| {
        let fails = (MILLI * 2000..MILLI * 4000).contains(&elapsed);
        (MILLI, if fails { 503 } else { 200 })
    };
    let load = open(50, 100.0, 6000);
    let run = async |work: Work| drive_work(&load, &work, forever(), Scripted::new(script)).await;

    let storm = run(retrying(&load, Wait::None, None)).await;
    let total = &storm.total;
    assert_eq!(
        (total.originals, total.succeeded, storm.unsent),
        (600, 400, 0)
    );
    assert_eq!((total.requests, total.errors), (200 * 4 + 400, 200 * 4));

    let work = retrying(&load, Wait::None, Some(Budget::new(0.1)));
    let bounded = run(work).await.total;
    // A tenth of the 200 originals before the outage and of the 200 in it.
    assert_eq!((bounded.originals, bounded.requests), (600, 600 + 40));

    // Clients that wait long enough get through in the end.
    let patient = Wait::Exponential {
        first: MILLI * 1000,
        max: MILLI * 4000,
        jitter: 0.0,
    };
    let load = open(400, 100.0, 6000);
    let work = retrying(&load, patient, None);
    let total = drive_work(&load, &work, forever(), Scripted::new(script))
        .await
        .total;
    assert_eq!((total.originals, total.succeeded), (600, 600));
    assert!(total.requests < 600 + 2 * 200 + 10, "{}", total.requests);
}

#[tokio::test(start_paused = true)]
async fn recovery_counts_from_the_return_of_the_service() {
    let script = |_, elapsed: Duration| {
        let fails = (MILLI * 2000..MILLI * 4000).contains(&elapsed);
        (MILLI, if fails { 503 } else { 200 })
    };
    let load = open(50, 100.0, 8000);
    let work = retrying(&load, Wait::None, None);
    drive_work(&load, &work, forever(), Scripted::new(script)).await;
    let waves = work.board.waves();
    let back = waves.came_back().unwrap();
    assert_eq!(back.as_millis(), 4000);
    assert_eq!(waves.recovery(back), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn rates_follow_their_stages_to_the_request() {
    let stage = |seconds: u32, from, to| Stage {
        duration: MILLI * 1000 * seconds,
        from,
        to,
    };
    let load = Load {
        mode: Mode::Shaped(vec![
            stage(10, 0.0, 100.0),
            stage(5, 100.0, 100.0),
            stage(2, 10.0, 10.0),
        ]),
        duration: None,
        ..closed(50, 0)
    };
    let outcome = drive(&load, Service::steady(5)).await;
    assert_eq!(
        (outcome.total.requests, outcome.unsent),
        (500 + 500 + 20, 0)
    );
    assert!(outcome.measured >= MILLI * 17_000 && outcome.measured < MILLI * 17_100);
}

#[tokio::test(start_paused = true)]
async fn workers_come_and_go_by_their_stages() {
    let stage = |from, to| Stage {
        duration: MILLI * 1000,
        from,
        to,
    };
    let load = Load {
        mode: Mode::Crowd(vec![stage(1.0, 1.0), stage(4.0, 4.0), stage(0.0, 0.0)]),
        ..closed(4, 3000)
    };
    let outcome = drive(&load, Service::steady(10)).await;
    // One worker for a second and four for another, at some 90 requests a second each.
    assert!(
        (430..=505).contains(&outcome.total.requests),
        "{}",
        outcome.total.requests
    );
    let counts: Vec<_> = outcome
        .workers
        .iter()
        .map(|it| it.summary().count)
        .collect();
    assert!(
        counts.iter().max() >= Some(&170) && counts.iter().min() <= Some(&100),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flow_ends_at_its_first_failure_and_thinks_between_its_steps() {
    let mut journey = Journey::single("first".to_owned(), outgoing());
    journey
        .steps
        .extend(Journey::single("second".to_owned(), outgoing()).steps);
    journey.course = Course::InOrder;
    journey.steps[0].think = Some((MILLI * 100, MILLI * 100));
    let load = Load {
        requests: Some(10),
        duration: None,
        ..closed(1, 0)
    };
    let work = Work::new(Arc::new(journey), Arc::default(), &load, 1);
    // The fifth request is the third iteration's first.
    let script = |number, _| (MILLI, if number == 4 { 500 } else { 200 });
    let outcome = drive_work(&load, &work, forever(), Scripted::new(script)).await;
    let requests: Vec<_> = outcome.endpoints.iter().map(|it| it.requests).collect();
    assert_eq!((requests, outcome.total.errors), (vec![10, 9], 1));
    assert!(outcome.measured >= MILLI * 900, "{:?}", outcome.measured);
}
