//! Sends dead letters again, through the exporters of a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::super::print;
use super::find::{self, Found};
use super::show::{count, plain};
use super::{ReplayArgs, fail};
use crate::ack::{Answer, Refusal};
use crate::auth::{Authenticators, Side};
use crate::component::{
    BoxFuture, ComponentError, ExporterContext, ExtensionContext, ExtensionSettings, Sender,
    Shutdown,
};
use crate::config::Settings;
use crate::exporters::dead_letter::{Header, Letter, SUFFIX, rewrite};
use crate::progress::Progress;
use crate::signal::{PerSignal, Signal};
use crate::telemetry::{Telemetry, names};

/// Letters to send, by the exporter that they go through; each in the order of their names.
type Work = BTreeMap<String, Vec<Found>>;

/// `dead-letter replay`.
pub async fn replay(args: &ReplayArgs) -> ExitCode {
    let settings = match args.config.settings() {
        Some(Ok(settings)) => settings,
        Some(Err(code)) => return code,
        None => {
            return fail("`--config FILE` is needed: it says where letters go");
        }
    };
    let work = match select(&settings, &args.what) {
        Ok(work) => work,
        Err(problem) => return fail(&problem),
    };
    if work.values().all(Vec::is_empty) {
        return print("no dead letters\n");
    }
    let mut tally = Tally::default();
    for (exporter, letters) in work {
        if args.dry_run {
            check_all(&exporter, &letters, &mut tally);
        } else if let Err(problem) = send_all(&settings, &exporter, letters, args, &mut tally).await
        {
            tally.failed += 1;
            fail(&problem);
        }
    }
    tally.report(args.dry_run)
}

/// What became of the letters.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    items: usize,
    failed: usize,
}

impl Tally {
    fn report(&self, dry_run: bool) -> ExitCode {
        let verb = if dry_run { "would send" } else { "sent" };
        let stays = match self.failed {
            0 => String::new(),
            failed => format!("; not {failed}"),
        };
        let printed = print(&format!(
            "{verb} {} with {}{stays}\n",
            count(self.sent, "dead letter"),
            count(self.items, "item"),
        ));
        match self.failed {
            0 => printed,
            _ => ExitCode::FAILURE,
        }
    }

    fn problem(&mut self, path: &Path, problem: &str) {
        self.failed += 1;
        fail(&format!("{}: {problem}", path.display()));
    }
}

/// Finds what is meant by the words on the command line.
fn select(settings: &Settings, what: &[String]) -> Result<Work, String> {
    let (files, exporters): (Vec<_>, Vec<_>) = what.iter().partition(|word| word.ends_with(SUFFIX));
    let exporter = match exporters.as_slice() {
        [] => None,
        [one] => Some(one.as_str()),
        [first, second, ..] => {
            return Err(format!(
                "`{first}` and `{second}`: name one exporter at most; the names of dead letters end in `{SUFFIX}`"
            ));
        }
    };
    if let Some(exporter) = exporter {
        is_known(settings, exporter)?;
    }
    let mut work = Work::new();
    for file in files {
        let path = PathBuf::from(file);
        let header = Letter::glance(&path).map_err(|problem| format!("{file}: {problem}"))?;
        let through = exporter.unwrap_or(&header.exporter).to_owned();
        is_known(settings, &through).map_err(|problem| format!("{file}: {problem}"))?;
        let header = Ok(header);
        work.entry(through)
            .or_default()
            .push(Found { path, header });
    }
    if !work.is_empty() {
        return Ok(work);
    }
    let mut places = find::places(settings);
    places.retain(|place| exporter.is_none_or(|exporter| place.exporter == exporter));
    if places.is_empty() {
        return Err(match exporter {
            Some(exporter) => format!("exporters.{exporter} keeps no dead letters"),
            None => "no exporter keeps dead letters: `sending_queue.dead_letter.directory` would say where".to_owned(),
        });
    }
    for place in places {
        find::in_folder(&place.folder, work.entry(place.exporter).or_default())?;
    }
    Ok(work)
}

