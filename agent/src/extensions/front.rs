//! Where an extension serves pages, and how that is locked.

use std::path::PathBuf;

pub(super) use crate::admin::Keys;
use crate::admin::{self, Endpoint, Lock};
use crate::auth::{AuthOptions, Reference};
use crate::claim::Claim;
use crate::component::{ComponentError, ExtensionContext};
use crate::config::Section;
use crate::net::listen;
use crate::net::server_tls::TlsOptions;

/// Where, and how it is locked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Front {
    pub(super) endpoint: listen::Endpoint,
    pub(super) lock: Lock,
    pub(super) keys: Keys,
}

impl Front {
    /// `can`: what strangers can do where nobody asks who they are, if that is worth a warning. Problems are reported to
    /// `section`, and `endpoint` has been reported if it is `None`.
    pub(super) fn resolve(
        endpoint: Option<listen::Endpoint>,
        (tls, auth): (Option<TlsOptions>, Option<AuthOptions>),
        can: Option<&str>,
        keys: Keys,
        section: &mut Section<'_>,
    ) -> Option<Self> {
        let lock = Lock::resolve(tls, auth, keys.prefix, section);
        let endpoint = endpoint?;
        if let Some(can) = can {
            lock.warn_of_strangers(&endpoint, keys.endpoint, can, section);
        }
        Some(Self {
            endpoint,
            lock,
            keys,
        })
    }

    /// What it needs for itself.
    pub(super) fn claim(&self) -> Option<Claim> {
        Claim::endpoint(self.keys.endpoint, &self.endpoint)
    }

    /// The files that are read when it is bound.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.lock.files()
    }

    /// Whom it asks.
    pub(super) fn authenticators(&self) -> Vec<Reference> {
        self.lock.authenticators(self.keys.prefix)
    }

    /// Binds it, for HTTP.
    pub(super) fn bind(&self, context: &ExtensionContext) -> Result<Endpoint, ComponentError> {
        let owner = format!("extensions.{}", context.id);
        let lock = (&self.lock, &context.authenticators);
        admin::bind(&context.sockets, &self.endpoint, &owner, self.keys, lock)
    }
}

#[cfg(test)]
mod tests {
    use crate::auth::Authenticators;
    use crate::component::{ExtensionSettings, Factory, Shutdown};
    use crate::extensions::{bearertokenauth, health_check, pprof, zpages};
    use crate::testing::{http_get, parse};

    use super::*;

    /// Where the extension of this context listens.
    fn address(context: &ExtensionContext) -> std::net::SocketAddr {
        let endpoint = listen::Endpoint::parse("tcp", "127.0.0.1:0").unwrap();
        let key = crate::net::sockets::Key::new(&endpoint, "extensions.test");
        let listener = context.sockets.listen(&endpoint, &key).unwrap();
        listener.address().parse().unwrap()
    }

    async fn check(factory: &Factory<dyn ExtensionSettings>, text: &str, path: &str) {
        let authenticators = Authenticators::default();
        let token = parse(&bearertokenauth::FACTORY, "token = 'hunter2'").unwrap();
        let its_own = ExtensionContext::alone("bearertokenauth", authenticators.clone());
        // The call itself installs it.
        let installed = token.build(its_own).unwrap().run(Shutdown::default());
        let settings = parse(factory, text).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(settings.authenticators().len(), 1, "{text}");
        let context = ExtensionContext::alone("test", authenticators);
        let shutdown = Shutdown::default();
        let extension = settings.build(context.clone()).unwrap();
        let running = tokio::spawn(extension.run(shutdown.clone()));
        let (status, body) = http_get(address(&context), path).await;
        assert_eq!(status, 401, "{text}: {body}");
        shutdown.trigger();
        running.await.unwrap().unwrap();
        drop(installed);
    }

    #[tokio::test]
    async fn every_page_can_be_locked() {
        let plain = "endpoint = '127.0.0.1:0'\nauth.authenticator = 'bearertokenauth'";
        check(&zpages::FACTORY, plain, "/debug/configz").await;
        check(&pprof::FACTORY, plain, "/debug/pprof/").await;
        check(&health_check::FACTORY, plain, "/").await;
        let second = format!("use_v2 = true\n[http]\n{plain}");
        check(&health_check::FACTORY, &second, "/status").await;
    }
}
