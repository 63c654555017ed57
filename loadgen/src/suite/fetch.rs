//! Short questions over HTTP.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Longer than any answer asked for here: an agent's metrics, a sink's counts.
const BODY_MAX: usize = 64 << 20;
/// Characters of a bad answer that are shown.
const SHOWN_MAX: usize = 500;

/// A client that can be shared.
#[derive(Debug, Clone)]
pub(crate) struct Fetch(Client<HttpConnector, Full<Bytes>>);

impl Fetch {
    pub(crate) fn new() -> Self {
        // No connection is kept: the other side may be killed and started again between two questions.
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        Self(builder.build_http())
    }

    /// The body of a good answer.
    ///
    /// # Errors
    /// When there is no answer within `limit`, or another one than success.
    pub(crate) async fn text(
        &self,
        method: Method,
        url: &str,
        body: String,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(Bytes::from(body)))
            .with_context(|| format!("`{url}` is no address"))?;
        let answer = async {
            let answer = self.0.request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            if !status.is_success() {
                bail!(
                    "{status}: {}",
                    text.chars().take(SHOWN_MAX).collect::<String>()
                );
            }
            Ok(text)
        };
        let answered = tokio::time::timeout(limit, answer).await;
        answered
            .unwrap_or_else(|_| bail!("no answer within {limit:?}"))
            .with_context(|| url.to_owned())
    }

    /// # Errors
    /// As [`Fetch::text`].
    pub(crate) async fn get(&self, url: &str, limit: Duration) -> anyhow::Result<String> {
        self.text(Method::GET, url, String::new(), limit).await
    }
}
