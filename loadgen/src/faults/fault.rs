//! What can go wrong on the way to a destination, and how it is written on a command line.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::cli::parse_duration;

/// Something that goes wrong with one request, or over plain TCP with one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// The port is closed, connections are reset. As a rule without `share` it lasts as long as the rule does;
    /// otherwise for `period`.
    Refuse { period: Duration },
    /// Forwarded after a wait.
    Delay { by: Duration },
    /// Read, not forwarded; the connection is reset.
    CutBefore,
    /// Half of it is forwarded; both connections are reset.
    CutRequest,
    /// Forwarded, the destination has answered; the connection is reset instead of the answer.
    CutAfter,
    /// As `CutAfter`, after half of the answer.
    CutAnswer,
    /// Accepted and never answered; its bytes are read or not.
    BlackHole { read: bool },
    /// All such requests together pass with this many bytes per second.
    Throttle { bytes_per_second: u64 },
    /// The answer comes byte by byte.
    Slow { gap: Duration },
    /// Answered with an error status instead of being forwarded, or after it.
    Status {
        code: u16,
        retry_after: Option<u32>,
        forwarded: bool,
    },
    /// Answered with 200 and a ClickHouse exception in the body, as servers do that fail after the headers went out.
    Exception {
        code: u32,
        forwarded: bool,
        form: Form,
        /// The body comes in two pieces.
        split: bool,
    },
}

/// How an answer with status 200 says that it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In the header `X-ClickHouse-Exception-Code`.
    Header,
    /// In the body only, as servers before 25.11 do when the headers are out already.
    Bare,
    /// At the body's end between tags that a header announces, as servers from 25.11 on do.
    Tagged,
}

impl Fault {
    /// One of each kind, as they are without options; errors also with and without forwarding.
    pub(crate) const ALL: [&'static str; 20] = [
        "refuse",
        "delay",
        "cut-before",
        "cut-request",
        "cut-after",
        "cut-answer",
        "black-hole",
        "black-hole:read",
        "throttle",
        "slow",
        "status:code=500",
        "status:code=503",
        "status:code=429:retry-after=1",
        "status:code=503:forwarded",
        "exception",
        "exception:bare",
        "exception:tagged",
        "exception:tagged:split",
        "exception:forwarded",
        "exception:forwarded:bare",
    ];

    /// The kind's name, as it is written and counted.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Refuse { .. } => "refuse",
            Self::Delay { .. } => "delay",
            Self::CutBefore => "cut-before",
            Self::CutRequest => "cut-request",
            Self::CutAfter => "cut-after",
            Self::CutAnswer => "cut-answer",
            Self::BlackHole { read: false } => "black-hole",
            Self::BlackHole { read: true } => "black-hole:read",
            Self::Throttle { .. } => "throttle",
            Self::Slow { .. } => "slow",
            Self::Status {
                forwarded: false, ..
            } => "status",
            Self::Status {
                forwarded: true, ..
            } => "status:forwarded",
            Self::Exception {
                forwarded: false, ..
            } => "exception",
            Self::Exception {
                forwarded: true, ..
            } => "exception:forwarded",
        }
    }

    /// Whether it can be done without understanding what goes over the connection.
    pub(crate) fn works_over_tcp(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::Exception { .. })
    }
}

/// When a fault happens, and to what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) fault: Fault,
    /// To every request, not only to those that carry data.
    pub(crate) all: bool,
    /// Of the requests that could be hit, the share that is: more than 0, up to 1.
    pub(crate) share: f64,
    /// It happens this often at most.
    pub(crate) times: Option<u64>,
    /// From this long after the rule was made.
    pub(crate) begins: Duration,
    /// For this long.
    pub(crate) lasts: Option<Duration>,
}

impl Rule {
    /// Reads `KIND[:OPTION[=VALUE]]…`, such as `cut-after:times=3` or `status:code=429:retry-after=2:share=0.5`.
    ///
    /// # Errors
    /// Unknown kinds, options that the kind does not have, values out of range.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let mut options: Vec<(&str, Option<&str>)> = parts
            .map(|part| match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            })
            .collect();
        let rule = Options(&mut options)
            .rule(kind)
            .with_context(|| format!("fault `{text}`"))?;
        if let Some((name, _)) = options.first() {
            bail!("fault `{text}`: `{kind}` has no option `{name}`, or has it twice");
        }
        Ok(rule)
    }

    /// Rules that hit `share` of the requests, each of these with one of `faults`, all equally likely.
    pub(crate) fn spread(faults: &[Fault], share: f64) -> Vec<Self> {
        let each = share / faults.len().max(1) as f64;
        // Rules are asked in turn: the later ones only for what the earlier ones have left.
        let rule = |(index, fault): (usize, &Fault)| Self {
            fault: *fault,
            all: false,
            share: (each / (1.0 - each * index as f64)).min(1.0),
            times: None,
            begins: Duration::ZERO,
            lasts: None,
        };
        faults.iter().enumerate().map(rule).collect()
    }
}

