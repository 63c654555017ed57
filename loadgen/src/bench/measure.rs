//! One measurement: starts an agent, offers a load, waits until everything has arrived, reads the meters.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::sync::watch;

use super::agent::Agent;
use super::cell::Cell;
use super::peer::{Peer, Places};
use super::scrape::{LogFigures, log_figures};
use super::sink::SinkThread;
use crate::otlp::client::Target;
use crate::otlp::drive::{self, Load, Run};
use crate::otlp::payload::{Numbering, Pool};
use crate::process::{self, Process};
use crate::sink::Stats;
use crate::stats::LatencySummary;

const POLL: Duration = Duration::from_millis(10);
/// From here on a core counts as busy; the rest is what the clock tick and the start take.
const BUSY: f64 = 0.93;
/// The agent publishes what its queue holds and has written every second.
const PUBLISHED: Duration = Duration::from_millis(1200);
/// After a delivery everything is noted and published by then.
const NOTED_MAX: Duration = Duration::from_secs(10);
/// Longer than any request waits in an agent that answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What all measurements of a bench have in common.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) items: u64,
    pub(crate) warm_up_items: u64,
    pub(crate) connections: usize,
    /// Items due per second; a closed loop without.
    pub(crate) rate: Option<f64>,
    /// How long an agent is left alone before its idle memory is read.
    pub(crate) settle: Duration,
    /// With no new row for this long, what is missing is not coming.
    pub(crate) quiet: Duration,
    /// Longest time for sending, and again for draining.
    pub(crate) time_max: Duration,
    pub(crate) agent_core: Option<usize>,
    pub(crate) numbering: Numbering,
    /// Directory for what agents write.
    pub(crate) dir: PathBuf,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What one measurement found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measurement {
    /// CPU seconds of the agent, from the first request until everything had arrived, per million accepted
    /// items.
    pub(crate) cpu_seconds_per_million: f64,
    pub(crate) cpu_seconds: f64,
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    pub(crate) items_per_second: f64,
    pub(crate) latency_ms: LatencySummary,
    pub(crate) idle_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) sent_items: u64,
    pub(crate) accepted_items: u64,
    /// Message bytes of the accepted requests, as sent.
    pub(crate) accepted_bytes: u64,
    pub(crate) refused_items: u64,
    pub(crate) failed_items: u64,
    /// Rows in the sink; absent for agents that write nothing.
    pub(crate) delivered_items: Option<u64>,
    pub(crate) insert_requests: u64,
    pub(crate) insert_bytes: u64,
    /// Inserts whose rows the sink could not count.
    pub(crate) uncounted_inserts: u64,
    /// What went to the disk; absent for agents that keep nothing there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<Disk>,
    /// Seconds from the last answer until everything had arrived.
    pub(crate) drain_seconds: f64,
    /// CPU time by wall time while sending: 1 is a whole core.
    pub(crate) agent_core_share: f64,
    /// The same for generator and sink together.
    pub(crate) load_core_share: f64,
    /// The same for all other processes of the machine; absent where the kernel does not say.
    pub(crate) other_core_share: Option<f64>,
    pub(crate) limited_by: Limit,
}

/// What an agent with a queue on disk wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Disk {
    /// By its own account, to the queue's files.
    pub(crate) queue: LogFigures,
    /// By the kernel's account of the whole process, in the page cache's folios: of a large one that is written to in part,
    /// only that part goes to the disk.
    pub(crate) process_bytes: u64,
    /// By the disk's own account, whoever wrote it; absent where there is no disk below the queue.
    pub(crate) device_bytes: Option<u64>,
}

impl Disk {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            queue: self.queue.since(&earlier.queue),
            process_bytes: self.process_bytes.saturating_sub(earlier.process_bytes),
            device_bytes: self
                .device_bytes
                .zip(earlier.device_bytes)
                .map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// What kept a run from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    Agent,
    Load,
    /// Waiting: neither core was busy all the time.
    Neither,
}

impl Measurement {
    /// Accepted and never delivered.
    pub(crate) fn lost_items(&self) -> u64 {
        self.delivered_items
            .map_or(0, |delivered| self.accepted_items.saturating_sub(delivered))
    }

    /// Delivered beyond what was accepted: duplicates, or items whose sender was told that they failed.
    pub(crate) fn surplus_items(&self) -> u64 {
        self.delivered_items
            .map_or(0, |delivered| delivered.saturating_sub(self.accepted_items))
    }
}

