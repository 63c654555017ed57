//! Keeps whole traces with a probability, the same ones wherever it is asked: consistent probability sampling.
//!
//! A trace's randomness is the last 56 bits of its id, or `rv` in its tracestate; it is kept if that is at least the rejection
//! threshold. The threshold goes into the tracestate (`ot=th:…`), so that whoever counts spans later knows how many each of
//! them stands for. A span that was sampled more sparingly before stays as it is. Log records follow the id of their trace;
//! those without one stay.
//!
//! ```toml
//! [processors.wasm.config]
//! percentage = 10
//! ```

use tidegate_plugin::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    percentage: f64,
}

/// For those who look at the plugin with `tidegate plugin inspect`.
const CONFIG_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "percentage": {
      "description": "Of all traces, how many are kept.",
      "type": "number", "exclusiveMinimum": 0, "maximum": 100
    }
  },
  "required": ["percentage"],
  "additionalProperties": false
}"#;

struct Sample {
    /// What a trace's randomness must reach.
    threshold: u64,
    /// The tracestate that says so, where nobody else wrote one.
    alone: String,
}

/// Randomness and thresholds have 56 bits.
const BITS: u32 = 56;
const MOST: u64 = 1 << BITS;
const HEX_DIGITS: usize = 14;

const REASON: &str = "sampled";

impl Plugin for Sample {
    type Config = Config;

    const SIGNALS: &'static [Signal] = &[Signal::Traces, Signal::Logs];

    fn config_schema() -> String {
        CONFIG_SCHEMA.to_owned()
    }

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        if !(config.percentage > 0.0 && config.percentage <= 100.0) {
            return Err(Error::new("percentage: must be above 0 and at most 100"));
        }
        // Below 2 to the power of -56 nothing can be told apart.
        let kept = (config.percentage / 100.0 * MOST as f64).max(1.0) as u64;
        let threshold = MOST - kept.min(MOST);
        Ok(Self {
            threshold,
            alone: State::default().with(threshold),
        })
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        batch.spans(|span| {
            if span.trace_state().is_empty() {
                match randomness(span.trace_id()) {
                    Some(random) if random < self.threshold => span.drop(REASON),
                    Some(_) => span.set_trace_state(&self.alone),
                    None => {}
                }
                return;
            }
            let state = State::parse(span.trace_state());
            let Some(random) = state.randomness.or_else(|| randomness(span.trace_id())) else {
                return;
            };
            if state
                .threshold
                .is_some_and(|before| before >= self.threshold)
            {
                return;
            }
            if random < self.threshold {
                span.drop(REASON);
                return;
            }
            let state = state.with(self.threshold);
            span.set_trace_state(&state);
        });
        batch.log_records(|record| {
            if randomness(record.trace_id()).is_some_and(|random| random < self.threshold) {
                record.drop(REASON);
            }
        });
        Ok(())
    }
}

/// The last 56 bits of a trace id.
fn randomness(trace_id: &[u8]) -> Option<u64> {
    let last = trace_id.last_chunk::<8>()?;
    Some(u64::from_be_bytes(*last) & (MOST - 1))
}

/// What a tracestate says: OpenTelemetry's part, and the parts of others.
#[derive(Debug, Default, PartialEq, Eq)]
struct State<'a> {
    threshold: Option<u64>,
    randomness: Option<u64>,
    /// The rest of OpenTelemetry's part.
    more: Vec<&'a str>,
    others: Vec<&'a str>,
}

impl<'a> State<'a> {
    fn parse(text: &'a str) -> Self {
        let mut state = Self::default();
        let members = text.split(',').map(str::trim);
        for member in members.filter(|member| !member.is_empty()) {
            let Some(ours) = member.strip_prefix("ot=") else {
                state.others.push(member);
                continue;
            };
            for part in ours.split(';').filter(|part| !part.is_empty()) {
                match part.split_once(':') {
                    Some(("th", digits)) => state.threshold = threshold(digits),
                    Some(("rv", digits)) if digits.len() == HEX_DIGITS => {
                        state.randomness = u64::from_str_radix(digits, 16).ok();
                        state.more.push(part);
                    }
                    _ => state.more.push(part),
                }
            }
        }
        state
    }

