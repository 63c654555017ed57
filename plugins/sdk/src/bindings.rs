//! The contract, as a WebAssembly component speaks it.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated from the WIT"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "processor",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "tidegate_plugin::bindings",
});

use exports::tidegate::plugin::guest as contract;
use tidegate::plugin::types;

use crate::guest::Runner;
use crate::{Data, Outcome, Plugin, Signal};

/// Says what a plugin is.
pub fn describe<P: Plugin>(name: &str, version: &str, summary: &str) -> contract::Description {
    let signals = P::SIGNALS.iter().map(|signal| match signal {
        Signal::Traces => types::Signal::Traces,
        Signal::Metrics => types::Signal::Metrics,
        Signal::Logs => types::Signal::Logs,
    });
    contract::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        summary: summary.to_owned(),
        signals: signals.collect(),
        config_schema: P::config_schema(),
    }
}

pub fn configure<P: Plugin>(
    runner: &mut Runner<P>,
    signal: types::Signal,
    config: &str,
) -> Result<contract::Setup, String> {
    let signal = match signal {
        types::Signal::Traces => Signal::Traces,
        types::Signal::Metrics => Signal::Metrics,
        types::Signal::Logs => Signal::Logs,
    };
    let interval = runner.configure(signal, config).map_err(|error| error.0)?;
    let milliseconds = |interval: std::time::Duration| {
        u32::try_from(interval.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    };
    Ok(contract::Setup {
        tick_interval_ms: interval.map(milliseconds),
    })
}

pub fn process<P: Plugin>(
    runner: &mut Runner<P>,
    batch: &[u8],
) -> Result<contract::Outcome, String> {
    let Outcome { data, losses } = runner.process(batch).map_err(|error| error.0)?;
    let data = match data {
        Data::Unchanged => types::Data::Unchanged,
        Data::Nothing => types::Data::Nothing,
        Data::Replaced(bytes) => types::Data::Replaced(bytes),
        Data::Edited { changes, inserted } => types::Data::Edited(types::Edits {
            changes: changes
                .into_iter()
                .map(|edit| types::Edit {
                    start: edit.start,
                    end: edit.end,
                    length: edit.length,
                })
                .collect(),
            inserted,
        }),
    };
    let losses = losses.into_iter().map(|lost| types::Loss {
        reason: lost.reason,
        items: lost.items,
        fault: lost.fault,
    });
    Ok(contract::Outcome {
        data,
        losses: losses.collect(),
    })
}
