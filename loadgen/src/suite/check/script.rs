//! A test gone through in thought: whom each step is done to, and what there is to ask for by then.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;

use super::super::events;
use super::super::model::{
    Action, Apply, Component, Deployment, ExecutionKind, FaultKind, FaultStep, LoadStep,
    Monitoring, Phase, Place, Reconfigure, Step, Test, Text, Wait, WaitFor,
};
use super::super::variables::{Scope, Variant, words};
use super::{Checker, arguments, unknown};

/// What loads and monitors have given so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) loads: BTreeMap<String, KnownLoad>,
    /// Those that have ended.
    pub(super) windows: BTreeSet<String>,
    pub(super) open_windows: BTreeMap<String, Place>,
    pub(super) events: BTreeSet<String>,
    /// What is watched of a component, from when it was started.
    pub(super) watched: BTreeMap<String, Vec<Watched>>,
    pub(super) has_ledger: bool,
    /// A load has run that says how many items it has sent.
    sends_items: bool,
}

#[derive(Debug, Default)]
pub(super) struct KnownLoad {
    pub(super) figures: BTreeSet<String>,
    /// Where its arguments are wrong, or depend on what is not known yet, there may be any.
    pub(super) may_have_others: bool,
    pub(super) is_under_way: bool,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) monitoring: Monitoring,
    pub(super) has_process: bool,
}

pub(super) struct Script<'c, 's> {
    pub(super) checker: &'c mut Checker<'s>,
    variant: &'c Variant,
    scope: Scope,
    /// Those that take part, as steps have changed them so far.
    pub(super) components: Vec<Component>,
    pub(super) known: Known,
    /// What the test may have given by its end, whatever the conditions of its steps.
    pub(super) possible: Known,
    /// Windows between events.
    pub(super) event_windows: BTreeSet<String>,
    running: BTreeSet<String>,
    /// A command has run, which may have made programs.
    may_be_made: bool,
    /// Nothing is told, and every step is taken.
    is_survey: bool,
}

/// Goes through a test in a variant.
pub(super) fn check(
    checker: &mut Checker<'_>,
    test: &Test,
    components: &[&Component],
    scope: &Scope,
    variant: &Variant,
) {
    let all: Vec<_> = checker.suite.components.iter().collect();
    let mut survey = Script::new(checker, &all, scope, variant);
    survey.is_survey = true;
    survey.test(test);
    let possible = survey.known;
    let mut script = Script::new(checker, components, scope, variant);
    script.possible = possible;
    script.test(test);
    script.ends(test);
}

/// Goes through hooks of the suite, which are tests of their own. `may_be_made`: commands have run before.
pub(super) fn check_hooks(
    checker: &mut Checker<'_>,
    steps: &[Step],
    components: &[&Component],
    scope: &Scope,
    may_be_made: bool,
) {
    let variant = Variant::new();
    let all: Vec<_> = checker.suite.components.iter().collect();
    let mut survey = Script::new(checker, &all, scope, &variant);
    survey.is_survey = true;
    survey.steps(steps);
    let possible = survey.known;
    let mut script = Script::new(checker, components, scope, &variant);
    script.possible = possible;
    script.may_be_made = may_be_made;
    script.steps(steps);
    script.windows_end();
}

impl<'c, 's> Script<'c, 's> {
    fn new(
        checker: &'c mut Checker<'s>,
        components: &[&Component],
        scope: &Scope,
        variant: &'c Variant,
    ) -> Self {
        let may_be_made = super::programs::in_steps(&checker.suite.hooks.before);
        Self {
            checker,
            variant,
            scope: scope.clone(),
            components: components.iter().map(|&it| it.clone()).collect(),
            known: Known::default(),
            possible: Known::default(),
            event_windows: BTreeSet::new(),
            running: BTreeSet::new(),
            may_be_made,
            is_survey: false,
        }
    }

    fn test(&mut self, test: &Test) {
        let names = test.windows.iter().filter_map(|it| self.text(&it.name));
        self.event_windows = names.collect();
        self.steps(&test.hooks.before);
        self.steps(&test.steps);
        self.steps(&test.hooks.after);
    }

