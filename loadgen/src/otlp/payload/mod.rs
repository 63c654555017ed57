//! Pre-built requests: realistic, varied, encoded once, and numbered in place each time they are sent.

mod logs;
mod metrics;
mod stamp;
mod traces;
mod vocabulary;
use std::collections::VecDeque;

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub(crate) use metrics::MetricKind;
pub(crate) use stamp::{FIRST_ITEM, Numbering};

use super::compression::Compression;
use super::signal::Signal;
use stamp::Site;

/// A gRPC message starts with a flag (compressed or not) and four bytes of length. It stands before
/// every body, so that the same buffer serves both protocols.
const GRPC_PREFIX: usize = 5;
/// More would not tell anything new and would push the agent out of memory on a small machine.
const POOL_BYTES_MAX: usize = 4 << 30;
/// Length of values that are chosen from a number of different ones, if nobody said otherwise.
const CHOSEN_BYTES: usize = 16;
/// The attribute that carries an item's number.
pub(crate) const ITEM_KEY: &str = "loadgen.item";

/// What a request looks like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) signal: Signal,
    /// Spans, log records or data points in a request.
    pub(crate) items: usize,
    /// Attributes of an item, its number included.
    pub(crate) attributes: usize,
    /// Length of every string attribute's value, in bytes; their natural lengths when absent.
    pub(crate) attribute_size: Option<usize>,
    /// Different values of each string attribute; as in nature when absent.
    pub(crate) cardinality: Option<u32>,
    /// What the points of metrics belong to.
    pub(crate) metric_kinds: Vec<MetricKind>,
    /// Value of the resource attribute `loadgen.run`.
    pub(crate) run: String,
    /// Chooses names, values and sizes; the same seed gives the same payload.
    pub(crate) seed: u64,
}

impl Shape {
    /// As nobody said otherwise.
    pub(crate) fn natural(signal: Signal, items: usize, run: &str, seed: u64) -> Self {
        Self {
            signal,
            items,
            attributes: Self::default_attributes(signal),
            attribute_size: None,
            cardinality: None,
            metric_kinds: MetricKind::USUAL.to_vec(),
            run: run.to_owned(),
            seed,
        }
    }

    /// Attributes of an item when nobody says otherwise: spans have ten, of 427 bytes a span in all.
    pub(crate) fn default_attributes(signal: Signal) -> usize {
        match signal {
            Signal::Traces => 10,
            Signal::Logs => 8,
            Signal::Metrics => 4,
        }
    }

    fn encode(&self, index: usize) -> Vec<u8> {
        let seed = self
            .seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(index as u64);
        let random = &mut StdRng::seed_from_u64(seed);
        match self.signal {
            Signal::Traces => traces::request(self, index, random).encode_to_vec(),
            Signal::Logs => logs::request(self, index, random).encode_to_vec(),
            Signal::Metrics => metrics::request(self, index, random).encode_to_vec(),
        }
    }

    /// Brings attributes to the number and size asked for; the last one carries the item's number.
    fn fit(&self, mut attributes: Vec<KeyValue>, random: &mut StdRng) -> Vec<KeyValue> {
        let wanted = self.attributes.saturating_sub(1);
        attributes.truncate(wanted);
        for index in attributes.len()..wanted {
            let value = format!("{:016x}", random.random::<u64>());
            attributes.push(vocabulary::string(
                &format!("app.attribute.{index:02}"),
                value,
            ));
        }
        for attribute in &mut attributes {
            match (self.cardinality, self.attribute_size) {
                (Some(values), size) => choose(attribute, values, size, random),
                (None, Some(size)) => resize(attribute, size, random),
                (None, None) => {}
            }
        }
        attributes.push(vocabulary::int(ITEM_KEY, FIRST_ITEM.cast_signed()));
        attributes
    }
}

/// Cuts or fills a string value to `size` bytes; other values stay as they are.
fn resize(attribute: &mut KeyValue, size: usize, random: &mut StdRng) {
    let Some(text) = text_of(attribute) else {
        return;
    };
    text.truncate(size);
    fill(text, size, random);
}

/// Makes a string value one of `values` different ones, of `size` bytes; other values stay as they are.
fn choose(attribute: &mut KeyValue, values: u32, size: Option<usize>, random: &mut StdRng) {
    let Some(text) = text_of(attribute) else {
        return;
    };
    let choice = random.random_range(0..values.max(1));
    let size = size.unwrap_or(CHOSEN_BYTES);
    // The number from behind: where a value is shorter than its number, the digits that differ most stay.
    *text = format!("{choice:08x}").chars().rev().take(size).collect();
    fill(text, size, &mut StdRng::seed_from_u64(u64::from(choice)));
}

