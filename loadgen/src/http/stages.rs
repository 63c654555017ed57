//! A value over time in straight lines: rates of arrival, and numbers of workers.

use std::time::Duration;

/// A stretch of time in which the value goes evenly from one to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stage {
    pub(crate) duration: Duration,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Stage {
    pub(crate) fn constant(value: f64, duration: Duration) -> Self {
        Self {
            duration,
            from: value,
            to: value,
        }
    }
}

/// The value `elapsed` after the start of the first stage; the last one's end stays.
pub(crate) fn value_at(stages: &[Stage], elapsed: Duration) -> f64 {
    let mut begins = Duration::ZERO;
    for stage in stages {
        let within = elapsed.saturating_sub(begins);
        if within < stage.duration {
            let share = within.as_secs_f64() / stage.duration.as_secs_f64();
            return stage.from + (stage.to - stage.from) * share;
        }
        begins = begins.saturating_add(stage.duration);
    }
    stages.last().map_or(0.0, |stage| stage.to)
}

pub(crate) fn duration(stages: &[Stage]) -> Duration {
    let add = |sum: Duration, stage: &Stage| sum.saturating_add(stage.duration);
    stages.iter().fold(Duration::ZERO, add)
}

pub(crate) fn value_max(stages: &[Stage]) -> f64 {
    let highest = |stage: &Stage| stage.from.max(stage.to);
    stages.iter().map(highest).fold(0.0, f64::max)
}

/// What comes together under the lines, and when: the integral and its inverse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    /// Seconds before this piece.
    begins: f64,
    seconds: f64,
    from: f64,
    to: f64,
    /// What came together before this piece.
    before: f64,
}

impl Piece {
    fn sum_after(&self, seconds: f64) -> f64 {
        let slope = match self.seconds > 0.0 {
            true => (self.to - self.from) / self.seconds,
            false => 0.0,
        };
        self.before + (self.from + slope * seconds / 2.0) * seconds
    }

    fn sum(&self) -> f64 {
        self.before + self.area()
    }

    fn area(&self) -> f64 {
        f64::midpoint(self.from, self.to) * self.seconds
    }

    /// The seconds within the piece after which `wanted` came together.
    fn reaches(&self, wanted: f64) -> f64 {
        let rest = wanted - self.before;
        let slope = (self.to - self.from) / self.seconds;
        // The root of a square equation, in the form that does not cancel for a flat line.
        let root = (self.from * self.from + 2.0 * slope * rest).max(0.0).sqrt();
        (2.0 * rest / (self.from + root).max(f64::MIN_POSITIVE)).clamp(0.0, self.seconds)
    }
}

impl Curve {
    pub(crate) fn new(stages: &[Stage]) -> Self {
        let (mut begins, mut before) = (0.0, 0.0);
        let mut pieces = Vec::with_capacity(stages.len());
        for stage in stages {
            let piece = Piece {
                begins,
                seconds: stage.duration.as_secs_f64(),
                from: stage.from,
                to: stage.to,
                before,
            };
            begins += piece.seconds;
            before = piece.sum();
            pieces.push(piece);
        }
        Self { pieces }
    }

    /// What came together within the first `seconds`.
    pub(crate) fn sum_at(&self, seconds: f64) -> f64 {
        let at = self.pieces.partition_point(|it| it.begins <= seconds);
        let Some(piece) = at.checked_sub(1).and_then(|it| self.pieces.get(it)) else {
            return 0.0;
        };
        piece.sum_after((seconds - piece.begins).clamp(0.0, piece.seconds))
    }

    /// The seconds after which `wanted` came together; the end for more than ever does. At a pause, its end.
    pub(crate) fn reaches(&self, wanted: f64) -> f64 {
        let after = |it: &&Piece| it.before <= wanted && wanted < it.sum();
        match self.pieces.iter().find(after) {
            Some(piece) => piece.begins + piece.reaches(wanted),
            None => self.pieces.last().map_or(0.0, |it| it.begins + it.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn values_follow_the_lines() {
        let stages = [
            Stage {
                duration: SECOND * 10,
                from: 0.0,
                to: 100.0,
            },
            Stage::constant(20.0, SECOND * 5),
        ];
        let at = |seconds| value_at(&stages, SECOND * seconds);
        assert_eq!(
            [at(0), at(5), at(10), at(14), at(99)],
            [0.0, 50.0, 20.0, 20.0, 20.0]
        );
        assert_eq!(
            (duration(&stages), value_max(&stages)),
            (SECOND * 15, 100.0)
        );
    }

    #[test]
    fn a_pause_is_waited_for() {
        let stages = [
            Stage::constant(10.0, SECOND),
            Stage::constant(0.0, SECOND * 5),
            Stage::constant(10.0, SECOND),
        ];
        let curve = Curve::new(&stages);
        assert_eq!(curve.reaches(9.0), 0.9);
        assert_eq!(curve.reaches(10.0), 6.0);
        assert_eq!(curve.reaches(999.0), 7.0);
        assert_eq!(curve.sum_at(3.0), 10.0);
    }
}
