//! What `loadgen run --check` says of suites with mistakes: each with its place, its key, and what is there to choose from.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Output;

use common::said;

/// A backend, an agent, what somebody else runs, and loads, all of which could be run.
const COMPONENTS: &str = r#"
name = "small"

[variables]
rate = 5

[[component]]
name = "backend"
[component.deployment]
command = ["sleep", "600"]
[component.monitoring.counter]
delivered = { url = "http://127.0.0.1:{{ port.backend }}/stats", pointer = "/items" }
rows = { command = ["echo", "5"], sampled = true }

[[component]]
name = "agent"
[component.deployment]
command = ["sleep", "600"]
control = "http://127.0.0.1:{{ port.control }}/faults"
[component.monitoring.prometheus]
url = "http://127.0.0.1:{{ port.metrics }}/metrics"
include = ["otelcol_*"]

[[component]]
name = "service"
deployment = { address = "http://127.0.0.1:8080" }

[[component]]
name = "generator"
execution = { otlp = ["127.0.0.1:{{ port.otlp }}", "--items", "{{ rate }}"] }

[[component]]
name = "client"
execution = { http = ["{{ component.service.address }}/work", "--rate", "{{ rate }}"] }

[[component]]
name = "script"
execution = { command = ["true"] }
"#;

const TEST: &str = r#"
[[test]]
name = "one"
[[test.step]]
action = "up"
target = ["backend", "agent"]
"#;

const LOAD: &str = r#"
[[test.step]]
action = "load"
target = "generator"
label = "warm-up"
window = "load"
"#;

const BACKGROUND: &str = r#"
[[test.step]]
action = "load"
target = "generator"
label = "main"
background = true
"#;

fn check(source: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    common::run(folder.path(), source, &["--check"])
}

/// The only mistake is where `at` is written, and its key and message have `told`.
#[track_caller]
fn refused(source: &str, at: &str, told: &str) {
    let output = check(source);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}\n{source}");
    let before = source.split(at).next().unwrap();
    assert!(before.len() < source.len(), "`{at}` is not in {source}");
    let line = before.matches('\n').count() + 1;
    let column = before.lines().last().filter(|_| !before.ends_with('\n'));
    let column = column.map_or(0, |it| it.chars().count()) + 1;
    let place = format!("suite.toml:{line}:{column}: ");
    let lines: Vec<_> = said
        .lines()
        .filter(|it| it.starts_with("suite.toml:"))
        .collect();
    let [only] = lines.as_slice() else {
        panic!("one mistake is expected:\n{said}");
    };
    assert!(only.starts_with(&place), "{place} is expected:\n{said}");
    assert!(only.contains(told), "`{told}` is expected:\n{said}");
}

/// With these steps.
#[track_caller]
fn refused_steps(steps: &str, at: &str, told: &str) {
    refused(&[COMPONENTS, TEST, steps].concat(), at, told);
}

/// With this expression after a load, a load in the background, and a drain.
#[track_caller]
fn refused_expression(expression: &str, told: &str) {
    let drain = "[[test.step]]\naction = \"drain\"\n";
    let text = format!("'{expression}'");
    let steps = format!("{LOAD}{drain}{}", asserts(&text));
    refused_steps(&steps, &text, told);
}

fn asserts(text: &str) -> String {
    format!("[[test.step]]\naction = \"assert\"\nthat = [{text}]\n")
}

#[track_caller]
fn accepted(steps: &str) {
    let output = check(&[COMPONENTS, TEST, steps].concat());
    assert!(output.status.success(), "{}", said(&output));
}

