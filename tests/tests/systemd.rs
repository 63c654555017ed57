//! The agent as a service: what it tells a service manager and takes from one, and all of it under a real systemd.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{PATIENCE, Service, binary, eventually, get};

const CONFIG: &str = r#"
[receivers.otlp.protocols.http]
endpoint = "{otlp}"
[exporters.debug]
[extensions.health_check]
endpoint = "127.0.0.1:0"
[service]
extensions = ["health_check"]
[service.telemetry.metrics]
level = "none"
[service.pipelines.traces]
receivers = ["otlp"]
exporters = ["debug"]
"#;

/// A service manager's end of the notifications.
struct Manager {
    socket: UnixDatagram,
    address: String,
    heard: Vec<String>,
}

impl Manager {
    /// Listens at an abstract name, as user managers do.
    fn listen(name: &str) -> Self {
        let name = format!("tidegate-e2e-{name}-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            address: format!("@{name}"),
            heard: Vec::new(),
        }
    }

    /// Waits for a message with this line, and gives the whole of it.
    fn hear(&mut self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            assert!(Instant::now() < deadline, "no {line} in {:?}", self.heard);
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("waiting for {line}: {error}, after {:?}", self.heard)
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
    }
}

/// The agent, started as a service manager does: `socket` is handed over, if there is one.
fn start(
    folder: &Path,
    config: &str,
    variables: &[(&str, &str)],
    socket: Option<TcpListener>,
) -> Service {
    fs::write(folder.join("agent.toml"), config).unwrap();
    // The number of the process is known only in it; a descriptor is handed over as standard input first.
    let script = match &socket {
        Some(_) => {
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=otlp exec \"$@\""
        }
        None => "exec \"$@\"",
    };
    let stdin = match socket {
        Some(socket) => Stdio::from(OwnedFd::from(socket)),
        None => Stdio::null(),
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(binary("tidegate"))
        .args(["run", "--config", "agent.toml"])
        .envs(variables.iter().copied())
        .current_dir(folder);
    Service::start_with("agent", &mut command, folder, stdin)
}

#[test]
fn the_service_manager_is_told_of_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = Manager::listen("states");
    let config = CONFIG.replace("{otlp}", "127.0.0.1:0");
    let variables = [
        ("NOTIFY_SOCKET", manager.address.as_str()),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", ""),
    ];
    // An empty number is none of this process, so there is no watchdog.
    let mut agent = start(folder.path(), &config, &variables, None);
    let ready = manager.hear("READY=1");
    assert!(ready.contains("STATUS=1 pipeline;"), "{ready}");
    let health = agent.address(&["health check listens"]);
    assert_eq!(get(&format!("http://{health}/")).unwrap().status, 200);
    agent.signal("HUP");
    let reloading = manager.hear("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1");
    let wrong = config.replace("[exporters.debug]\n", "[exporters.debug]\nnonsense = 1\n");
    fs::write(folder.path().join("agent.toml"), wrong).unwrap();
    let refused = loop {
        let ready = manager.hear("READY=1");
        if ready.contains("refused") {
            break ready;
        }
    };
    assert!(
        refused.contains("agent.toml:5:1: error: exporters.debug.nonsense"),
        "{refused}"
    );
    // As it was: nothing is rebuilt, and nothing is refused any more.
    fs::write(folder.path().join("agent.toml"), &config).unwrap();
    while manager.hear("READY=1").contains("refused") {}
    agent.wait_for(&["INFO", "configuration accepted again"]);
    agent.signal("TERM");
    manager.hear("STOPPING=1");
    assert!(agent.wait().success());
    let beats = manager.heard.iter().filter(|heard| *heard == "WATCHDOG=1");
    assert_eq!(beats.count(), 0);
}

#[test]
fn the_watchdog_is_told_twice_in_its_interval() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = Manager::listen("watchdog");
    let config = CONFIG.replace("{otlp}", "127.0.0.1:0");
    let variables = [
        ("NOTIFY_SOCKET", manager.address.as_str()),
        ("WATCHDOG_USEC", "1000000"),
    ];
    let mut agent = start(folder.path(), &config, &variables, None);
    manager.hear("READY=1");
    let started = Instant::now();
    for _ in 0..4 {
        manager.hear("WATCHDOG=1");
    }
    // The first may have come before the agent was ready; the others are half a second apart.
    assert!(started.elapsed() >= Duration::from_millis(1000));
    // A process that does not move says nothing.
    agent.signal("STOP");
    let end = Instant::now() + Duration::from_secs(2);
    manager
        .socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut late = 0;
    while Instant::now() < end {
        late += usize::from(manager.socket.recv(&mut [0; 4096]).is_ok());
    }
    // Those that it had sent by then may still have been on their way.
    assert!(late <= 2, "{late} messages of a stopped process");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    agent.signal("CONT");
    manager.hear("WATCHDOG=1");
    assert!(agent.terminate().success());
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_outlives_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = CONFIG.replace("{otlp}", &address.to_string());
    let mut agent = start(
        folder.path(),
        &config,
        &[],
        Some(socket.try_clone().unwrap()),
    );
    assert_eq!(agent.address(&["listening", "http", "otlp"]), address);
    assert_eq!(post(address), 200);
    // After a reload, too: elsewhere first, which leaves the socket to nobody, then back.
    let elsewhere = CONFIG.replace("{otlp}", "127.0.0.1:0");
    reload(folder.path(), &elsewhere, &agent);
    agent.wait_for(&["WARN", &address.to_string(), "waits in vain"]);
    reload(folder.path(), &config, &agent);
    agent.wait_for(&["INFO", &address.to_string(), "is served"]);
    assert_eq!(post(address), 200);
    assert!(agent.terminate().success());
    // Who connects while there is no agent is served by the next one.
    let waiting = TcpStream::connect(address).unwrap();
    let mut agent = start(folder.path(), &config, &[], Some(socket));
    agent.wait_for(&["everything is ready"]);
    assert_eq!(post_on(waiting), 200);
    assert!(agent.terminate().success());
}

