//! `plugin run`: requests in OTLP/JSON through a plugin.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::super::{complain, print};
use super::conditions::ConditionArgs;
use super::{batches, meant, read};
use crate::processors::wasm::workbench::{Loss, Workbench};
use crate::signal::Signal;

/// Run requests in OTLP/JSON through a plugin and print what comes out.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plugin.
    plugin: PathBuf,
    /// A file of requests in OTLP/JSON, one, or one per line, as the `file` exporter writes them; `-` for standard input.
    #[arg(default_value = "-")]
    input: PathBuf,
    #[command(flatten)]
    conditions: ConditionArgs,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, String> {
    let path = meant(Some(&args.plugin))?;
    let conditions = args.conditions.read()?;
    let text = match args.input.to_str() {
        Some("-") => {
            let mut content = Vec::new();
            let read = std::io::stdin().read_to_end(&mut content);
            let text = read.map_err(|error| error.to_string());
            let text = text.and_then(|_| super::text(content));
            text.map_err(|problem| format!("standard input: {problem}"))?
        }
        _ => read(&args.input)?,
    };
    let mut benches = BTreeMap::new();
    let requests =
        batches::parse_all(&text).map_err(|error| format!("{}: {error}", args.input.display()))?;
    let (all, mut failed) = (requests.len(), 0_usize);
    for (number, (signal, request)) in (1_usize..).zip(requests) {
        let bench = benches
            .entry(signal)
            .or_insert_with(|| Workbench::start(&path, signal, &conditions));
        let made = match bench {
            Ok(bench) => bench.process(&request),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                failed += 1;
                let (items, of) = (request.items, signal.items());
                complain(&format!(
                    "request {number} of {all} ({items} {of}): {failure}\n"
                ));
                continue;
            }
        };
        for loss in made.losses {
            complain(&format!("{}\n", describe(signal, &loss)));
        }
        print(&(batches::render(signal, made.bytes.as_deref())? + "\n"));
    }
    for bench in benches.values().flatten() {
        complain(&bench.metrics());
    }
    if failed > 0 {
        return Err(format!(
            "the plugin failed on {failed} of {all} requests; `on_error` decides what the agent does with these"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(signal: Signal, loss: &Loss) -> String {
    let Loss {
        reason,
        items,
        fault,
    } = loss;
    let of = signal.items();
    match fault {
        None => format!("{items} {of} dropped: {reason}"),
        Some(words) => format!("{items} {of} rejected: {reason}; their sender is told: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sender_of_rejected_items_is_told_is_shown() {
        let mut loss = Loss {
            reason: "too_old".to_owned(),
            items: 2,
            fault: None,
        };
        let said = |loss: &Loss| describe(Signal::Traces, loss);
        assert_eq!(said(&loss), "2 spans dropped: too_old");
        loss.fault = Some("older than a day".to_owned());
        let expected = "2 spans rejected: too_old; their sender is told: older than a day";
        assert_eq!(said(&loss), expected);
    }
}
