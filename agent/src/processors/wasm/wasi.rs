//! What a guest's standard library asks of the system: answered with nothing, unless the configuration grants it.
//!
//! Languages that compile to `wasm32-wasip2` import parts of WASI 0.2 whether a plugin needs them or not. Of these only
//! what a start of the runtime and a last message need is there: no files, no sockets, no waiting. Everything else that is
//! imported ends the call that uses it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{Result, StoreContextMut, bail};

use super::bindings::Level;
use super::host::State;

/// What the configuration grants.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Grants {
    pub(super) clock: bool,
    pub(super) random: bool,
    pub(super) environment: Vec<(String, String)>,
}

/// The version of WASI that a component gets which does not say which one it wants.
const VERSION: &str = "0.2.0";

/// All versions that are compatible with that begin so.
const LINE: &str = "0.2.";

/// Random bytes in one call.
const RANDOM_MAX: u64 = 64 << 10;

/// Bytes of the last words that are kept.
const LAST_WORDS_MAX: usize = 2048;

struct InputStream;
struct OutputStream;
struct IoError;
struct Pollable;
struct Terminal;
struct Descriptor;

/// The representation of a stream: which one it is.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Context<'a> = StoreContextMut<'a, State>;

/// A linker that is given interfaces in the version that a component wants.
struct Interfaces<'a> {
    linker: &'a mut Linker<State>,
    /// The names of what the component imports.
    wanted: Vec<String>,
}

impl Interfaces<'_> {
    fn instance(&mut self, interface: &str) -> Result<LinkerInstance<'_, State>> {
        let begin = format!("wasi:{interface}@");
        let mut wanted = self.wanted.iter();
        let wanted = wanted.find(|name| {
            name.strip_prefix(&begin)
                .is_some_and(|version| version.starts_with(LINE))
        });
        match wanted {
            Some(name) => self.linker.instance(name),
            None => self.linker.instance(&format!("{begin}{VERSION}")),
        }
    }
}

/// Adds all of it, in the versions that `component` wants.
pub(super) fn add(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    let imports = component.component_type();
    let wanted = imports.imports(&engine).map(|(name, _)| name.to_owned());
    let mut interfaces = Interfaces {
        wanted: wanted.collect(),
        linker,
    };
    resources(&mut interfaces, component)?;
    cli(&mut interfaces)?;
    terminals(&mut interfaces)?;
    poll(&mut interfaces)?;
    streams(&mut interfaces)?;
    clocks(&mut interfaces)?;
    random(&mut interfaces)?;
    let mut preopens = interfaces.instance("filesystem/preopens")?;
    preopens.func_wrap("get-directories", |_: Context<'_>, ()| {
        Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
    })
}

fn cli(interfaces: &mut Interfaces<'_>) -> Result<()> {
    let mut environment = interfaces.instance("cli/environment")?;
    environment.func_wrap("get-environment", |store: Context<'_>, ()| {
        Ok((store.data().grants.environment.clone(),))
    })?;
    environment.func_wrap("get-arguments", |_: Context<'_>, ()| {
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |_: Context<'_>, ()| Ok((None::<String>,)))?;
    let mut exit = interfaces.instance("cli/exit")?;
    exit.func_wrap(
        "exit",
        |_: Context<'_>, (_,): (Result<(), ()>,)| -> Result<()> {
            bail!("the plugin asked to exit")
        },
    )
}

/// Kinds of things that a guest holds. An interface that uses one of another interface names it, too.
fn resources(interfaces: &mut Interfaces<'_>, component: &Component) -> Result<()> {
    let engine = interfaces.linker.engine().clone();
    for (interface, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        if !interface.starts_with("wasi:") {
            continue;
        }
        for (name, export) in instance.exports(&engine) {
            let ComponentItem::Resource(_) = export.ty else {
                continue;
            };
            let kind = match name {
                "descriptor" => ResourceType::host::<Descriptor>(),
                "error" => ResourceType::host::<IoError>(),
                "input-stream" => ResourceType::host::<InputStream>(),
                "output-stream" => ResourceType::host::<OutputStream>(),
                "pollable" => ResourceType::host::<Pollable>(),
                "terminal-input" | "terminal-output" => ResourceType::host::<Terminal>(),
                _ => continue,
            };
            let mut instance = interfaces.linker.instance(interface)?;
            instance.resource(name, kind, |_, _| Ok(()))?;
        }
    }
    Ok(())
}

fn terminals(interfaces: &mut Interfaces<'_>) -> Result<()> {
    for stream in ["stdin", "stdout", "stderr"] {
        let mut instance = interfaces.instance(&format!("cli/terminal-{stream}"))?;
        let function = format!("get-terminal-{stream}");
        instance.func_wrap(&function, |_: Context<'_>, ()| {
            Ok((None::<Resource<Terminal>>,))
        })?;
    }
    Ok(())
}

/// Nothing here ever has to be waited for.
fn poll(interfaces: &mut Interfaces<'_>) -> Result<()> {
    type Polled = Resource<Pollable>;
    let mut poll = interfaces.instance("io/poll")?;
    poll.func_wrap("poll", |_: Context<'_>, (all,): (Vec<Polled>,)| {
        let ready: Vec<u32> = (0..).take(all.len()).collect();
        Ok((ready,))
    })?;
    poll.func_wrap(
        "[method]pollable.block",
        |_: Context<'_>, (_,): (Polled,)| Ok(()),
    )?;
    poll.func_wrap(
        "[method]pollable.ready",
        |_: Context<'_>, (_,): (Polled,)| Ok((true,)),
    )
}

