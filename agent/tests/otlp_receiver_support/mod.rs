//! A receiver on ephemeral ports, an intake that captures, and clients that can misbehave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tidegate::ack::{Answer, Refusal};
use tidegate::batch::{Batch, Transport};
use tidegate::component::{Intake, Receiver, ReceiverContext, RequestFailure, Shutdown};
use tidegate::config::{Diagnostics, Section};
use tidegate::memory::{HeldBytes, Reservation};
use tidegate::receivers::otlp::OtlpSettings;
use tidegate::signal::{PerSignal, Signal};
use tidegate::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What an intake saw and what it answers.
#[derive(Default)]
pub(crate) struct Capture {
    pub(crate) held: HeldBytes,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Items and bytes of every batch, in order.
    pub(crate) batches: Vec<(Signal, usize, Vec<u8>)>,
    /// What every further batch is answered with; `None` leaves it waiting in `waiting`.
    pub(crate) answer: Option<Answer>,
    pub(crate) hold: bool,
    pub(crate) waiting: Vec<Batch>,
    /// Refuses admission.
    pub(crate) refuse: Option<Refusal>,
    /// Bytes that may be held.
    pub(crate) held_max: Option<usize>,
    pub(crate) admitted: Vec<usize>,
    pub(crate) failures: Vec<(Transport, RequestFailure)>,
    pub(crate) repaired: usize,
}

impl Intake for Capture {
    fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
        let mut state = self.state.lock().unwrap();
        if let Some(refusal) = &state.refuse {
            return Err(refusal.clone());
        }
        state.admitted.push(bytes);
        let limit = state.held_max.unwrap_or(usize::MAX);
        self.held.reserve_within(bytes, limit).ok_or_else(|| {
            Refusal::retry(
                tidegate::ack::RefusalReason::MemoryLimit,
                "no memory",
                Duration::from_secs(7),
            )
        })
    }

    fn submit(&self, batch: Batch, _transport: Transport) {
        let mut state = self.state.lock().unwrap();
        let bytes = batch.payload.to_bytes().to_vec();
        state.batches.push((batch.signal, batch.items(), bytes));
        if state.hold {
            state.waiting.push(batch);
            return;
        }
        let answer = state.answer.clone().unwrap_or(Answer::Delivered);
        drop(state);
        batch.ack.answer(answer);
    }

    fn count_failure(&self, transport: Transport, failure: RequestFailure) {
        self.state
            .lock()
            .unwrap()
            .failures
            .push((transport, failure));
    }

    fn count_repaired(&self, _transport: Transport, strings: usize) {
        self.state.lock().unwrap().repaired += strings;
    }
}

/// A receiver that runs.
pub(crate) struct Harness {
    pub(crate) capture: Arc<Capture>,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) shutdown: Shutdown,
    running: JoinHandle<()>,
}

/// The receiver with `extra` TOML below both protocols' tables, on free ports, wired for all signals.
impl Harness {
    pub(crate) async fn start(extra: &str) -> Self {
        let text = format!(
            "[protocols.grpc]\nendpoint = \"127.0.0.1:0\"\n[protocols.http]\nendpoint = \"127.0.0.1:0\"\n{extra}"
        );
        Self::start_with(&text, &Signal::ALL)
    }

    pub(crate) fn start_with(text: &str, signals: &[Signal]) -> Self {
        let mut found = Diagnostics::default();
        let settings = {
            let mut section = Section::from_text("receivers.otlp", text, &mut found).unwrap();
            OtlpSettings::parse(&mut section)
        };
        let settings = settings.unwrap_or_else(|| panic!("{found}"));
        let capture = Arc::new(Capture::default());
        let receiver = settings
            .bind(ReceiverContext {
                id: "otlp".to_owned(),
                intakes: PerSignal::from_fn(|signal| {
                    signals
                        .contains(&signal)
                        .then(|| Arc::clone(&capture) as Arc<dyn Intake>)
                }),
                telemetry: Telemetry::default(),
            })
            .unwrap();
        let address = |wanted: &str| {
            receiver
                .addresses()
                .into_iter()
                .find(|(protocol, _)| *protocol == wanted)
                .map(|(_, address)| address)
                .unwrap_or_default()
        };
        let (grpc, http) = (address("grpc"), address("http"));
        let shutdown = Shutdown::default();
        let run = Box::new(receiver).run(shutdown.clone());
        Self {
            capture,
            grpc,
            http,
            shutdown,
            running: tokio::spawn(async move { run.await.unwrap() }),
        }
    }

    /// Stops the receiver and waits until it is gone and holds nothing.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap();
        self.capture.state.lock().unwrap().waiting.clear();
        assert_eq!(self.capture.held.bytes(), 0, "memory is still reserved");
    }

    pub(crate) fn captured(&self) -> Vec<(usize, Vec<u8>)> {
        let state = self.capture.state.lock().unwrap();
        state
            .batches
            .iter()
            .map(|(_, items, bytes)| (*items, bytes.clone()))
            .collect()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.http).await.unwrap()
    }

    /// Sends a POST on a connection of its own.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answered {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await
    }

    /// Sends bytes on a connection of its own and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answered {
        let stream = self.connect().await;
        let (mut reader, mut writer) = stream.into_split();
        // A server may answer before it has read everything: that is not this side's failure.
        let bytes = bytes.to_vec();
        let sender = tokio::spawn(async move {
            let _sent = writer.write_all(&bytes).await;
            writer
        });
        let answer = read_answer(&mut reader).await;
        drop(sender.await.unwrap());
        answer
    }
}

/// One HTTP answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one answer; a closed connection without one has status 0.
pub(crate) async fn read_answer(reader: &mut (impl AsyncReadExt + Unpin)) -> Answered {
    tokio::time::timeout(PATIENCE, async {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if reader.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return Answered::default();
            }
        };
        let mut answer = parse_head(&bytes[..head_end]);
        if answer.status == 100 {
            return answer;
        }
        let length: usize = answer
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        while bytes.len() < head_end + length {
            if reader.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                break;
            }
        }
        answer.body = bytes[head_end..].to_vec();
        answer
    })
    .await
    .unwrap()
}

fn parse_head(head: &[u8]) -> Answered {
    let text = String::from_utf8(head.to_vec()).unwrap();
    let mut lines = text.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answered {
        status,
        headers,
        body: Vec::new(),
    }
}

/// A trace request of so many spans.
pub(crate) fn traces(spans: usize) -> Vec<u8> {
    let span = |number: usize| Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: format!("span {number}"),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: (0..spans).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}
