//! One plot: lines or areas in a stretched SVG, with texts in HTML so that they keep their size on any screen.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde::Serialize;

use super::axis::Axis;

/// More points than this are not seen: each chunk of a longer line is drawn from its least to its greatest.
const POINTS_DRAWN_MAX: usize = 500;
/// Width and height of the SVG's own coordinates.
const SIZE: f64 = 1_000.0;
/// Rows of the names of windows and events above a plot; further names are in the table.
const LANES_MAX: usize = 3;
/// Width of a plot on a phone, and of a letter and of the longest name above it, as the style has them.
const PLOT_WIDTH: f64 = 260.0;
const LETTER_WIDTH: f64 = 6.5;
const NAME_WIDTH_MAX: f64 = 110.0;

/// What the script needs to name the values under the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Across {
    Time,
    Value,
    Spectrum,
}

#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: &'static str,
    pub(super) across: Across,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Of the values upwards.
    pub(super) unit: &'static str,
    pub(super) is_area: bool,
    pub(super) lines: Vec<Line>,
    pub(super) marks: Vec<Mark>,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A window or an event on a plot over time.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// Short enough to stand above a plot.
    pub(super) name: String,
    pub(super) whole_name: String,
    pub(super) from: f64,
    /// `None` is a moment.
    pub(super) to: Option<f64>,
}

/// A row above the plot, counted from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    number: usize,
    /// The name ends where the plot does: it would not fit otherwise.
    at_end: bool,
}

/// As the script reads it: (place from 0 to 1, value across, value upwards).
type Reading = (f64, f64, f64);

#[derive(Serialize)]
struct Data<'a> {
    across: Across,
    unit: &'a str,
    lines: Vec<(&'a str, Vec<Reading>)>,
}

impl Chart {
    pub(super) fn markup(&self) -> Markup {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| Line {
                name: line.name.clone(),
                points: thinned(&line.points),
            })
            .collect();
        let lanes = self.lanes();
        let count = lanes
            .iter()
            .flatten()
            .map(|it| it.number + 1)
            .max()
            .unwrap_or(0);
        html! {
            figure.chart data-chart=(self.data(&lines)) {
                figcaption {
                    strong { (self.title) }
                    @if !self.note.is_empty() { " " span.note { (self.note) } }
                }
                @if lines.iter().any(|it| !it.name.is_empty()) { (legend(&lines)) }
                div.frame style={ "--lanes:" (count) } {
                    div.plot {
                        @for (place, text) in &self.y.ticks {
                            span.tick.y style={ "bottom:" (percent(*place)) } { (text) }
                        }
                        @for (mark, lane) in self.marks.iter().zip(lanes) { (self.mark(mark, lane)) }
                        (self.svg(&lines))
                        @for (index, (place, text)) in self.x.ticks.iter().enumerate() {
                            span.tick.x.odd[index % 2 == 1] style={ "left:" (percent(*place)) } { (text) }
                        }
                    }
                }
            }
        }
    }

    fn svg(&self, lines: &[Line]) -> Markup {
        let size = format!("0 0 {SIZE} {SIZE}");
        html! {
            svg viewBox=(size) preserveAspectRatio="none" aria-hidden="true" {
                @for (place, _) in &self.y.ticks {
                    path.grid d=(format!("M0 {0:.1}H{SIZE}", (1.0 - place) * SIZE)) {}
                }
                @for (place, _) in &self.x.ticks {
                    path.grid.vertical d=(format!("M{0:.1} 0V{SIZE}", place * SIZE)) {}
                }
                @for (index, line) in lines.iter().enumerate() {
                    @if self.is_area {
                        path.area.{ "c" (index) } d=(self.path(line, true)) {}
                    }
                    path.line.{ "c" (index) } d=(self.path(line, false)) {}
                }
            }
        }
    }

    fn path(&self, line: &Line, is_closed: bool) -> String {
        let mut path = String::with_capacity(line.points.len() * 12);
        let place = |(x, y): (f64, f64)| {
            let across = self.x.scale.place(x) * SIZE;
            (across, (1.0 - self.y.scale.place(y)) * SIZE)
        };
        for (index, point) in line.points.iter().enumerate() {
            let (x, y) = place(*point);
            let command = if index == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("a String takes any text");
        }
        if let ([first, ..], [.., last], true) =
            (line.points.as_slice(), line.points.as_slice(), is_closed)
        {
            let (from, to) = (place(*first).0, place(*last).0);
            write!(path, "L{to:.1} {SIZE}L{from:.1} {SIZE}Z").expect("a String takes any text");
        }
        path
    }

    fn mark(&self, mark: &Mark, lane: Option<Lane>) -> Markup {
        let from = self.x.scale.place(mark.from);
        let width = mark.to.map(|to| self.x.scale.place(to) - from);
        let place = match width {
            Some(width) => format!("left:{};width:{}", percent(from), percent(width)),
            None => format!("left:{}", percent(from)),
        };
        let class = if width.is_some() { "window" } else { "event" };
        html! {
            div class=(class) style=(place) title=(mark.whole_name) {}
            @if let Some(Lane { number, at_end }) = lane {
                @let side = if at_end { "right:0".to_owned() } else { format!("left:{}", percent(from)) };
                span.mark.(class) style={ (side) ";--lane:" (number) } title=(mark.whole_name) { (mark.name) }
            }
        }
    }

    /// Where the name of each mark stands so that none lies on another; `None` of those that find no room.
    fn lanes(&self) -> Vec<Option<Lane>> {
        let mut ends = [0.0; LANES_MAX];
        let mut order: Vec<_> = self.marks.iter().enumerate().collect();
        order.sort_by(|a, b| a.1.from.total_cmp(&b.1.from));
        let mut lanes = vec![None; self.marks.len()];
        for (index, mark) in order {
            let width = mark.name.chars().count() as f64 * LETTER_WIDTH;
            let width = (width.min(NAME_WIDTH_MAX) + LETTER_WIDTH) / PLOT_WIDTH;
            let from = self.x.scale.place(mark.from).min(1.0 - width);
            if let Some(number) = ends.iter().position(|end| *end <= from) {
                ends[number] = from + width;
                let at_end = self.x.scale.place(mark.from) > from;
                lanes[index] = Some(Lane { number, at_end });
            }
        }
        lanes
    }

    fn data(&self, lines: &[Line]) -> String {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let lines = lines.iter().map(|line| {
            let points = line.points.iter();
            let points =
                points.map(|&(x, y)| (rounded(self.x.scale.place(x)), rounded(x), rounded(y)));
            (line.name.as_str(), points.collect())
        });
        let data = Data {
            across: self.across,
            unit: self.unit,
            lines: lines.collect(),
        };
        serde_json::to_string(&data).expect("texts and finite numbers are valid JSON")
    }
}

