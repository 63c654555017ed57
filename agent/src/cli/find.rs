//! Where commands look for an agent that nobody names: in its configuration, and at the sockets of an installed service.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::config::{
    self, Diagnostics, ProcessEnvironment, Registries, Settings, Source, runtime_socket,
};
use crate::net::listen::Endpoint;

/// Where things lie on a host.
#[derive(Debug)]
pub(super) struct Places {
    /// The socket in `$RUNTIME_DIRECTORY`, where systemd runs the command for its service.
    runtime_socket: Option<PathBuf>,
    /// The socket of the installed service.
    installed_socket: PathBuf,
    /// The configuration of the installed service.
    installed_config: PathBuf,
}

impl Places {
    /// Those of this host, as the package and `systemd/tidegate.service` have them.
    pub(super) fn of_this_host() -> Self {
        let folders = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        Self {
            runtime_socket: runtime_socket(&folders),
            installed_socket: "/run/tidegate/admin.sock".into(),
            installed_config: "/etc/tidegate/agent.toml".into(),
        }
    }

    /// Looks at the configuration in `named`, or at that of the installed service where nothing is, then for sockets. An endpoint
    /// in a configuration that was named is that agent's: no other is looked for.
    ///
    /// # Errors
    /// When there is nothing to ask.
    pub(super) fn find(&self, named: &[String]) -> Result<Found, NotFound> {
        let mut search = Search::default();
        if self.read_configuration(named, &mut search).is_continue() {
            self.look_for_sockets(&mut search);
        }
        let Search {
            endpoints,
            settings,
            wrong,
            looked,
        } = search;
        if endpoints.is_empty() {
            return Err(NotFound { looked, wrong });
        }
        // Told where it may be another agent than the one that was meant.
        let is_installed = endpoints.first() == Some(&self.installed());
        let is_guess = is_installed && self.runtime_socket.as_ref() != Some(&self.installed_socket);
        Ok(Found {
            endpoints,
            settings,
            wrong,
            guess: (is_guess && !named.is_empty()).then(|| looked.join("; ")),
        })
    }

    fn installed(&self) -> Endpoint {
        Endpoint::Unix(self.installed_socket.clone())
    }

    fn read_configuration(&self, named: &[String], search: &mut Search) -> ControlFlow<()> {
        let installed = self.installed_config.display().to_string();
        let sources: Vec<_> = match named {
            [] if !self.installed_config.exists() => {
                search.looked.push(format!("{installed}: there is none"));
                return ControlFlow::Continue(());
            }
            [] => vec![Source::Path(self.installed_config.clone())],
            named => named
                .iter()
                .map(|argument| Source::from_argument(argument))
                .collect(),
        };
        let name = match named {
            [] => installed,
            named => named.join(" "),
        };
        let (tree, found) = config::load(&sources, &[], &ProcessEnvironment);
        let written = tree.text_at(&["service", "admin", "endpoint"]);
        let words = match written {
            None => "does not set `service.admin.endpoint`",
            Some("") => "`service.admin.endpoint` is empty: that agent takes no commands",
            Some(_) => "`service.admin.endpoint` is no endpoint",
        };
        let endpoint = written.and_then(|text| Endpoint::parse_any(text).ok());
        let is_none = written == Some("");
        match config::settings_of(&tree, found, &Registries::BUILT_IN) {
            Ok((settings, _)) => {
                search.settings = Some(settings);
                search.looked.push(format!("{name}: {words}"));
            }
            Err(found) => {
                let summary = found.summary();
                search.looked.push(format!("{name}: not valid ({summary})"));
                search.wrong = Some(found);
            }
        }
        // What is left of a configuration that is wrong may be empty by mistake.
        let is_answer = endpoint.is_some() || (is_none && search.wrong.is_none());
        search.endpoints.extend(endpoint);
        match is_answer && !named.is_empty() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn look_for_sockets(&self, search: &mut Search) {
        if self.runtime_socket.is_none() {
            let words = "$RUNTIME_DIRECTORY: not set, so systemd does not run this";
            search.looked.push(words.to_owned());
        }
        let runtime = self.runtime_socket.as_deref();
        let installed = Some(self.installed_socket.as_path()).filter(|path| runtime != Some(*path));
        runtime
            .into_iter()
            .chain(installed)
            .for_each(|path| search.look_for(path));
    }
}

/// What was found so far.
#[derive(Default)]
struct Search {
    endpoints: Vec<Endpoint>,
    settings: Option<Settings>,
    wrong: Option<Diagnostics>,
    /// What was looked at in vain.
    looked: Vec<String>,
}

impl Search {
    fn look_for(&mut self, socket: &Path) {
        let endpoint = Endpoint::Unix(socket.to_owned());
        match socket.exists() {
            true if self.endpoints.contains(&endpoint) => {}
            true => self.endpoints.push(endpoint),
            false => {
                let words = format!("{}: there is none", socket.display());
                self.looked.push(words);
            }
        }
    }
}

/// Where the agent may be.
#[derive(Debug)]
pub(super) struct Found {
    /// To be tried in this order; at least one.
    pub(super) endpoints: Vec<Endpoint>,
    /// Those of the configuration that was looked at, where it is right.
    pub(super) settings: Option<Settings>,
    /// What is wrong with it, where it is not.
    pub(super) wrong: Option<Diagnostics>,
    /// Why the installed service is asked, where a configuration was named that does not say so.
    pub(super) guess: Option<String>,
}

/// Nothing is there to ask. Displays as what was looked at and what to do.
#[derive(Debug)]
pub(super) struct NotFound {
    looked: Vec<String>,
    /// What is wrong with the configuration that might have said where.
    pub(super) wrong: Option<Diagnostics>,
}

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no agent was found to ask; looked at")?;
        for place in &self.looked {
            writeln!(f, "  {place}")?;
        }
        if let Some(found) = &self.wrong {
            write!(f, "{found}")?;
        }
        write!(
            f,
            "Say where it is, with --endpoint ENDPOINT, or with --config FILE if that sets `service.admin.endpoint`. \
             Without that it takes no commands; SIGHUP makes it reload."
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const PIPELINE: &str = "receivers.otlp.protocols.http = {}\nexporters.debug = {}\n\
                            service.pipelines.logs = { receivers = ['otlp'], exporters = ['debug'] }\n";

    /// A host with nothing on it.
    struct Host(TempDir, Places);

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let places = Places {
                runtime_socket: None,
                installed_socket: path("installed.sock"),
                installed_config: path("installed.toml"),
            };
            Self(folder, places)
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn file(&self, name: &str, text: &str) -> String {
            fs::write(self.0.path().join(name), text).unwrap();
            self.path(name)
        }

        /// A configuration; the endpoint as it is written.
        fn config(&self, name: &str, endpoint: Option<&str>) -> String {
            let admin = endpoint.map(|endpoint| format!("service.admin.endpoint = '{endpoint}'\n"));
            self.file(name, &format!("{PIPELINE}{}", admin.unwrap_or_default()))
        }

        /// Endpoints without the folder.
        fn find(&self, named: &[String]) -> Result<Vec<String>, String> {
            let folder = format!("{}/", self.0.path().display());
            let found = self.1.find(named).map(|found| found.endpoints);
            let words = |endpoint: &Endpoint| endpoint.to_string().replace(&folder, "");
            found
                .map(|endpoints| endpoints.iter().map(words).collect())
                .map_err(|missing| missing.to_string().replace(&folder, ""))
        }
    }