/// Expressions, and what is told of them.
const WRONG_NAMES: &[(&str, &str)] = &[
    (
        "load.man.items_sent > 0",
        "there is no load `man`; there are warm-up",
    ),
    (
        "load[\"warm-ip\"].items_sent > 0",
        "did you mean `warm-up`?",
    ),
    (
        "load.warm-up.items_sent > 0",
        "a name with `-` is written as in `load[",
    ),
    (
        "load[\"warm-up\"].latency_p98 > 0",
        "there is no figure of load `warm-up` `latency_p98`; did you mean `latency_p9",
    ),
    (
        "load[\"warm-up\"].service_p99 > 0",
        "only an open loop has it",
    ),
    ("load[\"warm-up\"] > 0", "which figure of load `warm-up`?"),
    ("load[\"warm-up\"].items_sent.x > 0", "is a number"),
    ("ledger.lst == 0", "did you mean `lost`?"),
    (
        "window.lod.seconds > 0",
        "there is no window `lod`; did you mean `load`?",
    ),
    ("window.load.agnt.rss.max > 0", "did you mean `agent`?"),
    ("window.load.agent.rs.max > 0", "did you mean `rss`?"),
    (
        "window.load.agent.cpu_seconds.max > 0",
        "did you mean `cpu`?",
    ),
    ("window.load.agent.rss.maxi > 0", "did you mean `max`?"),
    ("window.load.agent.rss > 0", "write `window.load.seconds`"),
    (
        "window.load.script.rss.max > 0",
        "`script` is not started before this step",
    ),
    (
        "metric.agnt.rss > 0",
        "there is no component `agnt`; did you mean `agent`?",
    ),
    ("metric.agent.cpu > 0", "did you mean `cpu_seconds`?"),
    (
        "metric.agent.tidegate_reloads > 0",
        "`include` and `exclude`",
    ),
    (
        "metric.agent.otelcol_x_total > 0",
        "without `_total`: `otelcol_x`",
    ),
    (
        "metric.backend.otelcol_x > 0",
        "backend has no `monitoring.prometheus`",
    ),
    (
        "metric.service.rss > 0",
        "`service` is not started before this step",
    ),
    ("counter.backend.delivred > 0", "did you mean `delivered`?"),
    ("counter.agent.delivered > 0", "there is none"),
    ("counter.bakend.delivered > 0", "did you mean `backend`?"),
    (
        "laod.main.x > 0",
        "there is no variable `laod`; did you mean `load`?",
    ),
    (
        "load.absent is defined and load.absent.x > 0",
        "there is no load `absent`",
    ),
];

#[test]
fn names_in_expressions_must_stand_for_something() {
    for (expression, told) in WRONG_NAMES {
        refused_expression(expression, told);
    }
}

#[test]
fn names_that_stand_for_something_are_accepted() {
    let until = "[[test.step]]\naction = \"wait\"\nuntil = 'metric.agent.otelcol_x > 0'\n";
    let drain = "[[test.step]]\naction = \"drain\"\n";
    let expressions = [
        "load[\"warm-up\"].items_sent > 0 and load.main.error_rate == 0",
        "window.load.seconds > rate * MiB and window.load.agent.otelcol_y.delta > 0",
        "window.load.backend.rows.max - counter.backend.rows > 0",
        "metric.agent.cpu_seconds > 0 or metric.backend.rows == 1",
        "ledger.lost == 0",
        "rate == 5 or load.later.items_sent > 0",
        "\"load.a.b\" != suite_dir",
    ];
    let expressions = expressions.map(|it| format!("'{it}'")).join(",\n");
    let later = LOAD.replace("warm-up", "later");
    accepted(
        &[
            LOAD,
            BACKGROUND,
            until,
            drain,
            &asserts(&expressions),
            &later,
        ]
        .concat(),
    );
}

#[test]
fn what_is_asked_for_must_be_there_by_then() {
    let name = "'load.main.items_sent > 0'";
    let drain = "[[test.step]]\naction = \"drain\"\n";
    let told = "load `main` is under way at this step";
    refused_steps(&[BACKGROUND, &asserts(name), drain].concat(), name, told);
    let told = "no step before this one runs load `main`";
    refused_steps(&[&asserts(name), BACKGROUND].concat(), name, told);
    let name = "'ledger.lost == 0'";
    for action in [
        "action = \"assert\"\nthat = ",
        "action = \"wait\"\nuntil = ",
        "action = \"metric\"\nmetric = \"x\"\nvalue = ",
    ] {
        let steps = format!("{LOAD}[[test.step]]\n{action}{name}\n{drain}");
        refused_steps(&steps, name, "the ledger is made by a step `drain`");
    }
    let start = "[[test.step]]\naction = \"window_start\"\nwindow_name = \"w\"\n";
    let end = start.replace("start", "end");
    let name = "'window.w.seconds > 0'";
    let told = "window `w` has not ended at this step";
    refused_steps(&[start, &asserts(name), &end].concat(), name, told);
    accepted(&[start, &end, &asserts(name)].concat());
}

