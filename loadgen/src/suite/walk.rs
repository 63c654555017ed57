//! Every text of a suite, and what it has to be: for checks that look at all of them.

use super::model::{
    Action, Apply, Component, Configuration, ConfigurationSource, CounterSource, Deployment,
    Execution, FaultKind, Hooks, Monitoring, OnError, Ready, RunOptions, Step, Suite, Test, Text,
    WaitFor,
};

/// What a text has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Template,
    /// A template that gives a span of time.
    Duration,
    /// The same, and not none.
    Interval,
    /// A template that gives a whole number.
    Whole,
    /// A template that gives a URL which is asked.
    Url,
    /// A template that gives a JSON pointer.
    Pointer,
    /// A template that gives a rule of `loadgen faults`.
    Fault,
    /// A template that gives a query without a format.
    Query,
    /// An expression over variables.
    Condition,
    /// An expression over results, too.
    Expression,
    /// A template that knows the counts of the whole run.
    Summary,
}

/// Told of every text.
pub(crate) type Visit<'v> = dyn FnMut(&Text, Form) + 'v;

pub(crate) fn suite(suite: &Suite, visit: &mut Visit<'_>) {
    each(suite.summary.as_ref(), Form::Summary, visit);
    each(suite.repeat.as_ref(), Form::Whole, visit);
    suite.components.iter().for_each(|it| component(it, visit));
    hooks(&suite.hooks, visit);
    suite.tests.iter().for_each(|it| test(it, visit));
    on_error(&suite.on_error, visit);
}

pub(crate) fn component(component: &Component, visit: &mut Visit<'_>) {
    visit(&component.name, Form::Template);
    each(component.when.as_ref(), Form::Condition, visit);
    each(&component.requires, Form::Template, visit);
    strategies(
        component.configuration.as_ref(),
        component.deployment.as_ref(),
        component.execution.as_ref(),
        Some(&component.monitoring),
        visit,
    );
    component.hooks.values().for_each(|it| hooks(it, visit));
    on_error(&component.on_error, visit);
}

fn strategies(
    of_configuration: Option<&Configuration>,
    of_deployment: Option<&Deployment>,
    of_execution: Option<&Execution>,
    of_monitoring: Option<&Monitoring>,
    visit: &mut Visit<'_>,
) {
    if let Some(of) = of_configuration {
        configuration(of, visit);
    }
    if let Some(of) = of_deployment {
        deployment(of, visit);
    }
    if let Some(of) = of_execution {
        each(&of.arguments, Form::Template, visit);
        named(&of.environment, visit);
    }
    if let Some(of) = of_monitoring {
        monitoring(of, visit);
    }
}

fn configuration(configuration: &Configuration, visit: &mut Visit<'_>) {
    visit(&configuration.name, Form::Template);
    match &configuration.source {
        ConfigurationSource::Inline(text)
        | ConfigurationSource::Template(text)
        | ConfigurationSource::File(text) => visit(text, Form::Template),
        ConfigurationSource::Command(words) => each(words, Form::Template, visit),
    }
}

fn deployment(deployment: &Deployment, visit: &mut Visit<'_>) {
    match deployment {
        Deployment::Process(program) => {
            each(&program.command, Form::Template, visit);
            run_options(&program.run, visit);
        }
        Deployment::Container(container) => {
            visit(&container.image, Form::Template);
            each(&container.arguments, Form::Template, visit);
            each(&container.options, Form::Template, visit);
            each(&container.publish, Form::Template, visit);
            run_options(&container.run, visit);
        }
        Deployment::Existing(existing) => {
            visit(&existing.address, Form::Template);
            ready(&existing.ready, visit);
        }
    }
}

fn run_options(run: &RunOptions, visit: &mut Visit<'_>) {
    named(&run.environment, visit);
    ready(&run.ready, visit);
    each(run.stop_timeout.as_ref(), Form::Duration, visit);
    each(run.control.as_ref(), Form::Url, visit);
}

fn ready(ready: &Ready, visit: &mut Visit<'_>) {
    each(ready.url.as_ref(), Form::Url, visit);
    each(&ready.ports, Form::Template, visit);
    each(ready.timeout.as_ref(), Form::Duration, visit);
}

fn monitoring(monitoring: &Monitoring, visit: &mut Visit<'_>) {
    each(monitoring.interval.as_ref(), Form::Interval, visit);
    if let Some(prometheus) = &monitoring.prometheus {
        visit(&prometheus.url, Form::Url);
    }
    for counter in &monitoring.counters {
        match &counter.source {
            CounterSource::Url { url, pointers } => {
                visit(url, Form::Url);
                each(pointers, Form::Pointer, visit);
            }
            CounterSource::File { file, pointers } => {
                visit(file, Form::Template);
                each(pointers, Form::Pointer, visit);
            }
            CounterSource::ClickHouse { url, sql } => {
                visit(url, Form::Url);
                visit(sql, Form::Template);
            }
            CounterSource::Prometheus { url, metric } => {
                visit(url, Form::Url);
                visit(metric, Form::Template);
            }
            CounterSource::Command(words) => each(words, Form::Template, visit),
        }
    }
}

