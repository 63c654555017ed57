//! `pprof`: profiles of the agent, for `go tool pprof` and what else reads its format.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::front::{Front, Keys};
use super::page::{self, Cell, Page};
use crate::admin::{self, Answer, Endpoint};
use crate::auth::{AuthOptions, Reference};
use crate::claim::Claim;
use crate::component::{
    BoxFuture, ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver, Shutdown,
};
use crate::config::Section;
use crate::net::listen;
use crate::net::server_tls::TlsOptions;
use crate::profile::{self, Busy, CpuProfile, Kind, Stack, heap};

/// The `pprof` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "pprof",
    summary: "Serves CPU and heap profiles of the agent, as `go tool pprof` reads them.",
    signals: &[],
    schema: |generator| generator.subschema_for::<PprofOptions>(),
    parse: |section| {
        let options: PprofOptions = section.options()?;
        Some(Box::new(options.resolve(section)?))
    },
};

/// `[extensions.pprof]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PprofOptions {
    /// Where to listen.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    endpoint: String,
    /// Takes a CPU profile from the start of the extension to its end, and writes it to this file then; empty for none. No
    /// other one can be taken meanwhile.
    save_to_file: String,
    /// Bytes of allocations between two samples of the heap, on average; `0` takes none.
    #[schemars(range(max = 1_073_741_824))]
    heap_sample_bytes: u64,
    /// Without effect: nothing in the agent waits as Go's goroutines do.
    block_profile_fraction: i64,
    /// Without effect: there is no profile of locks.
    mutex_profile_fraction: i64,
    /// Certificates; absent means plaintext.
    tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    auth: Option<AuthOptions>,
}

impl Default for PprofOptions {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:1777".to_owned(),
            save_to_file: String::new(),
            heap_sample_bytes: heap::INTERVAL as u64,
            block_profile_fraction: 0,
            mutex_profile_fraction: 0,
            tls: None,
            auth: None,
        }
    }
}

/// A larger interval would sample next to nothing.
const HEAP_SAMPLE_MAX: u64 = 1 << 30;

/// Validated form of [`PprofOptions`].
#[derive(Debug, Clone, PartialEq)]
struct PprofSettings {
    front: Front,
    save_to_file: Option<String>,
    heap_interval: Option<usize>,
}

impl PprofOptions {
    fn resolve(self, section: &mut Section<'_>) -> Option<PprofSettings> {
        for (key, value) in [
            ("block_profile_fraction", self.block_profile_fraction),
            ("mutex_profile_fraction", self.mutex_profile_fraction),
        ] {
            if value != 0 {
                section.warning(
                    key,
                    "accepted, but without effect: there is no such profile",
                );
            }
        }
        if self.heap_sample_bytes > HEAP_SAMPLE_MAX {
            section.error(
                "heap_sample_bytes",
                format!("must be at most {HEAP_SAMPLE_MAX}"),
            );
        }
        let interval = usize::try_from(self.heap_sample_bytes).unwrap_or(usize::MAX);
        let endpoint = listen::Endpoint::parse("tcp", &self.endpoint)
            .map_err(|problem| section.error("endpoint", problem))
            .ok();
        let lock = (self.tls, self.auth);
        let front = Front::resolve(endpoint, lock, Some("take profiles"), Keys::PLAIN, section)?;
        Some(PprofSettings {
            front,
            save_to_file: Some(self.save_to_file).filter(|path| !path.is_empty()),
            heap_interval: (interval > 0).then_some(interval),
        })
    }
}

impl ExtensionSettings for PprofSettings {
    fn claims(&self) -> Vec<Claim> {
        self.front.claim().into_iter().collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.front.files()
    }

    fn authenticators(&self) -> Vec<Reference> {
        self.front.authenticators()
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        let endpoint = self.front.bind(&context)?;
        Ok(Box::new(Pprof {
            id: context.id,
            endpoint,
            settings: self.clone(),
        }))
    }
}

struct Pprof {
    id: String,
    endpoint: Endpoint,
    settings: PprofSettings,
}

impl Receiver for Pprof {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        let Self {
            id,
            endpoint,
            settings,
        } = *self;
        let address = endpoint.address();
        info!(extension = id, address, "profiles are served");
        // Outside of the future: the call takes over what was served there.
        let serving = endpoint.serve_with(page::reading(answer), shutdown);
        Box::pin(async move {
            let _sampling = settings.heap_interval.map(heap::start);
            let stop = StopOnDrop::default();
            let saving = settings.save_to_file.map(|path| {
                let stop = Arc::clone(&stop.0);
                tokio::task::spawn_blocking(move || save(&path, &stop))
            });
            serving.await;
            drop(stop);
            if let Some(Err(panic)) = match saving {
                Some(saving) => Some(saving.await),
                None => None,
            } {
                error!(%panic, "saving the CPU profile failed; this is a defect");
            }
            Ok(())
        })
    }
}

// === Requests ===

/// Where the pages are.
const ROOT: &str = "/debug/pprof";

