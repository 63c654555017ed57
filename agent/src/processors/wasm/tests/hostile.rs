//! Plugins that mean harm. Whatever they do, it ends, is counted under its name, and the next call finds a new instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::breaker::FAILURES_MAX;
use super::*;
use crate::testing::{DEADLINE, eventually};

/// A guest that does `harm` with batches of more than `$length` bytes that one item has, and nothing with others.
fn moody(harm: &str) -> Guest {
    let small = request(Signal::Logs, "checkout", 1).bytes().len();
    Guest::new(&format!(
        "(if (i32.gt_u (local.get $length) (i32.const {small})) (then {harm}))
         call $unchanged"
    ))
}

/// Runs `harm`, and looks whether the plugin works again afterwards.
fn check(guest: &Guest, options: &str, outcome: &str) -> Running {
    let mut running = Running::start(
        guest,
        &format!("timeout = '100ms'\non_error = 'drop'\n{options}"),
    );
    for _ in 0..2 {
        let (output, _) = running.process(1);
        assert_eq!(tally(&output), (1, vec![]));
        let began = Instant::now();
        let (output, _) = running.process(4);
        assert!(began.elapsed() < DEADLINE);
        assert_eq!(tally(&output), (0, vec![("plugin_failed".to_owned(), 4)]));
    }
    assert_eq!(running.calls(outcome), 2.0);
    assert_eq!(running.calls("unchanged"), 2.0);
    running
}

#[test]
fn an_endless_loop_ends() {
    check(&moody("(loop $again (br $again))"), "", "timeout");
}

#[test]
fn endless_recursion_ends() {
    let guest = moody("(call $deep)").with("(func $deep (call $deep) (call $deep))");
    check(&guest, "", "trap");
}

#[test]
fn access_out_of_bounds_is_told_with_what_it_may_be() {
    let guest = Guest::new("call $unchanged")
        .with("(func $start (drop (i32.load (i32.const -4)))) (start $start)");
    let error = message(Running::try_start(&guest.component(), ""));
    for expected in ["out of bounds memory access", "whose stack overflows"] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_bomb_of_memory_does_not_go_off() {
    let bomb = "(loop $again
        (br_if $again (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable";
    let running = check(&moody(bomb), "memory_limit = '4MiB'", "memory_limit");
    let memory = metric(&running.telemetry, "tidegate_plugin_memory_bytes");
    assert!((1.0..=4.0 * 1048576.0).contains(&memory), "{memory}");
}

#[test]
fn memory_that_a_plugin_did_without_is_not_why_it_fails_later() {
    let mut running = Running::start(
        &Guest::new(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.eq (global.get $calls) (i32.const 1)) (then (drop (memory.grow (i32.const 1000)))))
             (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))
             call $unchanged",
        )
        .with("(global $calls (mut i32) (i32.const 0))"),
        "memory_limit = '4MiB'",
    );
    assert_eq!(tally(&running.process(1).0).0, 1);
    assert_eq!(tally(&running.process(1).0).0, 0);
    assert_eq!(
        (running.calls("trap"), running.calls("memory_limit")),
        (1.0, 0.0)
    );
}

#[test]
fn a_trap_costs_one_batch() {
    check(&moody("unreachable"), "", "trap");
    let mut nth = Running::start(
        &Guest::new(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))
             call $unchanged",
        )
        .with("(global $calls (mut i32) (i32.const 0))"),
        "",
    );
    for call in 1..=9 {
        let expected = if call % 3 == 0 { 0 } else { 2 };
        assert_eq!(tally(&nth.process(2).0).0, expected, "{call}");
    }
    assert_eq!(nth.calls("trap"), 3.0);
}

#[test]
fn output_that_is_not_otlp_is_not_believed() {
    let garbage = "(return (call $replaced (i32.const 16) (i32.const 24)))";
    check(&moody(garbage), "", "invalid_output");
    let beyond = "(return (call $replaced (i32.const 0) (i32.const -1)))";
    check(&moody(beyond), "", "trap");
    let nowhere = "(return (i32.const -4))";
    check(&moody(nowhere), "", "trap");
    let no_outcome = "(i32.store8 (i32.const 256) (i32.const 9)) (return (i32.const 256))";
    check(&moody(no_outcome), "", "trap");
}

