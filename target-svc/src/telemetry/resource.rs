//! The resource: which service, which instance of it, on which host.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};

/// Facts about this process; `OTEL_RESOURCE_ATTRIBUTES` overrides them, and `OTEL_SERVICE_NAME` that.
pub(crate) fn detect(service: &'static str) -> Resource {
    let facts = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.namespace", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance_id()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let mut builder = Resource::builder_empty().with_attributes(facts);
    if let Some(name) = host_name() {
        builder = builder.with_attribute(KeyValue::new("host.name", name));
    }
    builder = builder
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => builder.with_service_name(name).build(),
        _ => builder.build(),
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|it| !it.is_empty())
}

/// A random UUID, version 4, for each start.
fn instance_id() -> String {
    uuid_v4(u128::from_be_bytes(
        RandomIdGenerator::default().new_trace_id().to_bytes(),
    ))
}

fn uuid_v4(random: u128) -> String {
    const VERSION_BITS: u128 = 0xf << 76;
    const VARIANT_BITS: u128 = 0b11 << 62;
    let bits = random & !VERSION_BITS & !VARIANT_BITS | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let (rest, node) = hex.split_at(20);
    let (rest, clock) = rest.split_at(16);
    let (rest, high) = rest.split_at(12);
    let (low, mid) = rest.split_at(8);
    [low, mid, high, clock, node].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bits_become_a_version_4_uuid() {
        assert_eq!(uuid_v4(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_v4(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(instance_id(), instance_id());
    }
}
