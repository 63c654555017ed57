//! A queue that is none: dead letters are handed in with the names they had, and whoever hands one in waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::{Delivery, Keeping, Parts, Settlement, Ticket};
use crate::ack::{Ack, Answered, Refusal};
use crate::batch::Payload;
use crate::component::ExporterContext;
use crate::ledger::Ledger;
use crate::signal::Signal;

/// Letters on their way to the worker. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signal: Signal,
    ledger: Ledger,
    /// Guards the way in, which is gone when the queue is closed.
    entrance: Mutex<Option<mpsc::Sender<Delivery>>>,
    /// Guards the way out.
    exit: tokio::sync::Mutex<mpsc::Receiver<Delivery>>,
}

/// Letters that wait while one is sent: whoever hands one in waits for its answer, so there is no more than one.
const WAITING_MAX: usize = 1;
/// The pipeline that the ledger has for them.
const PIPELINE: &str = "(dead letters)";

impl Queue {
    pub(super) fn new(context: &ExporterContext, signal: Signal) -> Self {
        let (entrance, exit) = mpsc::channel(WAITING_MAX);
        Self(Arc::new(Inner {
            signal,
            ledger: Ledger::new(&context.telemetry, PIPELINE, &context.id, signal),
            entrance: Mutex::new(Some(entrance)),
            exit: tokio::sync::Mutex::new(exit),
        }))
    }

    /// `None` when the queue is closed, or another letter waits.
    pub(super) fn hand(
        &self,
        payload: Payload,
        name: &str,
        done: BTreeSet<String>,
    ) -> Option<(Ticket, Answered)> {
        let entrance = self.entrance();
        let permit = entrance.as_ref()?.try_reserve().ok()?;
        let items = payload.items();
        self.0.ledger.accept(items);
        let (ack, answered) = Ack::channel();
        let done = Parts::from(done);
        let ticket = Ticket {
            name: name.into(),
            done: done.clone(),
            log: None,
        };
        permit.send(Delivery {
            ticket: ticket.clone(),
            settlement: Settlement {
                custodies: vec![self.0.ledger.custody(items)],
                acks: vec![ack],
                done,
                keeping: Keeping::Memory {
                    signal: self.0.signal,
                    payload: payload.clone(),
                },
            },
            payload,
        });
        Some((ticket, answered))
    }

    pub(super) async fn next(&self) -> Option<Delivery> {
        self.0.exit.lock().await.recv().await
    }

    pub(super) fn close(&self) {
        *self.entrance() = None;
    }

    fn entrance(&self) -> MutexGuard<'_, Option<mpsc::Sender<Delivery>>> {
        self.0
            .entrance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pipeline is told that has come to the wrong queue.
pub(super) fn refusal() -> Refusal {
    Refusal::permanent("this queue sends dead letters again and takes nothing else")
}
