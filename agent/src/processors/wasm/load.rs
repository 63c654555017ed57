//! From a file to a plugin that instances can be made of: read, pinned, checked, compiled once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ring::digest::{SHA256, digest};
use thiserror::Error;
use tracing::info;
use wasmtime::component::{Component, Linker};

use super::bindings::{self, PACKAGE, ProcessorPre, VERSION};
use super::cache::Cache;
use super::engine::Engine;
use super::host::State;
use super::wasi;
use crate::files;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// A compiled plugin, ready to be instantiated.
pub(super) struct Plugin {
    pub(super) pre: ProcessorPre<State>,
    /// The interfaces that it imports.
    pub(super) imports: Vec<String>,
}

/// A plugin that cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unloadable {
    /// The file may come, or come to be readable.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// What is in it is no plugin for this agent.
    #[error("{0}")]
    Unfit(String),
}

impl From<String> for Unloadable {
    fn from(cause: String) -> Self {
        Self::Unfit(cause)
    }
}

/// Loads the plugin in `path`. If the same content is in use already, that is taken.
///
/// # Errors
/// When it cannot be read, or is no plugin for this agent.
pub(super) fn load(path: &Path, pinned: Option<&Digest>) -> Result<Arc<Plugin>, Unloadable> {
    static LOADED: Mutex<BTreeMap<Digest, Weak<Plugin>>> = Mutex::new(BTreeMap::new());

    let content = read(path)?;
    let digest = sha256(&content);
    if let Some(pinned) = pinned.filter(|pinned| **pinned != digest) {
        let cause = format!(
            "its content has the SHA-256 {}, and the configuration allows only {}",
            hex(&digest),
            hex(pinned)
        );
        return Err(cause.into());
    }
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(|_, plugin| plugin.strong_count() > 0);
    if let Some(plugin) = loaded.get(&digest).and_then(Weak::upgrade) {
        return Ok(plugin);
    }
    // Tests leave nothing in anybody's home.
    let cache = if cfg!(test) {
        None
    } else {
        Cache::of_process()
    };
    let plugin = Arc::new(prepare(&content, &digest, cache.as_ref())?);
    loaded.insert(digest, Arc::downgrade(&plugin));
    Ok(plugin)
}

/// The content of a plugin's file. The JavaScript engine alone has 12 MB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Unloadable> {
    files::read(path, files::LARGEST).map_err(|error| match files::is_unfit(&error) {
        true => Unloadable::Unfit(error.to_string()),
        false => Unloadable::Unreadable(error),
    })
}

/// The SHA-256 of a plugin.
pub(super) fn sha256(content: &[u8]) -> Digest {
    let found = digest(&SHA256, content);
    found.as_ref().try_into().unwrap_or_default()
}

/// Bytes in hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles `content`, or takes what was compiled before, and links it.
pub(super) fn prepare(
    content: &[u8],
    digest: &Digest,
    cache: Option<&Cache>,
) -> Result<Plugin, String> {
    check_kind(content)?;
    let engine = &Engine::shared()?.wasmtime;
    let cached = cache.and_then(|cache| cache.load(engine, digest));
    let component = match cached {
        Some(component) => component,
        None => {
            info!(
                sha256 = hex(digest),
                bytes = content.len(),
                "compiling a plugin, which is not in the cache"
            );
            let component = Component::new(engine, content)
                .map_err(|error| format!("it cannot be compiled: {error:#}"))?;
            if let Some(cache) = cache {
                cache.store(engine, digest, &component);
            }
            component
        }
    };
    check_interface(engine, &component)?;
    link(engine, &component).map_err(|error| {
        format!("it does not fit the interface {PACKAGE}@{VERSION} of this agent: {error:#}")
    })
}

/// What to do with a core module.
const WRAP: &str = "build it for wasm32-wasip2, or wrap it with `wasm-tools component new`";

/// What to do with what was made for another version of the contract.
const REBUILD: &str = "build it again with the SDK of this version";

/// Whether it is a WebAssembly component at all.
fn check_kind(content: &[u8]) -> Result<(), String> {
    const MODULE: [u8; 4] = [1, 0, 0, 0];
    const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
    let Some(header) = content.strip_prefix(b"\0asm") else {
        return Err("it is not WebAssembly".to_owned());
    };
    match header.first_chunk::<4>() {
        Some(&COMPONENT) => Ok(()),
        Some(&MODULE) => {
            let (speaks, advice) = match embedded_version(content) {
                None => (String::new(), WRAP),
                Some(version) if version == VERSION => {
                    (format!(", made for {PACKAGE}@{version}"), WRAP)
                }
                Some(version) => (format!(", made for {PACKAGE}@{version}"), REBUILD),
            };
            Err(format!(
                "it is a core module of WebAssembly{speaks}, and this agent wants a component for {PACKAGE}@{VERSION}: \
                 {advice}"
            ))
        }
        Some(other) => Err(format!(
            "it has the WebAssembly version {other:02x?}, which this agent does not know"
        )),
        None => Err("it is cut off".to_owned()),
    }
}

/// The version of the contract that a module carries in the sections that bindings leave for `wasm-tools`.
fn embedded_version(content: &[u8]) -> Option<String> {
    let name = format!("{PACKAGE}/");
    let at = content
        .windows(name.len())
        .position(|bytes| bytes == name.as_bytes())?;
    let rest = content.get(at..)?.iter().take(100).copied();
    let text: String = rest.map(char::from).collect();
    let version = text.split_once('@')?.1;
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = version.get(..end.unwrap_or(version.len()))?;
    (!version.is_empty()).then(|| version.to_owned())
}

/// Whether the component is a plugin, and for which version of the contract.
fn check_interface(engine: &wasmtime::Engine, component: &Component) -> Result<(), String> {
    let found = component.component_type();
    let exports: Vec<&str> = found.exports(engine).map(|(name, _)| name).collect();
    let guest = format!("{PACKAGE}/guest@");
    let Some(version) = exports.iter().find_map(|name| name.strip_prefix(&guest)) else {
        let exports = match exports.as_slice() {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        return Err(format!(
            "it is not a plugin: it exports {exports}, and not {guest}{VERSION}"
        ));
    };
    let package = format!("{PACKAGE}/");
    let mut imports = found.imports(engine).filter_map(|(name, _)| {
        let (_, version) = name.strip_prefix(&package)?.split_once('@')?;
        Some(version)
    });
    // There is one version so far. With the second one comes what is compatible with what.
    match imports
        .find(|imported| *imported != VERSION)
        .unwrap_or(version)
    {
        VERSION => Ok(()),
        other => Err(format!(
            "it was made for {PACKAGE}@{other}, and this agent speaks {PACKAGE}@{VERSION}: {REBUILD}"
        )),
    }
}

fn link(engine: &wasmtime::Engine, component: &Component) -> wasmtime::Result<Plugin> {
    let mut linker = Linker::<State>::new(engine);
    bindings::Processor::add_to_linker::<_, wasmtime::component::HasSelf<_>>(
        &mut linker,
        |state| state,
    )?;
    wasi::add(&mut linker, component)?;
    linker.define_unknown_imports_as_traps(component)?;
    let pre = ProcessorPre::new(linker.instantiate_pre(component)?)?;
    let imports = component.component_type();
    let imports = imports.imports(engine).map(|(name, _)| name.to_owned());
    Ok(Plugin {
        pre,
        imports: imports.collect(),
    })
}
