//! Random work, faults, crashes and restarts against a simple model of what a log holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::sim::{Fault, Random, Sim};
use super::*;
use crate::wal::{Error, Fsync, OpenBatch, OpenError};

/// A request the model knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    origin: u32,
    items: u32,
    body: Bytes,
}

#[derive(Debug, Clone)]
struct Batch {
    range: Range,
    /// It has been settled, and that may not be durable yet.
    settled: bool,
    parts: Vec<String>,
}

/// What must be, and what may be, in the log.
#[derive(Debug, Default)]
struct Model {
    /// Requests answered, by sequence number.
    requests: BTreeMap<u64, Request>,
    /// Requests whose outcome nobody knows.
    unknown: Vec<Request>,
    batches: BTreeMap<u64, Batch>,
    /// A boundary, or a range given up, whose outcome nobody knows.
    unknown_boundary: Option<Range>,
    unknown_drop: Option<Range>,
    unknown_split: Option<(u64, Vec<Range>)>,
    batched: Position,
    /// Read since the last boundary.
    read: Vec<u64>,
    used_ids: std::collections::BTreeSet<u64>,
}

struct Run {
    sim: Sim,
    random: Random,
    model: Model,
    log: Log,
    reader: Reader,
    body: u32,
    power_failed: bool,
    /// A power cut has torn records that nobody had been answered for.
    torn: bool,
}

fn sim_options(random: &mut Random) -> LogOptions {
    LogOptions {
        segment_bytes: 1024 + random.below(4) * 2048,
        cache_bytes: (random.below(3) * 4096) as usize,
        idle: Duration::from_millis(1 + random.below(20)),
        retry: Duration::from_millis(2),
        fsync: Fsync::Always,
        ..LogOptions::default()
    }
}