#[test]
fn what_is_not_there_in_one_of_the_variants_is_told_with_it() {
    let matrix = "[matrix]\npeer = [\"a\", \"b\"]\n";
    let load = LOAD.replace("window = \"load\"", "when = \"peer == 'a'\"");
    let name = "'load[\"warm-up\"].items_sent > 0'";
    let source = |assert: &str| [COMPONENTS, matrix, TEST, &load, assert].concat();
    let told = "no step before this one runs load `warm-up` with peer=b";
    refused(&source(&asserts(name)), name, told);
    let same = asserts(name).replace("that", "when = \"peer == 'a'\"\nthat");
    assert!(check(&source(&same)).status.success());
    let target = "\n[[test.step]]\naction = \"start\"\ntarget = [\"service\"]\n";
    let one = COMPONENTS.replace(
        "name = \"service\"",
        "name = \"service\"\nwhen = \"peer == 'a'\"",
    );
    let source = [&one, matrix, TEST, target].concat();
    let told = "there is no component with peer=b `service`";
    refused(&source, "\"service\"]", told);
}

#[test]
fn waits_and_windows_are_for_what_a_step_begins() {
    let step = |keys: &str| format!("\n[[test.step]]\n{keys}\n");
    let wait = step("action = \"wait\"\nload = \"man\"");
    let told = "there is no load `man`; did you mean `main`?";
    refused_steps(&[BACKGROUND, &wait].concat(), "\"man\"", told);
    let wait = step("action = \"wait\"\nload = \"main\"  # too early");
    let told = "no step before this one runs load `main`";
    refused_steps(&[&wait, BACKGROUND].concat(), "\"main\"  # too early", told);
    let end = step("action = \"window_end\"\nwindow_name = \"first\"");
    let told = "there is no window that has begun `first`; there is none";
    refused_steps(&end, "\"first\"", told);
    let start = step("action = \"window_start\"\nwindow_name = \"frist\"");
    let source = [COMPONENTS, TEST, &start, &end].concat();
    let output = check(&source);
    let told = said(&output);
    assert!(told.contains("did you mean `frist`?"), "{told}");
    assert!(told.contains("no step ends window `frist`"), "{told}");
    let window = "[[test.window]]\nname = \"outage\"\nfrom = \"kil\"\nto = \"ready\"\n";
    let kill = step("action = \"fault\"\ntarget = \"agent\"\nkind = \"kill\"\nlasts = \"1s\"");
    let told = "there is no event `kil`; did you mean `kill`? in this test";
    refused_steps(&[&kill, window].concat(), "\"kil\"", told);
    let window = window.replace("kil", "kill");
    accepted(&[&kill, window.as_str()].concat());
    let told = "there is no event `kill`";
    refused_steps(&window, "\"kill\"", told);
    let name = "'window.outage.seconds > 0'";
    let told = "window `outage` is between events";
    refused_steps(&[kill, asserts(name), window].concat(), name, told);
}

#[test]
fn a_drain_needs_what_was_sent_and_what_is_delivered() {
    let drain = "[[test.step]]\naction = \"drain\"\n";
    let without = COMPONENTS.replace("delivered", "deliverd");
    let source = [&without, TEST, LOAD, drain].concat();
    refused(&source, drain, "no component has a counter `delivered`");
    refused_steps(drain, drain, "nothing that counts items was sent before");
}

#[test]
fn steps_are_done_to_what_runs() {
    let step = |keys: &str| format!("\n[[test.step]]\n{keys}\n");
    let again = "\"agent\" # again";
    let up = step(&format!("action = \"start\"\ntarget = {again}"));
    refused_steps(&up, again, "`agent` runs already");
    let down = step("action = \"down\"\ntarget = \"agent\"");
    let thaw = step(&format!(
        "action = \"fault\"\nkind = \"thaw\"\ntarget = {again}"
    ));
    let told = "`agent` does not run at this step";
    refused_steps(&[down.as_str(), &thaw].concat(), again, told);
    let kill = step("action = \"fault\"\nkind = \"kill\"\ntarget = \"service\" # not ours");
    refused_steps(&kill, "\"service\" # not ours", "is run by somebody else");
    let tell = step("action = \"reconfigure\"\ntarget = \"service\" # not ours");
    refused_steps(
        &tell,
        "\"service\" # not ours",
        "is no process of the suite",
    );
}

/// The suite with another part.
#[track_caller]
fn refused_instead(part: &str, instead: &str, at: &str, told: &str) {
    assert!(COMPONENTS.contains(part), "{part}");
    let source = [&COMPONENTS.replace(part, instead), TEST].concat();
    refused(&source, at, told);
}

