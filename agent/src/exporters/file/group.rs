//! Splitting a request by a resource attribute, and making file names from its values.

use std::collections::HashMap;
use std::fmt::Write;

use crate::batch::{Chunk, Payload};
use crate::otlp::{Fields, Value, WireError};

/// Where resources go that lack the attribute, or where it is not text or empty.
pub(super) const FALLBACK: &str = "MISSING";

/// The part of a request that goes to one file.
#[derive(Debug)]
pub(super) struct Group {
    /// The attribute's value; `None` for the fallback.
    pub(super) value: Option<String>,
    /// Pieces of the request, in order; together they are a request.
    pub(super) chunks: Vec<Chunk>,
    /// Resources in them.
    pub(super) resources: usize,
}

/// Groups the resources of a request by `attribute`, in the order in which the values first occur. Nothing is copied
/// or left out: unknown fields of the request go where the resource before them went.
pub(super) fn split(payload: &Payload, attribute: &str) -> Result<Vec<Group>, WireError> {
    let mut groups = Groups::default();
    for chunk in payload.chunks() {
        let mut fields = Fields::new(chunk.bytes());
        loop {
            let before = fields.rest();
            let Some(field) = fields.next() else {
                break;
            };
            let field = field?;
            let raw = before
                .get(..before.len() - fields.rest().len())
                .unwrap_or_default();
            match field.value {
                Value::Bytes(entry) if field.number == 1 => {
                    let value = attribute_of(entry, attribute)?;
                    groups.enter(value.filter(|value| !value.is_empty()));
                }
                _ => groups.stay(),
            }
            groups.add(chunk, raw);
        }
    }
    Ok(groups.found)
}

#[derive(Default)]
struct Groups<'a> {
    found: Vec<Group>,
    by_value: HashMap<Option<&'a str>, usize>,
    current: usize,
}

impl<'a> Groups<'a> {
    fn enter(&mut self, value: Option<&'a str>) {
        self.current = self.group(value);
        if let Some(group) = self.found.get_mut(self.current) {
            group.resources += 1;
        }
    }

    fn stay(&mut self) {
        if self.found.is_empty() {
            self.current = self.group(None);
        }
    }

    fn group(&mut self, value: Option<&'a str>) -> usize {
        *self.by_value.entry(value).or_insert_with(|| {
            self.found.push(Group {
                value: value.map(str::to_owned),
                chunks: Vec::new(),
                resources: 0,
            });
            self.found.len() - 1
        })
    }

    /// Adds `raw`, a piece of `chunk`, to the current group; to its last piece if that ends where `raw` begins.
    fn add(&mut self, chunk: &Chunk, raw: &[u8]) {
        let Some(group) = self.found.get_mut(self.current) else {
            return;
        };
        let offset = raw.as_ptr().addr() - chunk.bytes().as_ptr().addr();
        if let Some(last) = group.chunks.last_mut() {
            let start = last
                .bytes()
                .as_ptr()
                .addr()
                .wrapping_sub(chunk.bytes().as_ptr().addr());
            if start.wrapping_add(last.bytes().len()) == offset {
                *last = chunk.derive(chunk.bytes().slice(start..offset + raw.len()), 0);
                return;
            }
        }
        group
            .chunks
            .push(chunk.derive(chunk.bytes().slice_ref(raw), 0));
    }
}

/// The text value of `attribute` in the resource of a `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`.
fn attribute_of<'a>(entry: &'a [u8], attribute: &str) -> Result<Option<&'a str>, WireError> {
    for resource in messages(entry, 1) {
        for key_value in messages(resource?, 1) {
            let key_value = key_value?;
            if last(key_value, 1)? == Some(attribute.as_bytes()) {
                return text_of(key_value);
            }
        }
    }
    Ok(None)
}

/// The value of a `KeyValue` if it is text.
fn text_of(key_value: &[u8]) -> Result<Option<&str>, WireError> {
    let mut text = None;
    for any in messages(key_value, 2) {
        for field in Fields::new(any?) {
            let field = field?;
            match field.value {
                Value::Bytes(bytes) if field.number == 1 => text = std::str::from_utf8(bytes).ok(),
                _ if field.number <= ANY_VALUE_MEMBERS => text = None,
                _ => {}
            }
        }
    }
    Ok(text)
}

/// The fields of `AnyValue` are a oneof: the last on the wire is the value.
const ANY_VALUE_MEMBERS: u32 = 8;

fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], WireError>> {
    Fields::new(message).filter_map(move |field| match field {
        Ok(field) => match field.value {
            Value::Bytes(bytes) if field.number == number => Some(Ok(bytes)),
            _ => None,
        },
        Err(error) => Some(Err(error)),
    })
}

fn last(message: &[u8], number: u32) -> Result<Option<&[u8]>, WireError> {
    messages(message, number).last().transpose()
}

/// A part of a path from an attribute's value: no value leads out of the folder. What has a meaning in paths or
/// terminals is written as `%XX`, so that different values have different names; with `folders`, `/` separates folders.
pub(super) fn segment(value: &str, folders: bool) -> String {
    if !folders {
        return component(value);
    }
    let components: Vec<String> = value
        .split('/')
        .filter(|part| !part.is_empty())
        .map(component)
        .collect();
    if components.is_empty() {
        return component(value);
    }
    components.join("/")
}