fn open_sim(sim: &Sim, options: LogOptions) -> Result<(Log, Reader, Recovered), OpenError> {
    Log::open_on(Arc::new(sim.clone()), Path::new("/log"), options)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sim = Sim::new(seed ^ 0xABCD);
        let (log, reader, recovered) = open_sim(&sim, sim_options(&mut random)).unwrap();
        assert_eq!(recovered, Recovered::default());
        let model = Model {
            batched: log.batched(),
            ..Model::default()
        };
        Self {
            sim,
            random,
            model,
            log,
            reader,
            body: 0,
            power_failed: false,
            torn: false,
        }
    }

    fn request(&mut self) -> Request {
        self.body += 1;
        let len = match self.random.below(20) {
            0 => 5000,
            1 => 1500,
            other => other * 17,
        };
        let mut body = self.body.to_le_bytes().to_vec();
        body.resize(4 + len as usize, self.body as u8);
        Request {
            origin: self.random.below(3) as u32,
            items: 1 + self.random.below(9) as u32,
            body: body.into(),
        }
    }

    async fn append(&mut self) {
        let count = 1 + self.random.below(4);
        let mut waiting = Vec::new();
        for _ in 0..count {
            let request = self.request();
            let chunk = Chunk::new(request.body.clone(), request.items as usize);
            let committing = self.log.append(request.origin, 1, chunk.into());
            waiting.push((request, committing));
        }
        for (request, committing) in waiting {
            match committing.await {
                Ok(seq) => {
                    let before = self.model.requests.insert(seq, request);
                    assert!(before.is_none(), "number {seq} twice");
                }
                // Refused for good, unless the power was gone and nothing could be cut.
                Err(_) if !self.note_power() => {}
                Err(_) => self.model.unknown.push(request),
            }
        }
    }

    /// Whether the power has failed.
    fn note_power(&mut self) -> bool {
        self.power_failed |= self.sim.is_off();
        self.power_failed
    }

    async fn read(&mut self) {
        for _ in 0..1 + self.random.below(6) {
            let Ok(item) = self.reader.try_next().await else {
                self.note_power();
                return;
            };
            let expected = self.model.next_to_read();
            match item {
                None => {
                    assert_eq!(expected, None, "a committed request is not given out");
                    return;
                }
                Some(Item::Request(entry)) => {
                    assert_eq!(Some(entry.seq), expected);
                    self.model.check_entry(&entry);
                    self.model.read.push(entry.seq);
                }
                Some(Item::Lost(loss)) => panic!("{loss:?}"),
            }
        }
    }

    async fn boundary(&mut self) {
        let Some(range) = self.model.random_range(&mut self.random) else {
            return;
        };
        match self.log.boundary(range).await {
            Ok(id) => {
                assert!(self.model.used_ids.insert(id), "id {id} twice");
                self.model.add_batch(id, range);
                self.model.advance(range.end);
            }
            Err(_) => {
                if self.note_power() {
                    self.model.unknown_boundary = Some(range);
                }
            }
        }
    }

    fn settle(&mut self) {
        let Some(id) = self.model.random_batch(&mut self.random) else {
            return;
        };
        let outcome = match self.random.below(4) {
            0 => self.log.drop_batch(id, "rejected"),
            _ => self.log.done(id),
        };
        if outcome.is_ok() {
            self.model.batches.get_mut(&id).unwrap().settled = true;
        }
        assert!(matches!(
            self.log.done(id),
            Err(Error::UnknownBatch(_) | Error::Closed)
        ));
    }

    fn part(&mut self) {
        let Some(id) = self.model.random_batch(&mut self.random) else {
            return;
        };
        let part = format!("part{}", self.random.below(3));
        if self.log.part_done(id, &part).is_ok() {
            self.model.batches.get_mut(&id).unwrap().parts.push(part);
        }
    }

    async fn split(&mut self) {
        let Some(id) = self.model.random_batch(&mut self.random) else {
            return;
        };
        let range = self.model.batches[&id].range;
        let cuts = self.model.random_cuts(&mut self.random, range);
        if cuts.is_empty() {
            return;
        }
        let mut start = range.start;
        let mut ranges = Vec::new();
        for end in cuts.iter().copied().chain([range.end]) {
            ranges.push(Range { start, end });
            start = end;
        }
        match self.log.split(id, cuts).await {
            Ok(first) => self.model.replace(id, first, &ranges),
            Err(_) => {
                if self.note_power() {
                    self.model.unknown_split = Some((id, ranges));
                }
            }
        }
    }

    async fn give_up(&mut self) {
        let bytes = self.random.below(3000);
        match self.reader.drop_oldest(bytes, "full").await {
            Ok(Some(given)) => {
                assert_eq!(given.range.start, self.model.batched);
                assert_eq!(given.tally.items(), self.model.items_in(given.range));
                self.model.advance(given.range.end);
            }
            Ok(None) => {}
            Err(_) => {
                if self.note_power() {
                    self.model.unknown_drop = Some(Range {
                        start: self.model.batched,
                        end: Position::before(u64::MAX),
                    });
                }
            }
        }
    }

    /// Everything that was answered before is durable after this, settlements too.
    async fn barrier(&mut self) {
        let request = self.request();
        let chunk = Chunk::new(request.body.clone(), request.items as usize);
        let answer = self.log.append(request.origin, 1, chunk.into()).await;
        match answer {
            Ok(seq) => {
                self.model.requests.insert(seq, request);
                // An earlier fault may have put settlements off: wait until the log has none to write.
                let deadline = std::time::Instant::now() + crate::testing::DEADLINE;
                while self.log.open_batches().len() > self.model.open() && !self.note_power() {
                    assert!(std::time::Instant::now() < deadline);
                    tokio::task::yield_now().await;
                }
            }
            Err(_) => {
                if self.note_power() {
                    self.model.unknown.push(request);
                }
            }
        }
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..8 => self.append().await,
            8..12 => self.read().await,
            12..15 => self.boundary().await,
            15..17 => self.settle(),
            17 => self.part(),
            18 => self.split().await,
            _ if self.random.chance(3) => self.give_up().await,
            _ => self.barrier().await,
        }
    }

    fn check_stats(&self) {
        let stats = self.log.stats();
        let model = self.model.unsettled_items();
        if self.model.batches.values().any(|batch| batch.settled) || self.power_failed {
            assert!(stats.unsettled.items() >= model || self.power_failed);
            return;
        }
        assert_eq!(stats.unsettled.items(), model);
    }

    /// Ends the process in one way or another, starts again, and compares.
    async fn restart(&mut self) {
        // The writer works on: the power may fail until here, and not later.
        self.sim.clear_faults();
        let how = if self.note_power() {
            2
        } else {
            self.random.below(3)
        };
        match how {
            0 => {}
            1 => self.sim.process_died(),
            _ => self.sim.power_off(),
        }
        let options = sim_options(&mut self.random);
        self.log.close().await;
        match how {
            0 => {}
            1 => self.sim.process_died(),
            _ => self.sim.power_on(),
        }
        let (log, reader, recovered) = open_sim(&self.sim, options).unwrap();
        self.log = log;
        self.reader = reader;
        self.power_failed = false;
        self.compare(&recovered, how).await;
    }

    async fn compare(&mut self, recovered: &Recovered, how: u64) {
        println!(
            "restart {how} {:?} {:?} {} {}",
            recovered.damage,
            self.sim
                .contents()
                .iter()
                .map(|(p, c)| (p.clone(), c.len()))
                .collect::<Vec<_>>(),
            recovered.torn_bytes,
            recovered.segments
        );
        if how != 2 {
            assert_eq!(recovered.torn_bytes, 0);
            // What a power cut tore may be told again by the next start, if that start was cut short too.
            assert!(self.torn || recovered.damage.is_none());
        }
        self.model
            .take_batches(&recovered.batches, self.log.batched(), how == 0);
        for batch in &recovered.batches {
            let mut items = 0;
            for item in self.log.read(batch.range).await.unwrap() {
                let Item::Request(entry) = item else {
                    panic!("{item:?}")
                };
                self.model.check_entry(&entry);
                items += u64::from(entry.items.end - entry.items.start);
            }
            assert_eq!(items, batch.tally.items());
            assert_eq!(items, self.model.items_in(batch.range));
        }
        // All that is in no batch comes out; then it is given back by another restart.
        let mut seen = Vec::new();
        while let Some(item) = self.reader.try_next().await.unwrap() {
            let Item::Request(entry) = item else {
                panic!("{item:?}")
            };
            self.model.adopt(&entry);
            seen.push(entry.seq);
        }
        let expected: Vec<u64> = self.model.unbatched().collect();
        assert_eq!(seen, expected);
        self.model.unknown.clear();
        self.model.read = seen;
        assert_eq!(
            self.log.stats().unsettled.items(),
            self.model.unsettled_items()
        );
    }
}

