//! Files of scenarios: what they mean, and what is wrong with them.

use std::path::Path;

use super::*;
use crate::http::journey::Course;
use crate::http::options::Mode;

fn read_text(text: &str) -> Result<Plan, String> {
    read_with(text, &[], None)
}

fn read_with(text: &str, settings: &[&str], target: Option<Uri>) -> Result<Plan, String> {
    let source = Source {
        path: "s.toml".into(),
        text: text.to_owned(),
        settings: settings.iter().map(|&it| it.to_owned()).collect(),
    };
    read(&source, target)
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"
target = "ftp://x"
sede = 1
[defaults]
timeout = "5"
[data]
users = { file = "nowhere.csv" }
[[scenario]]
name = "a"
executor = "constant_rte"
rate = 5
[[scenario.request]]
path = "list"
checks = { status = "ok" }
[[scenario]]
name = "b"
executor = "retry_storm"
rate = 0
duration = "10s"
[[scenario.request]]
path = "/${user.id}"
[thresholds]
limits = ["latncy_p99 < 1s", "dropped{scenario=c} < 1%"]
"#;
    let mistakes = read_text(text).unwrap_err();
    for expected in [
        "12 mistakes, nothing was sent",
        "s.toml:2:10: target: write a URL",
        "s.toml:3:1: sede: unknown key; did you mean `seed`?",
        "s.toml:5:11: defaults.timeout: `5` needs a unit",
        "s.toml:7:18: data.users.file: cannot read nowhere.csv",
        "s.toml:10:12: scenario[0].executor: there is no executor `constant_rte`; did you mean `constant_rate`?",
        "s.toml:13:8: scenario[0].request[0].path: a path begins with `/`",
        "s.toml:14:21: scenario[0].request[0].checks.status: write a status from 100 to 599",
        "scenario[1]: a `retry_storm` needs `retry`",
        "s.toml:18:8: scenario[1].rate: write a number from",
        "there is no `${user.id}`",
        "s.toml:23:11: thresholds.limits[0]: there is no metric `latncy_p99`; did you mean `latency_p99`?",
        "s.toml:23:30: thresholds.limits[1]: there is no scenario `c`; there are a, b",
    ] {
        assert!(
            mistakes.contains(expected),
            "{expected} is not in\n{mistakes}"
        );
    }
}

#[test]
fn what_cannot_be_a_status_is_no_check() {
    for status in ["-1", "70000", "99", "600", "[]", "'200'", "[200, 4]", "2.5"] {
        let text = format!(
            "target = 'http://a'\n[[scenario]]\nexecutor = 'closed'\nrequests = 1\nrequest = {{ path = '/', checks = {{ status = {status} }} }}"
        );
        let mistakes = read_text(&text).unwrap_err();
        assert!(
            mistakes.contains("1 mistake, nothing was sent"),
            "{mistakes}"
        );
        assert!(mistakes.contains("checks.status"), "{mistakes}");
    }
}

#[test]
fn mistakes_hide_no_others_but_those_that_follow() {
    let text = "target = 'http://a'\n[[scenario]]\nexecutor = 'constant-vus'\nrequest = { path = 'a' }\nstep = { path = 'b', extract = { id = 'c' }, weight = 2 }";
    let mistakes = read_text(text).unwrap_err();
    for expected in [
        "there is no executor `constant-vus`; did you mean `closed`?",
        "either `request` (by weight) or `step` (in order)",
        "scenario[0].request.path: a path begins with `/`",
        "scenario[0].step.path: a path begins with `/`",
        "scenario[0].step.extract.id: a JSON pointer begins with `/`",
        "scenario[0].step.weight: unknown key",
    ] {
        assert!(
            mistakes.contains(expected),
            "{expected} is not in\n{mistakes}"
        );
    }
    let mistakes = read_text("target = 'http://a\nsede = 1\n[[scenario]]\n").unwrap_err();
    assert!(
        mistakes.starts_with("1 mistake, nothing was sent\ns.toml:1:19: "),
        "{mistakes}"
    );
}

