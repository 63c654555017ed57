//! A request's settings and database, applied to a session and, where the session goes on, taken back.

use super::exception::{BAD_ARGUMENTS, Exception};
use super::ffi::Connection;
use super::parameters::Parameters;

/// Applies what the request asks for. A fresh session needs no more.
///
/// # Errors
/// The engine's: an unknown setting, a value that is none, an unknown database.
pub(super) fn apply(
    connection: &mut Connection,
    parameters: &Parameters,
    read_only: bool,
) -> Result<(), Exception> {
    if let Some(database) = &parameters.database {
        run(connection, &format!("USE {}", quoted(database, '`')))?;
    }
    // Last of all, because it forbids to change settings.
    let (readonly, others): (Vec<_>, Vec<_>) = parameters
        .settings
        .iter()
        .partition(|(name, _)| name == "readonly");
    let assignments = others
        .into_iter()
        .map(assignment)
        .collect::<Result<Vec<_>, _>>()?;
    if !assignments.is_empty() {
        run(connection, &format!("SET {}", assignments.join(", ")))?;
    }
    for setting in &readonly {
        run(connection, &format!("SET {}", assignment(setting)?))?;
    }
    if read_only && readonly.is_empty() {
        // What ClickHouse does for GET: data may be read and settings given, nothing changed.
        run(connection, "SET readonly = 2")?;
    }
    Ok(())
}

/// What a request changed in a session that goes on.
pub(super) struct Restore {
    statements: Vec<String>,
}

impl Restore {
    /// Remembers the values that [`apply`] is about to change.
    ///
    /// # Errors
    /// As [`apply`].
    pub(super) fn remember(
        connection: &mut Connection,
        parameters: &Parameters,
    ) -> Result<Self, Exception> {
        let mut statements = Vec::new();
        if parameters.database.is_some() {
            let current = run(connection, "SELECT currentDatabase() FORMAT TSVRaw")?;
            statements.push(format!(
                "USE {}",
                quoted(current.trim_end_matches('\n'), '`')
            ));
        }
        let names: Vec<_> = parameters
            .settings
            .iter()
            .map(|(name, _)| quoted(name, '\''))
            .collect();
        if !names.is_empty() {
            let sql = format!(
                "SELECT name, changed, hex(value) FROM system.settings WHERE name IN ({}) FORMAT TSVRaw",
                names.join(", ")
            );
            let rows = run(connection, &sql)?;
            statements.extend(rows.lines().filter_map(restoring));
        }
        Ok(Self { statements })
    }

    /// Puts the values back.
    ///
    /// # Errors
    /// The engine's; the session is then not what it was and should end.
    pub(super) fn restore(self, connection: &mut Connection) -> Result<(), Exception> {
        self.statements
            .iter()
            .try_for_each(|statement| run(connection, statement).map(|_| ()))
    }
}

/// The statement that puts a setting back, from a line of name, whether it was changed, and its value in hex.
fn restoring(line: &str) -> Option<String> {
    let mut fields = line.split('\t');
    let (name, changed, value) = (fields.next()?, fields.next()?, fields.next()?);
    if changed == "0" {
        return Some(format!("SET {name} = DEFAULT"));
    }
    let bytes: Vec<u8> = value
        .as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .filter_map(super::parameters::hex_pair)
        .collect();
    Some(format!(
        "SET {name} = {}",
        quoted(&String::from_utf8_lossy(&bytes), '\'')
    ))
}

fn run(connection: &mut Connection, sql: &str) -> Result<String, Exception> {
    let result = connection
        .query(sql.as_bytes(), "TSVRaw", &[])
        .map_err(|text| Exception::parse(&text))?;
    Ok(String::from_utf8_lossy(&result.bytes).into_owned())
}

/// `name = 'value'`: the engine reads numbers and flags out of strings.
fn assignment((name, value): &(String, String)) -> Result<String, Exception> {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain {
        return Err(Exception::new(
            BAD_ARGUMENTS,
            format!("'{name}' is no name for a setting."),
        ));
    }
    Ok(format!("{name} = {}", quoted(value, '\'')))
}

fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        let check = |name: &str, value: &str, expected: Option<&str>| {
            let found = assignment(&(name.to_owned(), value.to_owned())).ok();
            assert_eq!(found.as_deref(), expected, "{name} {value}");
        };
        check("max_threads", "2", Some("max_threads = '2'"));
        check("log_comment", "a'b\\c", Some("log_comment = 'a\\'b\\\\c'"));
        check("a = 1, b", "2", None);
        check("", "2", None);
        assert_eq!(quoted("d`b", '`'), "`d\\`b`");
    }

    #[test]
    fn settings_are_put_back_as_they_were() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(restoring(line).as_deref(), expected, "{line}");
        };
        check("max_threads\t0\t32", Some("SET max_threads = DEFAULT"));
        check("log_comment\t1\t612762", Some("SET log_comment = 'a\\'b'"));
        check("log_comment\t1\t", Some("SET log_comment = ''"));
        check("broken", None);
    }
}