impl Model {
    fn unbatched(&self) -> impl Iterator<Item = u64> {
        let batched = self.batched;
        self.requests
            .iter()
            .filter(move |(seq, _)| Position::after(**seq) > batched)
            .map(|(seq, _)| *seq)
    }

    fn next_to_read(&self) -> Option<u64> {
        let read = self.read.last().copied();
        self.unbatched()
            .find(|seq| read.is_none_or(|read| *seq > read))
    }

    fn check_entry(&self, entry: &Entry) {
        let request = &self.requests[&entry.seq];
        assert_eq!(entry.payload.to_bytes(), request.body);
        assert_eq!(entry.payload.items(), request.items as usize);
        assert_eq!(entry.origin, request.origin);
    }

    /// A request read after a restart: one that is known, or one whose outcome was unknown.
    fn adopt(&mut self, entry: &Entry) {
        if self.requests.contains_key(&entry.seq) {
            return self.check_entry(entry);
        }
        let body = entry.payload.to_bytes();
        let at = self.unknown.iter().position(|request| request.body == body);
        let at = at.expect("a refused request has come back");
        let request = self.unknown.remove(at);
        self.requests.insert(entry.seq, request);
        self.check_entry(entry);
    }

    fn add_batch(&mut self, id: u64, range: Range) {
        let batch = Batch {
            range,
            settled: false,
            parts: Vec::new(),
        };
        self.batches.insert(id, batch);
    }

    fn advance(&mut self, end: Position) {
        self.batched = self.batched.max(end);
        let batched = self.batched;
        self.read.retain(|seq| Position::after(*seq) > batched);
    }

    fn replace(&mut self, id: u64, first: u64, ranges: &[Range]) {
        let whole = self.batches.remove(&id);
        for (part, range) in (first..).zip(ranges) {
            assert!(self.used_ids.insert(part), "id {part} twice");
            self.add_batch(part, *range);
            if let (Some(whole), Some(batch)) = (&whole, self.batches.get_mut(&part)) {
                batch.parts.clone_from(&whole.parts);
            }
        }
    }

    /// A range over some of what was read, often ending inside a request.
    fn random_range(&self, random: &mut Random) -> Option<Range> {
        let count = random.below(self.read.len() as u64 + 1) as usize;
        let last = *self.read.get(count)?;
        let items = self.requests[&last].items;
        let start = self.batched;
        let from = if start.seq == last { start.item } else { 0 };
        let taken = from + 1 + random.below(u64::from(items - from)) as u32;
        let end = if taken >= items || random.chance(2) {
            Position::after(last)
        } else {
            Position {
                seq: last,
                item: taken,
            }
        };
        Some(Range { start, end })
    }

