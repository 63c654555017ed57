//! The format of a dead letter: a line of JSON that says what and why, then the OTLP request in wire format.
//!
//! ```text
//! {"version":1,"exporter":"clickhouse",…,"bytes":1234,…,"crc32":"8a3f00c1"}\n
//! <1234 bytes: an Export{Trace,Metrics,Logs}ServiceRequest>
//! ```
//!
//! `crc32` is the last member of the line, always. It is the CRC-32 (IEEE) of everything before its comma and of
//! everything after the line. A reader trusts nothing: the line, the body and the time spent are bounded, and the body
//! passes the same check as a request from a client.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::batch::{Chunk, Payload};
use crate::otlp;
use crate::signal::Signal;

/// How the name of a letter's file ends.
pub const SUFFIX: &str = ".letter";

/// The format that this agent writes and reads.
const VERSION: u64 = 1;
/// The longest first line: the cause is cut to less, and ids and names are short.
const LINE_MAX: u64 = 256 << 10;
/// Characters of a destination's words that are kept.
const CAUSE_MAX: usize = 4096;
/// The longest body: more than any queue takes as one batch, and less than protobuf's 2 GiB.
const BODY_MAX: u64 = 1 << 30;

/// Why a destination will never take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It said so.
    Rejected,
    /// It is too large, and cannot be divided further.
    TooLarge,
}

impl Reason {
    /// The name in the header and in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::TooLarge => "too_large",
        }
    }
}

/// What a letter says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// The exporter whose destination it was.
    pub exporter: String,
    /// What the items are.
    #[serde(serialize_with = "signal_name", deserialize_with = "signal_named")]
    pub signal: Signal,
    /// The pipelines that the items came through, as far as they are known.
    pub pipelines: Vec<String>,
    /// The class of the reason.
    pub reason: Reason,
    /// The destination's words.
    pub cause: String,
    /// When the letter was written, as in RFC 3339.
    pub time: String,
    /// Spans, log records or data points in the letter.
    pub items: usize,
    /// How many of them the destination did not take.
    pub rejected: usize,
    /// Length of the OTLP request.
    pub bytes: u64,
    /// The batch's name: sent again under it, what the destination has stored already is recognised.
    pub batch: String,
    /// Parts of the batch that the destination has, such as tables. They are not sent again.
    pub parts_done: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    version: u64,
    #[serde(flatten)]
    header: &'a Header,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn signal_name<S: Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(signal.name())
}

fn signal_named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut all = Signal::ALL.into_iter();
    all.find(|signal| signal.name() == name)
        .ok_or_else(|| serde::de::Error::custom(format!("`{name}` is not a signal")))
}

/// What is wrong with a file that should be a dead letter.
#[derive(Debug, Error)]
pub enum LetterError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The first line is not that of a letter.
    #[error("not a dead letter, or its first line is damaged: {0}")]
    Header(String),
    /// A later version wrote it.
    #[error("written in format {0}; this version of tidegate reads format {VERSION}")]
    Version(u64),
    /// The file is not as long as it should be.
    #[error("damaged: the request should be {expected} bytes long and is {found}")]
    Length {
        /// What the first line says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Something was changed.
    #[error("damaged: the checksum does not match")]
    Checksum,
    /// What the checksum covers was no request to begin with.
    #[error("does not hold an OTLP request of its signal: {0}")]
    Body(String),
}

/// A letter that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What it says about itself.
    pub header: Header,
    body: Bytes,
}

impl Letter {
    /// Reads and checks the letter in a file.
    ///
    /// # Errors
    /// When the file cannot be read, is no letter, or is damaged.
    pub fn open(path: &Path) -> Result<Self, LetterError> {
        Self::of_file(&File::open(path)?)
    }

    /// The same of an open file.
    ///
    /// # Errors
    /// As [`Letter::open`].
    pub fn of_file(file: &File) -> Result<Self, LetterError> {
        Self::read(file, file.metadata()?.len())
    }

    /// Reads and checks a letter of `len` bytes.
    ///
    /// # Errors
    /// As [`Letter::open`].
    pub fn read(input: impl Read, len: u64) -> Result<Self, LetterError> {
        let mut input = BufReader::new(input);
        let first = FirstLine::read(&mut input)?;
        first.check_length(len)?;
        let length = usize::try_from(first.header.bytes).unwrap_or(usize::MAX);
        let mut body = Vec::with_capacity(length);
        input.take(first.header.bytes).read_to_end(&mut body)?;
        if body.len() != length {
            return Err(LetterError::Length {
                expected: first.header.bytes,
                found: body.len() as u64,
            });
        }
        let mut hasher = first.hasher;
        hasher.update(&body);
        if hasher.finalize() != first.checksum {
            return Err(LetterError::Checksum);
        }
        let header = first.header;
        let checked = otlp::check(header.signal, body.into())
            .map_err(|error| LetterError::Body(error.to_string()))?;
        if checked.items != header.items {
            return Err(LetterError::Body(format!(
                "it has {} items and not {}",
                checked.items, header.items
            )));
        }
        Ok(Self {
            header,
            body: checked.bytes,
        })
    }

