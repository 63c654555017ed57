//! Profiles in the format of pprof, compressed, with the names of functions in them: whoever reads one needs no binary.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::Stack;
use super::cpu::CpuProfile;

/// What is sampled.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Samples, and nanoseconds of processor time.
    Cpu,
    /// Objects and bytes allocated, and held; told first is what is held.
    Heap {
        /// Bytes between two samples.
        interval: usize,
    },
    /// The same; told first is what was allocated.
    Allocations {
        /// Bytes between two samples.
        interval: usize,
    },
}

impl Kind {
    /// Names and units of the figures.
    fn types(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cpu => &[("samples", "count"), ("cpu", "nanoseconds")],
            Self::Heap { .. } | Self::Allocations { .. } => &[
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes"),
            ],
        }
    }

    fn shown_first(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Heap { .. } => "inuse_space",
            Self::Allocations { .. } => "alloc_space",
        }
    }

    fn period(self) -> ((&'static str, &'static str), i64) {
        match self {
            Self::Cpu => (("cpu", "nanoseconds"), CpuProfile::PERIOD),
            Self::Heap { interval } | Self::Allocations { interval } => {
                let interval = i64::try_from(interval).unwrap_or(i64::MAX);
                (("space", "bytes"), interval)
            }
        }
    }
}

/// The profile as `go tool pprof` reads it. Looks up the names of functions, which takes seconds the first time and reads
/// the debug information of the binary.
pub fn encode<const N: usize>(
    kind: Kind,
    samples: &[(Stack, [i64; N])],
    took: Duration,
) -> Vec<u8> {
    let mut builder = Builder::new(kind);
    for (stack, figures) in samples {
        builder.sample(stack, figures);
    }
    builder.profile.duration_nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
    let ended = SystemTime::now().duration_since(UNIX_EPOCH);
    let began = ended.unwrap_or_default().saturating_sub(took);
    builder.profile.time_nanos = i64::try_from(began.as_nanos()).unwrap_or(i64::MAX);
    let bytes = builder.profile.encode_to_vec();
    // Its debug information is the largest thing of the process otherwise.
    backtrace::clear_symbol_cache();
    crate::allocator::release();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let written = gzip.write_all(&bytes).and_then(|()| gzip.finish());
    written.expect("writing to memory succeeds")
}

struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    /// Of each address: whether it belongs to the profiler itself, and its location.
    locations: HashMap<usize, (bool, u64)>,
}

impl Builder {
    fn new(kind: Kind) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        builder.string("");
        let mut kind_of = |(name, unit): (&str, &str)| ValueType {
            kind: builder.string(name),
            unit: builder.string(unit),
        };
        let types = kind.types().iter().copied().map(&mut kind_of).collect();
        let (of, period) = kind.period();
        let of = kind_of(of);
        builder.profile.sample_type = types;
        builder.profile.period_type = Some(of);
        builder.profile.period = period;
        builder.profile.default_sample_type = builder.string(kind.shown_first());
        let binary = std::env::current_exe().unwrap_or_default();
        let filename = builder.string(&binary.display().to_string());
        // One for all: that the functions are known is what readers look for.
        builder.profile.mapping.push(Mapping {
            id: 1,
            memory_limit: u64::MAX,
            filename,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
            ..Mapping::default()
        });
        builder
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(found) = self.strings.get(text) {
            return *found;
        }
        let number = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), number);
        number
    }

    fn sample(&mut self, stack: &[usize], figures: &[i64]) {
        let mut locations = Vec::with_capacity(stack.len().max(1));
        for (depth, address) in stack.iter().enumerate() {
            let (is_own, location) = self.location(*address, depth == 0);
            if is_own {
                // The profiler's frames, and those of what it is called by, are the innermost.
                locations.clear();
                continue;
            }
            locations.push(location);
        }
        if stack.is_empty() {
            locations.push(self.named("(samples without a stack)"));
        }
        self.profile.sample.push(Sample {
            location_id: locations,
            value: figures.to_vec(),
        });
    }

    /// `is_exact`: whether the address is that of the instruction itself, not the one behind a call.
    fn location(&mut self, address: usize, is_exact: bool) -> (bool, u64) {
        if let Some(found) = self.locations.get(&address) {
            return *found;
        }
        // What is looked up is the address before: of a call, not of what comes behind it.
        let looked_at = if is_exact {
            address.saturating_add(1)
        } else {
            address
        };
        let mut lines = Vec::new();
        let mut is_own = false;
        backtrace::resolve(looked_at as *mut std::ffi::c_void, |symbol| {
            let name = symbol.name().map(|name| format!("{name:#}"));
            let name = name.unwrap_or_else(|| format!("{address:#x}"));
            is_own |= is_of_the_profiler(&name);
            let name = readable(&name);
            let file = symbol.filename().map(|path| path.display().to_string());
            let function = self.function(&name, &file.unwrap_or_default());
            let line = i64::from(symbol.lineno().unwrap_or(0));
            lines.push(Line {
                function_id: function,
                line,
            });
        });
        if lines.is_empty() {
            let function_id = self.function(&format!("{address:#x}"), "");
            lines.push(Line {
                function_id,
                line: 0,
            });
        }
        let location = self.add_location(address as u64, lines);
        self.locations.insert(address, (is_own, location));
        (is_own, location)
    }

    fn named(&mut self, name: &str) -> u64 {
        let function_id = self.function(name, "");
        self.add_location(
            0,
            vec![Line {
                function_id,
                line: 0,
            }],
        )
    }

    fn add_location(&mut self, address: u64, line: Vec<Line>) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location {
            id,
            mapping_id: 1,
            address,
            line,
        });
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.string(file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function {
                id,
                name,
                system_name: name,
                filename,
            });
        }
        id
    }
}

