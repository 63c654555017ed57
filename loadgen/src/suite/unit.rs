//! A component in a test: its strategies as they are now, its folder, and its process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use minijinja::Value;

use super::child::{Running, Spec};
use super::container::{self, Container};
use super::counter::Source;
use super::model::{
    Component, Configuration, ConfigurationSource, CounterSource, Deployment, Execution, Ready,
    RunOptions, Text,
};
use super::monitor::{Scrape, Subject};
use super::template::Templates;
use crate::cli::parse_duration;
use crate::process;

/// How often a process is looked at when the suite does not say.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) component: Component,
    pub(crate) folder: PathBuf,
    /// Its configuration's file, once there is one.
    pub(crate) config: Option<PathBuf>,
    pub(crate) running: Option<Running>,
    pub(crate) container: Option<Container>,
    pub(crate) frozen: bool,
    /// The process to look at: a container's is not our child, and not known until the engine says it.
    pub(crate) pid: Option<u32>,
}

/// Fills in what templates ask for.
pub(crate) struct Filler<'t> {
    pub(crate) templates: &'t Templates,
    pub(crate) value: Value,
    /// Paths in the suite begin here.
    pub(crate) folder: &'t Path,
}

impl Filler<'_> {
    pub(crate) fn text(&self, text: &Text) -> anyhow::Result<String> {
        self.templates.text(text, &self.value)
    }

    pub(crate) fn optional(&self, text: Option<&Text>) -> anyhow::Result<Option<String>> {
        text.map(|text| self.text(text)).transpose()
    }

    pub(crate) fn texts(&self, texts: &[Text]) -> anyhow::Result<Vec<String>> {
        texts.iter().map(|text| self.text(text)).collect()
    }

    pub(crate) fn named(&self, texts: &[(String, Text)]) -> anyhow::Result<Vec<(String, String)>> {
        let filled = |(name, text): &(String, Text)| Ok((name.clone(), self.text(text)?));
        texts.iter().map(filled).collect()
    }

    pub(crate) fn duration(
        &self,
        text: Option<&Text>,
        default: Duration,
    ) -> anyhow::Result<Duration> {
        match text {
            Some(text) => {
                let rendered = self.text(text)?;
                parse_duration(&rendered).with_context(|| text.place.to_string())
            }
            None => Ok(default),
        }
    }

    pub(crate) fn whole(&self, text: Option<&Text>, default: u32) -> anyhow::Result<u32> {
        match text {
            Some(text) => {
                let number = self.text(text)?.trim().parse();
                number.with_context(|| text.place.to_string())
            }
            None => Ok(default),
        }
    }

    /// A command whose program is found from the suite's folder, if it is a path.
    pub(crate) fn command(&self, words: &[Text]) -> anyhow::Result<Vec<String>> {
        let mut words = self.texts(words)?;
        if let Some(program) = words.first_mut()
            && program.contains('/')
        {
            *program = self.folder.join(&*program).display().to_string();
        }
        Ok(words)
    }

    pub(crate) fn path(&self, text: &Text) -> anyhow::Result<PathBuf> {
        Ok(self.folder.join(self.text(text)?))
    }
}

impl Unit {
    pub(crate) fn new(name: String, component: Component, folder: PathBuf) -> Self {
        Self {
            name,
            component,
            folder,
            config: None,
            running: None,
            container: None,
            frozen: false,
            pid: None,
        }
    }

    /// What templates see of it.
    pub(crate) fn value(&self, address: Option<String>) -> Value {
        let config = self
            .config
            .clone()
            .unwrap_or_else(|| self.folder.join("config.toml"));
        Value::from_pairs([
            ("dir", Value::from(self.folder.display().to_string())),
            ("config", Value::from(config.display().to_string())),
            ("address", Value::from(address.unwrap_or_default())),
            ("pid", Value::from(self.pid.unwrap_or(0))),
        ])
    }

    pub(crate) fn run_options(&self) -> Option<&RunOptions> {
        match self.component.deployment.as_ref()? {
            Deployment::Process(program) => Some(&program.run),
            Deployment::Container(container) => Some(&container.run),
            Deployment::Existing(_) => None,
        }
    }

