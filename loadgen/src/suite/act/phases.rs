//! What happens to components: configured, deployed, started, watched, stopped, destroyed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::super::child::{Running, describe};
use super::super::container::Container;
use super::super::events;
use super::super::model::{Apply, Deployment, Phase, Reconfigure, StopSignal, Text};
use super::super::stage::{POLL, Stage};
use super::late;

/// A component that cannot be used by then never will, when the suite does not say.
const READY_MAX: Duration = Duration::from_secs(60);
/// One that does not stop by then is killed, when the suite does not say.
const STOP_MAX: Duration = Duration::from_secs(30);

impl Stage<'_> {
    pub(super) async fn up(&mut self, targets: &[Text]) -> anyhow::Result<()> {
        for target in targets {
            let index = self.index(target)?;
            let unit = self.units.get(index).context("there is a component")?;
            if unit.component.configuration.is_some() {
                self.one(Phase::Configure, index).await?;
            }
            self.one(Phase::Deploy, index).await?;
            self.one(Phase::Start, index).await?;
        }
        Ok(())
    }

    pub(super) async fn down(&mut self, targets: &[Text]) -> anyhow::Result<()> {
        for target in targets.iter().rev() {
            let index = self.index(target)?;
            self.one(Phase::Stop, index).await?;
            self.one(Phase::Destroy, index).await?;
        }
        Ok(())
    }

    pub(super) async fn phase(&mut self, phase: Phase, targets: &[Text]) -> anyhow::Result<()> {
        for target in targets {
            let index = self.index(target)?;
            self.one(phase, index).await?;
        }
        Ok(())
    }

    /// A phase of one component between its hooks, as often as its errors allow.
    async fn one(&mut self, phase: Phase, index: usize) -> anyhow::Result<()> {
        let unit = self.units.get(index).context("there is a component")?;
        let (name, on_error) = (unit.name.clone(), unit.component.on_error.clone());
        let (retries, delay) = self.retries(&on_error)?;
        let mut attempt = 0;
        loop {
            let done = self.between_hooks(phase, index).await;
            match done {
                Err(error)
                    if attempt < retries && !error.is::<super::super::stage::Interrupted>() =>
                {
                    attempt += 1;
                    self.event(
                        events::RETRY,
                        &format!("{} {name}: {error:#}", phase.name()),
                    );
                    // What has half started is not in the way of the next try.
                    if let Some(unit) = self.units.get_mut(index).filter(|_| phase == Phase::Start)
                    {
                        unit.kill();
                    }
                    self.pause(delay).await?;
                }
                Err(error) if on_error.goes_on => {
                    let what = format!("{} {name}", phase.name());
                    self.result
                        .note(format!("{what}: went on after: {error:#}"));
                    return Ok(());
                }
                done => return done,
            }
        }
    }

    async fn between_hooks(&mut self, phase: Phase, index: usize) -> anyhow::Result<()> {
        let hooks = self.hooks_of(index, phase);
        self.hooks(&hooks.before).await?;
        match phase {
            Phase::Configure => self.configure(index)?,
            Phase::Deploy => self.deploy(index)?,
            Phase::Start => self.start(index).await?,
            Phase::MonitorStart => self.watch(index)?,
            Phase::MonitorStop => {
                let name = self.units.get(index).map(|unit| unit.name.clone());
                self.monitors.forget(&name.unwrap_or_default());
            }
            Phase::Stop => self.stop(index).await?,
            Phase::Destroy => self.destroy(index),
            Phase::Load => {}
        }
        self.hooks(&hooks.after).await
    }

    fn configure(&mut self, index: usize) -> anyhow::Result<()> {
        let filler = self.filler_of(index);
        let unit = self.units.get_mut(index).context("there is a component")?;
        let text = unit.configure(&filler)?;
        let file = unit.config.as_ref().and_then(|path| path.file_name());
        let file = file.map(|name| name.to_string_lossy().into_owned());
        let name = format!("{} {}", unit.name, file.unwrap_or_default());
        self.result.inputs.push((name, text));
        Ok(())
    }

    fn deploy(&self, index: usize) -> anyhow::Result<()> {
        let unit = self.units.get(index).context("there is a component")?;
        std::fs::create_dir_all(&unit.folder)
            .with_context(|| format!("cannot make {}", unit.folder.display()))
    }

    /// Starts it, and waits until it can be used.
    pub(super) async fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let unit = self.units.get(index).context("there is a component")?;
        let name = unit.name.clone();
        if !matches!(unit.component.deployment, Some(Deployment::Existing(_))) {
            self.spawn(index)?;
            self.event(events::START, &name);
        }
        self.watch(index)?;
        self.monitors.may_be_silent(&name, true);
        self.ready(index).await?;
        self.compare_counts(index).await;
        self.monitors.may_be_silent(&name, false);
        self.event(events::READY, &name);
        Ok(())
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let filler = self.filler_of(index);
        let run = self.run;
        let unit = self.units.get_mut(index).context("there is a component")?;
        let spec = unit.spec(&filler, &run.id, &run.cores)?;
        if let Some(container) = &unit.container {
            run.remember_container(container);
        }
        unit.start(&spec)?;
        let input = (format!("{} command", unit.name), spec.command_line());
        if !self.result.inputs.contains(&input) {
            self.result.inputs.push(input);
        }
        Ok(())
    }

    /// From now on it is looked at.
    pub(super) fn watch(&self, index: usize) -> anyhow::Result<()> {
        let filler = self.filler_of(index);
        let unit = self.units.get(index).context("there is a component")?;
        self.monitors.watch(&unit.name, unit.subject(&filler)?);
        self.monitors.process(&unit.name, unit.pid);
        Ok(())
    }

    async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let filler = self.filler_of(index);
        let unit = self.units.get(index).context("there is a component")?;
        let (name, ready, container) = (unit.name.clone(), unit.ready(), unit.container.clone());
        let limit = filler.duration(ready.timeout.as_ref(), READY_MAX)?;
        let deadline = Instant::now() + limit;
        if let Some(container) = container {
            while let Err(error) = self.find_process(index, &container).await {
                late(deadline, || format!("{name} to run: {error:#}"))?;
                self.tick().await?;
            }
        }
        for port in filler.texts(&ready.ports)? {
            let number = filler
                .templates
                .evaluate(&format!("port.{port}"), &filler.value)?;
            let address = format!("127.0.0.1:{number}");
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                late(deadline, || format!("{name} to listen on {address}"))?;
                self.tick().await?;
            }
        }
        if let Some(url) = filler.optional(ready.url.as_ref())? {
            self.healthy(&url, deadline).await?;
        }
        self.check()
    }

    /// A container's process is not our child: the engine says which it is.
    async fn find_process(&mut self, index: usize, container: &Container) -> anyhow::Result<()> {
        let pid = container.process().await?;
        let unit = self.units.get_mut(index).context("there is a component")?;
        unit.pid = Some(pid);
        self.monitors.process(&unit.name, Some(pid));
        Ok(())
    }

    pub(crate) fn stop_limit(&self, index: usize) -> Duration {
        let options = self.units.get(index).and_then(|unit| unit.run_options());
        let text = options.and_then(|run| run.stop_timeout.clone());
        let limit = self.filler_of(index).duration(text.as_ref(), STOP_MAX);
        // It was read before anything started.
        limit.unwrap_or(STOP_MAX)
    }

    /// Asks it to stop and waits.
    pub(super) async fn stop(&mut self, index: usize) -> anyhow::Result<()> {
        let limit = self.stop_limit(index);
        self.remember_counts(index).await;
        self.monitors.sample_processes();
        let unit = self.units.get_mut(index).context("there is a component")?;
        let name = unit.name.clone();
        let run = unit.run_options().cloned().unwrap_or_default();
        if unit.frozen {
            unit.freeze(false).await?;
        }
        // Out of the unit: that it ends is no surprise now.
        let Some(mut running) = unit.running.take() else {
            return Ok(());
        };
        let is_container = unit.container.is_some();
        self.event(events::STOP, &name);
        self.monitors.may_be_silent(&name, true);
        let stopped = self
            .stopped(&mut running, &name, run.stop_signal, limit)
            .await;
        let status = running.ended()?;
        running.kill();
        self.monitors.stopped(&name);
        if let Some(unit) = self.units.get_mut(index) {
            unit.kill();
        }
        stopped?;
        let status = status.context("it has ended")?;
        let by_our_signal = std::os::unix::process::ExitStatusExt::signal(&status)
            .is_some_and(|signal| signal == 15 || signal == 2);
        let is_expected = |code: i32| {
            // An engine's client says so in its status that a signal has ended the container.
            run.exit_statuses.contains(&code) || is_container && matches!(code, 143 | 130)
        };
        let expected = status.success() || by_our_signal || status.code().is_some_and(is_expected);
        if !expected {
            let said = running.log_end();
            bail!(
                "{name} ended with {} when asked to stop:\n{said}",
                describe(status)
            );
        }
        Ok(())
    }

    async fn stopped(
        &mut self,
        running: &mut Running,
        name: &str,
        signal: StopSignal,
        limit: Duration,
    ) -> anyhow::Result<()> {
        running.ask_to_stop(signal)?;
        let deadline = Instant::now() + limit;
        while running.ended()?.is_none() {
            if Instant::now() > deadline + POLL {
                let said = running.log_end();
                bail!("{name} did not stop within {limit:?} and was killed:\n{said}");
            }
            self.tick().await?;
        }
        Ok(())
    }

    fn destroy(&mut self, index: usize) {
        if let Some(unit) = self.units.get_mut(index) {
            unit.kill();
            self.monitors.process(&unit.name, None);
        }
    }

    /// Other strategies from here on, and a configuration that the component is told of.
    pub(super) async fn reconfigure(&mut self, step: &Reconfigure) -> anyhow::Result<()> {
        let index = self.index(&step.target)?;
        let unit = self.units.get_mut(index).context("there is a component")?;
        let component = &mut unit.component;
        if let Some(configuration) = &step.configuration {
            component.configuration = Some(configuration.clone());
        }
        if let Some(deployment) = &step.deployment {
            component.deployment = Some(deployment.clone());
        }
        if let Some(execution) = &step.execution {
            component.execution = Some(execution.clone());
        }
        if let Some(monitoring) = &step.monitoring {
            component.monitoring = monitoring.clone();
        }
        let has_configuration = component.configuration.is_some();
        let name = unit.name.clone();
        if has_configuration {
            self.one(Phase::Configure, index).await?;
        }
        self.event(events::RECONFIGURE, &name);
        match &step.apply {
            Apply::HangUp => {
                let unit = self.units.get(index).context("there is a component")?;
                unit.hang_up().await?;
            }
            Apply::Post(url) => {
                let url = self.filler_of(index).text(url)?;
                let limit = self.stop_limit(index);
                let fetch = self.run.fetch.clone();
                fetch
                    .text(http::Method::POST, &url, String::new(), limit)
                    .await?;
            }
            Apply::Restart => {
                self.one(Phase::Stop, index).await?;
                self.one(Phase::Start, index).await?;
            }
            Apply::Nothing => {}
        }
        if step.monitoring.is_some() {
            self.watch(index)?;
        }
        Ok(())
    }
}
