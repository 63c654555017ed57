//! One measurement: starts an agent, offers a load, waits until everything has arrived, reads the meters.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::agent::{Agent, free_port};
use super::cell::Cell;
use super::peer::{Peer, Places};
use crate::otlp::client::{Protocol, Target};
use crate::otlp::drive::{self, Load, Run};
use crate::otlp::payload::{Numbering, Pool};
use crate::process::{self, Process};
use crate::sink::{Faults, Settings, Sink, Stats};
use crate::stats::LatencySummary;

const POLL: Duration = Duration::from_millis(10);
/// From here on a core counts as busy; the rest is what the clock tick and the start take.
const BUSY: f64 = 0.93;
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
    pub(crate) refused_items: u64,
    pub(crate) failed_items: u64,
    /// Rows in the sink; absent for agents that write nothing.
    pub(crate) delivered_items: Option<u64>,
    pub(crate) insert_requests: u64,
    pub(crate) insert_bytes: u64,
    /// Inserts whose rows the sink could not count.
    pub(crate) uncounted_inserts: u64,
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
        let sink = SinkThread::start()?;
        let dir = self
            .dir
            .join(format!("{}-{cell}", peer.name).replace([' ', ',', '(', ')'], "_"));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let places = Places {
            http_port: free_port()?,
            grpc_port: free_port()?,
            sink: sink.clickhouse,
            sink_http: sink.otlp_http,
            sink_grpc: sink.otlp_grpc,
            dir,
        };
        let port = if cell.protocol == Protocol::Http {
            places.http_port
        } else {
            places.grpc_port
        };
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
        let stopped = agent.stop();
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
            refused_items: run.tally.refused_items() + run.tally.rejected_items,
            failed_items: run.tally.failed_items(),
            delivered_items: peer.delivers.then(|| after.items() - before.items()),
            insert_requests: after.requests() - before.requests(),
            insert_bytes: after.bytes() - before.bytes(),
            uncounted_inserts: after.uncounted(),
            drain_seconds: drain.as_secs_f64(),
            agent_core_share,
            load_core_share,
            other_core_share: used.others().map(|others| share(others, run.wall)),
            limited_by: Limit::from_shares(agent_core_share, load_core_share),
        })
    }

    fn send(
        &self,
        cell: Cell,
        port: u16,
        pool: &mut Option<Pool>,
        items: u64,
        first_item: u64,
    ) -> anyhow::Result<Run> {
        let endpoint = format!("127.0.0.1:{port}");
        let load = Load {
            target: Target::new(&endpoint, cell.protocol, cell.compression, cell.signal)?,
            connections: self.connections,
            items: Some(items),
            duration: self.time_max,
            rate: self.rate,
            timeout: REQUEST_TIMEOUT,
            retry: false,
            stamp: true,
            numbering: self.numbering,
            first_item,
        };
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

    /// Waits until the sink has `expected` rows, or no more come.
    fn drain(
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

    fn pause(&self, time: Duration) -> anyhow::Result<()> {
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

/// A sink on a thread of its own, which runs on the core of the thread that starts it.
struct SinkThread {
    clickhouse: SocketAddr,
    otlp_http: SocketAddr,
    otlp_grpc: SocketAddr,
    stats: Arc<Stats>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SinkThread {
    fn start() -> anyhow::Result<Self> {
        let any_port = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let settings = Settings {
            clickhouse: any_port,
            otlp_http: any_port,
            otlp_grpc: any_port,
            count: true,
            faults: Faults::NONE,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut sink = runtime.block_on(Sink::start(&settings))?;
        let real = |address: Option<SocketAddr>| address.context("the sink has no address");
        let addresses = sink.addresses;
        let stats = Arc::clone(&sink.stats);
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = sink.serve() => {}
                    // A message and a lost sender mean the same.
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(serve)?;
        Ok(Self {
            clickhouse: real(addresses.clickhouse)?,
            otlp_http: real(addresses.otlp_http)?,
            otlp_grpc: real(addresses.otlp_grpc)?,
            stats,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for SinkThread {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the sink panicked");
        }
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
