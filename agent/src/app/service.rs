//! The agent and its service manager: the sockets that it is given, the watchdog, and what it says of itself.

use std::time::Duration;

use anyhow::Context;
use tracing::{debug, info, warn};

use super::Agent;
use crate::net::sockets::Sockets;
use crate::pipeline::{Totals, World};
use crate::systemd::{Manager, Pings, State, Watchdog};

/// What all components share, with the sockets that the service manager has opened.
pub(super) fn world(manager: &mut Manager) -> World {
    let passed = std::mem::take(&mut manager.sockets).into_iter();
    let (sockets, problems) = Sockets::inherited(passed.map(|of| (of.name, of.socket)));
    for problem in manager.problems.iter().chain(&problems) {
        warn!("service manager: {problem}");
    }
    World {
        sockets,
        ..World::default()
    }
}

impl Agent {
    /// The watchdog, and the questions that it asks this task.
    pub(super) fn watch_over(&self, interval: Duration) -> anyhow::Result<(Watchdog, Pings)> {
        let progress = self.world.progress.clone();
        let started = Watchdog::start(interval, self.notifier.clone(), progress);
        debug!(
            ?interval,
            "the service manager's watchdog is told that everything gets on"
        );
        started.context("start the watchdog's thread")
    }

    /// Tells the service manager `states` and how things are.
    pub(super) fn tell(&self, states: &[State<'_>]) {
        if !self.notifier.is_heard() {
            return;
        }
        let status = self.status();
        let mut all = states.to_vec();
        all.push(State::Status(&status));
        self.notifier.tell(&all);
    }

    pub(super) fn status(&self) -> String {
        let pipelines = self.loaded.settings().pipelines.len();
        let ending = if pipelines == 1 { "" } else { "s" };
        let Totals {
            delivered,
            queued,
            given_up,
        } = self.running.totals();
        let refused = match self.health.reloaded() {
            Some(last) if self.is_refused() => {
                let problem = last.problems.first().map_or("", String::as_str);
                format!("; the configuration on disk is refused: {problem}")
            }
            _ => String::new(),
        };
        format!(
            "{pipelines} pipeline{ending}; items: {delivered} delivered, {queued} queued, {given_up} given up{refused}"
        )
    }

    /// Warns when nobody serves a socket that the service manager has opened: clients connect, and wait in vain.
    pub(super) fn look_at_sockets(&mut self) {
        let (used, unused) = self.world.sockets.inherited_by_use();
        if unused == self.unserved {
            return;
        }
        for socket in unused
            .iter()
            .filter(|socket| !self.unserved.contains(socket))
        {
            warn!(
                socket,
                "the service manager listens here for the agent, and nothing in the configuration does: who connects waits in vain; change the socket unit or the configuration"
            );
        }
        for socket in used.iter().filter(|socket| self.unserved.contains(socket)) {
            info!(socket, "the service manager's socket is served");
        }
        self.unserved = unused;
    }
}
