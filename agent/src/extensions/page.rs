//! What the pages of extensions have in common: requests that only read, texts, and HTML in which nothing is taken for markup
//! that is not ours.

use std::fmt::{self, Write};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use crate::admin::{self, Answer, Handler};
use crate::component::BoxFuture;

/// Answers `GET` and `HEAD` with what `respond` makes of the request.
pub(super) fn reading(
    respond: impl Fn(&Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
) -> Handler {
    Arc::new(move |request| match *request.method() {
        Method::GET | Method::HEAD => respond(&request),
        _ => ready(admin::method_not_allowed("GET, HEAD")),
    })
}

/// An answer that is there.
pub(super) fn ready(answer: Answer) -> BoxFuture<'static, Answer> {
    Box::pin(std::future::ready(answer))
}

/// A text.
pub(super) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Answer {
    admin::answer(status, "text/plain; charset=utf-8", text)
}

/// The values of `names` in a query; the last one counts.
pub(super) fn parameters<const N: usize>(query: &str, names: [&str; N]) -> [Option<String>; N] {
    let mut values = [const { None }; N];
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        for (name, found) in names.iter().zip(&mut values) {
            if *name == key {
                *found = Some(value.clone().into_owned());
            }
        }
    }
    values
}

/// A page that is being written.
pub(super) struct Page {
    html: String,
}

/// What stands in a cell of a table.
pub(super) enum Cell {
    Text(String),
    /// A figure, to the right.
    Number(String),
    /// A text that leads somewhere.
    Link {
        text: String,
        to: String,
    },
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(number: impl fmt::Display) -> Self {
        Self::Number(number.to_string())
    }
}

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;margin:1rem;max-width:80rem}\
table{border-collapse:collapse;margin:.5rem 0 1rem}td,th{border:1px solid #8886;padding:.2rem .5rem;text-align:left;\
vertical-align:top;overflow-wrap:anywhere}td.n{text-align:right;overflow-wrap:normal;white-space:nowrap}\
div.w{overflow-x:auto}pre{overflow-x:auto;background:#8882;padding:.6rem}nav a{margin-right:1rem}\
:root{color-scheme:light dark}";

impl Page {
    /// `links`: the ways to the other pages, as name and address.
    pub(super) fn new(title: &str, links: &[(&str, &str)]) -> Self {
        let mut page = Self {
            html: String::with_capacity(8 * 1024),
        };
        let title = Escaped(title);
        page.put(format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title} - Tidegate</title><style>{STYLE}</style></head><body>\n<nav>"
        ));
        for (name, to) in links {
            page.put(format_args!(
                "<a href=\"{}\">{}</a>",
                Escaped(to),
                Escaped(name)
            ));
        }
        page.put(format_args!("</nav>\n<h1>{title}</h1>\n"));
        page
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.html
            .write_fmt(text)
            .expect("writing to a string succeeds");
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.put(format_args!("<h2>{}</h2>\n", Escaped(text)));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.put(format_args!("<p>{}</p>\n", Escaped(text)));
    }

    /// A text as it stands.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.put(format_args!("<pre>{}</pre>\n", Escaped(text)));
    }

    pub(super) fn table(&mut self, heads: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) {
        self.put(format_args!("<div class=\"w\"><table>"));
        if !heads.is_empty() {
            self.put(format_args!("<tr>"));
            for head in heads {
                self.put(format_args!("<th>{}</th>", Escaped(head)));
            }
            self.put(format_args!("</tr>\n"));
        }
        for row in rows {
            self.put(format_args!("<tr>"));
            for cell in row {
                match cell {
                    Cell::Text(text) => self.put(format_args!("<td>{}</td>", Escaped(&text))),
                    Cell::Number(text) => {
                        self.put(format_args!("<td class=\"n\">{}</td>", Escaped(&text)));
                    }
                    Cell::Link { text, to } => self.put(format_args!(
                        "<td><a href=\"{}\">{}</a></td>",
                        Escaped(&to),
                        Escaped(&text)
                    )),
                }
            }
            self.put(format_args!("</tr>\n"));
        }
        self.put(format_args!("</table></div>\n"));
    }

    /// The answer. It may load nothing, run nothing, and stand in no other page.
    pub(super) fn answer(mut self) -> Answer {
        self.html.push_str("</body></html>\n");
        let mut answer = admin::answer(StatusCode::OK, "text/html; charset=utf-8", self.html);
        let headers: [(HeaderName, &str); 4] = [
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

/// A text in HTML, also within the quotes of an attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Of no meaning in HTML, and not allowed.
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{FFFD}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn nothing_that_is_named_like_markup_becomes_markup() {
        let hostile = "\"'><script>alert(1)</script>&amp;\0";
        let mut page = Page::new(hostile, &[(hostile, hostile)]);
        page.heading(hostile);
        page.paragraph(hostile);
        page.verbatim(hostile);
        let link = Cell::Link {
            text: hostile.to_owned(),
            to: hostile.to_owned(),
        };
        let cells = vec![Cell::text(hostile), Cell::number(hostile), link];
        page.table(&[hostile], [cells]);
        let answer = page.answer();
        assert!(
            answer
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let html = std::str::from_utf8(&body).unwrap();
        assert!(!html.contains("<script") && !html.contains('\0'), "{html}");
        let escaped = "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;\u{FFFD}";
        assert_eq!(html.matches(escaped).count(), 12, "{html}");
        // Every tag that is there is one of ours.
        let tags = html.split('<').skip(1);
        let names = tags.map(|tag| tag.split(['>', ' ']).next().unwrap());
        for name in names {
            let name = name.trim_start_matches('/');
            let known = [
                "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "nav", "a", "h1",
                "h2", "p", "pre", "div", "table", "tr", "th", "td",
            ];
            assert!(known.contains(&name), "{name}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let [name, missing] = parameters("name=a%20b&name=c+d&other", ["name", "missing"]);
        assert_eq!((name.as_deref(), missing), (Some("c d"), None));
    }
}
