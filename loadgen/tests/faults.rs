//! `loadgen faults` as a user runs it: a proxy with a control port.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A proxy process, killed when dropped.
struct Proxy {
    child: Child,
    listen: String,
    control: String,
}

impl Proxy {
    fn start(to: &str, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["faults", "127.0.0.1:0", "--to", to])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addresses: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Self {
            listen: address("listen"),
            control: address("control"),
            child,
        }
    }

    fn control(&self, method: &str, body: &str) -> (u16, String) {
        request(&self.control, &format!("{method} /faults"), body).unwrap()
    }

    fn insert(&self) -> Option<u16> {
        Some(request(&self.listen, "POST /?query=INSERT+INTO+t", "rows")?.0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Status and body of the answer; none when the connection breaks.
fn request(address: &str, line: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

/// Answers every request with 200, for as long as the test runs.
fn destination() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"rows") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.extend(byte);
            }
            // A proxy that was told to cut may be gone.
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
            drop(stream.shutdown(Shutdown::Write));
        }
    });
    address
}

#[test]
fn faults_are_set_counted_and_cleared_while_it_runs() {
    let proxy = Proxy::start(&destination(), &["-f", "cut-after:times=1"]);
    assert_eq!(proxy.insert(), None);
    assert_eq!(proxy.insert(), Some(200));
    let (status, _) = proxy.control("POST", r#"["status:code=429"]"#);
    assert_eq!(status, 200);
    assert_eq!(proxy.insert(), Some(429));
    let (status, text) = proxy.control("POST", r#"["explode"]"#);
    assert_eq!(status, 400);
    assert!(text.contains("no fault `explode`"), "{text}");
    assert_eq!(proxy.insert(), Some(429), "a mistake changes nothing");
    assert_eq!(proxy.control("DELETE", "").0, 200);
    assert_eq!(proxy.insert(), Some(200));
    let (_, state) = proxy.control("GET", "");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["injected"]["cut-after"], 1);
    assert_eq!(state["injected"]["status"], 2);
    assert_eq!(state["inserts"], 5);
    assert_eq!(state["rules"].as_array().unwrap().len(), 0);
}

#[test]
fn a_port_that_refuses_opens_again() {
    let proxy = Proxy::start(&destination(), &["-f", "refuse"]);
    assert_eq!(proxy.insert(), None);
    assert_eq!(proxy.control("DELETE", "").0, 200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while proxy.insert() != Some(200) {
        assert!(std::time::Instant::now() < deadline);
    }
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["faults", "127.0.0.1:0", "--to", "127.0.0.1:1"])
        .args(["--protocol", "tcp", "-f", "status"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("`status` needs --protocol http"), "{error}");
}
