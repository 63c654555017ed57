//! Configurations that take each other's place in the running agent, good ones and bad ones.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

/// This share of the configurations is bad in some way.
const BAD: f64 = 0.2;
/// This share of what can be changed is, each time.
const CHANGED: f64 = 0.35;

/// How long an insert may take at least. Configurations put items into memory, where they are given up if the exporter
/// goes and none of its inserts ends for its drain timeout: a database that is only slow must end some.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// A configuration that is laid over the agent's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    /// What is wrong with it, if anything is.
    pub(super) flaw: Option<&'static str>,
    pub(super) text: String,
}

/// Addresses and files that configurations are made with.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) dir: &'a Path,
    pub(super) clickhouse: String,
    /// An address that is free.
    pub(super) free: String,
    /// An address that somebody else has.
    pub(super) taken: String,
}

impl Overlay {
    /// The next one, as `random` wants it.
    pub(super) fn draw(places: &Places<'_>, random: &mut StdRng) -> Self {
        let mut text = good(places, random);
        let flaw = random
            .random_bool(BAD)
            .then(|| spoil(&mut text, places, random));
        Self { flaw, text }
    }
}

/// Everything that can be changed is changed now and then.
fn good(places: &Places<'_>, random: &mut StdRng) -> String {
    let mut tables: Vec<String> = Vec::new();
    let is = |random: &mut StdRng| random.random_bool(CHANGED);
    let number = |random: &mut StdRng, range| random.random_range::<u32, _>(range);
    if is(random) {
        let size = number(random, 4..9);
        tables.push(format!(
            "[receivers.otlp.protocols.grpc]\nmax_recv_msg_size_mib = {size}"
        ));
    }
    if is(random) {
        let size = number(random, 4..9);
        tables.push(format!(
            "[receivers.otlp.protocols.http]\nmax_request_body_size = \"{size}MiB\""
        ));
    }
    if is(random) {
        let (timeout, size) = (number(random, 20..200), number(random, 50..500));
        tables.push(format!(
            "[processors.batch]\ntimeout = \"{timeout}ms\"\nsend_batch_size = {size}"
        ));
    }
    if is(random) {
        let timeout = number(random, 10_000..15_000);
        tables.push(format!("[exporters.clickhouse]\ntimeout = \"{timeout}ms\""));
    }
    if is(random) {
        let level = ["info", "debug", "warn"]
            .choose(random)
            .copied()
            .unwrap_or("info");
        tables.push(format!("[service.telemetry.logs]\nlevel = \"{level}\""));
    }
    tables.push(queue(places, random));
    tables.extend(service(places, random));
    tables.join("\n\n") + "\n"
}

/// The queue on disk, on another disk, or in memory.
fn queue(places: &Places<'_>, random: &mut StdRng) -> String {
    let mut text = "[exporters.clickhouse.sending_queue]".to_owned();
    let consumers = random.random_range(1..6);
    let place = match random.random_range(0..8) {
        0 => "storage = \"memory\"\nsizer = \"bytes\"\nqueue_size = 67108864".to_owned(),
        1 => {
            let other = places.dir.join("other");
            format!("storage = \"wal\"\ndirectory = \"{}\"", other.display())
        }
        2 => "max_size = \"512MiB\"".to_owned(),
        3 => "fsync = \"100ms\"".to_owned(),
        _ => return text + &format!("\nnum_consumers = {consumers}"),
    };
    write!(text, "\nnum_consumers = {consumers}\n{place}").expect("a String takes everything");
    text
}

/// Pipelines of another shape, and what runs beside them.
fn service(places: &Places<'_>, random: &mut StdRng) -> Vec<String> {
    let mut tables = vec![
        "[exporters.debug]\nsampling_initial = 0\nsampling_thereafter = 0".to_owned(),
        "[processors.memory_limiter]\nlimit_mib = 100000".to_owned(),
        format!(
            "[exporters.\"clickhouse/second\"]\nendpoint = \"http://{}\"\ntimeout = \"{}s\"\n\
             retry_on_failure = {{ initial_interval = \"50ms\", max_interval = \"500ms\" }}",
            places.clickhouse,
            TIMEOUT.as_secs()
        ),
        format!("[extensions.health_check]\nendpoint = \"{}\"", places.free),
    ];
    let extensions = match random.random_bool(CHANGED) {
        true => "\"health_check\"",
        false => "",
    };
    let drain = random.random_range(50..60);
    tables.push(format!(
        "[service]\nextensions = [{extensions}]\ndrain_timeout = \"{drain}s\""
    ));
    for signal in ["traces", "metrics", "logs"] {
        let exporters = match random.random_range(0..6) {
            0 => "\"clickhouse\", \"debug\"",
            1 => "\"clickhouse/second\"",
            _ => "\"clickhouse\"",
        };
        let processors = match random.random_range(0..6) {
            0 => "",
            1 => "\"memory_limiter\", \"batch\"",
            _ => "\"batch\"",
        };
        tables.push(format!(
            "[service.pipelines.{signal}]\nreceivers = [\"otlp\"]\nprocessors = [{processors}]\nexporters = [{exporters}]"
        ));
    }
    tables
}

