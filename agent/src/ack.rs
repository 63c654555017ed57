//! The answer that every batch owes to whoever sent it: given once, and never forgotten.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

/// What became of a batch, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The destination has it.
    Delivered,
    /// A queue has taken responsibility for it.
    Queued,
    /// Some items were declined for good; a queue or the destination has the others.
    Partial(Rejected),
    /// Nobody has it. The sender keeps it.
    Refused(Refusal),
}

/// Items that were declined because of what they are: sending them again cannot help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub items: usize,
    /// What is wrong with them, in words for the sender.
    pub message: Cow<'static, str>,
}

impl Rejected {
    /// What the sender is told of them is cut here, however many reasons there are.
    const MESSAGE_MAX: usize = 600;

    /// Adds items of the same batch that were declined later.
    fn add(&mut self, other: Self) {
        self.items += other.items;
        if self.message == other.message || self.message.len() >= Self::MESSAGE_MAX {
            return;
        }
        let message = self.message.to_mut();
        message.push_str("; ");
        message.push_str(&other.message);
        message.truncate(message.floor_char_boundary(Self::MESSAGE_MAX));
    }
}

/// Why a batch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// `memory_limiter`, or the byte budget of the process.
    MemoryLimit,
    /// A sending queue is full.
    QueueFull,
    /// The agent is stopping.
    ShuttingDown,
    /// A plugin that has to see the data fails, or cannot keep up.
    Plugin,
    /// A component declined the data for good; sending it again cannot help.
    Rejected,
    /// The batch was dropped without an answer: a defect, reported rather than hidden.
    Abandoned,
}

impl RefusalReason {
    /// The stable name used in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryLimit => "memory_limit",
            Self::QueueFull => "queue_full",
            Self::ShuttingDown => "shutting_down",
            Self::Plugin => "plugin",
            Self::Rejected => "rejected",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A refusal: why, in words for the sender, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The class of the reason.
    pub reason: RefusalReason,
    /// What the sender is told.
    pub message: Cow<'static, str>,
    /// When to try again; `None` when trying again cannot help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that asks the sender to come back after `retry_after`.
    pub fn retry(
        reason: RefusalReason,
        message: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: Some(retry_after),
        }
    }

    /// A refusal for good.
    pub fn permanent(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: RefusalReason::Rejected,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The refusal of an agent that is stopping.
    pub fn shutting_down() -> Self {
        Self::retry(
            RefusalReason::ShuttingDown,
            "the agent is shutting down",
            Self::DEFAULT_RETRY_AFTER,
        )
    }

    /// How long senders are asked to wait when nothing better is known.
    pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

    fn abandoned() -> Self {
        Self::retry(
            RefusalReason::Abandoned,
            "the batch was dropped inside the agent before anything took responsibility for it",
            Self::DEFAULT_RETRY_AFTER,
        )
    }
}

/// The obligation to answer a sender. Dropping it unanswered is a refusal.
#[derive(Debug, Default)]
pub struct Ack(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Settled,
    Sender(oneshot::Sender<Answer>),
    Part(Arc<Joint>),
    Observed(Box<Observed>),
    /// The sender hears of these too, if the others are taken.
    Rejected(Box<(Ack, Rejected)>),
}

/// An obligation whose answer somebody looks at on its way.
struct Observed {
    inner: Ack,
    look: Box<dyn FnOnce(&Answer) + Send + Sync>,
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observed").field(&self.inner).finish()
    }
}

/// The shared half of an [`Ack`] that was split: the worst answer of all parts is the answer.
#[derive(Debug)]
struct Joint {
    /// Guards the parent obligation and the worst answer so far.
    worst: Mutex<(Ack, Option<Answer>)>,
}

impl Ack {
    /// An obligation and the future that resolves to its answer.
    pub fn channel() -> (Self, Answered) {
        let (sender, receiver) = oneshot::channel();
        (Self(State::Sender(sender)), Answered(receiver))
    }

    /// An obligation that nobody waits for: its sender was answered already.
    pub const fn settled() -> Self {
        Self(State::Settled)
    }

