//! What goes wrong on purpose.

use anyhow::{Context as _, bail};

use super::super::events;
use super::super::model::{FaultKind, FaultStep, Text};
use super::super::stage::Stage;

impl Stage<'_> {
    pub(super) async fn fault(&mut self, step: &FaultStep) -> anyhow::Result<()> {
        let index = self.index(&step.target)?;
        let lasts = match &step.lasts {
            Some(text) => Some(
                self.filler()
                    .duration(Some(text), std::time::Duration::ZERO)?,
            ),
            None => None,
        };
        match &step.kind {
            FaultKind::Kill => {
                self.remember_counts(index).await;
                self.kill(index)?;
                if let Some(lasts) = lasts {
                    self.pause(lasts).await?;
                    self.start(index).await?;
                }
            }
            FaultKind::Freeze => {
                self.freeze(index, true).await?;
                if let Some(lasts) = lasts {
                    self.pause(lasts).await?;
                    self.freeze(index, false).await?;
                }
            }
            FaultKind::Thaw => self.freeze(index, false).await?,
            FaultKind::Restart => {
                self.stop(index).await?;
                if let Some(lasts) = lasts {
                    self.pause(lasts).await?;
                }
                self.start(index).await?;
            }
            FaultKind::Proxy(rules) => {
                self.proxy(index, rules).await?;
                if let Some(lasts) = lasts {
                    self.pause(lasts).await?;
                    self.proxy(index, &[]).await?;
                }
            }
        }
        Ok(())
    }

    fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.monitors.sample_processes();
        let unit = self.units.get_mut(index).context("there is a component")?;
        let name = unit.name.clone();
        if unit.running.is_none() {
            bail!("{name} does not run");
        }
        unit.check_alive()?;
        // Before: a container is killed at once, and then removed.
        self.event(events::KILL, &name);
        self.monitors.may_be_silent(&name, true);
        if let Some(unit) = self.units.get_mut(index) {
            unit.kill();
        }
        self.monitors.process(&name, None);
        Ok(())
    }

    async fn freeze(&mut self, index: usize, frozen: bool) -> anyhow::Result<()> {
        let unit = self.units.get_mut(index).context("there is a component")?;
        unit.freeze(frozen).await?;
        let name = unit.name.clone();
        self.event(if frozen { events::FREEZE } else { events::THAW }, &name);
        Ok(())
    }

    /// Gives a fault proxy these rules instead of those it has.
    async fn proxy(&mut self, index: usize, rules: &[Text]) -> anyhow::Result<()> {
        let filler = self.filler_of(index);
        let rules = filler.texts(rules)?;
        let unit = self.units.get(index).context("there is a component")?;
        let control = unit.run_options().and_then(|run| run.control.clone());
        let control = control.with_context(|| format!("{} has no `control`", unit.name))?;
        let url = filler.text(&control)?;
        let name = unit.name.clone();
        let limit = self.stop_limit(index);
        let body = serde_json::to_string(&rules)?;
        let fetch = self.run.fetch.clone();
        fetch.text(http::Method::POST, &url, body, limit).await?;
        let word = if rules.is_empty() {
            events::FAULTS_END
        } else {
            events::FAULTS_BEGIN
        };
        self.event(word, &format!("{name} {}", rules.join(" ")));
        Ok(())
    }
}