fn text_of(attribute: &mut KeyValue) -> Option<&mut String> {
    match attribute.value.as_mut()?.value.as_mut()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn fill(text: &mut String, size: usize, random: &mut StdRng) {
    let mut bytes = [0_u8; 64];
    while text.len() < size {
        random.fill(&mut bytes);
        let letters = bytes.iter().map(|it| char::from(b'a' + it % 26));
        text.extend(letters.take(size - text.len()));
    }
}

/// Bytes that a pool may have here: of what is free, some is for everything else.
pub(crate) fn memory_max() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return POOL_BYTES_MAX as u64;
    };
    system.refresh_memory();
    let free = system.available_memory();
    let within = system.cgroup_limits().map_or(free, |it| it.free_memory);
    let free = free.min(within);
    (free / 4 * 3).min(POOL_BYTES_MAX as u64)
}

/// Whether a pool of `size` requests has a chance to be of `limit` bytes at most: before it is built, which takes its time.
///
/// # Errors
/// When it has none, with what to make smaller.
pub(crate) fn check_size(
    shape: &Shape,
    size: usize,
    compression: Compression,
    limit: u64,
) -> anyhow::Result<()> {
    /// Items that are built to see how large they are.
    const SAMPLE_ITEMS: usize = 16;
    /// More is not built only to see that.
    const SAMPLE_BYTES_MAX: usize = 16 << 20;
    /// A request is there as objects, as a message and in its frame while it is built.
    const WHILE_BUILT: u64 = 4;

    // What an item is known to have.
    let attributes = shape.attributes.saturating_sub(1);
    let known = attributes.saturating_mul(shape.attribute_size.unwrap_or(0));
    let (plain, sent) = if known > SAMPLE_BYTES_MAX {
        (known as u64, known as u64)
    } else {
        let items = shape
            .items
            .min(SAMPLE_ITEMS)
            .min(SAMPLE_BYTES_MAX / known.max(1))
            .max(1);
        let sample = Shape {
            items,
            ..shape.clone()
        };
        let mut request = Request::build(&sample, 0)?;
        let plain = request.bytes() / items;
        request.compress(compression)?;
        (plain as u64, (request.bytes() / items) as u64)
    };
    let items = shape.items as u64;
    let one = sent.saturating_mul(items);
    let building = plain.saturating_mul(items).saturating_mul(WHILE_BUILT);
    let needed = one.saturating_mul(size as u64).saturating_add(building);
    if needed <= limit {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes >> 20;
    let fits = limit.saturating_sub(building) / one.max(1);
    let help = match fits {
        0 => "use a smaller --batch-size or --attribute-size".to_owned(),
        fits => format!(
            "use a smaller --batch-size or --attribute-size, or a --pool of {fits} at most (and as few --connections)"
        ),
    };
    bail!(
        "{size} requests of {items} {} need about {} MiB ({plain} bytes an item), and there are {} MiB to be had: {help}",
        shape.signal.items(),
        mebibytes(needed),
        mebibytes(limit)
    )
}

/// One pre-built request.
#[derive(Debug)]
pub(crate) struct Request {
    /// gRPC prefix, then the (perhaps compressed) message.
    buffer: Bytes,
    sites: Vec<Site>,
    items: usize,
    /// The time its timestamps were last moved to, nanoseconds since 1970.
    stamped_at: u64,
}

impl Request {
    fn build(shape: &Shape, index: usize) -> anyhow::Result<Self> {
        let message = shape.encode(index);
        let sites = stamp::find_sites(shape.signal, &message, GRPC_PREFIX)
            .context("payload as encoded does not have the expected form")?;
        if sites.len() != shape.items {
            bail!(
                "payload has {} items instead of {}",
                sites.len(),
                shape.items
            );
        }
        Ok(Self {
            buffer: frame(&message, false)?,
            sites,
            items: shape.items,
            stamped_at: stamp::TEMPLATE_TIME,
        })
    }

    /// A request as somebody else has encoded it: it is sent as it is.
    ///
    /// # Errors
    /// When it is of 4 GiB or more.
    pub(crate) fn from_message(message: &[u8], items: usize) -> anyhow::Result<Self> {
        Ok(Self {
            buffer: frame(message, false)?,
            sites: Vec::new(),
            items,
            stamped_at: 0,
        })
    }

    /// Gives its items the numbers from `first_item` on, fresh ids, and times just before `now`
    /// (nanoseconds since 1970).
    ///
    /// In place: the buffer is only copied when an earlier send of it has not finished.
    pub(crate) fn stamp(&mut self, numbering: Numbering, first_item: u64, now: u64) {
        let mut buffer = std::mem::take(&mut self.buffer)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        let shift = now.wrapping_sub(self.stamped_at);
        stamp::patch(&mut buffer, &self.sites, numbering, first_item, shift);
        self.stamped_at = now;
        self.buffer = buffer.freeze();
    }

    fn compress(&mut self, compression: Compression) -> anyhow::Result<()> {
        let message = compression.compress(&self.message())?;
        self.buffer = frame(&message, compression != Compression::None)?;
        self.sites = Vec::new();
        Ok(())
    }

    /// Compressed requests cannot: they are sent as they were built.
    pub(crate) fn can_be_stamped(&self) -> bool {
        !self.sites.is_empty()
    }

    /// The body of an OTLP/HTTP request.
    pub(crate) fn message(&self) -> Bytes {
        self.buffer.slice(GRPC_PREFIX..)
    }

    /// The body of a gRPC request: the message with its length before it.
    pub(crate) fn grpc_message(&self) -> Bytes {
        self.buffer.clone()
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Bytes of the message as sent, without any framing.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len() - GRPC_PREFIX
    }
}

fn frame(message: &[u8], compressed: bool) -> anyhow::Result<Bytes> {
    let length = u32::try_from(message.len()).context("a request of 4 GiB or more")?;
    let mut buffer = BytesMut::with_capacity(GRPC_PREFIX + message.len());
    buffer.put_u8(u8::from(compressed));
    buffer.put_u32(length);
    buffer.put_slice(message);
    Ok(buffer.freeze())
}

/// The requests of a run, taken in turn.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: VecDeque<Request>,
    /// For making requests of another size.
    shape: Shape,
    numbering: Numbering,
    /// Nanoseconds since 1970.
    built_at: u64,
    facts: Facts,
}