#[test]
fn what_is_asked_over_http_is_a_url() {
    for (keys, url) in [
        ("action = \"wait\"\nhealthy = ", "\"nourl\""),
        ("action = \"wait\"\nhealthy = ", "\"https://127.0.0.1/\""),
        ("action = \"http\"\nurl = ", "\"127.0.0.1:80/x\""),
        (
            "action = \"query\"\ntitle = \"t\"\nsql = \"SELECT 1\"\nurl = ",
            "\"http://\"",
        ),
        (
            "action = \"reconfigure\"\ntarget = \"agent\"\napply = ",
            "\"http://a b\"",
        ),
    ] {
        let told = if url.contains("https") {
            "over http:// only"
        } else {
            "is no URL: write `http://HOST:PORT/"
        };
        refused_steps(&format!("[[test.step]]\n{keys}{url}\n"), url, told);
    }
    let url = "\"http://127.0.0.1:{{ port.backend }}/stats\"";
    refused_instead(
        url,
        "\"{{ port.backend }}\"",
        "\"{{ port.backend }}\"",
        "`20000` is no URL",
    );
    let url = "\"http://127.0.0.1:{{ port.metrics }}/metrics\"";
    refused_instead(url, "\"metrics\"", "\"metrics\"", "is no URL");
    let url = "\"http://127.0.0.1:{{ port.control }}/faults\"";
    refused_instead(url, "\"/faults\"", "\"/faults\"", "is no URL");
    let deployment = "deployment = { address = \"http://127.0.0.1:8080\" }";
    let with = "deployment = { address = \"a\", ready_url = \"/ready\" }\n";
    let source = [&COMPONENTS.replace(deployment, with), TEST].concat();
    let told = said(&check(&source));
    assert!(
        told.contains("deployment.ready_url: `/ready` is no URL"),
        "{told}"
    );
    // What the address is, is known.
    assert!(
        told.contains("execution.http[0]: loadgen http: invalid value 'a/work'"),
        "{told}"
    );
}

#[test]
fn parts_of_components_are_what_there_is() {
    let url = "[[test.step]]\naction = \"wait\"\nhealthy = \"{{ component.agent.address }}/x\"\n";
    refused_steps(
        url,
        "\"{{ component.agent.address",
        "`agent` has no address",
    );
    let url = url.replace("agent.address", "service.adress");
    refused_steps(
        &url,
        "\"{{ component.service.adr",
        "did you mean `address`?",
    );
}

#[test]
fn a_counter_is_of_one_kind() {
    let table = "{ command = [\"echo\", \"5\"], sampled = true }";
    let many = "a counter is `url` with one of";
    for (keys, told) in [
        (
            "url = \"http://a\", pointer = \"/a\", sql = \"SELECT 1\"",
            many,
        ),
        (
            "url = \"http://a\", sql = \"SELECT 1\", metric = \"x\"",
            many,
        ),
        ("command = [\"true\"], file = \"x\"", many),
        ("url = \"http://a\"", "there is `url`"),
        ("url = \"http://a\", pointer = []", "`pointer` is empty"),
        ("command = []", "`command` is empty"),
        ("sampled = true", "there is none of these"),
    ] {
        let instead = format!("{{ {keys} }}");
        refused_instead(table, &instead, &instead, told);
    }
    for (pointer, told) in [
        ("items", "write `/items`"),
        ("$.items.all", "write `/items/all`"),
    ] {
        let instead = format!("\"{pointer}\"");
        refused_instead("\"/items\"", &instead, &instead, told);
    }
    refused_instead(
        "\"/items\"",
        "[\"/items\", \"b\"]",
        "\"b\"]",
        "pointer[1]: `b` is no JSON pointer",
    );
}

