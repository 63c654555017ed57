//! Numbers that others keep: in a JSON answer or file, in a table of ClickHouse, among metrics, or printed by a command.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::Value;

use super::fetch::Fetch;
use crate::prometheus;

/// A count of hundreds of millions of rows takes a while.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where a number is, with everything filled in.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Url {
        url: String,
        pointers: Vec<String>,
    },
    File {
        file: PathBuf,
        pointers: Vec<String>,
    },
    ClickHouse {
        url: String,
        sql: String,
    },
    Prometheus {
        url: String,
        metric: String,
    },
    Command {
        command: Vec<String>,
        folder: PathBuf,
    },
}

/// Reads it now; `None` where an answer in JSON has nothing at the place.
///
/// # Errors
/// When it cannot be had, or is no number.
pub(crate) async fn read(source: &Source, fetch: &Fetch) -> anyhow::Result<Option<f64>> {
    let number = match source {
        Source::Url { url, pointers } => {
            let text = fetch.get(url, ANSWER_MAX).await?;
            return sum_in_json(&text, pointers).with_context(|| url.clone());
        }
        Source::File { file, pointers } => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            return sum_in_json(&text, pointers).with_context(|| file.display().to_string());
        }
        Source::ClickHouse { url, sql } => {
            let answer = fetch.text(Method::POST, url, sql.clone(), ANSWER_MAX);
            number(&answer.await?).with_context(|| sql.clone())
        }
        Source::Prometheus { url, metric } => {
            let text = fetch.get(url, ANSWER_MAX).await?;
            let sum = prometheus::sum(&text, metric);
            sum.with_context(|| format!("{url} has no metric {metric}"))
        }
        Source::Command { command, folder } => {
            let (program, arguments) = command.split_first().context("an empty command")?;
            let ran = tokio::process::Command::new(program)
                .args(arguments)
                .current_dir(folder)
                .kill_on_drop(true)
                .output();
            let output = tokio::time::timeout(ANSWER_MAX, ran).await;
            let output = output.with_context(|| format!("`{program}` does not end"))?;
            let output = output.with_context(|| format!("cannot run `{program}`"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("`{program}` ended with {}: {said}", output.status);
            }
            number(&String::from_utf8_lossy(&output.stdout))
        }
    };
    number.map(Some)
}

fn number(text: &str) -> anyhow::Result<f64> {
    let word = text.split_ascii_whitespace().next().unwrap_or("");
    word.parse()
        .with_context(|| format!("`{word}` is no number"))
}

/// The sum of what pointers such as `/tables/*/items` find, if they find anything.
fn sum_in_json(text: &str, pointers: &[String]) -> anyhow::Result<Option<f64>> {
    let value: Value = serde_json::from_str(text).context("the answer is no JSON")?;
    let mut sum = None;
    for pointer in pointers {
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        let found = sum_at(&value, &steps).with_context(|| pointer.clone())?;
        sum = sum_of(sum, found);
    }
    Ok(sum)
}

fn sum_of(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

fn sum_at(value: &Value, steps: &[&str]) -> anyhow::Result<Option<f64>> {
    let Some((step, rest)) = steps.split_first() else {
        return match value {
            Value::Number(number) => number.as_f64().context("too large a number").map(Some),
            Value::Null => Ok(None),
            other => bail!("{other} is no number"),
        };
    };
    let children: Vec<&Value> = match (value, *step) {
        (Value::Object(map), "*") => map.values().collect(),
        (Value::Array(items), "*") => items.iter().collect(),
        (Value::Object(map), key) => {
            let key = key.replace("~1", "/").replace("~0", "~");
            map.get(&key).into_iter().collect()
        }
        (Value::Array(items), index) => {
            let index: usize = index.parse().context("a list is asked by a number")?;
            items.get(index).into_iter().collect()
        }
        _ => Vec::new(),
    };
    children
        .into_iter()
        .try_fold(None, |sum, child| Ok(sum_of(sum, sum_at(child, rest)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_find_and_stars_sum() {
        let text = r#"{"tables": {"a": {"items": 3}, "b": {"items": 4}, "c": {}}, "list": [1, 2], "word": "x"}"#;
        let check = |pointers: &[&str], expected: Option<f64>| {
            let pointers: Vec<_> = pointers.iter().map(|&it| it.to_owned()).collect();
            assert_eq!(sum_in_json(text, &pointers).unwrap(), expected);
        };
        check(&["/tables/*/items"], Some(7.0));
        check(&["/tables/a/items", "/list/1"], Some(5.0));
        check(&["/list/*"], Some(3.0));
        check(&["/absent/*/items"], None);
        check(&["/tables/*/duplicated", "/absent"], None);
        assert!(sum_in_json(text, &["/word".to_owned()]).is_err());
        assert!(sum_in_json("<html>", &[]).is_err());
    }

    #[tokio::test]
    async fn commands_and_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sent.json");
        std::fs::write(&file, r#"{"spans": {"created": 5}}"#).unwrap();
        let pointers = vec!["/*/created".to_owned()];
        let fetch = Fetch::new();
        let source = Source::File { file, pointers };
        assert_eq!(read(&source, &fetch).await.unwrap(), Some(5.0));
        let command = |script: &str| Source::Command {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            folder: folder.path().to_owned(),
        };
        let counted = read(&command("echo 42 rows"), &fetch).await;
        assert_eq!(counted.unwrap(), Some(42.0));
        assert!(read(&command("echo none"), &fetch).await.is_err());
        assert!(read(&command("exit 1"), &fetch).await.is_err());
    }
}