    /// Whether somebody still waits for the answer.
    pub fn is_open(&self) -> bool {
        !matches!(self.0, State::Settled)
    }

    /// The same obligation; `look` sees its answer, once, before the sender does.
    pub fn observed(self, look: impl FnOnce(&Answer) + Send + Sync + 'static) -> Self {
        Self(State::Observed(Box::new(Observed {
            inner: self,
            look: Box::new(look),
        })))
    }

    /// Takes note of items that are declined: once the others are taken, the sender is told. Costs nothing where nothing
    /// is declined.
    pub fn reject(&mut self, rejected: Rejected) {
        match &mut self.0 {
            State::Settled => {}
            State::Rejected(noted) => noted.1.add(rejected),
            State::Sender(_) | State::Part(_) | State::Observed(_) => {
                let inner = std::mem::take(self);
                self.0 = State::Rejected(Box::new((inner, rejected)));
            }
        }
    }

    /// Answers, once.
    pub fn answer(mut self, answer: Answer) {
        self.settle(answer);
    }

    /// Splits the obligation into `parts`; the sender hears the worst of their answers. Where several decline some items
    /// they were given the same ones, so the greatest count is told, not the sum.
    pub fn split(self, parts: usize) -> Vec<Self> {
        if parts <= 1 || !self.is_open() {
            let mut whole = vec![self];
            whole.resize_with(parts, Self::settled);
            return whole;
        }
        let joint = Arc::new(Joint {
            worst: Mutex::new((self, None)),
        });
        (0..parts)
            .map(|_| Self(State::Part(Arc::clone(&joint))))
            .collect()
    }