/// Files that plugins are said to be in, by what is wrong with them.
pub(super) const PLUGINS: [(&str, &[u8]); 4] = [
    ("plugin that is no WebAssembly", b"#!/bin/sh\n"),
    ("plugin that is cut off", b"\0asm"),
    ("plugin that is a core module", b"\0asm\x01\0\0\0"),
    ("plugin that exports nothing", b"\0asm\x0d\0\x01\0"),
];

/// The name of the file of one of [`PLUGINS`].
pub(super) fn plugin_file(flaw: &str) -> String {
    format!("{}.wasm", flaw.replace(' ', "-"))
}

/// Where no file is.
const NO_PLUGIN: &str = "plugin that is not there";

/// A plugin that cannot be loaded, in a pipeline: what is wrong with it, and the tables.
fn unloadable(places: &Places<'_>, random: &mut StdRng) -> (&'static str, String) {
    let flaws = PLUGINS.map(|(flaw, _)| flaw);
    let flaw = flaws.iter().copied().chain([NO_PLUGIN]);
    let flaw = flaw.choose(random).unwrap_or(NO_PLUGIN);
    let tables = format!(
        "[processors.\"wasm/more\"]\npath = \"{}\"\n[service.pipelines.\"logs/more\"]\nreceivers = [\"otlp\"]\n\
         processors = [\"wasm/more\"]\nexporters = [\"clickhouse\"]",
        places.dir.join(plugin_file(flaw)).display()
    );
    (flaw, tables)
}

/// Makes a configuration a bad one and says how.
fn spoil(text: &mut String, places: &Places<'_>, random: &mut StdRng) -> &'static str {
    let (flaw, more) = match random.random_range(0..6) {
        0 => ("syntax", "this is no TOML".to_owned()),
        1 => (
            "unknown key",
            "[receivers.otlp.protocols.tcp]\nx = 1".to_owned(),
        ),
        2 => (
            "undefined component",
            "[service.pipelines.\"logs/more\"]\nreceivers = [\"otlp\"]\nexporters = [\"nobody\"]"
                .to_owned(),
        ),
        3 => (
            "port in use",
            format!(
                "[receivers.\"otlp/more\".protocols.grpc]\nendpoint = \"{}\"\n[service.pipelines.\"logs/more\"]\n\
                 receivers = [\"otlp/more\"]\nexporters = [\"clickhouse\"]",
                places.taken
            ),
        ),
        4 => unloadable(places, random),
        _ => (
            "folder that cannot be",
            format!(
                "[exporters.\"clickhouse/more\"]\nendpoint = \"http://{}\"\n\
                 sending_queue = {{ storage = \"wal\", directory = \"{}/queue\" }}\n[service.pipelines.\"logs/more\"]\n\
                 receivers = [\"otlp\"]\nexporters = [\"clickhouse/more\"]",
                places.clickhouse,
                places.dir.join("agent.toml").display()
            ),
        ),
    };
    text.push('\n');
    text.push_str(&more);
    text.push('\n');
    flaw
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    fn draw(count: usize) -> Vec<Overlay> {
        let places = Places {
            dir: Path::new("/d"),
            clickhouse: "c:1".to_owned(),
            free: "f:1".to_owned(),
            taken: "t:1".to_owned(),
        };
        let mut random = StdRng::seed_from_u64(7);
        (0..count)
            .map(|_| Overlay::draw(&places, &mut random))
            .collect()
    }

    #[test]
    fn every_flaw_comes_up() {
        let drawn = draw(1000);
        let flaws: BTreeSet<_> = drawn.iter().filter_map(|overlay| overlay.flaw).collect();
        let of_plugins = PLUGINS.iter().map(|(flaw, _)| *flaw).chain([NO_PLUGIN]);
        for flaw in of_plugins.chain(["syntax", "port in use", "folder that cannot be"]) {
            assert!(flaws.contains(flaw), "{flaw} is not in {flaws:?}");
        }
        assert_eq!(flaws.len(), 10, "{flaws:?}");
        let plugin = drawn
            .iter()
            .find(|overlay| overlay.flaw == Some(PLUGINS[0].0));
        let text = &plugin.unwrap().text;
        assert!(
            text.contains("path = \"/d/plugin-that-is-no-WebAssembly.wasm\""),
            "{text}"
        );
        assert!(text.contains("processors = [\"wasm/more\"]"), "{text}");
    }

    #[test]
    fn configurations_differ_and_some_are_bad() {
        let drawn = draw(200);
        let bad = drawn
            .iter()
            .filter(|overlay| overlay.flaw.is_some())
            .count();
        assert!((20..80).contains(&bad), "{bad}");
        let mut texts: Vec<_> = drawn.iter().map(|overlay| &overlay.text).collect();
        texts.sort();
        texts.dedup();
        assert!(texts.len() > 150, "{}", texts.len());
    }
}