impl Bench {
    /// Measures one agent once. The pool's payload has the cell's form; it comes back for the next
    /// measurement, unless sending failed altogether.
    ///
    /// # Errors
    /// When the agent fails or the measurement is interrupted.
    pub(crate) fn measure(
        &self,
        peer: &Peer,
        cell: Cell,
        pool: Pool,
    ) -> (Option<Pool>, anyhow::Result<Measurement>) {
        let mut pool = Some(pool);
        let measured = self.try_measure(peer, cell, &mut pool);
        (pool, measured)
    }

    fn try_measure(
        &self,
        peer: &Peer,
        cell: Cell,
        pool: &mut Option<Pool>,
    ) -> anyhow::Result<Measurement> {
        let sink = SinkThread::start(None)?;
        let name = format!("{}-{cell}", peer.name);
        let places = Places::new(&self.dir, &name, &sink)?;
        let port = places.port(cell.protocol);
        let mut agent = Agent::start(peer, &places, port, self.agent_core)?;
        self.pause(self.settle)?;
        let idle_bytes = agent.serving.memory()?;

        let mut first_item = 0;
        if self.warm_up_items > 0 {
            let run = self.send(cell, port, pool, self.warm_up_items, first_item)?;
            first_item += run.tally.sent.items;
            self.drain(&mut agent, peer, &sink.stats, run.tally.accepted.items)?;
        }
        let before = sink.stats.snapshot();
        let disk = self.disk(peer, &places, &agent)?;
        let meters = Meters::read(agent.serving)?;
        let run = self.send(cell, port, pool, self.items, first_item)?;
        let at_last_answer = Meters::read(agent.serving)?;
        let sent = Instant::now();
        let expected = before.items() + run.tally.accepted.items;
        self.drain(&mut agent, peer, &sink.stats, expected)?;
        let drain = sent.elapsed();
        let cpu = Meters::read(agent.serving)?
            .agent
            .saturating_sub(meters.agent);
        let peak_bytes = agent.serving.peak_memory()?;
        let disk = self
            .disk(peer, &places, &agent)?
            .zip(disk)
            .map(|(after, before)| after.since(&before));
        let stopped = agent.stop();
        places.remove_queue()?;
        let after = sink.stats.snapshot();
        stopped?;

        let accepted = run.tally.accepted.items;
        let used = at_last_answer.since(&meters);
        let (agent_core_share, load_core_share) =
            (share(used.agent, run.wall), share(used.load, run.wall));
        Ok(Measurement {
            cpu_seconds_per_million: cpu.as_secs_f64() / (accepted.max(1) as f64 / 1e6),
            cpu_seconds: cpu.as_secs_f64(),
            seconds: run.wall.as_secs_f64(),
            items_per_second: accepted as f64 / run.wall.as_secs_f64().max(1e-9),
            latency_ms: run.tally.latency.summary(),
            idle_bytes,
            peak_bytes,
            sent_items: run.tally.sent.items,
            accepted_items: accepted,
            accepted_bytes: run.tally.accepted.bytes,
            refused_items: run.tally.refused_items() + run.tally.rejected_items,
            failed_items: run.tally.failed_items(),
            delivered_items: peer.delivers.then(|| after.items() - before.items()),
            insert_requests: after.requests() - before.requests(),
            insert_bytes: after.bytes() - before.bytes(),
            uncounted_inserts: after.uncounted(),
            disk,
            drain_seconds: drain.as_secs_f64(),
            agent_core_share,
            load_core_share,
            other_core_share: used.others().map(|others| share(others, run.wall)),
            limited_by: Limit::from_shares(agent_core_share, load_core_share),
        })
    }

    /// Offers `items` to the agent, and waits for the answers.
    pub(super) fn send(
        &self,
        cell: Cell,
        port: u16,
        pool: &mut Option<Pool>,
        items: u64,
        first_item: u64,
    ) -> anyhow::Result<Run> {
        let load = Load {
            items: Some(items),
            first_item,
            ..self.load(cell, port)?
        };
        self.drive(load, pool)
    }

