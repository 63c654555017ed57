//! What steps do.

pub(crate) mod books;
mod faults;
mod phases;
mod values;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::Method as HttpMethod;

use super::child::{Running, Spec, describe};
use super::events;
use super::load::{Load, LoadSpec};
use super::model::{Action, HttpStep, LoadStep, Method, Phase, QueryStep, Text, Wait, WaitFor};
use super::results::{Answer, LoadResult, OwnMetric};
use super::stage::{POLL, Stage};
use super::unit::pinned;

/// A wait ends in an error by then when the suite does not say.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// One question to a health endpoint.
const ASK_MAX: Duration = Duration::from_secs(2);
/// How long a value must stay the same to be called steady, when the suite does not say.
const STEADY: Duration = Duration::from_secs(2);
/// Between two looks at a value that has to be asked for.
const LOOK: Duration = Duration::from_millis(100);
/// Names of the columns, and then rows, each as a list of texts.
const TABLE_FORMAT: &str = "JSONCompactStringsEachRowWithNames";
/// A command of a step may build something.
const COMMAND_MAX: Duration = Duration::from_secs(3600);

impl Stage<'_> {
    pub(crate) async fn act(&mut self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Up(targets) => self.up(targets).await,
            Action::Down(targets) => self.down(targets).await,
            Action::Configure(targets) => self.phase(Phase::Configure, targets).await,
            Action::Deploy(targets) => self.phase(Phase::Deploy, targets).await,
            Action::Start(targets) => self.phase(Phase::Start, targets).await,
            Action::Stop(targets) => self.phase(Phase::Stop, targets).await,
            Action::Destroy(targets) => self.phase(Phase::Destroy, targets).await,
            Action::MonitorStart(targets) => self.phase(Phase::MonitorStart, targets).await,
            Action::MonitorStop(targets) => self.phase(Phase::MonitorStop, targets).await,
            Action::Wait(wait) => self.wait(wait).await,
            Action::Load(load) => self.load(load).await,
            Action::WindowStart(name) => {
                let name = self.filler().text(name)?;
                self.window_starts(&name);
                Ok(())
            }
            Action::WindowEnd(name) => {
                let name = self.filler().text(name)?;
                self.window_ends(&name)
            }
            Action::Reconfigure(step) => self.reconfigure(step).await,
            Action::Fault(fault) => self.fault(fault).await,
            Action::Assert(expressions) => self.assert(expressions).await,
            Action::Drain(drain) => self.drain(drain).await,
            Action::Event(name) => {
                let name = self.filler().text(name)?;
                self.event(&name, "");
                Ok(())
            }
            Action::Metric(metric) => {
                let value = self.number(&metric.value).await?;
                let name = self.filler().text(&metric.name)?;
                self.result.metrics.push(OwnMetric {
                    name,
                    value,
                    unit: metric.unit.clone(),
                    better: metric.better,
                });
                Ok(())
            }
            Action::Query(query) => self.query(query).await,
            Action::Run(words) => self.command(words).await,
            Action::Http(http) => self.http(http).await,
        }
    }

    /// The component of this name.
    pub(super) fn index(&self, target: &Text) -> anyhow::Result<usize> {
        let name = self.filler().text(target)?;
        let found = self.units.iter().position(|unit| unit.name == name);
        found.with_context(|| format!("there is no component `{name}`"))
    }

    async fn wait(&mut self, wait: &Wait) -> anyhow::Result<()> {
        let filler = self.filler();
        let limit = filler.duration(wait.timeout.as_ref(), WAIT_MAX)?;
        let deadline = Instant::now() + limit;
        match &wait.what {
            WaitFor::Duration(duration) => {
                let duration = filler.duration(Some(duration), Duration::ZERO)?;
                self.pause(duration).await
            }
            WaitFor::Healthy(url) => {
                let url = filler.text(url)?;
                self.healthy(&url, deadline).await
            }
            WaitFor::Until(expression) => {
                while !self.is_true_now(expression).await? {
                    late(deadline, || {
                        format!("`{}` within {limit:?}", expression.text)
                    })?;
                    self.pause(LOOK).await?;
                }
                Ok(())
            }
            WaitFor::Steady { value, duration } => {
                let duration = filler.duration(duration.as_ref(), STEADY)?;
                self.steady(value, duration, deadline).await
            }
            WaitFor::Load(label) => {
                let label = filler.optional(label.as_ref())?;
                self.loads_end(label.as_deref(), deadline).await
            }
        }
    }

    pub(super) async fn healthy(&mut self, url: &str, deadline: Instant) -> anyhow::Result<()> {
        let fetch = self.run.fetch.clone();
        loop {
            let Err(error) = fetch.get(url, ASK_MAX).await else {
                return Ok(());
            };
            late(deadline, || format!("a good answer of {url}: {error:#}"))?;
            self.tick().await?;
        }
    }

    async fn steady(
        &mut self,
        value: &Text,
        duration: Duration,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let mut last = self.number(value).await?;
        let mut since = Instant::now();
        while since.elapsed() < duration {
            late(deadline, || {
                format!("`{}` to be steady, it is {last}", value.text)
            })?;
            self.pause(LOOK).await?;
            let now = self.number(value).await?;
            if (now - last).abs() > f64::EPSILON * last.abs() {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    // === load ===

    async fn load(&mut self, step: &LoadStep) -> anyhow::Result<()> {
        let index = self.index(&step.target)?;
        let hooks = self.hooks_of(index, Phase::Load);
        self.hooks(&hooks.before).await?;
        let label = self.start_load(index, step)?;
        if step.background {
            return Ok(());
        }
        self.loads_end(Some(&label), Instant::now() + COMMAND_MAX * 24 * 7)
            .await?;
        self.hooks(&hooks.after).await
    }

    fn start_load(&mut self, index: usize, step: &LoadStep) -> anyhow::Result<String> {
        let filler = self.filler_of(index);
        let unit = self.units.get(index).context("there is a component")?;
        let execution = unit.execution()?;
        let label = filler.optional(step.label.as_ref())?;
        let label = label.unwrap_or_else(|| unit.name.clone());
        let arguments = match execution.kind {
            super::model::ExecutionKind::Command => filler.command(&execution.arguments)?,
            // One that stands for nothing in this variant is left out.
            _ => filler
                .texts(&execution.arguments)?
                .into_iter()
                .filter(|argument| !argument.is_empty())
                .collect(),
        };
        std::fs::create_dir_all(&unit.folder)?;
        let spec = LoadSpec {
            label: label.clone(),
            component: unit.name.clone(),
            kind: execution.kind,
            arguments,
            environment: filler.named(&execution.environment)?,
            folder: unit.folder.clone(),
            cores: pinned(&execution.pin, &self.run.cores),
            mark: self.run.id.clone(),
            may_fail: step.may_fail,
            number: self.loads_started + 1,
            started: self.run.seconds(),
        };
        let load = Load::start(spec)?;
        self.loads_started += 1;
        self.event(events::LOAD_STARTED, &label);
        let name = format!("{} load {label}", load.component);
        self.result.inputs.push((name, load.command_line.clone()));
        let component = load.component.clone();
        let runs = self.units.get(index).is_some_and(|it| it.running.is_some());
        if !runs {
            self.watch(index)?;
            self.monitors.process(&component, Some(load.running.pid()));
        }
        self.loads.push(load);
        Ok(label)
    }

    /// Waits for loads to end: all, or those of this name.
    pub(super) async fn loads_end(
        &mut self,
        label: Option<&str>,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        loop {
            self.notice_ends();
            let is_meant = |load: &Load| label.is_none_or(|label| load.label == label);
            let mut left = 0;
            let mut at = 0;
            while let Some(load) = self.loads.get_mut(at) {
                if !is_meant(load) {
                    at += 1;
                } else if let Some(ended) = load.ended {
                    let load = self.loads.remove(at);
                    self.load_ended(load, ended)?;
                } else {
                    left += 1;
                    at += 1;
                }
            }
            if left == 0 {
                return Ok(());
            }
            late(deadline, || format!("the end of {left} loads"))?;
            self.tick().await?;
        }
    }

    /// Takes what a load has to say that has ended by itself.
    fn load_ended(&mut self, mut load: Load, ended: f64) -> anyhow::Result<()> {
        self.event_at(ended, events::LOAD_ENDED, &load.label);
        self.monitors.process(&load.component, None);
        let (result, done) = match load.result() {
            Ok(result) => (result, Ok(())),
            Err(error) => (load.salvage(), Err(error)),
        };
        if result.has_crossed {
            self.event(events::LIMIT_CROSSED, &format!("load {}", result.label));
        }
        self.keep_load(&load, result, ended);
        done
    }

    /// Keeps what a load has to say. The window that is its own ends with it.
    pub(crate) fn keep_load(&mut self, load: &Load, result: LoadResult, ended: f64) {
        self.sending_began = Some(result.began);
        if let Some(window) = &load.window {
            self.window_was(window, result.began, ended);
        }
        self.result.loads.push(result);
    }

    // === commands and requests ===

    async fn command(&mut self, words: &[Text]) -> anyhow::Result<()> {
        let command = self.filler().command(words)?;
        let program = command.first().cloned().unwrap_or_default();
        let spec = Spec {
            name: "commands".to_owned(),
            command,
            environment: Vec::new(),
            folder: self.folder.clone(),
            cores: Vec::new(),
            mark: self.run.id.clone(),
            output: None,
        };
        let mut running = Running::start(&spec)?;
        let deadline = Instant::now() + COMMAND_MAX;
        let status = loop {
            if let Some(status) = running.ended()? {
                break status;
            }
            late(deadline, || format!("the end of `{program}`"))?;
            self.tick().await?;
        };
        if !status.success() {
            let said = running.log_end();
            bail!("`{program}` failed ({}):\n{said}", describe(status));
        }
        Ok(())
    }

    async fn query(&mut self, step: &QueryStep) -> anyhow::Result<()> {
        let filler = self.filler();
        let (title, url) = (filler.text(&step.title)?, filler.text(&step.url)?);
        let sql = format!("{} FORMAT {TABLE_FORMAT}", filler.text(&step.sql)?);
        let fetch = &self.run.fetch;
        let text = fetch.text(HttpMethod::POST, &url, sql, WAIT_MAX).await?;
        let rows = text.lines().map(serde_json::from_str);
        let rows = rows
            .collect::<Result<_, _>>()
            .with_context(|| format!("{url} does not answer in rows"))?;
        self.result.tables.push(Answer { title, rows });
        Ok(())
    }

    async fn http(&self, step: &HttpStep) -> anyhow::Result<()> {
        let filler = self.filler();
        let url = filler.text(&step.url)?;
        let body = filler.optional(step.body.as_ref())?.unwrap_or_default();
        let method = match step.method {
            Method::Get => HttpMethod::GET,
            Method::Post => HttpMethod::POST,
            Method::Delete => HttpMethod::DELETE,
        };
        self.run.fetch.text(method, &url, body, WAIT_MAX).await?;
        Ok(())
    }
}

/// # Errors
/// When the deadline is over, with what was waited for.
pub(super) fn late(deadline: Instant, what: impl FnOnce() -> String) -> anyhow::Result<()> {
    if Instant::now() > deadline + POLL {
        bail!("waited in vain for {}", what());
    }
    Ok(())
}