    /// What can be told at the end only.
    fn ends(&mut self, test: &Test) {
        self.windows_end();
        self.events(test);
    }

    fn windows_end(&mut self) {
        for (name, place) in std::mem::take(&mut self.known.open_windows) {
            let message = format!("no step ends window `{name}`, so that nothing is known of it");
            self.wrong(&place, message);
        }
    }

    /// Whether what windows begin and end with happens.
    fn events(&mut self, test: &Test) {
        let mut events: BTreeSet<_> = self.possible.events.iter().cloned().collect();
        events.extend(events::UNASKED.map(str::to_owned));
        for event in test.windows.iter().flat_map(|it| [&it.from, &it.to]) {
            if let Some(name) = self.text(event)
                && !events.contains(&name)
            {
                let message = unknown("event", &name, events.iter().map(String::as_str));
                self.wrong(event, format!("{message} in this test"));
            }
        }
    }

    // === helpers ===

    /// Told unless this is a survey.
    pub(super) fn wrong(&mut self, at: impl AsPlace, message: impl Into<String>) {
        if !self.is_survey {
            self.checker.wrong(at.as_place(), message);
        }
    }

    fn value(&self) -> Value {
        self.scope.value()
    }

    /// The text, filled in; what cannot be is told elsewhere.
    fn text(&self, text: &Text) -> Option<String> {
        let rendered = self.checker.templates.render(&text.text, &self.value());
        rendered.ok()
    }