fn answer(request: &Request<Incoming>) -> BoxFuture<'static, Answer> {
    let Some(name) = request.uri().path().strip_prefix(ROOT) else {
        return page::ready(admin::not_found());
    };
    let query = request.uri().query().unwrap_or_default();
    match name {
        "" | "/" => page::ready(index(request)),
        // Whether it is there can be had for nothing.
        "/profile" | "/heap" | "/allocs" if *request.method() == Method::HEAD => {
            page::ready(file("profile", Vec::new()))
        }
        "/profile" => cpu(query),
        "/heap" => Box::pin(beside(|| memory(|interval| Kind::Heap { interval }))),
        "/allocs" => Box::pin(beside(|| memory(|interval| Kind::Allocations { interval }))),
        _ => page::ready(page::text(
            StatusCode::NOT_FOUND,
            "404 no such profile: there are profile, heap and allocs\n",
        )),
    }
}

fn index(request: &Request<Incoming>) -> Answer {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.unwrap_or("127.0.0.1:1777");
    let mut page = Page::new("Profiles", &[]);
    page.paragraph("Each is a compressed pprof profile with the names of functions in it.");
    let link = |name: &str, query: &str, about: &str| {
        let link = Cell::Link {
            text: name.to_owned(),
            to: format!("{ROOT}/{name}{query}"),
        };
        vec![link, Cell::text(about)]
    };
    let heap = match heap::interval() {
        Some(interval) => format!("Who holds memory now: one sample in {interval} bytes."),
        None => "Not sampled: heap_sample_bytes is 0.".to_owned(),
    };
    page.table(
        &["Profile", "What it tells"],
        [
            link(
                "profile",
                "?seconds=30",
                "Where processor time goes, for so many seconds.",
            ),
            link("heap", "", &heap),
            link(
                "allocs",
                "",
                "Who allocated since sampling began, the same samples.",
            ),
        ],
    );
    page.verbatim(&format!(
        "go tool pprof -http=: http://{host}{ROOT}/profile?seconds=10"
    ));
    page.answer()
}

fn file(name: &str, bytes: Vec<u8>) -> Answer {
    let mut answer = admin::answer(StatusCode::OK, "application/octet-stream", bytes);
    let headers = answer.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}.pb.gz\""))
    {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    answer
}

/// Runs what takes long where it may.
async fn beside(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| {
        let text = format!("500 taking the profile failed: {panic}\n");
        page::text(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// Without being told, as Go does.
const SECONDS_DEFAULT: u64 = 30;

/// Whoever wants more takes several, or has one saved.
const SECONDS_MAX: u64 = 300;

fn cpu(query: &str) -> BoxFuture<'static, Answer> {
    let [seconds] = page::parameters(query, ["seconds"]);
    let seconds = match seconds.map(|seconds| seconds.parse()) {
        None => SECONDS_DEFAULT,
        Some(Ok(seconds @ 1..=SECONDS_MAX)) => seconds,
        Some(_) => {
            let text = format!("400 seconds is a whole number from 1 to {SECONDS_MAX}\n");
            return page::ready(page::text(StatusCode::BAD_REQUEST, text));
        }
    };
    Box::pin(async move {
        // Whoever asked may go away.
        let stop = StopOnDrop::default();
        let stopped = Arc::clone(&stop.0);
        let length = Duration::from_secs(seconds);
        let answer = beside(move || match CpuProfile::start() {
            Err(busy @ Busy::Taken) => page::text(StatusCode::CONFLICT, format!("409 {busy}\n")),
            Err(problem) => {
                let text = format!("500 {problem}\n");
                page::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            Ok(profile) => {
                let started = Instant::now();
                let samples = collect(profile, &stopped, Some(started + length));
                file(
                    "profile",
                    profile::encode(Kind::Cpu, &samples, started.elapsed()),
                )
            }
        });
        let answer = answer.await;
        drop(stop);
        answer
    })
}

/// Takes samples until the time is over or nobody wants them any more.
fn collect(
    mut profile: CpuProfile,
    stop: &AtomicBool,
    until: Option<Instant>,
) -> Vec<(Stack, [i64; 2])> {
    let is_over = || until.is_some_and(|until| Instant::now() >= until);
    while !is_over() && !stop.load(Ordering::Relaxed) {
        let left = until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        std::thread::sleep(left.min(profile::DRAIN_INTERVAL));
        profile.drain();
    }
    profile.finish()
}

/// Set when whoever has it is gone.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn memory(kind: impl FnOnce(usize) -> Kind) -> Answer {
    match (heap::interval(), heap::samples()) {
        (Some(interval), Some(samples)) => file(
            "heap",
            profile::encode(kind(interval), &samples, Duration::ZERO),
        ),
        _ => page::text(
            StatusCode::NOT_FOUND,
            "404 the heap is not sampled: heap_sample_bytes is 0\n",
        ),
    }
}

// === The profile of a whole run ===

fn save(path: &str, stop: &AtomicBool) {
    let profile = loop {
        match CpuProfile::start() {
            Ok(profile) => break profile,
            // The one before is being saved.
            Err(Busy::Taken) if !stop.load(Ordering::Relaxed) => {
                std::thread::sleep(profile::DRAIN_INTERVAL);
            }
            Err(problem) => return error!(path, %problem, "no CPU profile is taken"),
        }
    };
    let started = Instant::now();
    let samples = collect(profile, stop, None);
    let bytes = profile::encode(Kind::Cpu, &samples, started.elapsed());
    match std::fs::write(path, bytes) {
        Ok(()) => info!(path, "the CPU profile is saved"),
        Err(problem) => error!(path, %problem, "the CPU profile cannot be saved"),
    }
}