fn component(value: &str) -> String {
    let dots = matches!(value, "." | "..");
    let mut name = String::with_capacity(value.len());
    for character in value.chars() {
        let special = character.is_control() || matches!(character, '/' | '\\' | '%' | '\0' | '*');
        if special || (dots && character == '.') {
            for byte in character.to_string().bytes() {
                write!(name, "%{byte:02X}").expect("writing to memory does not fail");
            }
        } else {
            name.push(character);
        }
    }
    if name.len() <= COMPONENT_BYTES_MAX {
        return name;
    }
    // Too long for a file name: cut, and told apart by a hash of the whole.
    let cut = name.floor_char_boundary(COMPONENT_BYTES_MAX - 17);
    let hash = fnv1a(value.as_bytes());
    name.truncate(cut);
    write!(name, "~{hash:016x}").expect("writing to memory does not fail");
    name
}

/// File names have at most 255 bytes; this leaves room for what `path` adds and for the time in backups.
const COMPONENT_BYTES_MAX: usize = 150;

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
    use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::*;

    fn resource(attributes: &[(&str, Any)]) -> ResourceLogs {
        let attributes = attributes.iter().map(|(key, value)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue {
                value: Some(value.clone()),
            }),
            ..KeyValue::default()
        });
        ResourceLogs {
            resource: Some(Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            }),
            ..ResourceLogs::default()
        }
    }

    fn named(value: &str) -> ResourceLogs {
        resource(&[
            ("a", Any::IntValue(1)),
            ("k", Any::StringValue(value.into())),
        ])
    }

    fn payload(requests: &[&[ResourceLogs]]) -> Payload {
        let mut payload = Payload::default();
        for resource_logs in requests {
            let request = ExportLogsServiceRequest {
                resource_logs: resource_logs.to_vec(),
            };
            payload.push(Chunk::new(request.encode_to_vec().into(), 1));
        }
        payload
    }

    #[test]
    fn resources_are_grouped_and_nothing_is_lost() {
        let numeric = resource(&[("k", Any::IntValue(1))]);
        let payload = payload(&[
            &[named("x"), named("x"), named("y")],
            &[named("x"), numeric.clone(), named("")],
        ]);
        let found: Vec<_> = split(&payload, "k")
            .unwrap()
            .into_iter()
            .map(|group| {
                let bytes: Vec<_> = group
                    .chunks
                    .iter()
                    .flat_map(|chunk| chunk.bytes())
                    .copied()
                    .collect();
                let request = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
                assert_eq!(request.resource_logs.len(), group.resources);
                (group.value, request.resource_logs)
            })
            .collect();
        assert_eq!(
            found,
            [
                (
                    Some("x".to_owned()),
                    vec![named("x"), named("x"), named("x")]
                ),
                (Some("y".to_owned()), vec![named("y")]),
                (None, vec![numeric, named("")]),
            ]
        );
    }

    #[test]
    fn neighbours_stay_one_piece() {
        let groups = split(&payload(&[&[named("x"), named("x")]]), "k").unwrap();
        assert_eq!(groups[0].chunks.len(), 1);
    }

    #[test]
    fn unknown_fields_stay_with_the_resource_before_them() {
        let mut bytes = payload(&[&[named("x")]]).to_bytes().to_vec();
        bytes.splice(0..0, [0x10, 1]);
        bytes.extend([0x18, 2]);
        let whole: Payload = Chunk::new(Bytes::from(bytes.clone()), 1).into();
        let groups = split(&whole, "k").unwrap();
        let total: usize = groups
            .iter()
            .flat_map(|group| &group.chunks)
            .map(|chunk| chunk.bytes().len())
            .sum();
        assert_eq!((groups.len(), total), (2, bytes.len()));
    }

    #[test]
    fn no_value_leads_out_of_the_folder() {
        let check = |value: &str, flat: &str, folders: &str| {
            assert_eq!(segment(value, false), flat);
            assert_eq!(segment(value, true), folders);
        };
        check("checkout", "checkout", "checkout");
        check("grüße.1", "grüße.1", "grüße.1");
        check("a/b", "a%2Fb", "a/b");
        check(
            "../../etc/passwd",
            "..%2F..%2Fetc%2Fpasswd",
            "%2E%2E/%2E%2E/etc/passwd",
        );
        check("..", "%2E%2E", "%2E%2E");
        check(".", "%2E", "%2E");
        check("/etc", "%2Fetc", "etc");
        check("//", "%2F%2F", "%2F%2F");
        check("a\0b\n%*", "a%00b%0A%25%2A", "a%00b%0A%25%2A");
    }

    #[test]
    fn long_values_are_cut_and_still_told_apart() {
        let (first, second) = ("ü".repeat(500), format!("{}x", "ü".repeat(499)));
        let (first, second) = (segment(&first, false), segment(&second, false));
        assert_ne!(first, second);
        assert!(first.len() <= COMPONENT_BYTES_MAX && second.len() <= COMPONENT_BYTES_MAX);
    }
}
