//! Steps of tests, which hooks are, too.

use super::super::model::{
    Action, Apply, Better, Drain, FaultKind, FaultStep, HttpStep, LoadStep, Method, MetricStep,
    QueryStep, Reconfigure, Step, Text, Wait, WaitFor,
};
use super::{component, hooks, on_error, variables};
use crate::document::{Table, nearest};

const ACTIONS: [&str; 22] = [
    "up",
    "down",
    "configure",
    "deploy",
    "start",
    "stop",
    "destroy",
    "wait",
    "load",
    "monitor_start",
    "monitor_stop",
    "window_start",
    "window_end",
    "reconfigure",
    "fault",
    "assert",
    "drain",
    "event",
    "metric",
    "query",
    "run",
    "http",
];

pub(super) fn step(mut table: Table) -> Step {
    let written = table.need("action");
    let action = action(&mut table, &written);
    let name = table.text("name").map(|text| text.text);
    let step = Step {
        name: name.unwrap_or_else(|| default_name(&written.text, &action)),
        place: table.place.clone(),
        when: table.text("when"),
        action,
        window: table.text("window"),
        set: table.table("set").map(variables).unwrap_or_default(),
        hooks: hooks(&mut table),
        on_error: on_error(&mut table),
    };
    table.finish();
    step
}

/// The action and whom it is done to.
fn default_name(action: &str, what: &Action) -> String {
    let of = |texts: &[Text]| {
        let texts: Vec<_> = texts.iter().map(|text| text.text.as_str()).collect();
        texts.join(", ")
    };
    let target = match what {
        Action::Up(targets)
        | Action::Down(targets)
        | Action::Configure(targets)
        | Action::Deploy(targets)
        | Action::Start(targets)
        | Action::Stop(targets)
        | Action::Destroy(targets)
        | Action::MonitorStart(targets)
        | Action::MonitorStop(targets) => of(targets),
        Action::Load(load) => load.label.as_ref().unwrap_or(&load.target).text.clone(),
        Action::Reconfigure(step) => step.target.text.clone(),
        Action::Fault(step) => step.target.text.clone(),
        Action::WindowStart(name) | Action::WindowEnd(name) | Action::Event(name) => {
            name.text.clone()
        }
        Action::Metric(metric) => metric.name.text.clone(),
        Action::Query(query) => query.title.text.clone(),
        Action::Http(http) => http.url.text.clone(),
        Action::Run(words) => of(words),
        Action::Wait(_) | Action::Assert(_) | Action::Drain(_) => String::new(),
    };
    format!("{action} {target}").trim().to_owned()
}

fn action(table: &mut Table, written: &Text) -> Action {
    let targets = |table: &mut Table| {
        let targets = table.texts("target");
        if targets.is_empty() {
            table.missing("target");
        }
        targets
    };
    match written.text.as_str() {
        "up" => Action::Up(targets(table)),
        "down" => Action::Down(targets(table)),
        "configure" => Action::Configure(targets(table)),
        "deploy" => Action::Deploy(targets(table)),
        "start" => Action::Start(targets(table)),
        "stop" => Action::Stop(targets(table)),
        "destroy" => Action::Destroy(targets(table)),
        "wait" => Action::Wait(wait(table)),
        "load" => Action::Load(LoadStep {
            target: table.need("target"),
            label: table.text("label"),
            background: table.flag("background", false),
            may_fail: table.flag("may_fail", false),
        }),
        "monitor_start" => Action::MonitorStart(targets(table)),
        "monitor_stop" => Action::MonitorStop(targets(table)),
        "window_start" => Action::WindowStart(table.need("window_name")),
        "window_end" => Action::WindowEnd(table.need("window_name")),
        "reconfigure" => Action::Reconfigure(Box::new(reconfigure(table))),
        "fault" => Action::Fault(fault(table)),
        "assert" => Action::Assert(needed_texts(table, "that")),
        "drain" => Action::Drain(Drain {
            timeout: table.text("timeout"),
            steady: table.text("steady"),
        }),
        "event" => Action::Event(table.need("event")),
        "metric" => Action::Metric(metric(table)),
        "query" => Action::Query(QueryStep {
            title: table.need("title"),
            url: table.need("url"),
            sql: table.need("sql"),
        }),
        "run" => Action::Run(needed_texts(table, "command")),
        "http" => Action::Http(http(table)),
        other => {
            // What the step meant is not known, and so not which of its keys are wrong.
            drop(table.texts("target"));
            if !other.is_empty() {
                let help = match nearest(other, ACTIONS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", ACTIONS.join(", ")),
                };
                table.wrong(&written.place, format!("unknown action `{other}`; {help}"));
            }
            Action::Assert(Vec::new())
        }
    }
}