    /// What the letter in a file says about itself. The length is checked, the checksum is not: that takes reading all.
    ///
    /// # Errors
    /// As [`Letter::open`].
    pub fn glance(path: &Path) -> Result<Header, LetterError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let first = FirstLine::read(&mut BufReader::new(file))?;
        first.check_length(len)?;
        Ok(first.header)
    }

    /// The items.
    pub fn payload(&self) -> Payload {
        Chunk::new(self.body.clone(), self.header.items).into()
    }

    /// The OTLP request in wire format.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

struct FirstLine {
    header: Header,
    checksum: u32,
    /// Has seen what the checksum covers of the line.
    hasher: crc32fast::Hasher,
    /// With the line break.
    length: u64,
}

impl FirstLine {
    fn read(input: &mut impl BufRead) -> Result<Self, LetterError> {
        let broken = |problem: &dyn fmt::Display| LetterError::Header(problem.to_string());
        let mut line = Vec::new();
        input.take(LINE_MAX).read_until(b'\n', &mut line)?;
        let length = line.len() as u64;
        if line.pop() != Some(b'\n') {
            return Err(broken(&"it has no end"));
        }
        let Versioned { version } =
            serde_json::from_slice(&line).map_err(|error| broken(&error))?;
        if version != VERSION {
            return Err(LetterError::Version(version));
        }
        let header: Header = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
        let covered = line.len().saturating_sub(checksum_member(0).len());
        let (covered, member) = line.split_at(covered);
        let checksum = read_checksum(member).ok_or_else(|| broken(&"it has no checksum"))?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(covered);
        Ok(Self {
            header,
            checksum,
            hasher,
            length,
        })
    }

    fn check_length(&self, len: u64) -> Result<(), LetterError> {
        let (expected, found) = (self.header.bytes, len.saturating_sub(self.length));
        if expected != found || expected > BODY_MAX {
            return Err(LetterError::Length { expected, found });
        }
        Ok(())
    }
}

/// The end of the first line.
fn checksum_member(checksum: u32) -> String {
    format!(",\"crc32\":\"{checksum:08x}\"}}")
}

fn read_checksum(member: &[u8]) -> Option<u32> {
    let digits = member
        .strip_prefix(b",\"crc32\":\"")?
        .strip_suffix(b"\"}")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (checksum_member(checksum).as_bytes() == member).then_some(checksum)
}

/// Writes a letter; `header.bytes` is the length of `body`.
///
/// # Errors
/// As `out` says, and when the letter would be one that cannot be read.
pub(super) fn write(header: &Header, body: &Payload, out: &mut impl Write) -> io::Result<u64> {
    let impossible = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if header.bytes != body.byte_len() as u64 || header.bytes > BODY_MAX {
        return impossible("a letter's request is at most 1 GiB long");
    }
    let mut line = serde_json::to_vec(&Line {
        version: VERSION,
        header,
    })?;
    // The brace comes back with the checksum.
    line.pop();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&line);
    for chunk in body.chunks() {
        hasher.update(chunk.bytes());
    }
    line.extend_from_slice(checksum_member(hasher.finalize()).as_bytes());
    line.push(b'\n');
    let length = line.len() as u64;
    if length > LINE_MAX {
        return impossible("a letter's first line is at most 256 KiB long");
    }
    out.write_all(&line)?;
    for chunk in body.chunks() {
        out.write_all(chunk.bytes())?;
    }
    Ok(length + header.bytes)
}

/// A destination's words, cut where they are too many.
pub(super) fn shortened(cause: &str) -> String {
    match cause.char_indices().nth(CAUSE_MAX) {
        Some((end, _)) => format!("{}…", cause.get(..end).unwrap_or_default()),
        None => cause.to_owned(),
    }
}

/// Reads `input` as a letter, as it is and with its checksum put right; panics where what was understood cannot be
/// written and read again.
#[doc(hidden)]
pub fn fuzz_letter(input: &[u8]) {
    fuzz_read(input);
    let member = checksum_member(0).len();
    if let Some(end) = input.iter().position(|byte| *byte == b'\n')
        && let Some((covered, rest)) = input.split_at_checked(end.saturating_sub(member))
        && let Some(body) = rest.get(member + 1..)
    {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(covered);
        hasher.update(body);
        let member = checksum_member(hasher.finalize());
        fuzz_read(&[covered, member.as_bytes(), b"\n", body].concat());
    }
}

