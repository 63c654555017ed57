//! What one iteration does: a request drawn by weight, or the steps of a flow in order.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::check::{Check, Condition, Extract, Place};
use super::retry::Retry;
use super::template::{Template, Values};

/// A request as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) uri: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Keep the answer's body: checks or extraction read it.
    pub(crate) keep_body: bool,
}

/// What the iterations of a scenario do.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) steps: Vec<Step>,
    pub(crate) course: Course,
    pub(crate) retry: Option<Retry>,
    pub(crate) outage: Option<Outage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// One step, by its weight.
    Weighted,
    /// All steps, one after the other, until one fails.
    InOrder,
}

/// A time in which the service is known to fail, from the start of the scenario.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// Where all requests go meanwhile.
    pub(crate) uri: Option<Uri>,
}

#[derive(Debug)]
pub(crate) struct Step {
    /// The endpoint in results.
    pub(crate) label: String,
    pub(crate) weight: f64,
    pub(crate) request: Request,
    pub(crate) checks: Vec<Check>,
    pub(crate) extracts: Vec<Extract>,
    /// Time to think after it, from and to.
    pub(crate) think: Option<(Duration, Duration)>,
}

#[derive(Debug)]
pub(crate) enum Request {
    /// Always the same.
    Fixed(Box<Outgoing>),
    Pattern(Box<Pattern>),
}

/// A request with places to fill in.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The base of the path, without `/` at its end.
    pub(crate) base: String,
    pub(crate) path: Template,
    pub(crate) method: Method,
    pub(crate) fixed_headers: HeaderMap,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    pub(crate) body: Template,
    pub(crate) keep_body: bool,
}

impl Journey {
    /// One request, always the same.
    pub(crate) fn single(label: String, request: Outgoing) -> Self {
        let step = Step {
            label,
            weight: 1.0,
            request: Request::Fixed(Box::new(request)),
            checks: Vec::new(),
            extracts: Vec::new(),
            think: None,
        };
        Self {
            steps: vec![step],
            course: Course::Weighted,
            retry: None,
            outage: None,
        }
    }

    /// The steps of one iteration.
    pub(crate) fn choose(&self, random: &mut StdRng) -> Range<usize> {
        if self.course == Course::InOrder || self.steps.len() < 2 {
            return 0..self.steps.len();
        }
        let sum: f64 = self.steps.iter().map(|step| step.weight).sum();
        let mut rest = random.random_range(0.0..sum);
        let chosen = self.steps.iter().position(|step| {
            rest -= step.weight;
            rest < 0.0
        });
        let chosen = chosen.unwrap_or(self.steps.len() - 1);
        chosen..chosen + 1
    }

    /// Where requests go instead of to the service, `elapsed` after the scenario's start.
    pub(crate) fn diverted(&self, elapsed: Duration) -> Option<&Uri> {
        let outage = self.outage.as_ref()?;
        let is_now = (outage.from..outage.until).contains(&elapsed);
        outage.uri.as_ref().filter(|_| is_now)
    }
}

impl Step {
    /// Statuses that are no failures; empty for all below 400.
    pub(crate) fn expected(&self) -> &[u16] {
        let status = self.checks.iter().find_map(|check| match &check.what {
            Condition::Status(allowed) => Some(allowed.as_slice()),
            _ => None,
        });
        status.unwrap_or_default()
    }

    pub(crate) fn needs_body(checks: &[Check], extracts: &[Extract]) -> bool {
        let reads = |it: &Extract| matches!(it.from, Place::Json(_));
        checks.iter().any(Check::needs_body) || extracts.iter().any(reads)
    }

    pub(crate) fn think_time(&self, random: &mut StdRng) -> Duration {
        match self.think {
            Some((from, to)) if from < to => random.random_range(from..=to),
            Some((from, _)) => from,
            None => Duration::ZERO,
        }
    }
}

impl Pattern {
    /// # Errors
    /// A value is missing, or what came out is no path or header.
    pub(crate) fn render(&self, values: &mut Values<'_>) -> Result<Outgoing, String> {
        let address = format!("{}{}", self.base, self.path.render(values)?);
        let uri = address.parse();
        let mut headers = self.fixed_headers.clone();
        for (name, template) in &self.headers {
            let text = template.render(values)?;
            let value = HeaderValue::try_from(text);
            headers.insert(
                name,
                value.map_err(|_| format!("the value of the header {name}"))?,
            );
        }
        Ok(Outgoing {
            uri: uri.map_err(|_| format!("`{address}` is no address"))?,
            method: self.method.clone(),
            headers,
            body: Bytes::from(self.body.render(values)?),
            keep_body: self.keep_body,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn steps_are_drawn_by_their_weight() {
        let request = Outgoing {
            uri: Uri::from_static("http://a/"),
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            keep_body: false,
        };
        let mut journey = Journey::single("a".to_owned(), request.clone());
        journey
            .steps
            .extend(Journey::single("b".to_owned(), request).steps);
        journey.steps[1].weight = 3.0;
        let mut random = StdRng::seed_from_u64(7);
        let second = (0..10_000).filter(|_| journey.choose(&mut random) == (1..2));
        let share = second.count() as f64 / 10_000.0;
        assert!((0.73..0.77).contains(&share), "{share}");
        journey.course = Course::InOrder;
        assert_eq!(journey.choose(&mut random), 0..2);
    }
}