    pub(crate) fn ready(&self) -> Ready {
        match &self.component.deployment {
            Some(Deployment::Existing(existing)) => existing.ready.clone(),
            _ => self
                .run_options()
                .map(|run| run.ready.clone())
                .unwrap_or_default(),
        }
    }

    /// The name of its configuration's file, which others may be told before there is one.
    ///
    /// # Errors
    /// When the name cannot be rendered.
    pub(crate) fn place_config(&mut self, filler: &Filler<'_>) -> anyhow::Result<()> {
        if let Some(configuration) = &self.component.configuration {
            self.config = Some(self.folder.join(filler.text(&configuration.name)?));
        }
        Ok(())
    }

    /// Renders its configuration into its file; the text.
    ///
    /// # Errors
    /// When it cannot be had, or not be written.
    pub(crate) fn configure(&mut self, filler: &Filler<'_>) -> anyhow::Result<String> {
        let configuration = self.component.configuration.clone();
        let configuration = configuration.context("it has no configuration")?;
        self.place_config(filler)?;
        let text = rendered(&configuration, filler)?;
        let path = self.config.clone().context("it has just been placed")?;
        fs::create_dir_all(&self.folder)?;
        // Renamed into place: whoever watches the file never sees half of it.
        let new = path.with_extension("new");
        fs::write(&new, &text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(text)
    }

    /// How it will be started.
    ///
    /// # Errors
    /// When something cannot be rendered, or it is not ours to start.
    pub(crate) fn spec(
        &mut self,
        filler: &Filler<'_>,
        mark: &str,
        cores: &[usize],
    ) -> anyhow::Result<Spec> {
        let (command, run) = match &self.component.deployment {
            Some(Deployment::Process(program)) => {
                self.container = None;
                (filler.command(&program.command)?, &program.run)
            }
            Some(Deployment::Container(container)) => {
                let engine = container::engine().map_err(anyhow::Error::msg)?;
                let ours = Container {
                    engine: engine.to_owned(),
                    name: format!("loadgen-{mark}-{}", self.name),
                };
                let start = container::Start {
                    image: filler.text(&container.image)?,
                    arguments: filler.texts(&container.arguments)?,
                    options: filler.texts(&container.options)?,
                    publish: filler.texts(&container.publish)?,
                    environment: filler.named(&container.run.environment)?,
                    cores: pinned(&container.run.pin, cores),
                };
                let command = ours.command(&start);
                self.container = Some(ours);
                (command, &container.run)
            }
            _ => bail!("{} is not ours to start", self.name),
        };
        Ok(Spec {
            name: self.name.clone(),
            command,
            environment: filler.named(&run.environment)?,
            folder: self.folder.clone(),
            cores: match self.container {
                Some(_) => Vec::new(),
                None => pinned(&run.pin, cores),
            },
            mark: mark.to_owned(),
            output: None,
        })
    }

    /// # Errors
    /// When it runs already, or does not start.
    pub(crate) fn start(&mut self, spec: &Spec) -> anyhow::Result<()> {
        if self.running.is_some() {
            bail!("{} runs already", self.name);
        }
        fs::create_dir_all(&self.folder)?;
        let running = Running::start(spec)?;
        self.pid = self.container.is_none().then(|| running.pid());
        self.running = Some(running);
        Ok(())
    }

    /// # Errors
    /// When it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match &mut self.running {
            Some(running) => running.check_alive(),
            None => Ok(()),
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.running = None;
        self.frozen = false;
        self.pid = None;
        if let Some(container) = &self.container {
            container.remove();
        }
    }

    /// All its processes stand still from here on, or go on.
    ///
    /// # Errors
    /// When it does not run, or that cannot be done.
    pub(crate) async fn freeze(&mut self, frozen: bool) -> anyhow::Result<()> {
        let pid = self
            .pid
            .with_context(|| format!("{} does not run", self.name))?;
        let done = match (&self.container, frozen) {
            (Some(container), true) => container.freeze().await,
            (Some(container), false) => container.thaw().await,
            (None, true) => process::freeze_group(pid).map_err(Into::into),
            (None, false) => process::thaw_group(pid).map_err(Into::into),
        };
        let word = if frozen { "freeze" } else { "thaw" };
        done.with_context(|| format!("cannot {word} {}", self.name))?;
        self.frozen = frozen;
        Ok(())
    }

