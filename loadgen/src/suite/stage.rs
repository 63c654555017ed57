//! One test under way: its components, what has been measured so far, and its steps one after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use minijinja::Value;

use super::Run;
use super::act::books::Memory;
use super::events;
use super::load::Load;
use super::model::{Action, Hooks, OnError, Step, Test, Text};
use super::monitor::{Monitors, within};
use super::results::{Event, Status, StepResult, TestResult, WindowResult};
use super::trace::SpanIndex;
use super::unit::{Filler, Unit};
use super::variables::{Scope, Variant};

/// How often whatever is waited for is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// Between two tries when the suite does not say.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A load that was asked to stop has this long to write its record.
const LOAD_STOP_MAX: Duration = Duration::from_secs(5);
/// What is torn down after a failure is asked first, and this long waited for.
const TEAR_DOWN_MAX: Duration = Duration::from_secs(5);

/// The run was asked to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

pub(crate) struct Stage<'r> {
    pub(crate) run: &'r Run,
    pub(crate) scope: Scope,
    pub(crate) folder: PathBuf,
    pub(crate) units: Vec<Unit>,
    pub(crate) monitors: Monitors,
    /// Under way in the background.
    pub(crate) loads: Vec<Load>,
    pub(crate) loads_started: usize,
    /// When the load that ended last sent its first request: before, it built its payload.
    pub(crate) sending_began: Option<f64>,
    /// What components have counted that were killed or stopped.
    pub(crate) memory: Memory,
    pub(crate) result: TestResult,
    open_windows: BTreeMap<String, f64>,
    /// The step under way, in spans.
    span: SpanIndex,
    depth: usize,
}

impl<'r> Stage<'r> {
    /// # Errors
    /// When there is no place for its files, or no ports.
    pub(crate) fn new(
        run: &'r Run,
        name: &str,
        variant: &Variant,
        repetition: u32,
        parent: SpanIndex,
    ) -> anyhow::Result<Self> {
        let folder = run.folder_of(name, variant, repetition);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let mut scope = Scope::new(&run.suite, variant);
        scope.set("repetition", Value::from(repetition));
        scope.set("test", Value::from(name));
        scope.set_path("run_dir", &folder);
        scope.set_path("dir", &folder);
        let names = run.checked.ports.iter().cloned();
        let ports = crate::process::free_ports(run.checked.ports.len())?;
        scope.set(
            "port",
            Value::from_pairs(names.zip(ports.into_iter().map(Value::from))),
        );
        let attributes = [
            ("test.name", name.to_owned()),
            ("test.variant", super::variables::words(variant)),
            ("test.repetition", repetition.to_string()),
        ];
        let span = run
            .trace()
            .begin(&format!("test {name}"), &attributes, Some(parent));
        let result = TestResult::new(name.to_owned(), variant.clone(), repetition, run.seconds());
        let mut stage = Self {
            run,
            scope,
            units: Vec::new(),
            monitors: Monitors::start(run.began, run.fetch.clone()),
            loads: Vec::new(),
            loads_started: 0,
            memory: Memory::default(),
            sending_began: None,
            result,
            open_windows: BTreeMap::new(),
            span,
            depth: 0,
            folder,
        };
        stage.add_units()?;
        Ok(stage)
    }

    fn add_units(&mut self) -> anyhow::Result<()> {
        let run = self.run;
        for component in &run.suite.components {
            if self.holds(component.when.as_ref())? {
                let name = component.name.text.clone();
                let folder = self.folder.join(&name);
                self.units.push(Unit::new(name, component.clone(), folder));
            }
        }
        for index in 0..self.units.len() {
            let filler = filler(run, &self.scope, &self.units, Some(index));
            if let Some(unit) = self.units.get_mut(index) {
                unit.place_config(&filler)?;
            }
        }
        Ok(())
    }