fn streams(interfaces: &mut Interfaces<'_>) -> Result<()> {
    let mut streams = interfaces.instance("io/streams")?;
    type Stream = Resource<OutputStream>;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |_: Context<'_>, (_,): (Stream,)| Ok((Ok::<u64, StreamError>(LAST_WORDS_MAX as u64),)),
    )?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |_: Context<'_>, (_,): (Stream,)| Ok((Resource::<Pollable>::new_own(0),)),
    )?;
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |_: Context<'_>, (_,): (Resource<InputStream>,)| Ok((Resource::<Pollable>::new_own(0),)),
    )?;
    for write in ["write", "blocking-write-and-flush"] {
        let name = format!("[method]output-stream.{write}");
        streams.func_wrap(
            &name,
            |mut store: Context<'_>, (to, bytes): (Stream, Vec<u8>)| {
                say(store.data_mut(), to.rep(), &bytes);
                Ok((Ok::<(), StreamError>(()),))
            },
        )?;
    }
    for flush in ["flush", "blocking-flush"] {
        let name = format!("[method]output-stream.{flush}");
        streams.func_wrap(&name, |_: Context<'_>, (_,): (Stream,)| {
            Ok((Ok::<(), StreamError>(()),))
        })?;
    }
    for read in ["read", "blocking-read"] {
        let name = format!("[method]input-stream.{read}");
        streams.func_wrap(
            &name,
            |_: Context<'_>, (_, _): (Resource<InputStream>, u64)| {
                Ok((Err::<Vec<u8>, StreamError>(StreamError::Closed),))
            },
        )?;
    }

    let mut stdin = interfaces.instance("cli/stdin")?;
    stdin.func_wrap("get-stdin", |_: Context<'_>, ()| {
        Ok((Resource::<InputStream>::new_own(0),))
    })?;
    for (name, rep) in [("stdout", STDOUT), ("stderr", STDERR)] {
        let mut instance = interfaces.instance(&format!("cli/{name}"))?;
        instance.func_wrap(&format!("get-{name}"), move |_: Context<'_>, ()| {
            Ok((Resource::<OutputStream>::new_own(rep),))
        })?;
    }
    Ok(())
}

/// Text on a standard stream goes to the log. What came to standard error last is kept: it says why a guest gave up.
fn say(state: &mut State, stream: u32, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if stream != STDERR {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            state.shared.log.line(Level::Info, line);
        }
        return;
    }
    let room = LAST_WORDS_MAX.saturating_sub(state.last_words.len());
    let end = text.floor_char_boundary(room);
    state
        .last_words
        .push_str(text.get(..end).unwrap_or_default());
}

fn clocks(interfaces: &mut Interfaces<'_>) -> Result<()> {
    let began = Instant::now();
    let mut monotonic = interfaces.instance("clocks/monotonic-clock")?;
    let since = move |store: Context<'_>, ()| {
        let now = match store.data().grants.clock {
            true => u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            false => 0,
        };
        Ok((now,))
    };
    monotonic.func_wrap("now", since)?;
    monotonic.func_wrap("resolution", |_: Context<'_>, ()| Ok((1_u64,)))?;
    let mut wall = interfaces.instance("clocks/wall-clock")?;
    wall.func_wrap("now", |store: Context<'_>, ()| {
        let now = match store.data().grants.clock {
            true => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            false => std::time::Duration::ZERO,
        };
        Ok((Datetime {
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
        },))
    })?;
    wall.func_wrap("resolution", |_: Context<'_>, ()| {
        Ok((Datetime {
            seconds: 0,
            nanoseconds: 1,
        },))
    })
}

fn random(interfaces: &mut Interfaces<'_>) -> Result<()> {
    for (interface, bytes, number) in [
        ("random/random", "get-random-bytes", "get-random-u64"),
        (
            "random/insecure",
            "get-insecure-random-bytes",
            "get-insecure-random-u64",
        ),
    ] {
        let mut instance = interfaces.instance(interface)?;
        instance.func_wrap(bytes, |store: Context<'_>, (length,): (u64,)| {
            if length > RANDOM_MAX {
                bail!("{length} random bytes at once are more than {RANDOM_MAX}");
            }
            let mut bytes = vec![0; length as usize];
            fill(&store.data().grants, &mut bytes)?;
            Ok((bytes,))
        })?;
        instance.func_wrap(number, |store: Context<'_>, ()| {
            let mut bytes = [0; 8];
            fill(&store.data().grants, &mut bytes)?;
            Ok((u64::from_le_bytes(bytes),))
        })?;
    }
    let mut seed = interfaces.instance("random/insecure-seed")?;
    seed.func_wrap("insecure-seed", |store: Context<'_>, ()| {
        let mut bytes = [0; 16];
        fill(&store.data().grants, &mut bytes)?;
        let (low, high) = bytes.split_at(8);
        let number = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or_default());
        Ok(((number(low), number(high)),))
    })
}

/// Random bytes where they are granted. Otherwise the same every time: that is enough for a runtime to start, whose hash
/// tables ask for a seed.
fn fill(grants: &Grants, bytes: &mut [u8]) -> Result<()> {
    if !grants.random {
        bytes.fill(0x5a);
        return Ok(());
    }
    if SystemRandom::new().fill(bytes).is_err() {
        bail!("the system gives no random bytes");
    }
    Ok(())
}