fn is_known(settings: &Settings, exporter: &str) -> Result<(), String> {
    let ids: Vec<&str> = settings
        .exporters
        .iter()
        .map(|(id, _)| id.as_str())
        .collect();
    if ids.contains(&exporter) {
        return Ok(());
    }
    Err(format!(
        "the configuration has no exporter `{exporter}` that a pipeline uses, but {}",
        ids.join(", ")
    ))
}

/// `--dry-run`.
fn check_all(exporter: &str, letters: &[Found], tally: &mut Tally) {
    for Found { path, .. } in letters {
        match Letter::open(path) {
            Ok(Letter { header, .. }) => {
                tally.sent += 1;
                tally.items += header.items;
                print(&format!(
                    "would send {}\n",
                    described(path, exporter, &header)
                ));
            }
            Err(problem) => tally.problem(path, &problem.to_string()),
        }
    }
}

fn described(path: &Path, exporter: &str, header: &Header) -> String {
    format!(
        "{} to exporters.{exporter} ({} of {})",
        path.display(),
        count(header.items, "item"),
        header.signal
    )
}

/// Sends the letters of one exporter, until all are tried or the destination is away.
async fn send_all(
    settings: &Settings,
    exporter: &str,
    letters: Vec<Found>,
    args: &ReplayArgs,
    tally: &mut Tally,
) -> Result<(), String> {
    let signals: BTreeSet<Signal> = letters
        .iter()
        .filter_map(|found| Some(found.header.as_ref().ok()?.signal))
        .collect();
    let running = Running::start(settings, exporter, signals, args.timeout.0)?;
    let mut letters = letters.into_iter();
    for Found { path, .. } in letters.by_ref() {
        match running.send(&path).await {
            Ok(None) => {}
            Ok(Some(Sent { header, _alone })) => match settle(&path, args.keep) {
                Ok(ending) => {
                    tally.sent += 1;
                    tally.items += header.items;
                    print(&format!(
                        "sent {}{ending}\n",
                        described(&path, exporter, &header)
                    ));
                }
                Err(problem) => tally.problem(&path, &problem),
            },
            Err(Unsent::Rejected(problem)) => tally.problem(&path, &problem),
            Err(Unsent::Away(problem)) => {
                tally.problem(&path, &problem);
                break;
            }
        }
    }
    let rest = letters.len();
    if rest > 0 {
        tally.failed += rest;
        fail(&format!(
            "exporters.{exporter}: {} not tried",
            count(rest, "more dead letter")
        ));
    }
    running.stop().await
}

/// The destination has it: the file goes.
fn settle(path: &Path, keep: bool) -> Result<String, String> {
    let outcome = match keep {
        true => find::put_aside(path).map(|aside| format!(", now {}", aside.display())),
        false => find::remove(path).map(|()| String::new()),
    };
    outcome.map_err(|error| {
        format!(
            "was sent, but its file could not be removed: {error}; remove it, or it goes out again"
        )
    })
}

/// An extension that has nothing more to do.
type Installed = BoxFuture<'static, Result<(), ComponentError>>;

/// Those that exporters show the credentials of, for as long as what comes with them is held.
fn authenticators(settings: &Settings) -> Result<(Authenticators, Vec<Installed>), String> {
    let authenticators = Authenticators::default();
    let client = |extension: &&(String, Box<dyn ExtensionSettings>)| {
        extension.1.authenticates().contains(&Side::Client)
    };
    let mut installed = Vec::new();
    for (id, extension) in settings.extensions.iter().filter(client) {
        let context = ExtensionContext::alone(id, authenticators.clone());
        let extension = extension
            .build(context)
            .map_err(|error| error.to_string())?;
        installed.push(extension.run(Shutdown::default()));
    }
    Ok((authenticators, installed))
}

/// Why a letter was not sent.
enum Unsent {
    /// Something about this letter.
    Rejected(String),
    /// Others will not get through either.
    Away(String),
}

/// A letter that the destination has.
struct Sent {
    header: Header,
    /// Nobody else sends it until its file is out of the way.
    _alone: File,
}

/// An exporter at work.
struct Running {
    exporter: String,
    senders: Vec<Sender>,
    telemetry: Telemetry,
}

