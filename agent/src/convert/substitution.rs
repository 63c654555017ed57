//! `${…}` of the Collector as Tidegate writes it.

/// The text with every substitution translated: `${NAME}` is `${env:NAME}`.
///
/// # Errors
/// What has no counterpart, and what to do.
pub(super) fn translate(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        rest = match found.strip_prefix("$$") {
            // A `$` that is written twice is one, there and here.
            Some(after) => {
                out.push_str("$$");
                after
            }
            None => match found.strip_prefix("${") {
                Some(after) => one(after, &mut out)?,
                None => {
                    out.push('$');
                    found.get(1..).unwrap_or_default()
                }
            },
        };
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether anything in a translated text is substituted.
pub(super) fn is_substituted(text: &str) -> bool {
    text.replace("$$", "").contains("${")
}

/// Translates what stands behind `${`, and gives what follows.
fn one<'a>(after: &'a str, out: &mut String) -> Result<&'a str, String> {
    let end = closing(after).ok_or_else(|| format!("`${{{after}` has no `}}`"))?;
    let (inner, tail) = after.split_at(end);
    let tail = tail.get(1..).unwrap_or_default();
    let (scheme, name) = match inner.split_once(':') {
        // `${NAME:-default}` has no scheme.
        Some((name, default)) if default.starts_with('-') => (None, format!("{name}:{default}")),
        Some((scheme, name)) => (Some(scheme), name.to_owned()),
        None => (None, inner.to_owned()),
    };
    let name = translate(&name)?;
    match scheme {
        None | Some("env") => *out += &format!("${{env:{name}}}"),
        Some("file") => *out += &format!("${{file:{name}}}"),
        Some(scheme) => {
            return Err(format!(
                "there is no `${{{scheme}:…}}`, only `${{env:…}}` and `${{file:…}}`: put the value into one of them"
            ));
        }
    }
    Ok(tail)
}

/// Where the `}` is that closes what has begun before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        // As deep as the configuration reads them.
        if depth > DEPTH_MAX {
            return None;
        }
        before = c;
    }
    None
}

/// The deepest nesting of substitutions.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_written_as_here() {
        let check = |text: &str, expected: &str| {
            assert_eq!(translate(text).as_deref(), Ok(expected), "{text}");
        };
        check("plain", "plain");
        check("${env:HOST}:4317", "${env:HOST}:4317");
        check("${HOST}:${PORT}", "${env:HOST}:${env:PORT}");
        check("${HOST:-a:b}", "${env:HOST:-a:b}");
        check("${env:HOST:-localhost}", "${env:HOST:-localhost}");
        check("${file:/run/secret}", "${file:/run/secret}");
        check("${env:${STAGE}_HOST}", "${env:${env:STAGE}_HOST}");
        check("${A:-${B}}", "${env:A:-${env:B}}");
        check("a$b $$c $${d} é$", "a$b $$c $${d} é$");
    }

    #[test]
    fn what_has_no_counterpart_is_told() {
        let check = |text: &str, expected: &str| {
            let problem = translate(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        };
        check("${yaml:a: 1}", "there is no `${yaml:…}`");
        check("${https://example.com/x}", "there is no `${https:…}`");
        check("a ${env:X", "has no `}`");
        check(&"${".repeat(1000), "has no `}`");
    }
}