fn needed_texts(table: &mut Table, key: &'static str) -> Vec<Text> {
    let texts = table.texts(key);
    if texts.is_empty() {
        table.missing(key);
    }
    texts
}

fn wait(table: &mut Table) -> Wait {
    const KINDS: [&str; 5] = ["duration", "healthy", "until", "steady", "load"];
    let given: Vec<_> = KINDS.iter().filter(|key| table.has(key)).copied().collect();
    let (healthy, until) = (table.text("healthy"), table.text("until"));
    let (steady, load) = (table.text("steady"), table.text("load"));
    let duration = table.text("duration");
    let what = match (given.as_slice(), duration) {
        (["duration"], Some(duration)) => WaitFor::Duration(duration),
        (["healthy"], _) => WaitFor::Healthy(healthy.unwrap_or_default()),
        (["until"], _) => WaitFor::Until(until.unwrap_or_default()),
        (["steady"] | ["duration", "steady"], duration) => WaitFor::Steady {
            value: steady.unwrap_or_default(),
            duration,
        },
        (["load"], _) => WaitFor::Load(load.filter(|text| text.text != "all")),
        _ => {
            let place = table.place.clone();
            let there = match given.as_slice() {
                [] => "there is none of these".to_owned(),
                given => format!("there is `{}`", given.join("`, `")),
            };
            let message = format!("one of {} is expected; {there}", KINDS.join(", "));
            table.wrong(&place, message);
            WaitFor::Duration(Text {
                text: "0s".to_owned(),
                place,
            })
        }
    };
    Wait {
        what,
        timeout: table.text("timeout"),
    }
}

fn reconfigure(table: &mut Table) -> Reconfigure {
    let apply = match table.text("apply") {
        None => Apply::HangUp,
        Some(text) => match text.text.as_str() {
            "hangup" => Apply::HangUp,
            "restart" => Apply::Restart,
            "nothing" => Apply::Nothing,
            url if ["http://", "{{"].iter().any(|it| url.starts_with(it)) => Apply::Post(text),
            _ => {
                let message =
                    "`hangup` (SIGHUP), `restart`, `nothing` or a URL to POST to is expected";
                table.wrong(&text.place, message);
                Apply::Nothing
            }
        },
    };
    Reconfigure {
        target: table.need("target"),
        configuration: table.table("configuration").map(component::configuration),
        deployment: table.table("deployment").and_then(component::deployment),
        execution: table.table("execution").and_then(component::execution),
        monitoring: table.table("monitoring").map(component::monitoring),
        apply,
    }
}

fn fault(table: &mut Table) -> FaultStep {
    const KINDS: [&str; 5] = ["kill", "freeze", "thaw", "restart", "proxy"];
    let written = table.need("kind");
    let is_proxy = written.text == "proxy";
    for (key, is_asked) in [("faults", is_proxy), ("lasts", written.text != "thaw")] {
        if KINDS.contains(&written.text.as_str()) && table.has(key) && !is_asked {
            let message = format!("`{key}` means nothing to the kind `{}`", written.text);
            if let Some(item) = table.take(key) {
                item.wrong(message);
            }
        }
    }
    let faults = table.texts("faults");
    let kind = match written.text.as_str() {
        "kill" => FaultKind::Kill,
        "freeze" => FaultKind::Freeze,
        "thaw" => FaultKind::Thaw,
        "restart" => FaultKind::Restart,
        "proxy" => FaultKind::Proxy(faults),
        _ => {
            table.wrong(
                &written.place,
                format!("one of {} is expected", KINDS.join(", ")),
            );
            FaultKind::Thaw
        }
    };
    FaultStep {
        target: table.need("target"),
        kind,
        lasts: table.text("lasts"),
    }
}

fn metric(table: &mut Table) -> MetricStep {
    let better = match table.text("better") {
        None => Better::Neither,
        Some(text) => match text.text.as_str() {
            "higher" => Better::Higher,
            "lower" => Better::Lower,
            "neither" => Better::Neither,
            _ => {
                table.wrong(&text.place, "higher, lower or neither is expected");
                Better::Neither
            }
        },
    };
    MetricStep {
        name: table.need("metric"),
        value: table.need("value"),
        unit: table.text("unit").unwrap_or_default().text,
        better,
    }
}

fn http(table: &mut Table) -> HttpStep {
    let method = match table.text("method") {
        None => Method::Get,
        Some(text) => match text.text.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            _ => {
                table.wrong(&text.place, "GET, POST or DELETE is expected");
                Method::Get
            }
        },
    };
    HttpStep {
        url: table.need("url"),
        method,
        body: table.text("body"),
    }
}