/// `go tool pprof` takes what stands in angle brackets for parameters and leaves it out: of `<Type as Trait>::function` nothing
/// would be left to see but the function.
fn readable(name: &str) -> String {
    let Some(inside) = name.strip_prefix('<') else {
        return name.to_owned();
    };
    let mut depth = 1_usize;
    let mut before = ' ';
    for (at, c) in inside.char_indices() {
        match c {
            '<' => depth += 1,
            // Not that of `->`.
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        before = c;
        if depth == 0 {
            let (inner, rest) = inside.split_at(at);
            return format!("{inner}{}", rest.trim_start_matches('>'));
        }
    }
    name.to_owned()
}

/// Whether a function is part of the allocator's sampling, or of how an allocation gets there.
fn is_of_the_profiler(name: &str) -> bool {
    let own = [
        "backtrace::",
        "tidegate::profile::heap::",
        "<tidegate::profile::heap::",
        "__rust_alloc",
        "__rustc::__rust_alloc",
        "__rust_realloc",
        "__rustc::__rust_realloc",
        "__rdl_",
        "__rg_",
        "__rustc::__rg_",
    ];
    own.iter().any(|own| name.starts_with(own))
}

// === The format: profile.proto of pprof, the fields that are written ===

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decode(bytes: &[u8]) -> Profile {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(bytes)
            .read_to_end(&mut text)
            .unwrap();
        Profile::decode(text.as_slice()).unwrap()
    }

    #[test]
    fn qualified_names_keep_their_types() {
        let check = |name: &str, expected: &str| assert_eq!(readable(name), expected);
        check("a::b::<C>::d", "a::b::<C>::d");
        check("<a::B<C> as d::E>::f", "a::B<C> as d::E::f");
        check(
            "<fn(A) -> B as C>::d::{{closure}}",
            "fn(A) -> B as C::d::{{closure}}",
        );
        check("<<A as B>::C as D>::e", "<A as B>::C as D::e");
        check("<unbalanced", "<unbalanced");
    }

    #[test]
    fn a_profile_has_the_names_of_functions_and_its_units() {
        let here = a_profile_has_the_names_of_functions_and_its_units as *const () as usize;
        // The function itself, and a call in it.
        let stack: Stack = Box::new([here, here + 2, 1]);
        let samples = [(stack, [3, 30]), (Stack::default(), [1, 10])];
        let profile = decode(&encode(Kind::Cpu, &samples, Duration::from_secs(2)));
        let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
        let types: Vec<_> = profile.sample_type.iter().collect();
        assert_eq!(
            (text(types[0].kind), text(types[0].unit)),
            ("samples", "count")
        );
        assert_eq!(
            (text(types[1].kind), text(types[1].unit)),
            ("cpu", "nanoseconds")
        );
        assert_eq!(text(0), "");
        assert_eq!(
            (profile.period, profile.duration_nanos),
            (10_000_000, 2_000_000_000)
        );
        let function_of = |location: u64| {
            let location = profile.location.iter().find(|found| found.id == location);
            let last = location.unwrap().line.last().unwrap().function_id;
            let function = profile.function.iter().find(|found| found.id == last);
            text(function.unwrap().name).to_owned()
        };
        let [first, second] = profile.sample.as_slice() else {
            panic!("{profile:?}");
        };
        let names: Vec<_> = first
            .location_id
            .iter()
            .map(|id| function_of(*id))
            .collect();
        assert!(
            names[0].ends_with("a_profile_has_the_names_of_functions_and_its_units"),
            "{names:?}"
        );
        assert_eq!(names[1], names[0]);
        assert_eq!(names[2], "0x1");
        assert_eq!(
            (first.value.as_slice(), second.value.as_slice()),
            (&[3, 30][..], &[1, 10][..])
        );
        assert_eq!(
            function_of(second.location_id[0]),
            "(samples without a stack)"
        );
    }
}
