//! Guests for tests, in WebAssembly text: what an author's tools make, by hand.

use std::fmt::Write;

use super::super::bindings::VERSION;

/// A guest whose `process` is `body`: WebAssembly text with the locals `$at` and `$length`, the batch, that leaves the
/// address of an outcome. What there is to help: the functions `$unchanged`, `$nothing`, `$replaced`, `$error`.
#[derive(Debug, Clone, Default)]
pub(super) struct Guest {
    pub(super) process: String,
    /// More functions, globals and the like.
    pub(super) more: String,
    /// The body of `configure`, if it is not to be content with everything.
    pub(super) configure: Option<&'static str>,
    /// How often `tick` is wanted, in milliseconds.
    pub(super) tick_interval: u32,
    /// The body of `tick`.
    pub(super) tick: &'static str,
    /// The version of the contract, where it is another one.
    pub(super) version: Option<&'static str>,
}

/// Where an outcome is written, and where the heap begins.
const OUTCOME: u32 = 256;
const HEAP: u32 = 65536;

impl Guest {
    pub(super) fn new(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, more: &str) -> Self {
        self.more += more;
        self
    }

    /// The component, as text.
    fn text(&self) -> String {
        let version = self.version.unwrap_or(VERSION);
        let interval = match self.tick_interval {
            0 => String::new(),
            interval => {
                let interval = bytes(interval);
                format!("(data (i32.const 132) \"\\01\\00\\00\\00{interval}\")")
            }
        };
        let description = [bytes(64), bytes(1)].concat().repeat(3) + &bytes(65) + &bytes(3);
        COMPONENT
            .replace("VERSION", version)
            .replace("OUTCOME", &OUTCOME.to_string())
            .replace("HEAP", &HEAP.to_string())
            .replace("DESCRIPTION", &description)
            .replace("INTERVAL", &interval)
            .replace("CONFIGURE", self.configure.unwrap_or("i32.const 128"))
            .replace("TICK", self.tick)
            .replace("MORE", &self.more)
            .replace("PROCESS", &self.process)
    }

    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// A core module with what bindings leave for tools in it.
pub(super) fn module_for(version: &str) -> Vec<u8> {
    let text =
        format!("(module (@custom \"component-type\" \"tidegate:plugin/processor@{version}\"))");
    wat::parse_str(text).unwrap()
}

/// A number in memory, as text.
pub(super) fn bytes(number: u32) -> String {
    let mut text = String::new();
    for byte in number.to_le_bytes() {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text
}

/// The words in capitals are replaced.
const COMPONENT: &str = include_str!("guest.wat");
