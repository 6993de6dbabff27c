//! The functions: each stands once, with the types that it takes and what it does.
//!
//! A signature is written `string.(int) bool`, where the type before the dot is that of the value before the dot; `A` and
//! `B` stand for any type.

mod authz;
pub(crate) mod core;
mod format;
mod formats;
mod lists;
mod net;
mod optionals;
mod quantity;
pub(crate) mod regexes;
pub(crate) mod semver;
pub(crate) mod sequences;
mod sets;
mod strings;
pub(crate) mod time;
pub(crate) mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::meter::{Meter, Outcome};
use crate::types::Type;
use crate::value::Value;

/// The arguments, the one before the dot first.
pub(crate) type Native = for<'x, 'm, 'a> fn(&'x mut Meter<'m>, &'x [Value<'a>]) -> Outcome<'a>;

pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) signatures: &'static [&'static str],
    pub(crate) native: Native,
}

const ALL: &[&[Function]] = &[
    core::FUNCTIONS,
    time::FUNCTIONS,
    strings::FUNCTIONS,
    format::FUNCTIONS,
    lists::FUNCTIONS,
    sequences::FUNCTIONS,
    sets::FUNCTIONS,
    regexes::FUNCTIONS,
    url::FUNCTIONS,
    net::FUNCTIONS,
    quantity::FUNCTIONS,
    semver::FUNCTIONS,
    formats::FUNCTIONS,
    optionals::FUNCTIONS,
    authz::FUNCTIONS,
];

#[derive(Debug, Clone)]
pub(crate) struct Signature {
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

struct Known {
    native: Native,
    signatures: Vec<Signature>,
}

static KNOWN: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let mut known = HashMap::new();
    for function in ALL.iter().flat_map(|library| library.iter()) {
        let signatures = function
            .signatures
            .iter()
            .map(|text| signature(text))
            .collect();
        let twice = known.insert(
            function.name,
            Known {
                native: function.native,
                signatures,
            },
        );
        debug_assert!(twice.is_none(), "{} stands twice", function.name);
    }
    known
});

pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.contains_key(name)
}

pub(crate) fn native(name: &str) -> Option<Native> {
    KNOWN.get(name).map(|known| known.native)
}

pub(crate) fn signatures(name: &str) -> Option<&'static [Signature]> {
    KNOWN.get(name).map(|known| known.signatures.as_slice())
}

/// Splits at the commas that are in no brackets.
fn arguments(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn signature(text: &str) -> Signature {
    let (args, result) = text.rsplit_once(") ").expect("a signature has a result");
    let (receiver, args) = args.split_once('(').expect("a signature has arguments");
    let receiver = receiver.strip_suffix('.');
    let args = receiver
        .into_iter()
        .chain(arguments(args))
        .map(|arg| named(arg.trim()));
    Signature {
        member: receiver.is_some(),
        args: args.collect(),
        result: named(result),
    }
}

/// The type that a signature means.
pub(crate) fn named(name: &str) -> Type {
    if let Some(inner) = name.strip_suffix('>') {
        let (outer, inner) = inner.split_once('<').expect("brackets close");
        let inner: Vec<Type> = arguments(inner)
            .into_iter()
            .map(|part| named(part.trim()))
            .collect();
        return match (outer, inner.as_slice()) {
            ("list", [item]) => Type::list(item.clone()),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            ("optional", [inner]) => Type::optional(inner.clone()),
            _ => unreachable!("no such type: {name}"),
        };
    }
    match name {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "url" => Type::Opaque("kubernetes.URL".into()),
        "ip" => Type::Opaque("net.IP".into()),
        "cidr" => Type::Opaque("net.CIDR".into()),
        "quantity" => Type::Opaque("kubernetes.Quantity".into()),
        "semver" => Type::Opaque("kubernetes.Semver".into()),
        "format" => Type::Opaque("kubernetes.NamedFormat".into()),
        "authorizer" => Type::Opaque("kubernetes.authorization.Authorizer".into()),
        "path_check" => Type::Opaque("kubernetes.authorization.PathCheck".into()),
        "group_check" => Type::Opaque("kubernetes.authorization.GroupCheck".into()),
        "resource_check" => Type::Opaque("kubernetes.authorization.ResourceCheck".into()),
        "decision" => Type::Opaque("kubernetes.authorization.Decision".into()),
        other => unreachable!("no such type: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_stands_once_and_its_signatures_are_read() {
        let count: usize = ALL.iter().map(|library| library.len()).sum();
        assert_eq!(KNOWN.len(), count);
        let split = signatures("split").unwrap();
        assert!(
            split
                .iter()
                .all(|signature| signature.member && matches!(signature.result, Type::List(_)))
        );
    }
}
