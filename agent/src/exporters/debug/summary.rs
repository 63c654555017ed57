//! One line per batch, with counts.

use super::RenderError;
use crate::batch::Payload;
use crate::otlp::{Fields, Value, WireError};
use crate::signal::Signal;

/// The line of a batch, with its line feed.
pub(super) fn line(signal: Signal, payload: &Payload) -> Result<String, RenderError> {
    let requests = || payload.chunks().iter().map(|chunk| &chunk.bytes()[..]);
    let count = |path: &[u32]| -> Result<usize, WireError> {
        requests()
            .map(|request| count_messages(request, path))
            .sum()
    };
    let resources = count(&[1])?;
    let items = payload.items();
    Ok(match signal {
        Signal::Traces => {
            format!("Traces {{\"resource spans\": {resources}, \"spans\": {items}}}\n")
        }
        Signal::Metrics => {
            let metrics = count(&[1, 2, 2])?;
            format!(
                "Metrics {{\"resource metrics\": {resources}, \"metrics\": {metrics}, \"data points\": {items}}}\n"
            )
        }
        Signal::Logs => {
            format!("Logs {{\"resource logs\": {resources}, \"log records\": {items}}}\n")
        }
    })
}

/// How many messages stand at the end of a path of field numbers.
fn count_messages(message: &[u8], path: &[u32]) -> Result<usize, WireError> {
    let Some((number, rest)) = path.split_first() else {
        return Ok(1);
    };
    let mut count = 0;
    for field in Fields::new(message) {
        let field = field?;
        if let Value::Bytes(inner) = field.value
            && field.number == *number
        {
            count += count_messages(inner, rest)?;
        }
    }
    Ok(count)
}