fn fuzz_read(input: &[u8]) {
    let Ok(letter) = Letter::read(input, input.len() as u64) else {
        return;
    };
    // A request that had to be mended is longer or shorter than the file's.
    let header = Header {
        bytes: letter.body.len() as u64,
        ..letter.header.clone()
    };
    let mut again = Vec::new();
    if write(&header, &letter.payload(), &mut again).is_ok() {
        let read = Letter::read(again.as_slice(), again.len() as u64).expect("it was just written");
        assert_eq!((read.header, read.body), (header, letter.body));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::request;

    fn header(signal: Signal, body: &Payload) -> Header {
        Header {
            exporter: "clickhouse/archive".to_owned(),
            signal,
            pipelines: vec!["traces".to_owned()],
            reason: Reason::Rejected,
            cause: "Code: 469. Constraint `c` is violated\nat row 3".to_owned(),
            time: "2026-01-02T15:04:05.12Z".to_owned(),
            items: body.items(),
            rejected: 1,
            bytes: body.byte_len() as u64,
            batch: "00ff-1a".to_owned(),
            parts_done: vec!["otel_metrics_sum".to_owned()],
        }
    }

    fn written(signal: Signal) -> (Header, Vec<u8>) {
        let mut body = Payload::from(request(signal, "checkout", 3));
        body.push(request(signal, "cart", 2));
        let header = header(signal, &body);
        let mut out = Vec::new();
        let length = write(&header, &body, &mut out).unwrap();
        assert_eq!(length, out.len() as u64);
        (header, out)
    }

    fn read(bytes: &[u8]) -> Result<Letter, LetterError> {
        Letter::read(bytes, bytes.len() as u64)
    }

    #[test]
    fn what_is_written_is_read() {
        for signal in Signal::ALL {
            let (header, bytes) = written(signal);
            let letter = read(&bytes).unwrap();
            assert_eq!(letter.header, header);
            assert!(bytes.ends_with(letter.body()));
            assert_eq!(letter.payload().items(), 5);
            fuzz_letter(&bytes);
        }
    }

    /// Format 1, byte by byte: files of it must be readable for as long as there are any.
    #[test]
    fn format_1_stays_what_it_is() {
        let body = Payload::from(Chunk::new(
            b"\x0a\x0c\x12\x0a\x12\x08\x12\x06status".as_slice().into(),
            1,
        ));
        let mut out = Vec::new();
        write(&header(Signal::Logs, &body), &body, &mut out).unwrap();
        let line = r#"{"version":1,"exporter":"clickhouse/archive","signal":"logs","pipelines":["traces"],"reason":"rejected","cause":"Code: 469. Constraint `c` is violated\nat row 3","time":"2026-01-02T15:04:05.12Z","items":1,"rejected":1,"bytes":14,"batch":"00ff-1a","parts_done":["otel_metrics_sum"],"crc32":""#;
        let text = String::from_utf8_lossy(&out);
        let rest = text.strip_prefix(line).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            rest,
            "5542b05c\"}\n\n\u{c}\u{12}\n\u{12}\u{8}\u{12}\u{6}status"
        );
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let (_, bytes) = written(Signal::Traces);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(read(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(read(&longer), Err(LetterError::Length { .. })));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let (_, bytes) = written(Signal::Logs);
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut changed = bytes.clone();
            change(&mut changed);
            let found = read(&changed).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        };
        check(&Vec::clear, "has no end");
        check(&|bytes| bytes.insert(0, b'\n'), "not a dead letter");
        check(&|bytes| bytes[11] = b'7', "written in format 7");
        check(
            &|bytes| bytes.truncate(bytes.len() - 1),
            "bytes long and is",
        );
        check(&|bytes| *bytes.last_mut().unwrap() ^= 1, "checksum");
        check(
            &|bytes| {
                let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                bytes.splice(end - 20..end, *b"}");
            },
            "damaged",
        );
        let long = vec![b'x'; 1 << 20];
        assert!(read(&long).unwrap_err().to_string().contains("no end"));
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let body = Payload::from(Chunk::new(b"\x0a\xff".as_slice().into(), 1));
        let mut out = Vec::new();
        write(&header(Signal::Logs, &body), &body, &mut out).unwrap();
        assert!(matches!(read(&out), Err(LetterError::Body(_))));
        let body = Payload::from(request(Signal::Logs, "checkout", 3));
        let wrong = Header {
            items: 4,
            ..header(Signal::Logs, &body)
        };
        let mut out = Vec::new();
        write(&wrong, &body, &mut out).unwrap();
        assert!(matches!(read(&out), Err(LetterError::Body(_))));
    }

    #[test]
    fn long_causes_are_cut() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(2 * CAUSE_MAX);
        assert_eq!(shortened(&long).chars().count(), CAUSE_MAX + 1);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_letter(&bytes);
            let mut line = b"{\"version\":1".to_vec();
            line.extend(&bytes);
            fuzz_letter(&line);
        }

        #[test]
        fn a_changed_letter_is_the_same_or_refused(at in any::<prop::sample::Index>(), byte: u8) {
            let (header, mut bytes) = written(Signal::Metrics);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(letter) = read(&bytes) {
                prop_assert_eq!(letter.header, header);
            }
        }
    }
}
