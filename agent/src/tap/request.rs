//! What a client asks for: `GET /tap?pipeline=…`.

use super::Point;
use super::filter::Filter;

/// Longer queries are no filters that anybody wrote.
const QUERY_MAX: usize = 16 << 10;

/// How items are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line for people.
    #[default]
    Text,
    /// The same with colours.
    Colour,
    /// OTLP/JSON, one item a line.
    Json,
}

impl Format {
    /// The name in the query.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Colour => "colour",
            Self::Json => "json",
        }
    }
}

/// What a client asks for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(super) pipeline: String,
    pub(super) point: Point,
    pub(super) exporter: Option<String>,
    pub(super) format: Format,
    /// All of them must hold.
    pub(super) filters: Vec<Filter>,
    /// Items to show before it ends.
    pub(super) limit: Option<u64>,
    /// Items to show in a second at most.
    pub(super) rate: Option<u64>,
}

impl Wanted {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong, in words for whoever asked.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        if query.len() > QUERY_MAX {
            return Err(format!("the query has more than {QUERY_MAX} bytes"));
        }
        let mut wanted = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "pipeline" => wanted.pipeline = value.into_owned(),
                "at" => wanted.point = point(&value)?,
                "exporter" => wanted.exporter = Some(value.into_owned()),
                "format" => wanted.format = format(&value)?,
                "filter" => wanted.filters.push(Filter::parse(&value)?),
                "limit" => wanted.limit = Some(number("limit", &value)?),
                "rate" => wanted.rate = Some(number("rate", &value)?),
                _ => {
                    return Err(format!(
                        "`{key}` is none of pipeline, at, exporter, format, filter, limit, rate"
                    ));
                }
            }
        }
        if wanted.pipeline.is_empty() {
            return Err("say which pipeline: ?pipeline=traces".to_owned());
        }
        if wanted.exporter.is_some() && wanted.point != Point::Exporters {
            return Err("`exporter` goes with at=exporters only".to_owned());
        }
        Ok(wanted)
    }

    pub(crate) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The only exporter to look at, if one was named.
    pub(crate) fn exporter(&self) -> Option<&str> {
        self.exporter.as_deref()
    }
}

fn point(value: &str) -> Result<Point, String> {
    let points = [Point::Receivers, Point::Processors, Point::Exporters];
    let mut points = points.into_iter();
    points
        .find(|point| point.name() == value)
        .ok_or_else(|| format!("at: `{value}` is none of receivers, processors, exporters"))
}

fn format(value: &str) -> Result<Format, String> {
    let formats = [Format::Text, Format::Colour, Format::Json];
    let mut formats = formats.into_iter();
    formats
        .find(|format| format.name() == value)
        .ok_or_else(|| format!("format: `{value}` is none of text, colour, json"))
}

fn number(key: &str, value: &str) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{key}: `{value}` is no number above 0"))
}