/// Commands find the service without being told where it is.
#[test]
fn a_reload_is_asked_for_at_the_socket_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = folder.path().to_str().unwrap();
    let config = CONFIG.replace("{otlp}", "127.0.0.1:0");
    let config = config.replace("[service]", "[service]\nreload.watch = false");
    let variables = [("RUNTIME_DIRECTORY", runtime)];
    let mut agent = start(folder.path(), &config, &variables, None);
    agent.wait_for(&["everything is ready"]);
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(binary("tidegate"));
        let command = command.args(arguments).envs(variables);
        let done = command.current_dir(folder.path()).output().unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(text).unwrap())
    };
    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        let (ended, text) = ask(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{word} not in: {text}");
        }
    };
    check(&["reload", "-c", "agent.toml"], 0, &["unchanged"]);
    check(&["top", "-c", "agent.toml", "--once"], 0, &["traces"]);
    // Its answer is about its own files; what was named must be right nevertheless.
    let away = ["unchanged", "away.toml cannot be read", "named here"];
    check(&["reload", "-c", "away.toml"], 78, &away);
    let edited = config.replace("[service]", "[service]\ndrain_timeout = '7s'");
    fs::write(folder.path().join("agent.toml"), &edited).unwrap();
    let changed = ["changed  service.drain_timeout", "reloaded"];
    check(&["reload", "-c", "agent.toml"], 0, &changed);
    let wrong = edited.replace("drain_timeout", "drain_timeot");
    fs::write(folder.path().join("agent.toml"), wrong).unwrap();
    let refused = ["drain_timeot: unknown key", "refused: the agent runs"];
    check(&["reload", "-c", "agent.toml"], 78, &refused);
    assert!(agent.terminate().success());
    let gone = ["drain_timeot: unknown key", "admin.sock: there is none"];
    check(&["reload", "-c", "agent.toml"], 78, &gone);
}

fn reload(folder: &Path, config: &str, agent: &Service) {
    let before = agent.output().matches("configuration reloaded").count();
    fs::write(folder.join("agent.toml"), config).unwrap();
    eventually("the reload", || {
        let reloads = agent.output().matches("configuration reloaded").count();
        (reloads > before).then_some(())
    });
}

fn post(address: SocketAddr) -> u16 {
    post_on(TcpStream::connect(address).unwrap())
}

fn post_on(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "POST /v1/traces HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("agent.log");
    fs::write(&log, "").unwrap();
    let stat = fs::metadata(&log).unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    let config = CONFIG.replace("{otlp}", "127.0.0.1:0");
    let mut agent = start(folder.path(), &config, &[("JOURNAL_STREAM", &stream)], None);
    let line = agent.wait_for(&["everything is ready"]);
    assert!(line.starts_with("<6> INFO tidegate::app: "), "{line}");
    fs::write(folder.path().join("agent.toml"), "[nonsense]\n").unwrap();
    let line = agent.wait_for(&["configuration refused"]);
    assert!(line.starts_with("<3>ERROR tidegate::app: "), "{line}");
    assert!(agent.terminate().success());
}

/// Everything that can happen to the service, and that nothing accepted is lost or doubled by it: `tests/systemd`.
#[test]
fn everything_holds_under_a_real_systemd() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let Some(engine) = engine() else {
        panic!("the ClickHouse engine is missing: tidegate localdb --fetch-only");
    };
    let mut files = OsString::from(engine);
    files.push(":/usr/lib/tidegate/libchdb.so ");
    // It may lie outside of the repository.
    files.push(binary("tidegate"));
    files.push(":/opt/tidegate-test");
    let done = Command::new("timeout")
        .args(["--kill-after=10", UNDER_SYSTEMD_MAX])
        .arg(scripts.join("boot.sh"))
        .arg("python3")
        .arg(scripts.join("scenarios.py"))
        .arg("/opt/tidegate-test")
        .env("TIDEGATE_BOOT_FILES", files)
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    match done.status.code() {
        Some(0) => assert!(text.contains("scenarios held"), "{text}"),
        Some(CANNOT) => {
            // Not captured by the test runner, unlike `eprintln!`.
            let why = text.lines().last().unwrap_or_default();
            let mut terminal = std::io::stderr();
            writeln!(terminal, "{why}: nothing was tested under systemd").unwrap();
        }
        other => panic!("{other:?}\n{text}"),
    }
}

/// In seconds; it takes a minute.
const UNDER_SYSTEMD_MAX: &str = "175";
/// What `boot.sh` ends with where no systemd can be booted.
const CANNOT: i32 = 77;

/// Where `tidegate localdb` finds it.
fn engine() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TIDEGATE_CHDB_LIBRARY") {
        return Some(named.into());
    }
    let home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    let versions = fs::read_dir(home?.join("tidegate/lib")).ok()?;
    let libraries = versions.map(|version| version.unwrap().path().join("libchdb.so"));
    libraries.filter(|library| library.is_file()).max()
}