#[test]
fn a_mistake_in_arguments_is_where_the_argument_is() {
    let arguments = "\"--items\", \"{{ rate }}\"";
    for (instead, at, told) in [
        (
            "\"--itms\", \"{{ rate }}\"",
            "\"--itms\"",
            "otlp[1]: loadgen otlp: unexpected argument '--itms'",
        ),
        (
            "\"--items\", \"{{ rate - 5 }}\"",
            "\"{{ rate - 5 }}\"",
            "otlp[2]: loadgen otlp: invalid value '0'",
        ),
        (
            "\"-r\", \"{{ rate - 5 }}\"",
            "\"{{ rate - 5 }}\"",
            "otlp[2]: loadgen otlp: invalid value '0'",
        ),
        (
            "\"-r\", \"{{ rate }}\", \"--duration\", \"-1s\"",
            "\"-1s\"",
            "otlp[4]: loadgen otlp: ",
        ),
        (
            "\"-r\", \"{{ rate }}\", \"--timeout=0s\"",
            "\"--timeout=0s\"",
            "otlp[3]: loadgen otlp: --timeout must be more than 0",
        ),
    ] {
        refused_instead(arguments, instead, at, told);
    }
    let of_client = "\"{{ component.service.address }}/work\"";
    refused_instead(
        of_client,
        "\"127.0.0.1:80/work\"",
        "\"127.0.0.1:80/work\"",
        "http[0]: loadgen http: invalid value '127.0.0.1:80/work' for '[URL]': the URL must start with http:// or https://: write `http://127.0.0.1:80/work`",
    );
}

#[test]
fn programs_must_be_there_unless_a_step_may_make_them() {
    let run = |program: &str| format!("[[test.step]]\naction = \"run\"\ncommand = [{program}]\n");
    let told = "command[0]: there is no program `absent-program` on the PATH";
    refused_steps(&run("\"absent-program\""), "\"absent-program\"", told);
    refused_steps(
        &run("\"./absent\""),
        "\"./absent\"",
        "there is no program /",
    );
    refused_steps(
        &run("\"./suite.toml\""),
        "\"./suite.toml\"",
        "is no program that may be executed",
    );
    refused_steps(
        &run("\"sleep 5\""),
        "\"sleep 5\"",
        "each word is a text of its own, `[\"sleep\", …]`",
    );
    // Made by the run, or by a step before.
    accepted(&run("\"{{ run_dir }}/made\""));
    accepted(&[run("\"true\""), run("\"./made\"")].concat());
    refused_steps(
        &[run("\"./made\""), run("\"true\"")].concat(),
        "\"./made\"",
        "there is no program",
    );
    let of_suite = |when: &str, program: &str| run(program).replace("test.step", when);
    let after = of_suite("after", "\"./made\"");
    refused(
        &[COMPONENTS, &after, TEST].concat(),
        "\"./made\"",
        "there is no program",
    );
    let before = of_suite("before", "\"true\"");
    let output = check(&[COMPONENTS, &before, &after, TEST, &run("\"./made\"")].concat());
    assert!(output.status.success(), "{}", said(&output));
    // Of what is deployed, loaded, and counts.
    let deployed = "command = [\"sleep\", \"600\"]\ncontrol";
    let absent = "command = [\"absent-program\"]\ncontrol";
    refused_instead(deployed, absent, "\"absent-program\"", "on the PATH");
    refused_instead(
        "[\"true\"]",
        "[\"absent-program\"]",
        "\"absent-program\"",
        "on the PATH",
    );
    refused_instead(
        "[\"echo\", \"5\"]",
        "[\"absent-program\"]",
        "\"absent-program\"",
        "on the PATH",
    );
}