pub(crate) fn test(test: &Test, visit: &mut Visit<'_>) {
    visit(&test.name, Form::Template);
    each(test.when.as_ref(), Form::Condition, visit);
    test.steps.iter().for_each(|it| step(it, visit));
    for window in &test.windows {
        visit(&window.name, Form::Template);
        visit(&window.from, Form::Template);
        visit(&window.to, Form::Template);
    }
    hooks(&test.hooks, visit);
    on_error(&test.on_error, visit);
}

fn hooks(hooks: &Hooks, visit: &mut Visit<'_>) {
    hooks.before.iter().for_each(|it| step(it, visit));
    hooks.after.iter().for_each(|it| step(it, visit));
}

fn on_error(on_error: &OnError, visit: &mut Visit<'_>) {
    each(on_error.retries.as_ref(), Form::Whole, visit);
    each(on_error.retry_delay.as_ref(), Form::Duration, visit);
}

pub(crate) fn step(step: &Step, visit: &mut Visit<'_>) {
    each(step.when.as_ref(), Form::Condition, visit);
    each(step.window.as_ref(), Form::Template, visit);
    action(&step.action, visit);
    hooks(&step.hooks, visit);
    on_error(&step.on_error, visit);
}

fn action(action: &Action, visit: &mut Visit<'_>) {
    match action {
        Action::Up(texts)
        | Action::Down(texts)
        | Action::Configure(texts)
        | Action::Deploy(texts)
        | Action::Start(texts)
        | Action::Stop(texts)
        | Action::Destroy(texts)
        | Action::MonitorStart(texts)
        | Action::MonitorStop(texts)
        | Action::Run(texts) => each(texts, Form::Template, visit),
        Action::Assert(expressions) => each(expressions, Form::Expression, visit),
        Action::WindowStart(text) | Action::WindowEnd(text) | Action::Event(text) => {
            visit(text, Form::Template);
        }
        Action::Wait(wait) => {
            each(wait.timeout.as_ref(), Form::Duration, visit);
            wait_for(&wait.what, visit);
        }
        Action::Load(load) => {
            visit(&load.target, Form::Template);
            each(load.label.as_ref(), Form::Template, visit);
        }
        Action::Reconfigure(step) => {
            visit(&step.target, Form::Template);
            strategies(
                step.configuration.as_ref(),
                step.deployment.as_ref(),
                step.execution.as_ref(),
                step.monitoring.as_ref(),
                visit,
            );
            if let Apply::Post(url) = &step.apply {
                visit(url, Form::Url);
            }
        }
        Action::Fault(fault) => {
            visit(&fault.target, Form::Template);
            each(fault.lasts.as_ref(), Form::Duration, visit);
            if let FaultKind::Proxy(rules) = &fault.kind {
                each(rules, Form::Fault, visit);
            }
        }
        Action::Drain(drain) => {
            each(drain.timeout.as_ref(), Form::Duration, visit);
            each(drain.steady.as_ref(), Form::Duration, visit);
        }
        Action::Metric(metric) => {
            visit(&metric.name, Form::Template);
            visit(&metric.value, Form::Expression);
        }
        Action::Query(query) => {
            visit(&query.title, Form::Template);
            visit(&query.url, Form::Url);
            visit(&query.sql, Form::Query);
        }
        Action::Http(http) => {
            visit(&http.url, Form::Url);
            each(http.body.as_ref(), Form::Template, visit);
        }
    }
}

fn wait_for(what: &WaitFor, visit: &mut Visit<'_>) {
    match what {
        WaitFor::Duration(duration) => visit(duration, Form::Duration),
        WaitFor::Healthy(url) => visit(url, Form::Url),
        WaitFor::Until(expression) => visit(expression, Form::Expression),
        WaitFor::Steady { value, duration } => {
            visit(value, Form::Expression);
            each(duration.as_ref(), Form::Duration, visit);
        }
        WaitFor::Load(name) => each(name.as_ref(), Form::Template, visit),
    }
}

fn each<'t>(texts: impl IntoIterator<Item = &'t Text>, form: Form, visit: &mut Visit<'_>) {
    texts.into_iter().for_each(|text| visit(text, form));
}

fn named(texts: &[(String, Text)], visit: &mut Visit<'_>) {
    texts
        .iter()
        .for_each(|(_, text)| visit(text, Form::Template));
}

/// Every step of a test with its hooks, and everything in those.
pub(crate) fn steps_of<'s>(test: &'s Test, found: &mut Vec<&'s Step>) {
    steps_in(&test.hooks.before, found);
    steps_in(&test.steps, found);
    steps_in(&test.hooks.after, found);
}

fn steps_in<'s>(steps: &'s [Step], found: &mut Vec<&'s Step>) {
    for step in steps {
        steps_in(&step.hooks.before, found);
        found.push(step);
        steps_in(&step.hooks.after, found);
    }
}
