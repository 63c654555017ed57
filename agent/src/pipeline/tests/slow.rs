//! Processors that take long: others wait beside them, not too many, and what such a one sends back is on no book.

use std::sync::Condvar;

use super::*;
use crate::telemetry::Telemetry;

/// Holds every batch until it is let go.
struct Slow(Arc<Gate>);

#[derive(Default)]
struct Gate {
    /// Whether a batch is in, and whether it may go on.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Processor for Slow {
    fn may_take_long(&self) -> bool {
        true
    }

    fn process(&mut self, batch: Batch, output: &mut Output) {
        let mut state = self.0.state.lock().unwrap();
        state.0 = true;
        self.0.changed.notify_all();
        let state = self.0.changed.wait_while(state, |(_, go)| !*go).unwrap();
        drop(state);
        output.emit(batch);
    }
}

fn spans(items: usize, ack: Ack) -> Batch {
    Batch {
        signal: Signal::Traces,
        payload: Chunk::new(Bytes::from(vec![1; items]), items).into(),
        ack,
    }
}

#[test]
fn only_so_many_wait_for_a_slow_processor() {
    let gate = Arc::new(Gate::default());
    let processors: Vec<(String, Box<dyn Processor>)> =
        vec![("slow".to_owned(), Box::new(Slow(Arc::clone(&gate))))];
    let telemetry = Telemetry::default();
    let pipeline = Pipeline::new(
        &telemetry,
        &Taps::default(),
        "traces",
        Signal::Traces,
        processors,
        Vec::new(),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| pipeline.accept(spans(1, Ack::settled())));
        let state = gate.state.lock().unwrap();
        let (state, waited) = gate
            .changed
            .wait_timeout_while(state, crate::testing::DEADLINE, |(is_in, _)| !*is_in)
            .unwrap();
        assert!(!waited.timed_out(), "the batch is to enter");
        drop(state);
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| scope.spawn(|| pipeline.ready(1)))
            .collect();
        let began = Instant::now();
        while pipeline.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            assert!(
                began.elapsed() < crate::testing::DEADLINE,
                "they are to wait"
            );
            std::thread::yield_now();
        }
        let refusal = pipeline.ready(1).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Plugin);
        assert!(refusal.retry_after.is_some());
        gate.state.lock().unwrap().1 = true;
        gate.changed.notify_all();
        for ready in waiting {
            assert_eq!(ready.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(pipeline.ready(1), Ok(()));
}

#[test]
fn what_is_sent_back_is_refused_or_where_nobody_waits_discarded() {
    let refusal = || Refusal::retry(RefusalReason::Plugin, "no", Duration::from_secs(1));
    let mut output = Output::default();
    let (ack, answered) = Ack::channel();
    output.refuse(ack, "plugin_failed", 3, refusal());
    assert_eq!(output.rejected, [("plugin_failed".into(), 3)]);
    let answer = futures::executor::block_on(answered);
    assert_eq!(answer, Answer::Refused(refusal()));
    output.refuse(Ack::settled(), "plugin_failed", 2, refusal());
    assert_eq!(output.dropped, [("plugin_failed".into(), 2)]);
}
