//! What a user writes under `[processors.wasm]`, and what the processor trusts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::load::Digest;
use super::wasi::Grants;
use crate::config::Section;
use crate::units::{ByteSize, HumanDuration};

/// What becomes of a batch when the plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnError {
    /// It goes on as it came.
    Pass,
    /// It is dropped, and counted.
    Drop,
    /// It is refused, and its sender asked to try again. Where the sender was answered before, it is dropped.
    #[default]
    Refuse,
}

/// What a plugin may have of the system.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// The time. Without it every clock stands at 0.
    Clock,
    /// Random numbers. Without it they are the same at every start.
    Random,
}

/// `[processors.wasm]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// The plugin, a WebAssembly component of at most 64 MiB. When the file changes, the new one takes its place. Required.
    #[schemars(extend("x-required" = true))]
    pub path: String,
    /// The plugin's own configuration. What may be in it, the plugin says.
    pub config: Map<String, Value>,
    /// How long the plugin may take for one batch.
    #[schemars(extend("x-more-than" = "0s"))]
    pub timeout: HumanDuration,
    /// How much memory an instance of the plugin may have, from 128 KiB to 4 GiB; there is one in each pipeline.
    pub memory_limit: ByteSize,
    /// How large a batch may be that comes out of the plugin; more than 0.
    pub output_limit: ByteSize,
    /// What becomes of a batch when the plugin fails: `refuse`, `drop` or `pass`.
    pub on_error: OnError,
    /// The SHA-256 of the plugin in hex digits. If given, nothing else is loaded.
    pub sha256: String,
    /// What the plugin may have of the system: `clock`, `random`.
    pub grant: Vec<Grant>,
    /// Environment variables that the plugin may read.
    pub environment: Vec<String>,
    /// Files of at most 16 MiB that the plugin may read, by the name under which it asks for them. When one changes, the plugin
    /// starts anew.
    pub files: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: String::new(),
            config: Map::new(),
            timeout: HumanDuration::from_secs(1),
            memory_limit: ByteSize(128 << 20),
            output_limit: ByteSize(32 << 20),
            on_error: OnError::default(),
            sha256: String::new(),
            grant: Vec::new(),
            environment: Vec::new(),
            files: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The limits in words.
    pub(super) fn limits(&self) -> String {
        let Self {
            timeout,
            memory_limit,
            output_limit,
            ..
        } = self;
        format!("memory_limit {memory_limit}, output_limit {output_limit}, timeout {timeout}")
    }
}

/// The smallest memory in which a plugin can start: a page for its data and one for its stack.
const MEMORY_MIN: u64 = 128 << 10;

/// What a 32-bit guest can address.
const MEMORY_MAX: u64 = 4 << 30;

/// Validated [`Options`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    /// JSON text.
    pub(super) config: String,
    pub(super) timeout: Duration,
    pub(super) memory_max: usize,
    pub(super) output_max: usize,
    pub(super) on_error: OnError,
    pub(super) sha256: Option<Digest>,
    pub(super) grants: Grants,
    pub(super) files: BTreeMap<String, PathBuf>,
}

/// Validates what a user wrote.
pub(super) fn resolve(options: Options, section: &mut Section<'_>) -> Settings {
    if options.path.is_empty() {
        section.error("path", "is required: the file of the plugin");
    }
    if options.timeout.0.is_zero() {
        section.error("timeout", "must be greater than 0");
    }
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&options.memory_limit.0) {
        section.error("memory_limit", "must be from 128KiB to 4GiB");
    }
    if options.output_limit.0 == 0 {
        section.error("output_limit", "must be greater than 0");
    }
    for (name, path) in &options.files {
        if path.is_empty() {
            section.error(&format!("files.{name}"), "names no file");
        }
    }
    let sha256 = pin(&options.sha256, section);
    let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let files = options.files.into_iter();
    Settings {
        path: options.path.into(),
        config: Value::Object(options.config).to_string(),
        timeout: options.timeout.0,
        memory_max: bytes(options.memory_limit),
        output_max: bytes(options.output_limit),
        on_error: options.on_error,
        sha256,
        grants: Grants {
            clock: options.grant.contains(&Grant::Clock),
            random: options.grant.contains(&Grant::Random),
            environment: granted(options.environment, section),
        },
        files: files.map(|(name, path)| (name, path.into())).collect(),
    }
}

fn pin(text: &str, section: &mut Section<'_>) -> Option<Digest> {
    if text.is_empty() {
        return None;
    }
    let mut digest = Digest::default();
    let digits = text.as_bytes().as_chunks::<2>();
    let fits = digits.0.len() == digest.len() && digits.1.is_empty();
    let parsed = digits.0.iter().map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let parsed: Option<Vec<u8>> = parsed.collect();
    match parsed {
        Some(bytes) if fits => {
            digest.copy_from_slice(&bytes);
            Some(digest)
        }
        _ => {
            section.error(
                "sha256",
                "must be 64 hex digits, as `sha256sum` prints them",
            );
            None
        }
    }
}

/// The variables that are set, with their values.
fn granted(names: Vec<String>, section: &mut Section<'_>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for name in names {
        if name.is_empty() || name.contains(['=', '\0']) {
            section.error(
                "environment",
                format!("{name:?} is not the name of a variable; its value comes from the agent's environment"),
            );
            continue;
        }
        match std::env::var(&name) {
            Ok(value) => variables.push((name, value)),
            Err(_) => section.warning("environment", format!("the variable {name} is not set")),
        }
    }
    variables
}