/// What the payload of a run is like; printed beside its figures.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Facts {
    pub(crate) signal: Signal,
    pub(crate) compression: Compression,
    pub(crate) requests: usize,
    pub(crate) items_per_request: usize,
    pub(crate) attributes_per_item: usize,
    /// Different values of each string attribute; absent if as in nature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attribute_cardinality: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) metric_kinds: Vec<MetricKind>,
    /// Uncompressed request bytes divided by items, over the whole pool.
    pub(crate) bytes_per_item: f64,
    /// The same, as sent.
    pub(crate) bytes_per_item_sent: f64,
    /// Whether ids, times and item numbers are made new at each send.
    pub(crate) stamped_at_each_send: bool,
    pub(crate) seed: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) run: String,
}

impl Pool {
    /// Builds `size` different requests, numbered from item 0 on.
    ///
    /// # Errors
    /// When the pool would not fit in memory, or compression fails.
    pub(crate) fn build(
        shape: &Shape,
        size: usize,
        compression: Compression,
        numbering: Numbering,
        now: u64,
    ) -> anyhow::Result<Self> {
        let (mut plain, mut sent) = (0, 0);
        let mut idle = VecDeque::with_capacity(size);
        for index in 0..size {
            let mut request = Request::build(shape, index)?;
            request.stamp(numbering, (index * shape.items) as u64, now);
            plain += request.bytes();
            if compression != Compression::None {
                request.compress(compression)?;
            }
            sent += request.bytes();
            if sent > POOL_BYTES_MAX {
                bail!(
                    "{size} requests of {} items take more than 4 GiB: use a smaller --pool or --batch-size",
                    shape.items
                );
            }
            idle.push_back(request);
        }
        let items = (size * shape.items) as f64;
        let facts = Facts {
            signal: shape.signal,
            compression,
            requests: size,
            items_per_request: shape.items,
            attributes_per_item: shape.attributes,
            attribute_cardinality: shape.cardinality,
            metric_kinds: match shape.signal {
                Signal::Metrics => shape.metric_kinds.clone(),
                Signal::Traces | Signal::Logs => Vec::new(),
            },
            bytes_per_item: plain as f64 / items,
            bytes_per_item_sent: sent as f64 / items,
            stamped_at_each_send: compression == Compression::None,
            seed: shape.seed,
            run: shape.run.clone(),
        };
        Ok(Self {
            idle,
            shape: shape.clone(),
            numbering,
            built_at: now,
            facts,
        })
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The request that was idle for longest, or one made now when `items` is not the pool's size: the
    /// last request of a run is often smaller.
    ///
    /// # Errors
    /// When all requests are being sent.
    pub(crate) fn take(&mut self, items: u64) -> anyhow::Result<Request> {
        if items != self.shape.items as u64 {
            return self.build_one(usize::try_from(items)?);
        }
        self.idle
            .pop_front()
            .context("the pool has fewer requests than are sent at once")
    }

    fn build_one(&self, items: usize) -> anyhow::Result<Request> {
        let shape = Shape {
            items,
            ..self.shape.clone()
        };
        let mut request = Request::build(&shape, 0)?;
        if self.facts.compression != Compression::None {
            let number = self.facts.requests * self.shape.items;
            request.stamp(self.numbering, number as u64, self.built_at);
            request.compress(self.facts.compression)?;
        }
        Ok(request)
    }

    /// Takes a request back after it was sent.
    pub(crate) fn give_back(&mut self, request: Request) {
        if request.items == self.shape.items {
            self.idle.push_back(request);
        }
    }
}

#[cfg(test)]
mod tests;