    #[test]
    fn without_a_configuration_the_installed_service_is_asked() {
        let mut host = Host::new();
        let missing = host.find(&[]).unwrap_err();
        let expected = "no agent was found to ask; looked at\n  installed.toml: there is none\n  \
                        $RUNTIME_DIRECTORY: not set, so systemd does not run this\n  installed.sock: there is none\nSay where it is";
        assert!(missing.starts_with(expected), "{missing}");
        host.file("installed.sock", "");
        assert_eq!(host.find(&[]).unwrap(), ["unix:installed.sock"]);
        // The running one may have been started with another endpoint than is written now.
        host.config("installed.toml", Some("127.0.0.1:8889"));
        let both = ["127.0.0.1:8889", "unix:installed.sock"];
        assert_eq!(host.find(&[]).unwrap(), both);
        host.config("installed.toml", None);
        host.1.runtime_socket = Some(host.path("runtime.sock").into());
        assert_eq!(host.find(&[]).unwrap(), ["unix:installed.sock"]);
        host.file("runtime.sock", "");
        let both = ["unix:runtime.sock", "unix:installed.sock"];
        assert_eq!(host.find(&[]).unwrap(), both);
    }

    #[test]
    fn a_configuration_that_says_where_is_the_answer() {
        let host = Host::new();
        host.file("installed.sock", "");
        let named = [host.config("agent.toml", Some("unix:/its/own.sock"))];
        assert_eq!(host.find(&named).unwrap(), ["unix:/its/own.sock"]);
        assert!(host.1.find(&named).unwrap().settings.is_some());
        // Also when something else in it is wrong.
        let wrong = format!("{PIPELINE}service.admin.endpoint = ':1'\n[nonsense]\n");
        let named = [host.file("agent.toml", &wrong)];
        assert_eq!(host.find(&named).unwrap(), [":1"]);
        assert!(host.1.find(&named).unwrap().wrong.is_some());
        let named = [host.config("agent.toml", Some(""))];
        let missing = host.find(&named).unwrap_err();
        assert!(missing.contains("takes no commands"), "{missing}");
    }

    #[test]
    fn a_configuration_that_does_not_say_where_leads_to_the_installed_service() {
        let mut host = Host::new();
        let silent = [host.config("agent.toml", None)];
        let away = [host.path("away.toml")];
        let broken = [host.file("broken.toml", "service.admin.endpoint = ")];
        let missing = host.find(&silent).unwrap_err();
        assert!(missing.contains("agent.toml: does not set"), "{missing}");
        for (named, words) in [(&away, "away.toml"), (&broken, "broken.toml")] {
            let missing = host.1.find(named).unwrap_err();
            assert!(missing.wrong.is_some());
            let missing = missing.to_string();
            assert!(missing.contains("not valid (1 error)"), "{missing}");
            let problem = missing.lines().find(|line| line.contains("error: "));
            assert!(problem.unwrap().contains(words), "{missing}");
        }
        host.file("installed.sock", "");
        for named in [&silent, &away, &broken] {
            assert_eq!(host.find(named).unwrap(), ["unix:installed.sock"]);
            assert!(host.1.find(named).unwrap().guess.is_some());
        }
        // Of the service that systemd runs this for there is no doubt.
        host.1.runtime_socket = Some(host.path("installed.sock").into());
        assert!(host.1.find(&silent).unwrap().guess.is_none());
    }
}