    fn random_cuts(&self, random: &mut Random, range: Range) -> Vec<Position> {
        let mut places = Vec::new();
        for (seq, request) in self.requests.range(range.start.seq..) {
            for item in 0..request.items {
                let place = Position { seq: *seq, item };
                if place > range.start && place < range.end {
                    places.push(place);
                }
            }
        }
        places.retain(|_| random.chance(4));
        places.truncate(3);
        places
    }

    fn random_batch(&self, random: &mut Random) -> Option<u64> {
        let open: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| !batch.settled)
            .map(|(id, _)| *id)
            .collect();
        open.get(random.below(open.len() as u64) as usize).copied()
    }

    fn open(&self) -> usize {
        self.batches.values().filter(|batch| !batch.settled).count()
    }

    fn items_in(&self, range: Range) -> u64 {
        let requests = self.requests.iter();
        requests
            .map(|(seq, request)| range.items_of(*seq, request.items).len() as u64)
            .sum()
    }

    fn unsettled_items(&self) -> u64 {
        let open = self.batches.values().filter(|batch| !batch.settled);
        let batched: u64 = open.map(|batch| self.items_in(batch.range)).sum();
        batched
            + self.items_in(Range {
                start: self.batched,
                end: Position::before(u64::MAX),
            })
    }

    /// Compares the batches found with those known, and takes the truth for what was unknown.
    fn take_batches(&mut self, found: &[OpenBatch], batched: Position, clean: bool) {
        let boundary = self.unknown_boundary.take();
        let dropped = self.unknown_drop.take();
        if let Some((id, ranges)) = self.unknown_split.take()
            && let Some(first) = found
                .iter()
                .find(|batch| batch.range == ranges[0] && !self.batches.contains_key(&batch.id))
        {
            self.replace(id, first.id, &ranges);
        }
        for batch in found {
            let Some(known) = self.batches.get(&batch.id) else {
                assert_eq!(Some(batch.range), boundary, "an unknown batch");
                assert!(self.used_ids.insert(batch.id));
                self.add_batch(batch.id, batch.range);
                self.advance(batch.range.end);
                continue;
            };
            assert_eq!(known.range, batch.range);
            assert!(
                batch
                    .parts_done
                    .iter()
                    .all(|part| known.parts.contains(part))
            );
            assert!(!(clean && known.settled), "a settled batch is open again");
        }
        let open: Vec<u64> = found.iter().map(|batch| batch.id).collect();
        for (id, batch) in &self.batches {
            assert!(batch.settled || open.contains(id), "batch {id} is gone");
        }
        self.batches.retain(|id, _| open.contains(id));
        for batch in self.batches.values_mut() {
            batch.settled = false;
        }
        let skipped = self.unbatched().next();
        let skips = skipped.is_some_and(|seq| Position::before(seq) < batched);
        assert!(dropped.is_some() || !skips || batched <= self.batched);
        self.advance(batched);
    }
}

/// Runs one case; how many segments' files were used again.
fn check(seed: u64, steps: u64, faults: bool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut run = runtime.block_on(async { Run::new(seed) });
    // The seed of a case that fails is in the output.
    println!("seed {seed}");
    let mut recycled = 0;
    runtime.block_on(async {
        for _ in 0..4 {
            if faults {
                let changes = run.sim.changes();
                // One failure at a time: where a cut fails too, what was refused may come back.
                let kind = [Fault::Io, Fault::Full][run.random.below(2) as usize];
                for fault in [kind, Fault::Short, Fault::Power] {
                    if run.random.chance(3) {
                        continue;
                    }
                    let at = changes + 1 + run.random.below(steps * 3);
                    run.sim.fail(at, fault);
                }
            }
            for _ in 0..steps {
                run.step().await;
                run.check_stats();
                if run.note_power() {
                    break;
                }
            }
            recycled += run.log.stats().totals.recycled_segments;
            run.restart().await;
        }
    });
    recycled
}

#[test]
fn a_log_is_what_the_model_says_without_faults() {
    let recycled: u64 = (0..60).map(|seed| check(seed, 60, false)).sum();
    assert!(recycled > 0, "no case came to use a file again");
}

#[test]
fn a_log_is_what_the_model_says_under_faults() {
    let number = |name, otherwise| {
        let value = std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok());
        value.unwrap_or(otherwise)
    };
    let first: u64 = number("TIDEGATE_WAL_SEED", 1000);
    let cases = first..first + number("TIDEGATE_WAL_CASES", 300);
    let recycled: u64 = cases.map(|seed| check(seed, 40, true)).sum();
    assert!(recycled > 0, "no case came to use a file again");
}