fn legend(lines: &[Line]) -> Markup {
    html! {
        ul.legend {
            @for (index, line) in lines.iter().enumerate() {
                li { i.{ "c" (index) } {} (line.name) }
            }
        }
    }
}

fn percent(place: f64) -> String {
    format!("{:.2}%", place * 100.0)
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_DRAWN_MAX {
        return points.to_vec();
    }
    let chunk = points.len().div_ceil(POINTS_DRAWN_MAX / 2);
    let ends = points.chunks(chunk).flat_map(|chunk| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = chunk.iter().min_by(by_value);
        let greatest = chunk.iter().max_by(by_value);
        let (Some(least), Some(greatest)) = (least, greatest) else {
            return Vec::new();
        };
        let mut ends = vec![*least, *greatest];
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_peaks() {
        let points: Vec<_> = (0..3_600)
            .map(|second| (f64::from(second), if second == 1234 { 99.0 } else { 1.0 }))
            .collect();
        let drawn = thinned(&points);
        assert!(drawn.len() <= POINTS_DRAWN_MAX, "{}", drawn.len());
        assert!(drawn.contains(&(1234.0, 99.0)));
        assert!(drawn.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn names_of_marks_do_not_lie_on_each_other() {
        let chart = |marks: &[(&str, f64)]| Chart {
            title: String::new(),
            note: "",
            across: Across::Time,
            x: Axis::time(0.0, 100.0),
            y: Axis::from_zero(1.0, ""),
            unit: "",
            is_area: false,
            lines: Vec::new(),
            marks: marks
                .iter()
                .map(|(name, from)| Mark {
                    name: (*name).to_owned(),
                    whole_name: String::new(),
                    from: *from,
                    to: None,
                })
                .collect(),
        };
        let check = |marks: &[(&str, f64)], expected: &[Option<(usize, bool)>]| {
            let lanes = chart(marks).lanes().into_iter();
            let lanes = lanes.map(|it| it.map(|it| (it.number, it.at_end)));
            assert_eq!(lanes.collect::<Vec<_>>(), expected);
        };
        check(
            &[("customers", 1.0), ("readers", 2.0), ("far", 60.0)],
            &[Some((0, false)), Some((1, false)), Some((0, false))],
        );
        check(&[("customers", 95.0)], &[Some((0, true))]);
        check(
            &[("one", 3.0), ("two", 2.0), ("three", 1.0), ("four", 4.0)],
            &[Some((2, false)), Some((1, false)), Some((0, false)), None],
        );
    }
}
