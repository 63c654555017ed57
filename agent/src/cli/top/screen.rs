//! The terminal: drawn anew for each answer and each key, left as it was found.

use std::io::{self, Stdout, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};
use futures::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::Asker;
use super::figures::duration;
use super::table::{HELP, Line, Style, Wish, lines};
use super::view::View;
use crate::overview::Document;

/// A longer filter is no name.
const FILTER_MAX: usize = 64;

/// Runs until somebody leaves.
pub(super) async fn run(mut agent: Asker, interval: Duration) -> anyhow::Result<ExitCode> {
    let endpoint = agent.target.to_string();
    let screen = Screen::enter().context("use the terminal")?;
    let mut state = State::new(endpoint, interval);
    let mut events = EventStream::new();
    let mut stopped = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        screen.draw(&mut state)?;
        tokio::select! {
            _ = ticks.tick() => {
                let answer = agent.ask().await;
                state.take(answer);
            }
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if state.press(key) {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("read the terminal"),
                None => return Ok(ExitCode::SUCCESS),
            },
            _ = stopped.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What is shown, and how.
pub(super) struct State {
    endpoint: String,
    interval: Duration,
    last: Option<Document>,
    view: Option<View>,
    /// Since when the agent is away, and why.
    away: Option<(Instant, String)>,
    wish: Wish,
    /// Whether keys go into the filter.
    typing: bool,
    paused: bool,
    help: bool,
    /// Lines that are above the screen.
    scrolled: usize,
    /// Lines that fit.
    page: usize,
}

impl State {
    pub(super) fn new(endpoint: String, interval: Duration) -> Self {
        Self {
            endpoint,
            interval,
            last: None,
            view: None,
            away: None,
            wish: Wish::default(),
            typing: false,
            paused: false,
            help: false,
            scrolled: 0,
            page: 1,
        }
    }

    /// Takes what the agent has answered, or why it has not.
    pub(super) fn take(&mut self, answer: anyhow::Result<Document>) {
        match answer {
            Ok(now) => {
                self.away = None;
                if !self.paused || self.view.is_none() {
                    self.view = Some(View::of(&now, self.last.as_ref()));
                }
                self.last = Some(now);
            }
            Err(problem) => {
                let since = self
                    .away
                    .take()
                    .map_or_else(Instant::now, |(since, _)| since);
                self.away = Some((since, format!("{problem:#}")));
            }
        }
    }

    /// Whether it is left.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return true,
            _ if self.typing => self.type_filter(key.code),
            KeyCode::Char('q') => return true,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc if !self.wish.filter.is_empty() => self.wish.filter.clear(),
            KeyCode::Esc => return true,
            KeyCode::Char('s') => self.wish.order = self.wish.order.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled += 1,
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(self.page),
            KeyCode::PageDown => self.scrolled += self.page,
            KeyCode::Home => self.scrolled = 0,
            // As far as there is something; see `fit`.
            KeyCode::End => self.scrolled = usize::MAX,
            _ => {}
        }
        false
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.wish.filter.clear();
            }
            KeyCode::Backspace => {
                self.wish.filter.pop();
            }
            KeyCode::Char(letter) if self.wish.filter.len() < FILTER_MAX => {
                self.wish.filter.push(letter);
            }
            _ => {}
        }
    }

    /// The lines of a screen of this height; the last is the foot.
    pub(super) fn fit(&mut self, height: usize) -> Vec<Line> {
        let mut top = Vec::new();
        if let Some((since, why)) = &self.away {
            let text = format!(
                "the agent at {} is away for {}: {why}; trying again",
                self.endpoint,
                duration(since.elapsed().as_secs_f64())
            );
            top.push(Line(vec![(Style::Bad, text)]));
        }
        let body = match (&self.view, self.help) {
            (_, true) => HELP
                .iter()
                .map(|text| Line(vec![(Style::Plain, (*text).to_owned())]))
                .collect(),
            (Some(view), false) => lines(view, &self.wish),
            (None, false) => Vec::new(),
        };
        self.page = height.saturating_sub(top.len() + 1).max(1);
        self.scrolled = self.scrolled.min(body.len().saturating_sub(self.page));
        top.extend(body.into_iter().skip(self.scrolled).take(self.page));
        top.truncate(height.saturating_sub(1));
        top.resize(height.saturating_sub(1), Line::default());
        top.push(self.foot());
        top
    }

    fn foot(&self) -> Line {
        let filter = match (self.typing, self.wish.filter.as_str()) {
            (true, filter) => format!("/{filter}_"),
            (false, "") => "/ filter".to_owned(),
            (false, filter) => format!("/ filter: {filter}"),
        };
        let pause = if self.paused { "p PAUSED" } else { "p pause" };
        let order = self.wish.order.name();
        let text = format!(
            "q quit  s sort: {order}  {filter}  {pause}  ? help   every {:?}",
            self.interval
        );
        Line(vec![(Style::Dim, text)])
    }
}

/// The terminal while it is ours.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is left in order, whatever happens.
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    fn draw(&self, state: &mut State) -> io::Result<()> {
        let (width, height) = size()?;
        let mut out = io::stdout();
        for (row, line) in (0..height).zip(state.fit(height.into())) {
            queue!(out, MoveTo(0, row))?;
            write_line(&mut out, &line, width.into())?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing left to do about a terminal that is gone.
        drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

/// As much of a line as there is room for.
fn write_line(out: &mut Stdout, line: &Line, width: usize) -> io::Result<()> {
    let mut room = width;
    for (style, text) in &line.0 {
        let shown: String = text.chars().take(room).collect();
        room -= shown.chars().count();
        match style {
            Style::Plain => {}
            Style::Dim => queue!(out, SetAttribute(Attribute::Dim))?,
            Style::Title => queue!(out, SetAttribute(Attribute::Bold))?,
            Style::Bad => queue!(out, SetForegroundColor(Color::Red))?,
            Style::Good => queue!(out, SetForegroundColor(Color::Green))?,
        }
        queue!(out, Print(shown), SetAttribute(Attribute::Reset))?;
        queue!(out, SetForegroundColor(Color::Reset))?;
    }
    Ok(())
}
