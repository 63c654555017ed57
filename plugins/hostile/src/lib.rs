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
    Configure,
}

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
            Harm::Configure => {}
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