/// A rule's options; those that were read are taken out.
struct Options<'a, 'b>(&'a mut Vec<(&'b str, Option<&'b str>)>);

impl Options<'_, '_> {
    fn rule(&mut self, kind: &str) -> anyhow::Result<Rule> {
        let fault = self.fault(kind)?;
        let share = self
            .value("share", |text| Ok(text.parse()?))?
            .unwrap_or(1.0);
        ensure!(share > 0.0 && share <= 1.0, "`share` is above 0, up to 1");
        Ok(Rule {
            fault,
            share,
            all: self.flag("all")?,
            times: self.value("times", |text| Ok(text.parse()?))?,
            begins: self.value("in", parse_duration)?.unwrap_or_default(),
            lasts: self.value("for", parse_duration)?,
        })
    }

    fn fault(&mut self, kind: &str) -> anyhow::Result<Fault> {
        Ok(match kind {
            "refuse" => Fault::Refuse {
                period: self.time("period", 300)?,
            },
            "delay" => Fault::Delay {
                by: self.time("by", 200)?,
            },
            "cut-before" => Fault::CutBefore,
            "cut-request" => Fault::CutRequest,
            "cut-after" => Fault::CutAfter,
            "cut-answer" => Fault::CutAnswer,
            "black-hole" => Fault::BlackHole {
                read: self.flag("read")?,
            },
            "throttle" => Fault::Throttle {
                bytes_per_second: self.rate()?,
            },
            "slow" => Fault::Slow {
                gap: self.time("gap", 5)?,
            },
            "status" => self.status()?,
            "exception" => Fault::Exception {
                code: self.value("code", |text| Ok(text.parse()?))?.unwrap_or(241),
                forwarded: self.flag("forwarded")?,
                form: self.form()?,
                split: self.flag("split")?,
            },
            other => bail!("there is no fault `{other}`: {}", Fault::ALL.join(", ")),
        })
    }

    fn status(&mut self) -> anyhow::Result<Fault> {
        let code = self.value("code", |text| Ok(text.parse()?))?.unwrap_or(503);
        ensure!((400..600).contains(&code), "`code` is from 400 to 599");
        Ok(Fault::Status {
            code,
            retry_after: self.value("retry-after", |text| Ok(text.parse()?))?,
            forwarded: self.flag("forwarded")?,
        })
    }

    fn form(&mut self) -> anyhow::Result<Form> {
        match (self.flag("bare")?, self.flag("tagged")?) {
            (false, false) => Ok(Form::Header),
            (true, false) => Ok(Form::Bare),
            (false, true) => Ok(Form::Tagged),
            (true, true) => bail!("`bare` or `tagged`, not both"),
        }
    }

    fn rate(&mut self) -> anyhow::Result<u64> {
        let rate = self.value("rate", |text| Ok(text.parse()?))?;
        let rate = rate.unwrap_or(64 << 10);
        ensure!(rate > 0, "`rate` is at least 1 byte per second");
        Ok(rate)
    }

    fn time(&mut self, name: &str, default_ms: u64) -> anyhow::Result<Duration> {
        let given = self.value(name, parse_duration)?;
        Ok(given.unwrap_or_else(|| Duration::from_millis(default_ms)))
    }

    fn flag(&mut self, name: &str) -> anyhow::Result<bool> {
        match self.take(name) {
            Some(Some(_)) => bail!("`{name}` has no value"),
            Some(None) => Ok(true),
            None => Ok(false),
        }
    }

    fn value<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match self.take(name) {
            Some(Some(text)) => read(text)
                .map(Some)
                .with_context(|| format!("`{name}={text}`")),
            Some(None) => bail!("`{name}` needs a value"),
            None => Ok(None),
        }
    }

    fn take(&mut self, name: &str) -> Option<Option<&str>> {
        let index = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_with_their_options() {
        let check = |text: &str, fault, share, times| {
            let rule = Rule::parse(text).unwrap();
            assert_eq!(
                (rule.fault, rule.share, rule.times),
                (fault, share, times),
                "{text}"
            );
        };
        check("cut-after:times=3", Fault::CutAfter, 1.0, Some(3));
        check(
            "delay:by=1s:share=0.5",
            Fault::Delay {
                by: Duration::from_secs(1),
            },
            0.5,
            None,
        );
        check(
            "black-hole:read",
            Fault::BlackHole { read: true },
            1.0,
            None,
        );
        check(
            "status:code=429:retry-after=2:forwarded",
            Fault::Status {
                code: 429,
                retry_after: Some(2),
                forwarded: true,
            },
            1.0,
            None,
        );
        let rule = Rule::parse("refuse:in=5s:for=2s").unwrap();
        assert_eq!(
            (rule.begins, rule.lasts),
            (Duration::from_secs(5), Some(Duration::from_secs(2)))
        );
        for text in Fault::ALL {
            Rule::parse(text).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", Rule::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("explode", "no fault `explode`");
        check("cut-after:by=1s", "no option `by`");
        check("cut-after:times=2:times=3", "or has it twice");
        check("cut-after:times", "needs a value");
        check("black-hole:read=yes", "has no value");
        check("delay:by=5", "needs a unit");
        check("delay:share=0", "above 0");
        check("delay:share=NaN", "above 0");
        check("status:code=200", "from 400 to 599");
        check("throttle:rate=0", "at least 1");
    }

    #[test]
    fn a_spread_hits_each_fault_equally_often() {
        let faults = [Fault::CutBefore, Fault::CutAfter, Fault::CutAnswer];
        let mut left = 1.0;
        for rule in Rule::spread(&faults, 0.6) {
            let hit = left * rule.share;
            assert!((hit - 0.2).abs() < 1e-9, "{rule:?}");
            left -= hit;
        }
    }
}