#[test]
fn a_small_file_has_its_defaults() {
    let text = r#"
target = "http://h:1/base/"
[[scenario]]
executor = "closed"
duration = "5s"
[[scenario.request]]
path = "/a?b=c"
body = "{}"
"#;
    let plan = read_text(text).unwrap();
    assert_eq!((plan.name.as_str(), plan.timeout.as_secs()), ("s", 10));
    let scenario = &plan.scenarios[0];
    assert_eq!(
        (scenario.name.as_str(), scenario.load.workers),
        ("scenario-1", 8)
    );
    assert_eq!(scenario.planned(), Some(Duration::from_secs(5)));
    let step = &scenario.journey.steps[0];
    assert_eq!(step.label, "POST /a");
    let crate::http::journey::Request::Fixed(request) = &step.request else {
        panic!("nothing is to be filled in: {step:?}");
    };
    assert_eq!(request.uri, "http://h:1/base/a?b=c");
    assert_eq!(request.headers["content-type"], "application/json");
}

#[test]
fn the_command_line_gives_another_target() {
    let text = "target = 'http://a'\n[[scenario]]\nexecutor = 'soak'\nrate = 1\nduration = '1s'\nrequest = { path = '/' }";
    let plan = read_with(text, &[], Some(Uri::from_static("http://b:2"))).unwrap();
    assert_eq!(plan.target, "http://b:2");
}

#[test]
fn a_breakpoint_is_alone_and_has_thresholds() {
    let text = "target = 'http://a'\n[[scenario]]\nexecutor = 'breakpoint'\nrequest = { path = '/' }\n[[scenario]]\nexecutor = 'closed'\nrequests = 1\nrequest = { path = '/' }";
    let mistakes = read_text(text).unwrap_err();
    assert!(
        mistakes.contains("a file of its own") && mistakes.contains("needs thresholds"),
        "{mistakes}"
    );
}

#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/scenarios");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let source = Source {
            path: path.clone(),
            text,
            settings: Vec::new(),
        };
        let plan = read(&source, None).unwrap_or_else(|it| panic!("{it}"));
        assert!(!plan.thresholds.is_empty(), "{}", path.display());
        for scenario in &plan.scenarios {
            let is_flow = scenario.journey.course == Course::InOrder;
            let is_crowd = matches!(scenario.load.mode, Mode::Crowd(_));
            assert_eq!(is_flow, is_crowd, "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} examples");
}

#[test]
fn what_could_never_be_sent_or_answered_is_refused() {
    let check = |defaults: &str, load: &str, expected: &str| {
        let text = format!(
            "target = 'http://a'\n{defaults}\n[[scenario]]\n{load}\n[[scenario.request]]\npath = '/'\n"
        );
        let mistakes = read_text(&text).unwrap_err();
        assert!(mistakes.ends_with(expected), "{mistakes}");
    };
    check(
        "defaults = { timeout = '0s' }",
        "executor = 'soak'\nrate = 1\nduration = '1s'",
        "`timeout` is more than 0: no request could be answered",
    );
    check(
        "",
        "executor = 'ramping_rate'\nstages = []",
        "`stages` has none: nothing would be sent",
    );
}

#[test]
fn settings_take_the_place_of_what_the_file_says() {
    let text = "target = 'http://a'\n[[scenario]]\nname = 'a'\nexecutor = 'constant_rate'\nrate = 5\nduration = '1h'\n\
                [[scenario.request]]\npath = '/'\n";
    let settings = [
        "scenario.a.duration=2s",
        "scenario.0.rate=7",
        "defaults.timeout=3s",
        "thresholds.limits=['error_rate < 1%']",
    ];
    let plan = read_with(text, &settings, None).unwrap();
    assert_eq!(
        plan.scenarios[0].load.duration,
        Some(Duration::from_secs(2))
    );
    assert_eq!(plan.scenarios[0].load.mode, Mode::Open { rate: 7.0 });
    assert_eq!(plan.timeout, Duration::from_secs(3));
    assert_eq!(plan.thresholds[0].expression, "error_rate < 1%");
    let check = |setting: &str, expected: &str| {
        let mistakes = read_with(text, &[setting], None).unwrap_err();
        assert_eq!(mistakes, format!("1 mistake, nothing was sent\n{expected}"));
    };
    check(
        "scenario.a.duratoin=2s",
        "--set scenario.a.duratoin:1:1: scenario[0].duratoin: unknown key; did you mean `duration`?",
    );
    check(
        "scenario.b.duration=2s",
        "--set scenario.b.duration:1:1: there is no `b` in `scenario`; there are a",
    );
    check(
        "scenario.a.rate=fast",
        "--set scenario.a.rate:1:17: scenario[0].rate: write a number from 0.001 to 10000000",
    );
}