    /// Sends it SIGHUP.
    ///
    /// # Errors
    /// When it does not run, or that cannot be done.
    pub(crate) async fn hang_up(&self) -> anyhow::Result<()> {
        let pid = self
            .pid
            .with_context(|| format!("{} does not run", self.name))?;
        let done = match &self.container {
            Some(container) => container.hang_up().await,
            None => process::hang_up(pid).map_err(Into::into),
        };
        done.with_context(|| format!("cannot tell {}", self.name))
    }

    /// Whom the monitors ask what.
    ///
    /// # Errors
    /// When something cannot be rendered.
    pub(crate) fn subject(&self, filler: &Filler<'_>) -> anyhow::Result<Subject> {
        let monitoring = &self.component.monitoring;
        let scrape = |it: &super::model::Prometheus| {
            anyhow::Ok(Scrape {
                url: filler.text(&it.url)?,
                include: it.include.clone(),
                exclude: it.exclude.clone(),
            })
        };
        let sampled = monitoring.counters.iter().filter(|it| it.sampled);
        let counters =
            sampled.map(|it| Ok((it.name.clone(), source(&it.source, filler, &self.folder)?)));
        Ok(Subject {
            process: monitoring.process,
            interval: filler.duration(monitoring.interval.as_ref(), INTERVAL)?,
            prometheus: monitoring.prometheus.as_ref().map(scrape).transpose()?,
            counters: counters.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Its counters of this name.
    ///
    /// # Errors
    /// When something cannot be rendered.
    pub(crate) fn counters(&self, name: &str, filler: &Filler<'_>) -> anyhow::Result<Vec<Source>> {
        let counters = self.component.monitoring.counters.iter();
        counters
            .filter(|counter| counter.name == name)
            .map(|counter| source(&counter.source, filler, &self.folder))
            .collect()
    }

    pub(crate) fn execution(&self) -> anyhow::Result<&Execution> {
        let execution = self.component.execution.as_ref();
        execution.with_context(|| format!("{} has no execution", self.name))
    }
}

/// Indexes among the cores that may be used, as the system numbers them; all, where there are too few.
pub(crate) fn pinned(pin: &[usize], cores: &[usize]) -> Vec<usize> {
    let found: Option<Vec<usize>> = pin.iter().map(|at| cores.get(*at).copied()).collect();
    found.unwrap_or_default()
}

fn rendered(configuration: &Configuration, filler: &Filler<'_>) -> anyhow::Result<String> {
    match &configuration.source {
        ConfigurationSource::Inline(text) => filler.text(text),
        ConfigurationSource::Template(path) => {
            let path = filler.path(path)?;
            let text = read(&path)?;
            let rendered = filler.templates.render(&text, &filler.value);
            rendered.with_context(|| path.display().to_string())
        }
        ConfigurationSource::File(path) => read(&filler.path(path)?),
        ConfigurationSource::Command(words) => {
            let words = filler.command(words)?;
            let (program, arguments) = words.split_first().context("an empty command")?;
            let output = std::process::Command::new(program)
                .args(arguments)
                .current_dir(filler.folder)
                .stdin(std::process::Stdio::null())
                .output()
                .with_context(|| format!("cannot run `{program}`"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("`{program}` ended with {}: {said}", output.status);
            }
            Ok(String::from_utf8(output.stdout)?)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn source(source: &CounterSource, filler: &Filler<'_>, folder: &Path) -> anyhow::Result<Source> {
    Ok(match source {
        CounterSource::Url { url, pointers } => Source::Url {
            url: filler.text(url)?,
            pointers: filler.texts(pointers)?,
        },
        CounterSource::File { file, pointers } => Source::File {
            file: filler.path(file)?,
            pointers: filler.texts(pointers)?,
        },
        CounterSource::ClickHouse { url, sql } => Source::ClickHouse {
            url: filler.text(url)?,
            sql: filler.text(sql)?,
        },
        CounterSource::Prometheus { url, metric } => Source::Prometheus {
            url: filler.text(url)?,
            metric: filler.text(metric)?,
        },
        CounterSource::Command(words) => Source::Command {
            command: filler.command(words)?,
            folder: folder.to_owned(),
        },
    })
}