    fn settle(&mut self, answer: Answer) {
        match std::mem::take(&mut self.0) {
            State::Settled => {}
            // The sender has gone away (its connection closed): nobody is left to tell.
            State::Sender(sender) => drop(sender.send(answer)),
            State::Part(joint) => joint.record(answer),
            State::Observed(observed) => {
                let Observed { inner, look } = *observed;
                look(&answer);
                inner.answer(answer);
            }
            State::Rejected(noted) => {
                let (inner, mut rejected) = *noted;
                inner.answer(match answer {
                    Answer::Delivered | Answer::Queued => Answer::Partial(rejected),
                    Answer::Partial(others) => {
                        rejected.add(others);
                        Answer::Partial(rejected)
                    }
                    // The sender keeps all of it, and will hear of them when it comes again.
                    Answer::Refused(refusal) => Answer::Refused(refusal),
                });
            }
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.settle(Answer::Refused(Refusal::abandoned()));
    }
}

impl Joint {
    fn record(self: Arc<Self>, answer: Answer) {
        let mut worst = self.worst.lock().unwrap_or_else(PoisonError::into_inner);
        worst.1 = Some(match worst.1.take() {
            Some(held) => worse(held, answer),
            None => answer,
        });
    }
}

impl Drop for Joint {
    /// The last part is gone, so every part has answered.
    fn drop(&mut self) {
        let worst = self.worst.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = worst.1.take() {
            worst.0.settle(answer);
        }
    }
}

fn worse(left: Answer, right: Answer) -> Answer {
    match (&left, &right) {
        (Answer::Refused(_), _) => left,
        (_, Answer::Refused(_)) => right,
        (Answer::Partial(one), Answer::Partial(other)) if other.items > one.items => right,
        (Answer::Partial(_), _) => left,
        (_, Answer::Partial(_)) | (Answer::Delivered, _) => right,
        _ => left,
    }
}

/// Resolves to the answer of an [`Ack`].
#[derive(Debug)]
pub struct Answered(oneshot::Receiver<Answer>);

impl Future for Answered {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or_else(|_| Answer::Refused(Refusal::abandoned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_of(answered: Answered) -> Answer {
        futures::executor::block_on(answered)
    }

    #[test]
    fn dropping_an_obligation_refuses() {
        let (ack, answered) = Ack::channel();
        drop(ack);
        let Answer::Refused(refusal) = answer_of(answered) else {
            panic!("not refused")
        };
        assert_eq!(refusal.reason, RefusalReason::Abandoned);
    }

    #[test]
    fn the_worst_part_is_the_answer() {
        let refused = || Answer::Refused(Refusal::permanent("no"));
        let check = |answers: Vec<Answer>, expected: Answer| {
            let (ack, answered) = Ack::channel();
            for (part, answer) in ack.split(answers.len()).into_iter().zip(answers) {
                part.answer(answer);
            }
            assert_eq!(answer_of(answered), expected);
        };
        check(vec![Answer::Delivered], Answer::Delivered);
        check(vec![Answer::Delivered, Answer::Queued], Answer::Queued);
        check(vec![Answer::Queued, Answer::Delivered], Answer::Queued);
        check(
            vec![Answer::Delivered, refused(), Answer::Queued],
            refused(),
        );
        check(
            vec![Answer::Delivered, Answer::Delivered],
            Answer::Delivered,
        );
    }

    fn rejected(items: usize, message: &'static str) -> Rejected {
        Rejected {
            items,
            message: message.into(),
        }
    }

    #[test]
    fn declined_items_are_told_with_the_answer_for_the_others() {
        let check = |answer: Answer, expected: Answer| {
            let (mut ack, answered) = Ack::channel();
            ack.reject(rejected(2, "no name"));
            ack.reject(rejected(1, "no name"));
            ack.reject(rejected(4, "too old"));
            ack.answer(answer);
            assert_eq!(answer_of(answered), expected);
        };
        let all = Answer::Partial(rejected(7, "no name; too old"));
        check(Answer::Delivered, all.clone());
        check(Answer::Queued, all);
        let refused = Answer::Refused(Refusal::permanent("no"));
        check(refused.clone(), refused);
    }

    #[test]
    fn of_the_items_that_several_parts_decline_the_most_are_told() {
        let check = |declined: [usize; 2], last: Answer, expected: Answer| {
            let (ack, answered) = Ack::channel();
            let mut parts = ack.split(3).into_iter();
            for items in declined {
                let mut part = parts.next().unwrap();
                part.reject(rejected(items, "no name"));
                part.answer(Answer::Queued);
            }
            parts.next().unwrap().answer(last);
            assert_eq!(answer_of(answered), expected);
        };
        let partial = |items| Answer::Partial(rejected(items, "no name"));
        check([2, 5], Answer::Delivered, partial(5));
        check([5, 2], Answer::Queued, partial(5));
        let refused = Answer::Refused(Refusal::permanent("no"));
        check([5, 2], refused.clone(), refused);
    }

    #[test]
    fn what_is_told_of_declined_items_is_bounded() {
        let (mut ack, answered) = Ack::channel();
        for number in 0..1000 {
            ack.reject(Rejected {
                items: 1,
                message: format!("reason {number} äöü").into(),
            });
        }
        ack.answer(Answer::Queued);
        let Answer::Partial(told) = answer_of(answered) else {
            panic!("not partial")
        };
        assert_eq!(told.items, 1000);
        assert!(told.message.len() <= Rejected::MESSAGE_MAX, "{told:?}");
    }

    #[test]
    fn an_answer_is_seen_on_its_way_also_when_it_was_forgotten() {
        let (seen, sees) = std::sync::mpsc::channel();
        for forget in [false, true] {
            let (ack, answered) = Ack::channel();
            let seen = seen.clone();
            let ack = ack.observed(move |answer| seen.send(answer.clone()).unwrap());
            if forget {
                drop(ack);
            } else {
                ack.answer(Answer::Queued);
            }
            assert_eq!(sees.try_recv().unwrap(), answer_of(answered));
        }
    }

    #[test]
    fn a_forgotten_part_refuses_the_whole() {
        let (ack, answered) = Ack::channel();
        let mut parts = ack.split(2);
        parts.remove(0).answer(Answer::Delivered);
        drop(parts);
        assert!(matches!(answer_of(answered), Answer::Refused(_)));
    }
}