    /// Fills in what a step of the test asks for.
    pub(crate) fn filler(&self) -> Filler<'r> {
        filler(self.run, &self.scope, &self.units, None)
    }

    /// The same for a component, which sees its own folder.
    pub(crate) fn filler_of(&self, index: usize) -> Filler<'r> {
        filler(self.run, &self.scope, &self.units, Some(index))
    }

    pub(crate) fn holds(&self, condition: Option<&Text>) -> anyhow::Result<bool> {
        let Some(condition) = condition else {
            return Ok(true);
        };
        let value = self.scope.value();
        let holds = self.run.templates.evaluate(&condition.text, &value);
        Ok(holds
            .with_context(|| condition.place.to_string())?
            .is_true())
    }

    /// A moment passes. All waiting is made of these.
    ///
    /// # Errors
    /// When the run is to end, or a component has ended by itself.
    pub(crate) async fn tick(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(POLL).await;
        self.check()
    }

    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.notice_ends();
        if self.run.is_interrupted() {
            bail!(Interrupted);
        }
        self.units.iter_mut().try_for_each(Unit::check_alive)
    }

    /// A load in the background may end long before it is waited for.
    pub(crate) fn notice_ends(&mut self) {
        for load in &mut self.loads {
            if load.ended.is_none() && matches!(load.running.ended(), Ok(Some(_))) {
                self.monitors.sample_processes();
                load.ended = Some(self.run.seconds());
            }
        }
    }

    pub(crate) async fn pause(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.tick().await?;
        }
        self.check()
    }

    pub(crate) fn event(&mut self, name: &str, detail: &str) {
        self.event_at(self.run.seconds(), name, detail);
    }

    /// The same of what happened a while ago.
    pub(crate) fn event_at(&mut self, at: f64, name: &str, detail: &str) {
        self.run.trace().event(self.span, name, detail);
        self.run.detail(&format!("    {name} {detail}"));
        self.result.events.push(Event {
            at,
            name: name.to_owned(),
            detail: detail.to_owned(),
        });
    }

    // === windows ===

    pub(crate) fn window_starts(&mut self, name: &str) {
        self.monitors.sample_processes();
        self.open_windows
            .insert(name.to_owned(), self.run.seconds());
    }

    /// # Errors
    /// When it has not begun.
    pub(crate) fn window_ends(&mut self, name: &str) -> anyhow::Result<()> {
        let from = self.open_windows.remove(name);
        let from = from.with_context(|| format!("window `{name}` has not begun"))?;
        self.monitors.sample_processes();
        self.add_window(name, from, self.run.seconds());
        Ok(())
    }

    /// A window that has begun and ended as long ago as is said.
    pub(crate) fn window_was(&mut self, name: &str, from: f64, to: f64) {
        self.open_windows.remove(name);
        self.add_window(name, from, to);
    }

    fn add_window(&mut self, name: &str, from: f64, to: f64) {
        self.result.windows.retain(|window| window.name != name);
        self.result.windows.push(WindowResult {
            name: name.to_owned(),
            from,
            to,
            resources: within(&self.monitors.series(), from, to),
        });
    }

    /// Windows between events, as far as both have happened.
    fn event_windows(&mut self, test: &Test) -> anyhow::Result<()> {
        let filler = self.filler();
        for window in &test.windows {
            let name = filler.text(&window.name)?;
            let (from, to) = (filler.text(&window.from)?, filler.text(&window.to)?);
            match (self.result.event_at(&from), self.result.event_at(&to)) {
                (Some(from), Some(to)) => self.add_window(&name, from, to),
                _ => self.result.note(format!(
                    "window {name}: events `{from}` and `{to}` did not both happen"
                )),
            }
        }
        Ok(())
    }

    // === steps ===

    /// The whole test, and everything torn down after it.
    pub(crate) async fn perform(mut self, test: &Test) -> TestResult {
        let done = self.steps(test).await;
        let problem = done.err();
        let after = match &problem {
            Some(error) if error.is::<Interrupted>() => Ok(()),
            _ => self.after(test).await,
        };
        let problem = problem.or_else(|| after.err());
        self.tear_down(problem.as_ref()).await;
        let assertions = self.result.assertions.iter();
        let (unknown, others): (Vec<_>, Vec<_>) = assertions.partition(|it| it.unknown);
        let crossed =
            others.iter().any(|it| !it.passed) || self.result.loads.iter().any(|it| it.has_crossed);
        let is_unknown = !unknown.is_empty();
        self.result.status = match problem {
            Some(error) if error.is::<Interrupted>() => Status::Interrupted,
            Some(error) => Status::Failed(format!("{error:#}")),
            None if crossed => Status::Crossed,
            None if is_unknown => Status::Unknown,
            None => Status::Passed,
        };
        self.result.series = self.monitors.series();
        let ledger = self.result.ledger.iter();
        let notes: Vec<_> = ledger.flat_map(super::ledger::Ledger::notes).collect();
        for note in notes.into_iter().chain(self.monitors.problems()) {
            self.result.note(note);
        }
        self.result.to = self.run.seconds();
        let words = match &self.result.status {
            Status::Passed => None,
            Status::Failed(why) => Some(why.as_str()),
            other => Some(other.name()),
        };
        self.run.trace().end(self.span, words);
        self.result
    }

    async fn steps(&mut self, test: &Test) -> anyhow::Result<()> {
        self.hooks(&test.hooks.before).await?;
        for step in &test.steps {
            self.step(step).await?;
        }
        Ok(())
    }

    async fn after(&mut self, test: &Test) -> anyhow::Result<()> {
        let hooks = self.hooks(&test.hooks.after).await;
        self.event_windows(test)?;
        hooks
    }

    pub(crate) async fn hooks(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        self.depth += 1;
        let mut done = Ok(());
        for step in steps {
            done = Box::pin(self.step(step)).await;
            if done.is_err() {
                break;
            }
        }
        self.depth -= 1;
        done
    }

    /// One step with its hooks, as often as its errors allow.
    pub(crate) async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        if !self.holds(step.when.as_ref())? {
            return Ok(());
        }
        self.check()?;
        self.scope.set_all(&step.set);
        let kind = if self.depth == 0 { "step" } else { "hook" };
        if self.depth == 0 {
            self.run.progress(&format!("  {}", step.name));
        } else {
            self.run.detail(&format!("    hook {}", step.name));
        }
        let outer = self.span;
        let attributes = [("loadgen.suite.place", step.place.to_string())];
        self.span =
            self.run
                .trace()
                .begin(&format!("{kind} {}", step.name), &attributes, Some(outer));
        let from = self.run.seconds();
        let done = self.with_retries(step).await;
        let problem = done.as_ref().err().map(|error| format!("{error:#}"));
        self.run.trace().end(self.span, problem.as_deref());
        self.span = outer;
        self.result.steps.push(StepResult {
            name: step.name.clone(),
            depth: self.depth,
            from,
            to: self.run.seconds(),
            problem: problem.clone(),
        });
        match (done, problem) {
            (Err(error), Some(problem)) if step.on_error.goes_on && !error.is::<Interrupted>() => {
                self.event(events::STEP_FAILED, &problem);
                self.result
                    .note(format!("{}: went on after: {problem}", step.name));
                Ok(())
            }
            (done, _) => done
                .with_context(|| step.name.clone())
                .map_err(keep_interrupted),
        }
    }

    async fn with_retries(&mut self, step: &Step) -> anyhow::Result<()> {
        let (retries, delay) = self.retries(&step.on_error)?;
        let mut attempt = 0;
        loop {
            let done = self.once(step).await;
            match done {
                Err(error) if attempt < retries && !error.is::<Interrupted>() => {
                    attempt += 1;
                    self.event(events::RETRY, &format!("{}: {error:#}", step.name));
                    self.pause(delay).await?;
                }
                done => return done,
            }
        }
    }

    pub(crate) fn retries(&self, on_error: &OnError) -> anyhow::Result<(u32, Duration)> {
        let filler = self.filler();
        let retries = filler.whole(on_error.retries.as_ref(), 0)?;
        let delay = filler.duration(on_error.retry_delay.as_ref(), RETRY_DELAY)?;
        Ok((retries, delay))
    }

    async fn once(&mut self, step: &Step) -> anyhow::Result<()> {
        self.hooks(&step.hooks.before).await?;
        let window = self.filler().optional(step.window.as_ref())?;
        if let Some(name) = &window {
            self.window_starts(name);
        }
        self.sending_began = None;
        Box::pin(self.act(&step.action)).await?;
        if let Some(name) = window {
            self.step_window_ends(&step.action, name)?;
        }
        self.hooks(&step.hooks.after).await
    }

    /// Ends the window of a step that is over, if what it did is over, too.
    fn step_window_ends(&mut self, action: &Action, name: String) -> anyhow::Result<()> {
        match (action, self.sending_began) {
            // It lasts as long as the load does.
            (Action::Load(load), _) if load.background => {
                if let Some(load) = self.loads.last_mut() {
                    load.window = Some(name);
                }
                return Ok(());
            }
            (Action::Load(_), Some(began)) => {
                self.open_windows.insert(name.clone(), began);
            }
            _ => {}
        }
        self.window_ends(&name)
    }

    /// Something done to a component, between its hooks.
    pub(crate) fn hooks_of(&self, index: usize, phase: super::model::Phase) -> Hooks {
        let unit = self.units.get(index);
        let hooks = unit.and_then(|unit| unit.component.hooks.get(&phase));
        hooks.cloned().unwrap_or_default()
    }

    // === the end ===

    /// Ends everything; after a `problem` faster. What loads have to say is taken either way.
    async fn tear_down(&mut self, problem: Option<&anyhow::Error>) {
        for load in &mut self.loads {
            // One that has ended has nothing to be asked.
            drop(
                load.running
                    .ask_to_stop(super::model::StopSignal::Interrupt),
            );
        }
        let deadline = Instant::now() + LOAD_STOP_MAX;
        while !self.loads.iter().all(|load| load.ended.is_some()) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            self.notice_ends();
        }
        while let Some(mut load) = self.loads.pop() {
            load.running.kill();
            let ended = *load.ended.get_or_insert_with(|| self.run.seconds());
            self.event_at(ended, events::LOAD_STOPPED, &load.label);
            let result = load.salvage();
            if let Some(why) = &result.unknown {
                self.result.note(why.clone());
            }
            self.keep_load(&load, result, ended);
        }
        // What is frozen neither answers nor ends.
        for unit in self.units.iter_mut().filter(|unit| unit.frozen) {
            if let Err(error) = unit.freeze(false).await {
                self.result.note(format!("{}: {error:#}", unit.name));
            }
        }
        match problem {
            Some(error) if error.is::<Interrupted>() => {
                self.close_books_early("the run was interrupted").await;
            }
            Some(_) => self.close_books_early("the test failed before").await,
            None => {}
        }
        self.end_units(problem.is_none()).await;
    }

    async fn end_units(&mut self, well: bool) {
        self.monitors.sample_processes();
        for index in (0..self.units.len()).rev() {
            let limit = match well {
                true => self.stop_limit(index),
                false => TEAR_DOWN_MAX,
            };
            let Some(unit) = self.units.get_mut(index) else {
                continue;
            };
            let Some(running) = &mut unit.running else {
                unit.kill();
                continue;
            };
            let deadline = Instant::now() + limit;
            self.monitors.may_be_silent(&unit.name, true);
            drop(running.ask_to_stop(super::model::StopSignal::Terminate));
            while matches!(running.ended(), Ok(None)) && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
            if matches!(running.ended(), Ok(None)) {
                let name = unit.name.clone();
                self.result.note(format!(
                    "{name} did not stop within {limit:?} and was killed"
                ));
            }
            if let Some(unit) = self.units.get_mut(index) {
                unit.kill();
            }
        }
    }
}

/// What may interrupt stays recognizable through the words around it.
fn keep_interrupted(error: anyhow::Error) -> anyhow::Error {
    match error.is::<Interrupted>() {
        true => Interrupted.into(),
        false => error,
    }
}

fn filler<'r>(run: &'r Run, scope: &Scope, units: &[Unit], index: Option<usize>) -> Filler<'r> {
    let address = |unit: &Unit| match &unit.component.deployment {
        Some(super::model::Deployment::Existing(existing)) => run
            .templates
            .render(&existing.address.text, &scope.value())
            .ok(),
        _ => None,
    };
    let components = units
        .iter()
        .map(|unit| (unit.name.clone(), unit.value(address(unit))));
    let mut more = vec![("component".to_owned(), Value::from_pairs(components))];
    if let Some(unit) = index.and_then(|index| units.get(index)) {
        let own = unit.value(address(unit));
        for name in ["dir", "config"] {
            let value = own.get_attr(name).unwrap_or_default();
            more.push((name.to_owned(), value));
        }
    }
    Filler {
        templates: &run.templates,
        value: scope.with(more).value(),
        folder: &run.suite.folder,
    }
}