    /// What is offered unless a measurement wants something else: the bench's rate, for as long as anything may take.
    pub(super) fn load(&self, cell: Cell, port: u16) -> anyhow::Result<Load> {
        let endpoint = format!("127.0.0.1:{port}");
        Ok(Load {
            target: Target::new(&endpoint, cell.protocol, cell.compression, cell.signal)?,
            connections: self.connections,
            items: None,
            duration: self.time_max,
            rate: self.rate,
            timeout: REQUEST_TIMEOUT,
            retry: false,
            stamp: true,
            numbering: self.numbering,
            first_item: 0,
            teller: None,
        })
    }

    /// Offers it, and waits for the answers.
    pub(super) fn drive(&self, load: Load, pool: &mut Option<Pool>) -> anyhow::Result<Run> {
        let taken = pool
            .take()
            .context("the payload was lost in an earlier failure")?;
        let (run, returned) = drive::run(load, taken, self.stop.clone())?;
        *pool = Some(returned);
        if *self.stop.borrow() {
            bail!("interrupted");
        }
        Ok(run)
    }

    /// What an agent has written that keeps its queue on disk, once it has noted that all is delivered.
    fn disk(&self, peer: &Peer, places: &Places, agent: &Agent) -> anyhow::Result<Option<Disk>> {
        if !peer.durable {
            return Ok(None);
        }
        let deadline = Instant::now() + NOTED_MAX;
        let mut queue = log_figures(places.metrics_port)?;
        let mut since = Instant::now();
        // Published figures are old ones until they have had time to change.
        while !queue.is_empty() || since.elapsed() < PUBLISHED {
            if Instant::now() > deadline {
                bail!("the agent does not say that its queue is empty: {queue:?}");
            }
            self.pause(10 * POLL)?;
            let now = log_figures(places.metrics_port)?;
            if now != queue {
                (queue, since) = (now, Instant::now());
            }
        }
        let process_bytes = agent.serving.written_bytes();
        Ok(Some(Disk {
            queue,
            process_bytes: process_bytes.context("cannot read what the agent wrote")?,
            device_bytes: process::device_written_bytes(&places.dir).ok(),
        }))
    }

    /// Waits until the sink has `expected` rows, or no more come.
    pub(super) fn drain(
        &self,
        agent: &mut Agent,
        peer: &Peer,
        stats: &Stats,
        expected: u64,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.time_max;
        let mut arrived = stats.snapshot().items();
        let mut since = Instant::now();
        while peer.delivers
            && arrived < expected
            && since.elapsed() < self.quiet
            && Instant::now() < deadline
        {
            self.pause(POLL)?;
            agent.check_alive()?;
            let now = stats.snapshot().items();
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
        }
        agent.check_alive()
    }

    pub(super) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if *self.stop.borrow() {
                bail!("interrupted");
            }
            std::thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

impl Limit {
    fn from_shares(agent: f64, load: f64) -> Self {
        if agent >= BUSY && agent >= load {
            Self::Agent
        } else if load >= BUSY {
            Self::Load
        } else {
            Self::Neither
        }
    }
}

fn share(cpu: Duration, wall: Duration) -> f64 {
    cpu.as_secs_f64() / wall.as_secs_f64().max(1e-9)
}

/// CPU time used so far.
struct Meters {
    agent: Duration,
    /// Generator and sink: this process.
    load: Duration,
    /// Everything on all cores.
    machine: Option<Duration>,
}

impl Meters {
    fn read(agent: Process) -> anyhow::Result<Self> {
        let agent = agent.cpu().context("cannot read the agent's CPU time")?;
        let load = Process::own().cpu().context("cannot read our CPU time")?;
        Ok(Self {
            agent,
            load,
            machine: process::machine_cpu().ok(),
        })
    }

    /// What was used since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let machine = self
            .machine
            .zip(earlier.machine)
            .map(|(now, then)| now.saturating_sub(then));
        Self {
            agent: self.agent.saturating_sub(earlier.agent),
            load: self.load.saturating_sub(earlier.load),
            machine,
        }
    }

    fn others(&self) -> Option<Duration> {
        Some(self.machine?.saturating_sub(self.agent + self.load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_core_is_named() {
        let check = |agent, load, expected| assert_eq!(Limit::from_shares(agent, load), expected);
        check(0.99, 0.40, Limit::Agent);
        check(0.50, 0.97, Limit::Load);
        check(0.99, 0.995, Limit::Load);
        check(0.80, 0.70, Limit::Neither);
    }
}