    /// The tracestate with this threshold.
    fn with(&self, threshold: u64) -> String {
        let digits = format!("{threshold:0width$x}", width = HEX_DIGITS);
        let digits = match digits.trim_end_matches('0') {
            "" => "0",
            digits => digits,
        };
        let mut text = format!("ot=th:{digits}");
        for part in &self.more {
            text.push(';');
            text.push_str(part);
        }
        for member in &self.others {
            text.push(',');
            text.push_str(member);
        }
        text
    }
}

/// A threshold of up to 14 hex digits, the zeros at its end left out.
fn threshold(digits: &str) -> Option<u64> {
    let missing = HEX_DIGITS.checked_sub(digits.len())?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    Some(number << (4 * missing))
}

tidegate_plugin::export!(Sample);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, spans};
    use twins::proptest::prelude::*;
    use twins::{Message as _, Traces, batches};

    use super::*;

    fn sample(percentage: f64) -> Sample {
        Sample::new(Config { percentage }, Signal::Traces).unwrap()
    }

    #[test]
    fn thresholds_are_those_of_the_specification() {
        let check = |percentage: f64, digits: &str| {
            let state = State::default().with(sample(percentage).threshold);
            assert_eq!(state, format!("ot=th:{digits}"));
            let found = State::parse(&state).threshold;
            assert_eq!(found, Some(sample(percentage).threshold));
        };
        check(100.0, "0");
        check(50.0, "8");
        check(25.0, "c");
        check(12.5, "e");
        check(75.0, "4");
    }

    #[test]
    fn a_trace_is_kept_or_dropped_by_its_id() {
        let mut tester = Tester::<Sample>::new(Signal::Traces, r#"{"percentage": 50}"#).unwrap();
        // The ids of the builder are 0101…, 0202…: all below a half.
        assert_eq!(tester.run(&spans().item("a", &[]).item("b", &[])), "");
        assert_eq!(tester.losses(), [(REASON, 2)]);
        let mut tester = Tester::<Sample>::new(Signal::Traces, r#"{"percentage": 100}"#).unwrap();
        let out = tester.run_bytes(&spans().item("a", &[]).to_bytes());
        assert!(out.windows(7).any(|part| part == b"ot=th:0"));
    }

    #[test]
    fn tracestate_keeps_what_others_wrote() {
        let text = "vendor=x, ot=rv:80000000000000;th:8;zz:1,other=y";
        let state = State::parse(text);
        assert_eq!(state.threshold, Some(MOST / 2));
        assert_eq!(state.randomness, Some(MOST / 2));
        let expected = "ot=th:c;rv:80000000000000;zz:1,vendor=x,other=y";
        assert_eq!(state.with(MOST / 4 * 3), expected);
        assert_eq!(State::parse("ot=th:xyz;rv:12").threshold, None);
        assert_eq!(State::parse(""), State::default());
    }

    #[test]
    fn about_as_many_are_kept_as_was_asked_for() {
        let threshold = sample(10.0).threshold;
        let mut random = 1_u64;
        let kept = (0..100_000).filter(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 8) >= threshold
        });
        let kept = kept.count();
        assert!((9_000..11_000).contains(&kept), "{kept}");
    }

    #[test]
    fn percentages_that_mean_nothing_are_refused() {
        for wrong in ["0", "-1", "101"] {
            let config = format!("{{\"percentage\": {wrong}}}");
            assert!(Tester::<Sample>::new(Signal::Traces, &config).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn it_does_what_its_twin_does(mut traces in batches::traces()) {
            let mut tester = Tester::<Sample>::new(Signal::Traces, r#"{"percentage": 50}"#).unwrap();
            let output = tester.run_bytes(&traces.encode_to_vec());
            twins::sample::traces(&mut traces, MOST / 2, "8");
            prop_assert_eq!(Traces::decode(&*output).unwrap(), traces);
        }
    }
}