#[test]
fn output_that_is_ten_times_as_large_is_not_taken() {
    // The batch ten times, one after the other: valid, but with more items than came in.
    let tenfold = "(local $copies i32) (local $to i32)
        (local.set $to (call $realloc (i32.const 0) (i32.const 0) (i32.const 1)
            (i32.mul (local.get $length) (i32.const 11))))
        (local.set $to (i32.add (local.get $at) (local.get $length)))
        (loop $again
          (memory.copy (local.get $to) (local.get $at) (local.get $length))
          (local.set $to (i32.add (local.get $to) (local.get $length)))
          (local.set $copies (i32.add (local.get $copies) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $copies) (i32.const 9))))
        (call $replaced (local.get $at) (i32.mul (local.get $length) (i32.const 10)))";
    let guest = Guest::new(tenfold);
    let mut running = Running::start(&guest, "on_error = 'drop'");
    let (output, _) = running.process(4);
    assert_eq!(tally(&output).0, 0);
    assert_eq!(running.calls("invalid_output"), 1.0);
    let limited = "on_error = 'drop'\noutput_limit = '1KiB'\nmemory_limit = '8MiB'";
    let mut running = Running::start(&guest, limited);
    assert_eq!(tally(&running.process(4).0).0, 0);
    assert_eq!(running.calls("output_limit"), 1.0);
    // Far more than the host takes over at all.
    assert_eq!(tally(&running.process(2000).0).0, 0);
    assert_eq!(running.calls("output_limit"), 2.0);
}

#[test]
fn a_storm_of_calls_ends_and_leaves_no_flood() {
    let storm = "(loop $again
        (call $log (i32.const 4) (i32.const 0) (i32.const 65536))
        (drop (call $metric (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 0)
          (i32.and (global.get $next) (i32.const 1023))))
        (global.set $next (i32.and (i32.add (global.get $next) (i32.const 1)) (i32.const 1023)))
        (br $again))";
    let running = check(&moody(storm), "", "timeout");
    let discarded = metric(&running.telemetry, "tidegate_plugin_discarded_log_lines");
    assert!(discarded > 100.0, "{discarded}");
    let text = String::from_utf8(running.telemetry.encode().unwrap()).unwrap();
    let series = text
        .lines()
        .filter(|line| line.starts_with("tidegate_plugin_counter{"));
    assert!(series.count() <= 201);
}

#[test]
fn a_start_that_hangs_fails() {
    let guest = Guest::new("call $unchanged")
        .with("(func $start (loop $again (br $again))) (start $start)");
    let began = Instant::now();
    let error = message(Running::try_start(&guest.component(), "timeout = '20ms'"));
    assert!(error.contains("it took longer than 1s"), "{error}");
    assert!(began.elapsed() < DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn repeated_failures_open_the_breaker_and_it_closes_again() {
    let mut running = Running::start(&moody("unreachable"), "");
    for _ in 0..FAILURES_MAX {
        assert_eq!(running.processor.ready(1), Ok(()));
        assert_eq!(running.status(), (Status::Ok, None));
        running.process(4);
    }
    let refusal = running.processor.ready(1).unwrap_err();
    assert!(
        refusal
            .message
            .contains("not called after repeated failures"),
        "{refusal:?}"
    );
    assert_eq!(
        metric(&running.telemetry, "tidegate_plugin_breaker_open"),
        1.0
    );
    let (status, error) = running.status();
    let error = error.unwrap();
    assert_eq!(status, Status::RecoverableError);
    assert!(
        error.contains("is not called for 1s") && error.contains("unreachable"),
        "{error}"
    );
    assert_eq!(tally(&running.process(1).0).0, 0);
    assert_eq!(running.calls("skipped"), 1.0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(running.processor.ready(1), Ok(()));
    assert_eq!(running.status().0, Status::RecoverableError);
    assert_eq!(tally(&running.process(1).0).0, 1);
    assert_eq!(running.status(), (Status::Ok, None));
    assert_eq!(
        metric(&running.telemetry, "tidegate_plugin_breaker_open"),
        0.0
    );
}

#[test]
fn a_slow_call_leaves_its_thread_to_others() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = Running::start(
            &Guest::new("(loop $again (br $again)) unreachable"),
            "timeout = '3s'",
        );
        let (began, ended) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (starts, ends) = (Arc::clone(&began), Arc::clone(&ended));
        let slow = tokio::spawn(async move {
            starts.store(true, Ordering::SeqCst);
            let failed = tally(&running.process(1).0).0 == 0;
            ends.store(true, Ordering::SeqCst);
            failed
        });
        // On the only thread of the runtime, once it is free.
        let turns = Arc::new(AtomicUsize::new(0));
        let (taken, over) = (Arc::clone(&turns), Arc::clone(&ended));
        let other = tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                taken.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        eventually("the call", || began.load(Ordering::SeqCst)).await;
        eventually("work beside the call", || {
            turns.load(Ordering::SeqCst) > 100 || ended.load(Ordering::SeqCst)
        })
        .await;
        assert!(!ended.load(Ordering::SeqCst), "the call held everything up");
        assert!(slow.await.unwrap());
        other.await.unwrap();
    });
}