    pub(super) fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|it| it.name.text == name)
    }

    /// ` with batch=1`, where there are variants.
    pub(super) fn in_this_variant(&self) -> String {
        match self.variant.is_empty() {
            true => String::new(),
            false => format!(" with {}", words(self.variant)),
        }
    }

    /// The names of the components that a step is done to, as far as they can be.
    fn targets(
        &mut self,
        targets: &[Text],
        has: impl Fn(&Component) -> Result<(), String>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for target in targets {
            let Some(name) = self.text(target) else {
                continue;
            };
            let problem = match self.component(&name) {
                Some(component) => has(component).err(),
                None => {
                    let known = self.components.iter().map(|it| it.name.text.as_str());
                    let of = format!("component{}", self.in_this_variant());
                    Some(unknown(&of, &name, known))
                }
            };
            match problem {
                Some(problem) => self.wrong(target, problem),
                None => found.push(name),
            }
        }
        found
    }

    // === steps ===

    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|it| self.step(it));
    }

    fn step(&mut self, step: &Step) {
        let value = self.value();
        if !self.is_survey && !self.checker.holds(step.when.as_ref(), &value) {
            return;
        }
        self.scope.set_all(&step.set);
        self.steps(&step.hooks.before);
        self.action(step);
        if let Some(window) = &step.window {
            self.known.windows.extend(self.text(window));
        }
        self.steps(&step.hooks.after);
    }

    fn action(&mut self, step: &Step) {
        match &step.action {
            Action::Up(targets) => self.up(targets),
            Action::Down(targets) => self.each(&[Phase::Stop, Phase::Destroy], targets),
            Action::Configure(targets) => self.each(&[Phase::Configure], targets),
            Action::Deploy(targets) => self.each(&[Phase::Deploy], targets),
            Action::Start(targets) => self.each(&[Phase::Start], targets),
            Action::Stop(targets) => self.each(&[Phase::Stop], targets),
            Action::Destroy(targets) => self.each(&[Phase::Destroy], targets),
            Action::MonitorStart(targets) => self.each(&[Phase::MonitorStart], targets),
            Action::MonitorStop(targets) => self.each(&[Phase::MonitorStop], targets),
            Action::Load(load) => self.load(load),
            Action::Wait(wait) => self.wait(wait),
            Action::Drain(_) => self.drain(&step.place),
            Action::Fault(fault) => self.fault(fault),
            Action::Reconfigure(reconfigure) => self.reconfigure(reconfigure),
            Action::WindowStart(name) => {
                if let Some(window) = self.text(name) {
                    self.known.open_windows.insert(window, name.place.clone());
                }
            }
            Action::WindowEnd(name) => self.window_ends(name),
            Action::Event(name) => self.known.events.extend(self.text(name)),
            Action::Run(words) => self.run(words),
            Action::Assert(expressions) => expressions.iter().for_each(|it| self.expression(it)),
            Action::Metric(metric) => self.expression(&metric.value),
            Action::Query(_) | Action::Http(_) => {}
        }
    }

    fn run(&mut self, words: &[Text]) {
        if !self.is_survey {
            let value = self.value();
            self.checker.program(words, &value, self.may_be_made);
        }
        self.may_be_made = true;
    }

    fn window_ends(&mut self, name: &Text) {
        let Some(window) = self.text(name) else {
            return;
        };
        if self.known.open_windows.remove(&window).is_none() {
            let open = self.known.open_windows.keys().map(String::as_str);
            let message = unknown("window that has begun", &window, open);
            self.wrong(name, message);
        }
        self.known.windows.insert(window);
    }

    // === components ===

    fn up(&mut self, targets: &[Text]) {
        for name in self.targets(targets, has_deployment) {
            let has_configuration =
                |it: &Component| it.name.text == name && it.configuration.is_some();
            if self.components.iter().any(has_configuration) {
                self.phase(Phase::Configure, &name);
            }
            self.phase(Phase::Deploy, &name);
            self.start(&name, targets);
        }
    }

    fn each(&mut self, phases: &[Phase], targets: &[Text]) {
        let has = |component: &Component| match phases {
            [Phase::Configure] => match component.configuration {
                Some(_) => Ok(()),
                None => Err(lacks(component, "configuration")),
            },
            [Phase::MonitorStart | Phase::MonitorStop] => Ok(()),
            _ => has_deployment(component),
        };
        for name in self.targets(targets, has) {
            for phase in phases {
                match phase {
                    Phase::Start => self.start(&name, targets),
                    _ => self.phase(*phase, &name),
                }
            }
        }
    }

    /// What there is afterwards, and hooks.
    fn phase(&mut self, phase: Phase, name: &str) {
        let hooks = self
            .component(name)
            .and_then(|it| it.hooks.get(&phase).cloned());
        let hooks = hooks.unwrap_or_default();
        self.steps(&hooks.before);
        match phase {
            Phase::Start => {
                if self.component(name).is_some_and(is_ours) {
                    self.happens(events::START);
                    self.running.insert(name.to_owned());
                }
                self.watch(name);
                self.happens(events::READY);
            }
            Phase::Stop => {
                self.happens(events::STOP);
                self.running.remove(name);
            }
            Phase::Destroy => drop(self.running.remove(name)),
            Phase::MonitorStart => self.watch(name),
            Phase::Configure | Phase::Deploy | Phase::Load | Phase::MonitorStop => {}
        }
        self.steps(&hooks.after);
    }

    fn start(&mut self, name: &str, targets: &[Text]) {
        let target = targets
            .iter()
            .find(|it| self.text(it).as_deref() == Some(name));
        if let Some(target) = target.filter(|_| self.running.contains(name)) {
            let place = target.place.clone();
            self.wrong(&place, format!("`{name}` runs already"));
        }
        self.starts(name);
    }

    fn starts(&mut self, name: &str) {
        let deployment = self.component(name).and_then(|it| it.deployment.clone());
        if let Some(Deployment::Process(program)) = deployment
            && !self.is_survey
        {
            let value = self.value();
            self.checker
                .program(&program.command, &value, self.may_be_made);
        }
        self.phase(Phase::Start, name);
    }

    fn happens(&mut self, event: &str) {
        self.known.events.insert(event.to_owned());
    }

    fn watch(&mut self, name: &str) {
        let Some(component) = self.component(name) else {
            return;
        };
        let watched = Watched {
            has_process: component.monitoring.process
                && (is_ours(component) || component.execution.is_some()),
            monitoring: component.monitoring.clone(),
        };
        let all = self.known.watched.entry(name.to_owned()).or_default();
        all.push(watched);
    }

    fn fault(&mut self, fault: &FaultStep) {
        let targets = std::slice::from_ref(&fault.target);
        let is_proxy = matches!(fault.kind, FaultKind::Proxy(_));
        let has = |component: &Component| match (&component.deployment, is_proxy) {
            (Some(Deployment::Process(program)), true) if program.run.control.is_some() => Ok(()),
            (Some(Deployment::Container(it)), true) if it.run.control.is_some() => Ok(()),
            (_, true) => Err(lacks(component, "control")),
            (Some(Deployment::Existing(_)), false) => Err(format!(
                "`{}` is run by somebody else, who alone can do that to it",
                component.name.text
            )),
            (_, false) => has_deployment(component),
        };
        let Some(name) = self.targets(targets, has).pop() else {
            return;
        };
        let needs_it = matches!(
            fault.kind,
            FaultKind::Kill | FaultKind::Freeze | FaultKind::Thaw
        );
        if needs_it && !self.running.contains(&name) {
            self.wrong(&fault.target, format!("`{name}` does not run at this step"));
        }
        let lasts = fault.lasts.is_some();
        match &fault.kind {
            FaultKind::Kill => {
                self.happens(events::KILL);
                self.running.remove(&name);
                if lasts {
                    self.phase(Phase::Start, &name);
                }
            }
            FaultKind::Freeze => {
                self.happens(events::FREEZE);
                if lasts {
                    self.happens(events::THAW);
                }
            }
            FaultKind::Thaw => self.happens(events::THAW),
            FaultKind::Restart => {
                self.happens(events::STOP);
                self.phase(Phase::Start, &name);
            }
            FaultKind::Proxy(rules) => {
                if !rules.is_empty() {
                    self.happens(events::FAULTS_BEGIN);
                }
                if lasts || rules.is_empty() {
                    self.happens(events::FAULTS_END);
                }
            }
        }
    }

    fn reconfigure(&mut self, step: &Reconfigure) {
        if !self.is_survey {
            let value = self.value();
            self.checker.strategies_of(step, &value);
        }
        let targets = std::slice::from_ref(&step.target);
        let Some(name) = self.targets(targets, |_| Ok(())).pop() else {
            return;
        };
        let same = self.components.iter_mut().filter(|it| it.name.text == name);
        for component in same {
            let Reconfigure {
                configuration,
                deployment,
                execution,
                monitoring,
                ..
            } = step.clone();
            component.configuration = configuration.or_else(|| component.configuration.take());
            component.deployment = deployment.or_else(|| component.deployment.take());
            component.execution = execution.or_else(|| component.execution.take());
            if let Some(monitoring) = monitoring {
                component.monitoring = monitoring;
            }
        }
        if self
            .component(&name)
            .is_some_and(|it| it.configuration.is_some())
        {
            self.phase(Phase::Configure, &name);
        }
        self.happens(events::RECONFIGURE);
        match &step.apply {
            Apply::HangUp if !self.running.contains(&name) => {
                let message = match self.component(&name).is_some_and(is_ours) {
                    true => format!("`{name}` does not run at this step, and cannot be told"),
                    false => format!(
                        "`{name}` is no process of the suite to send SIGHUP to; give `apply`: `nothing` or a URL"
                    ),
                };
                self.wrong(&step.target, message);
            }
            Apply::Restart => {
                self.phase(Phase::Stop, &name);
                self.phase(Phase::Start, &name);
            }
            Apply::HangUp | Apply::Post(_) | Apply::Nothing => {}
        }
        if step.monitoring.is_some() {
            self.watch(&name);
        }
    }

    // === load ===

    fn load(&mut self, step: &LoadStep) {
        let has = |component: &Component| match component.execution {
            Some(_) => Ok(()),
            None => Err(lacks(component, "execution")),
        };
        let targets = std::slice::from_ref(&step.target);
        let Some(name) = self.targets(targets, has).pop() else {
            return;
        };
        let Some(component) = self.component(&name).cloned() else {
            return;
        };
        let hooks = component
            .hooks
            .get(&Phase::Load)
            .cloned()
            .unwrap_or_default();
        self.steps(&hooks.before);
        let label = match &step.label {
            Some(label) => self.text(label),
            None => Some(name.clone()),
        };
        if let (Some(label), Some(execution)) = (label, &component.execution) {
            let arguments = execution.arguments.iter().map(|it| self.text(it));
            let arguments: Option<Vec<_>> = arguments.collect();
            let arguments = arguments.unwrap_or_default().into_iter();
            let arguments: Vec<_> = arguments.filter(|it| !it.is_empty()).collect();
            let figures = arguments::figures(execution.kind, &arguments);
            let is_command = execution.kind == ExecutionKind::Command;
            self.known.sends_items |= execution.kind == ExecutionKind::Otlp;
            let load = self.known.loads.entry(label).or_default();
            load.may_have_others |= figures.is_empty() && !is_command;
            load.figures.extend(figures);
            load.is_under_way = step.background;
            if is_command && !self.is_survey {
                let value = self.value();
                self.checker
                    .program(&execution.arguments, &value, self.may_be_made);
            }
        }
        if !self.running.contains(&name) {
            self.watch(&name);
        }
        self.happens(events::LOAD_STARTED);
        if !step.background {
            self.happens(events::LOAD_ENDED);
            self.steps(&hooks.after);
        }
    }

    fn wait(&mut self, wait: &Wait) {
        match &wait.what {
            WaitFor::Until(expression) => self.expression(expression),
            WaitFor::Steady { value, .. } => self.expression(value),
            WaitFor::Load(None) => self.loads_end(),
            WaitFor::Load(Some(label)) => self.load_ends(label),
            WaitFor::Duration(_) | WaitFor::Healthy(_) => {}
        }
    }

    fn load_ends(&mut self, label: &Text) {
        let Some(name) = self.text(label) else {
            return;
        };
        self.happens(events::LOAD_ENDED);
        if let Some(load) = self.known.loads.get_mut(&name) {
            load.is_under_way = false;
            return;
        }
        let message = self.unknown_load(&name);
        self.wrong(label, message);
    }

    /// Why nothing is known of a load.
    pub(super) fn unknown_load(&self, name: &str) -> String {
        match self.possible.loads.contains_key(name) {
            true => format!(
                "no step before this one runs load `{name}`{}",
                self.in_this_variant()
            ),
            false => unknown("load", name, self.possible.loads.keys().map(String::as_str)),
        }
    }

    fn loads_end(&mut self) {
        self.happens(events::LOAD_ENDED);
        self.known
            .loads
            .values_mut()
            .for_each(|it| it.is_under_way = false);
    }

    fn drain(&mut self, place: &Place) {
        self.loads_end();
        self.known.has_ledger = true;
        let has = |name: &str| {
            let counters = self
                .components
                .iter()
                .flat_map(|it| &it.monitoring.counters);
            counters.clone().any(|it| it.name == name)
        };
        let is_fed = self.known.sends_items || has("sent") || has("accepted");
        let with = self.in_this_variant();
        if !has("delivered") {
            let message = format!(
                "no component has a counter `delivered` to drain by{with}: add [component.monitoring.counter.delivered]"
            );
            self.wrong(place, message);
        }
        if !is_fed {
            let message = format!(
                "nothing that counts items was sent before{with}: an `otlp` load counts them, or a component's counter `accepted`"
            );
            self.wrong(place, message);
        }
    }
}

/// Something with a place.
pub(super) trait AsPlace {
    fn as_place(&self) -> &Place;
}

impl AsPlace for &Place {
    fn as_place(&self) -> &Place {
        self
    }
}

impl AsPlace for &Text {
    fn as_place(&self) -> &Place {
        &self.place
    }
}

fn lacks(component: &Component, what: &str) -> String {
    format!("`{}` has no `{what}`", component.name.text)
}

fn has_deployment(component: &Component) -> Result<(), String> {
    match component.deployment {
        Some(_) => Ok(()),
        None => Err(lacks(component, "deployment")),
    }
}

/// Whether it is started by the suite.
fn is_ours(component: &Component) -> bool {
    let deployment = &component.deployment;
    matches!(
        deployment,
        Some(Deployment::Process(_) | Deployment::Container(_))
    )
}