/// Parts of the suite, what stands instead, where the mistake is, and what is told.
const CARELESS_PARTS: &[(&str, &str, &str, &str)] = &[
    (
        "rate = 5",
        "rate = [5]",
        "[5]",
        "text, a number or a boolean is expected",
    ),
    (
        "rate = 5",
        "rate = { env = \"ABSENT_HERE\" }",
        "{ env",
        "`default` is missing",
    ),
    (
        "name = \"small\"",
        "name = \"../small\"",
        "\"../small\"",
        "cannot be the name of a folder",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\nrepeat = 0",
        "0\n",
        "repeat: `0` is no whole number from 1 to 1000",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\ninclude = [\"absent.toml\"]",
        "\"absent.toml\"",
        "cannot read absent.toml",
    ),
    (
        "name = \"script\"",
        "name = \"a/b\"",
        "\"a/b\"",
        "cannot be the name of a folder",
    ),
    (
        "name = \"script\"",
        "name = \"{{ rate }}\"",
        "\"{{ rate }}\"\nexec",
        "a name is no template",
    ),
    (
        "name = \"script\"",
        "name = \"agent\"",
        "\"agent\"\nexec",
        "there is another one of this name",
    ),
    (
        "command = [\"sleep\", \"600\"]\ncontrol",
        "command = []\ncontrol",
        "[component.deployment]\ncommand = []",
        "`command` is empty",
    ),
    (
        "\"--items\"",
        "\"--record\", \"x\", \"--items\"",
        "\"--record\"",
        "cannot be used multiple times",
    ),
    (
        "[component.monitoring.prometheus]",
        "[component.monitoring]\ninterval = \"0s\"\n[component.monitoring.prometheus]",
        "\"0s\"",
        "more than 0",
    ),
    (
        "control =",
        "pin = [-1]\ncontrol =",
        "[component.deployment]\ncommand = [\"sleep\", \"600\"]\npin",
        "`pin` counts cores from 0",
    ),
];

/// Keys of a step, where the mistake is, and what is told.
const CARELESS_STEPS: &[(&str, &str, &str)] = &[
    (
        "action = \"wait\"\nduration = \"-5s\"",
        "\"-5s\"",
        "cannot be negative",
    ),
    (
        "action = \"fault\"\nkind = \"proxy\"\ntarget = \"agent\"\nfaults = [\"refuse\", \"refus\"]",
        "\"refus\"",
        "faults[1]: ",
    ),
    (
        "action = \"fault\"\nkind = \"kill\"\ntarget = \"agent\"\nfaults = [\"refuse\"]",
        "[\"refuse\"]",
        "`faults` means nothing to the kind `kill`",
    ),
    (
        "action = \"query\"\nurl = \"http://a\"\ntitle = \"t\"\nsql = \"SELECT 1 FORMAT JSON\"",
        "\"SELECT 1",
        "without `FORMAT`",
    ),
    (
        "action = \"assert\"\nthat = \"rate = 5\"",
        "\"rate = 5\"",
        "equality is written `==`",
    ),
    (
        "action = \"assert\"\nthat = \"rate == 5 && rate > 1\"",
        "\"rate == 5 &&",
        "write `and`",
    ),
    (
        "action = \"wait\"\nduration = \"1s\"\nwhen = \"ledger.lost == 0\"",
        "\"ledger.lost == 0\"",
        "what has been measured is not known here",
    ),
    (
        "action = \"wait\"\nduration = \"1s\"\nset = { rat = 1 }",
        "rat = 1 }",
        "did you mean `rate`?",
    ),
    (
        "action = \"down\"",
        "[[test.step]]\naction = \"down\"",
        "`target` is missing",
    ),
];

#[test]
fn careless_suites_are_refused() {
    for (part, instead, at, told) in CARELESS_PARTS {
        refused_instead(part, instead, at, told);
    }
    for (keys, at, told) in CARELESS_STEPS {
        refused_steps(&format!("\n[[test.step]]\n{keys}\n"), at, told);
    }
    let matrix = |values: &str| {
        [
            COMPONENTS,
            "[matrix]\nx = ",
            values,
            "\n",
            TEST,
            &asserts("\"x > 0\""),
        ]
        .concat()
    };
    refused(&matrix("[]"), "x = []", "matrix.x: it has no values");
    refused(
        &matrix("{ y = 1 }"),
        "{ y = 1 }",
        "a list of values is expected",
    );
    let many: Vec<_> = (0..1001).map(|it| it.to_string()).collect();
    refused(
        &matrix(&format!("[{}]", many.join(","))),
        "x = [0",
        "more than 1000 combinations",
    );
    let again = TEST.replace("\"one\"", "\"one\" # again");
    let told = "there is another test of this name";
    refused(
        &[COMPONENTS, TEST, &again].concat(),
        "\"one\" # again",
        told,
    );
}

#[test]
fn parts_of_suites_have_no_parts() {
    let folder = tempfile::tempdir().unwrap();
    let part = "include = [\"suite.toml\"]\n[variables]\nmore = 1\n";
    std::fs::write(folder.path().join("part.toml"), part).unwrap();
    let suite = [
        "include = [\"part.toml\", \"part.toml\"]\nrepeat = \"many\"",
        COMPONENTS,
        TEST,
    ];
    let output = common::run(folder.path(), &suite.concat(), &["--check"]);
    let told = said(&output);
    for expected in [
        "3 mistakes in suite.toml",
        "part.toml:1:11: include: only a suite has it",
        "suite.toml:1:25: include[1]: it is included already",
        "suite.toml:2:10: repeat: `many` is no whole number from 1 to 1000",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}
