//! Short questions over HTTP: the agent's metrics, the database's tables.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Nothing asked here takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A client that can be shared.
#[derive(Debug, Clone)]
pub(super) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// `GET url`.
    ///
    /// # Errors
    /// When there is no answer, or another one than success.
    pub(super) async fn get(&self, url: &str) -> anyhow::Result<Bytes> {
        let request = hyper::Request::get(url).body(Full::default())?;
        self.send(request).await
    }

    /// `POST url`.
    ///
    /// # Errors
    /// When there is no answer, or another one than success.
    pub(super) async fn post(&self, url: &str, body: String) -> anyhow::Result<Bytes> {
        let request = hyper::Request::post(url).body(Full::new(Bytes::from(body)))?;
        self.send(request).await
    }

    /// `POST url`; the status and the body, whatever they are.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn ask(&self, url: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = hyper::Request::post(url).body(Full::default())?;
        let answer = async {
            let answer = self.0.request(request).await?;
            let status = answer.status().as_u16();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .context("no answer")?
    }

    async fn send(&self, request: hyper::Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let answer = async {
            let answer = self.0.request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                let text = String::from_utf8_lossy(&body);
                bail!("{status}: {}", text.chars().take(1000).collect::<String>());
            }
            Ok(body)
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .context("no answer")?
    }
}
