//! What the extensions that authenticate have in common: they install what they answer for, and have nothing to do.

use std::sync::Arc;

use crate::auth::{Authenticator, Slot, Way};
use crate::component::{BoxFuture, ComponentError, ExtensionContext, Receiver, Shutdown};

struct Installs {
    slot: Arc<Slot>,
    authenticator: Arc<Authenticator>,
}

/// The extension of `context` that answers for `way`.
pub(super) fn build(way: Way, context: &ExtensionContext) -> Box<dyn Receiver> {
    let id = &context.id;
    Box::new(Installs {
        slot: context.authenticators.slot(id),
        authenticator: Arc::new(Authenticator::new(id, way, &context.telemetry)),
    })
}

impl Receiver for Installs {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        let Self {
            slot,
            authenticator,
        } = *self;
        slot.install(authenticator);
        Box::pin(async move {
            shutdown.triggered().await;
            // Whoever still asks goes on with what there is: it was replaced, or nobody names it any more.
            drop(slot);
            Ok(())
        })
    }
}