impl Running {
    fn start(
        settings: &Settings,
        exporter: &str,
        signals: BTreeSet<Signal>,
        patience: Duration,
    ) -> Result<Self, String> {
        let configured = settings.exporters.iter().find(|(id, _)| id == exporter);
        let replaying = configured.and_then(|(_, configured)| {
            configured.with_sender(configured.sender()?.for_replay(patience))
        });
        let replaying =
            replaying.ok_or_else(|| format!("exporters.{exporter} cannot send dead letters"))?;
        let (authenticators, _installed) = authenticators(settings)?;
        let context = ExporterContext {
            id: exporter.to_owned(),
            signals: signals.into_iter().collect(),
            telemetry: Telemetry::default(),
            status: PerSignal::default(),
            progress: Progress::default(),
            cut: Shutdown::default(),
            leave: Shutdown::default(),
            authenticators,
            inherited: Vec::new(),
            taps: crate::tap::Taps::default(),
        };
        let mut senders = replaying
            .build(&context)
            .map_err(|problem| format!("exporters.{exporter}: {problem}"))?;
        for sender in &mut senders {
            sender.start();
        }
        Ok(Self {
            exporter: exporter.to_owned(),
            senders,
            telemetry: context.telemetry,
        })
    }

    /// Sends a letter; `None` if somebody else has done so meanwhile.
    async fn send(&self, path: &Path) -> Result<Option<Sent>, Unsent> {
        let Some((alone, letter)) = open_alone(path).map_err(Unsent::Rejected)? else {
            return Ok(None);
        };
        let header = &letter.header;
        let declined =
            self.telemetry
                .item_counter(&names::OTLP_REJECTED, header.signal, &[&self.exporter]);
        let before = declined.get();
        let handed = self
            .senders
            .iter()
            .find(|sender| sender.signal == header.signal)
            .and_then(|sender| {
                let done = header.parts_done.iter().cloned();
                sender.queue.hand(letter.payload(), &header.batch, done)
            });
        let Some((ticket, answered)) = handed else {
            return Err(Unsent::Rejected(format!(
                "exporters.{} does not take {}",
                self.exporter, header.signal
            )));
        };
        let answer = answered.await;
        let parts_done = ticket.parts_done();
        if answer != Answer::Delivered && parts_done != header.parts_done {
            let header = Header {
                parts_done,
                ..header.clone()
            };
            rewrite(path, &header, &letter.payload()).map_err(|error| {
                Unsent::Rejected(format!(
                    "some of its tables were stored, and that could not be noted in it: {error}"
                ))
            })?;
        }
        match answer {
            Answer::Refused(refusal) => Err(unsent(&refusal)),
            // Letters pass no processor, so nothing is declined here; were it, the letter must stay.
            Answer::Partial(rejected) => Err(Unsent::Rejected(rejected.message.into_owned())),
            Answer::Delivered | Answer::Queued if declined.get() > before => {
                Err(Unsent::Rejected(format!(
                    "the far side took the request and declined {} in it (partial success); the dead letter stays",
                    count((declined.get() - before) as usize, "item")
                )))
            }
            Answer::Delivered | Answer::Queued => Ok(Some(Sent {
                header: letter.header,
                _alone: alone,
            })),
        }
    }

    async fn stop(self) -> Result<(), String> {
        for sender in &self.senders {
            sender.queue.close();
        }
        for sender in self.senders {
            for worker in sender.workers {
                let ended = worker.await;
                ended.map_err(|panic| format!("exporters.{}: {panic}", self.exporter))?;
            }
        }
        Ok(())
    }
}

fn unsent(refusal: &Refusal) -> Unsent {
    let cause = plain(&refusal.message);
    match refusal.retry_after {
        None => Unsent::Rejected(format!("still rejected: {cause}")),
        Some(_) => Unsent::Away(format!("the destination does not take it now: {cause}")),
    }
}

/// Reads a letter that nobody else sends for as long as the file is open; `None` if it is gone.
fn open_alone(path: &Path) -> Result<Option<(File, Letter)>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err("another process sends it now".to_owned()),
        Err(TryLockError::Error(error)) => return Err(format!("lock it: {error}")),
    }
    let links = file.metadata().map_err(|error| error.to_string())?.nlink();
    if links == 0 {
        return Ok(None);
    }
    let letter = Letter::of_file(&file).map_err(|problem| problem.to_string())?;
    Ok(Some((file, letter)))
}
