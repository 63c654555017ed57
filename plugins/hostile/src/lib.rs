//! Misbehaves in whatever way its configuration asks for. For tests of the agent.

use tidegate_plugin::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    harm: Harm,
    /// So many batches pass unchanged before.
    #[serde(default)]
    after: u64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Harm {
    Loop,
    Recursion,
    Memory,
    Panic,
    Error,
    Storm,
    Chatter,
    Configure,
    Start,
}

const FORGED: &str = "\n2026-01-01T00:00:00Z ERROR forged";

struct Hostile {
    config: Config,
    calls: u64,
}

impl Plugin for Hostile {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        if matches!(config.harm, Harm::Configure) {
            return Err(Error::new("harm: I do not like it"));
        }
        if matches!(config.harm, Harm::Start) {
            warn!("I start for ever");
            let mut turns = 0_u64;
            loop {
                turns = std::hint::black_box(turns + 1);
            }
        }
        Ok(Self { config, calls: 0 })
    }

    fn process(&mut self, _: &mut Batch<'_>) -> Result<(), Error> {
        self.calls += 1;
        if self.calls <= self.config.after {
            return Ok(());
        }
        match self.config.harm {
            Harm::Loop => loop {
                self.calls = std::hint::black_box(self.calls + 1);
            },
            Harm::Recursion => {
                self.calls = deep(self.calls);
            }
            Harm::Memory => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&mut kept);
                }
            }
            Harm::Panic => panic!("this plugin panics on purpose"),
            Harm::Error => return Err(Error::new("this plugin fails on purpose")),
            Harm::Storm => loop {
                warn!("storm");
                Counter::with_label("storm", &self.calls.to_string()).add(1);
                self.calls += 1;
            },
            // A MiB of what looks like lines of the agent's log, in every second call.
            Harm::Chatter => {
                warn!("plain{FORGED}");
                if self.calls.is_multiple_of(2) {
                    return Err(Error::new(FORGED.repeat(1 << 15)));
                }
            }
            Harm::Configure | Harm::Start => {}
        }
        Ok(())
    }
}

fn deep(calls: u64) -> u64 {
    let space = std::hint::black_box([calls; 64]);
    if std::hint::black_box(true) {
        deep(calls + 1).wrapping_add(space[7])
    } else {
        calls
    }
}

tidegate_plugin::export!(Hostile);
