//! The API as data: parsed once from `schema.txt`, and told as descriptors to whoever reflects.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message;

pub(super) static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| parse(include_str!("schema.txt")).expect("schema.txt is well-formed"));

/// See the module head. Types have their full names, as in `mvccpb.KeyValue`.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) files: Vec<File>,
    pub(super) messages: BTreeMap<String, Vec<Field>>,
    pub(super) enums: BTreeMap<String, Vec<(String, i32)>>,
    pub(super) rpcs: Vec<Rpc>,
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) package: String,
    pub(super) uses: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    pub(super) oneof: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Int64,
    Uint64,
    Uint32,
    Bool,
    String,
    Bytes,
    Enum(String),
    Message(String),
}

#[derive(Debug)]
pub(super) struct Rpc {
    /// As in `etcdserverpb.KV`.
    pub(super) service: String,
    pub(super) name: String,
    pub(super) request: String,
    pub(super) response: String,
    pub(super) client_streams: bool,
    pub(super) server_streams: bool,
    /// Where the JSON gateway serves it.
    pub(super) gateway: Vec<String>,
}

impl Rpc {
    pub(super) fn path(&self) -> String {
        format!("/{}/{}", self.service, self.name)
    }
}

fn parse(text: &str) -> Option<Schema> {
    let mut schema = Schema::default();
    let lines = || {
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    };
    // Names first: a field may be of a type that comes later.
    let mut package = "";
    for line in lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["file", name, of, ..] => {
                package = of;
                schema.files.push(File {
                    name: name.into(),
                    package: of.into(),
                    uses: words[3..].iter().map(ToString::to_string).collect(),
                });
            }
            ["enum", name, ..] => {
                let value = |word: &&str| {
                    let (name, number) = word.split_once('=')?;
                    Some((name.to_string(), number.parse().ok()?))
                };
                let values = words[2..].iter().map(value).collect::<Option<_>>()?;
                schema.enums.insert(format!("{package}.{name}"), values);
            }
            _ => {}
        }
    }
    let mut service = String::new();
    for line in lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["file", _, of, ..] => package = of,
            ["message", name, ..] => {
                let field = |word: &&str| parse_field(&schema.enums, package, word);
                let fields = words[2..].iter().map(field).collect::<Option<_>>()?;
                schema.messages.insert(format!("{package}.{name}"), fields);
            }
            ["service", name] => service = format!("{package}.{name}"),
            ["rpc", name, request, response, ..] => schema.rpcs.push(Rpc {
                service: service.clone(),
                name: name.into(),
                request: format!("{package}.{}", request.trim_start_matches('~')),
                response: format!("{package}.{}", response.trim_start_matches('~')),
                client_streams: request.starts_with('~'),
                server_streams: response.starts_with('~'),
                gateway: words[4..].iter().map(ToString::to_string).collect(),
            }),
            ["enum", ..] => {}
            _ => return None,
        }
    }
    Some(schema)
}

