//! Metrics in the Prometheus text format, as far as sums need it.

use std::collections::BTreeMap;

/// The sum over all labels of every metric, by its name without `_total`; buckets of histograms left out.
pub(crate) fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (name, value) in text.lines().filter_map(sample) {
        if !name.ends_with("_bucket") {
            *sums.entry(plain(name).to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// The sum over the labels of one metric; `None` if there is none. `name{key="value"}` takes only lines that have it all.
pub(crate) fn sum(text: &str, wanted: &str) -> Option<f64> {
    let (name, labels) = match wanted.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}')),
        None => (wanted, ""),
    };
    let labels: Vec<&str> = labels
        .split(',')
        .map(str::trim)
        .filter(|label| !label.is_empty())
        .collect();
    let mut values = text
        .lines()
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(sample)
        .filter(|(found, _)| plain(found) == plain(name))
        .map(|(_, value)| value)
        .peekable();
    values.peek()?;
    Some(values.sum())
}

/// The buckets of a histogram, summed over its labels: the bound of each, the last without one, and how many values lie
/// between it and the bound before. Empty if there is no such histogram.
pub(crate) fn buckets(text: &str, name: &str) -> Vec<(Option<f64>, u64)> {
    let mut up_to: Vec<(f64, f64)> = Vec::new();
    for line in text.lines() {
        let Some((found, count)) = sample(line) else {
            continue;
        };
        let bound = line
            .split_once("le=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .and_then(|(bound, _)| bound.parse::<f64>().ok());
        let Some(bound) = bound.filter(|_| found.strip_suffix("_bucket") == Some(name)) else {
            continue;
        };
        match up_to.binary_search_by(|(other, _)| other.total_cmp(&bound)) {
            Ok(at) => up_to[at].1 += count,
            Err(at) => up_to.insert(at, (bound, count)),
        }
    }
    let mut before = 0.0;
    let between = up_to.into_iter().map(|(bound, count)| {
        let own = count - before;
        before = count;
        (bound.is_finite().then_some(bound), own as u64)
    });
    between.collect()
}

fn plain(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// Name and value of a line; not of comments.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    // Labels may hold anything but an unescaped quote; the value stands behind the last brace.
    let value = match rest.rfind('}') {
        Some(end) => rest.get(end + 1..)?,
        None => rest,
    };
    let value = value.split_ascii_whitespace().next()?;
    Some((name, value.parse().ok()?))
}

/// Whether a name matches one with `*` for anything.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or("");
        last = Some(part);
    }
    match last {
        // No `*` at all: the whole name.
        None => rest.is_empty(),
        Some(part) => rest.is_empty() || part.is_empty() || name.ends_with(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP bytes what\n# TYPE bytes counter\nbytes_total{a=\"1 2\"} 3\nbytes_total{a=\"}\",b=\"x\"} 4 17\n\
                        bytes_written 9\nseconds_bucket{le=\"1\"} 5\nplain 7\nodd NaN-ish\n";

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let check = |name, expected| assert_eq!(sum(TEXT, name), expected, "{name}");
        check("bytes", Some(7.0));
        check("bytes_total", Some(7.0));
        check("bytes{b=\"x\"}", Some(4.0));
        check("plain", Some(7.0));
        check("absent", None);
        let all = sums(TEXT);
        assert_eq!(
            all.keys().collect::<Vec<_>>(),
            ["bytes", "bytes_written", "plain"]
        );
    }

    #[test]
    fn patterns_have_stars() {
        let check = |pattern, name, expected| {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        };
        check("a", "a", true);
        check("a", "ab", false);
        check("a*", "ab", true);
        check("*_size", "queue_size", true);
        check("*_size", "queue_sizes", false);
        check("a*c*e", "abcde", true);
        check("a*c*e", "abcd", false);
        check("*", "", true);
    }
}