fn parse_field(
    enums: &BTreeMap<String, Vec<(String, i32)>>,
    package: &str,
    word: &str,
) -> Option<Field> {
    let (name, rest) = word.split_once(':')?;
    let (kind, number) = rest.split_once('=')?;
    let (oneof, name) = match name.split_once('/') {
        Some((oneof, name)) => (Some(oneof.to_string()), name),
        None => (None, name),
    };
    let (kind, repeated) = match kind.strip_suffix('*') {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let kind = match kind {
        "int64" => Kind::Int64,
        "uint64" => Kind::Uint64,
        "uint32" => Kind::Uint32,
        "bool" => Kind::Bool,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        other => {
            let own = format!("{package}.{other}");
            if enums.contains_key(&own) {
                Kind::Enum(own)
            } else if other.starts_with(|first: char| first.is_ascii_lowercase()) {
                Kind::Message(other.into())
            } else {
                Kind::Message(own)
            }
        }
    };
    Some(Field {
        name: name.into(),
        number: number.parse().ok()?,
        kind,
        repeated,
        oneof,
    })
}

impl Schema {
    /// A file and all that it uses, as encoded descriptors, by the file's name or by a name that it declares.
    pub(super) fn descriptors(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        let declares = |file: &&File| {
            let in_package = name.strip_prefix(&file.package);
            file.name == name
                || in_package
                    .and_then(|rest| rest.strip_prefix('.'))
                    .is_some_and(|rest| self.declares(&file.package, rest))
        };
        let found = self.files.iter().find(declares)?;
        let mut wanted = vec![found];
        let mut looked = 0;
        while let Some(file) = wanted.get(looked).copied() {
            looked += 1;
            for used in &file.uses {
                let used = self.files.iter().find(|file| file.name == *used)?;
                if !wanted.iter().any(|file| file.name == used.name) {
                    wanted.push(used);
                }
            }
        }
        let encoded = wanted.into_iter();
        Some(
            encoded
                .map(|file| self.descriptor(file).encode_to_vec())
                .collect(),
        )
    }

    fn declares(&self, package: &str, name: &str) -> bool {
        let full = format!("{package}.{name}");
        self.messages.contains_key(&full)
            || self.enums.contains_key(&full)
            || self
                .rpcs
                .iter()
                .any(|rpc| rpc.service == full || format!("{}.{}", rpc.service, rpc.name) == full)
    }

    pub(super) fn services(&self) -> Vec<String> {
        let mut services: Vec<String> = self.rpcs.iter().map(|rpc| rpc.service.clone()).collect();
        services.dedup();
        services
    }

    fn descriptor(&self, file: &File) -> FileDescriptor {
        let prefix = format!("{}.", file.package);
        let own = |name: &String| name.strip_prefix(&prefix).map(ToString::to_string);
        let messages = self.messages.iter().filter_map(|(full, fields)| {
            let name = own(full)?;
            let inside = format!("{full}.");
            let nested = self.enums.iter().filter_map(|(full, values)| {
                Some(enum_descriptor(full.strip_prefix(&inside)?, values))
            });
            Some(message_descriptor(name, fields, nested.collect()))
        });
        let enums = self.enums.iter().filter_map(|(full, values)| {
            let name = own(full)?;
            (!name.contains('.')).then(|| enum_descriptor(&name, values))
        });
        let services = self.services().into_iter().filter_map(|service| {
            let methods = self.rpcs.iter().filter(|rpc| rpc.service == service);
            Some(ServiceDescriptor {
                name: own(&service)?,
                method: methods.map(method_descriptor).collect(),
            })
        });
        FileDescriptor {
            name: file.name.clone(),
            package: file.package.clone(),
            dependency: file.uses.clone(),
            message_type: messages.collect(),
            enum_type: enums.collect(),
            service: services.collect(),
            syntax: "proto3".into(),
        }
    }
}

fn message_descriptor(
    name: String,
    fields: &[Field],
    enum_type: Vec<EnumDescriptor>,
) -> MessageDescriptor {
    let mut oneofs: Vec<String> = fields
        .iter()
        .filter_map(|field| field.oneof.clone())
        .collect();
    oneofs.dedup();
    let index = |oneof: &String| oneofs.iter().position(|known| known == oneof);
    let field = |field: &Field| FieldDescriptor {
        name: field.name.clone(),
        number: field.number as i32,
        label: if field.repeated { 3 } else { 1 },
        kind: field.kind.number(),
        type_name: match &field.kind {
            Kind::Enum(name) | Kind::Message(name) => format!(".{name}"),
            _ => String::new(),
        },
        oneof_index: field.oneof.as_ref().and_then(index).map(|at| at as i32),
        json_name: camel(&field.name),
    };
    MessageDescriptor {
        name,
        field: fields.iter().map(field).collect(),
        enum_type,
        oneof_decl: oneofs
            .iter()
            .map(|name| Named { name: name.clone() })
            .collect(),
    }
}

fn enum_descriptor(name: &str, values: &[(String, i32)]) -> EnumDescriptor {
    let value = |(name, number): &(String, i32)| EnumValue {
        name: name.clone(),
        number: Some(*number),
    };
    EnumDescriptor {
        name: name.into(),
        value: values.iter().map(value).collect(),
    }
}

fn method_descriptor(rpc: &Rpc) -> MethodDescriptor {
    MethodDescriptor {
        name: rpc.name.clone(),
        input_type: format!(".{}", rpc.request),
        output_type: format!(".{}", rpc.response),
        client_streaming: rpc.client_streams,
        server_streaming: rpc.server_streams,
    }
}

/// `range_end` as `rangeEnd`: the other name under which JSON may have a field.
pub(super) fn camel(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

impl Kind {
    /// As descriptors count types.
    fn number(&self) -> i32 {
        match self {
            Kind::Int64 => 3,
            Kind::Uint64 => 4,
            Kind::Bool => 8,
            Kind::String => 9,
            Kind::Message(_) => 11,
            Kind::Bytes => 12,
            Kind::Uint32 => 13,
            Kind::Enum(_) => 14,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct FileDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageDescriptor>,
    #[prost(message, repeated, tag = "5")]
    enum_type: Vec<EnumDescriptor>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<ServiceDescriptor>,
    #[prost(string, tag = "12")]
    syntax: String,
}

#[derive(Clone, PartialEq, Message)]
struct MessageDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    field: Vec<FieldDescriptor>,
    #[prost(message, repeated, tag = "4")]
    enum_type: Vec<EnumDescriptor>,
    #[prost(message, repeated, tag = "8")]
    oneof_decl: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct FieldDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    type_name: String,
    #[prost(int32, optional, tag = "9")]
    oneof_index: Option<i32>,
    #[prost(string, tag = "10")]
    json_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct EnumDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    value: Vec<EnumValue>,
}

#[derive(Clone, PartialEq, Message)]
struct EnumValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, optional, tag = "2")]
    number: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<MethodDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input_type: String,
    #[prost(string, tag = "3")]
    output_type: String,
    #[prost(bool, tag = "5")]
    client_streaming: bool,
    #[prost(bool, tag = "6")]
    server_streaming: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::methods::METHODS;

    #[test]
    fn what_is_served_and_what_is_described_are_the_same() {
        let mut served: Vec<String> = METHODS.iter().map(|method| method.path.into()).collect();
        served.retain(|path| !path.starts_with("/grpc.reflection."));
        let mut described: Vec<String> = SCHEMA.rpcs.iter().map(Rpc::path).collect();
        served.sort();
        described.sort();
        assert_eq!(served, described);
    }

    #[test]
    fn every_type_that_is_used_is_declared() {
        for (message, fields) in &SCHEMA.messages {
            for field in fields {
                let known = match &field.kind {
                    Kind::Message(name) => SCHEMA.messages.contains_key(name),
                    Kind::Enum(name) => SCHEMA.enums.contains_key(name),
                    _ => true,
                };
                assert!(known, "{message}.{}: {:?}", field.name, field.kind);
            }
            let mut numbers: Vec<u32> = fields.iter().map(|field| field.number).collect();
            numbers.dedup();
            assert_eq!(numbers.len(), fields.len(), "{message}");
        }
        for rpc in &SCHEMA.rpcs {
            assert!(SCHEMA.messages.contains_key(&rpc.request), "{rpc:?}");
            assert!(SCHEMA.messages.contains_key(&rpc.response), "{rpc:?}");
        }
    }

    #[test]
    fn a_name_leads_to_its_file_and_what_that_uses() {
        let names = |symbol: &str| -> Vec<String> {
            let files = SCHEMA.descriptors(symbol).unwrap_or_default();
            let decoded = files
                .iter()
                .map(|file| FileDescriptor::decode(&file[..]).unwrap().name);
            decoded.collect()
        };
        let rpc = [
            "etcdserverpb/rpc.proto",
            "mvccpb/kv.proto",
            "authpb/auth.proto",
        ];
        assert_eq!(names("etcdserverpb.KV"), rpc);
        assert_eq!(names("etcdserverpb.KV.Range"), rpc);
        assert_eq!(names("etcdserverpb.RangeRequest.SortOrder"), rpc);
        assert_eq!(names("mvccpb.KeyValue"), ["mvccpb/kv.proto"]);
        assert_eq!(names("mvccpb/kv.proto"), ["mvccpb/kv.proto"]);
        assert!(names("etcdserverpb.Nothing").is_empty());
        assert_eq!(camel("range_end"), "rangeEnd");
    }
}
