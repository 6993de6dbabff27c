//! The types of `request` and `namespaceObject`, and those of built-in kinds for the check of policies against them.

use std::sync::{Arc, LazyLock};

use schema::types::{self, Container, Element, Form, Type as TableType};

use crate::types::{ObjectType, Type};

/// A type whose fields are written down here.
#[derive(Debug)]
struct Known {
    name: &'static str,
    fields: Vec<(&'static str, Type)>,
}

impl ObjectType for Known {
    fn name(&self) -> &str {
        self.name
    }

    fn field(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let (name, ty) = self.fields.iter().find(|(known, _)| *known == name)?;
        Some(((*name).into(), ty.clone()))
    }
}

fn known(name: &'static str, fields: Vec<(&'static str, Type)>) -> Type {
    Type::Object(Arc::new(Known { name, fields }))
}

fn texts() -> Type {
    Type::list(Type::String)
}

static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let kind = || {
        known(
            "kubernetes.GroupVersionKind",
            vec![
                ("group", Type::String),
                ("version", Type::String),
                ("kind", Type::String),
            ],
        )
    };
    let resource = || {
        known(
            "kubernetes.GroupVersionResource",
            vec![
                ("group", Type::String),
                ("version", Type::String),
                ("resource", Type::String),
            ],
        )
    };
    let user = known(
        "kubernetes.UserInfo",
        vec![
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", texts()),
            ("extra", Type::map(Type::String, texts())),
        ],
    );
    known(
        "kubernetes.AdmissionRequest",
        vec![
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", Type::String),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
});

static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let labels = || Type::map(Type::String, Type::String);
    let metadata = known(
        "kubernetes.NamespaceMetadata",
        vec![
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", labels()),
            ("annotations", labels()),
            ("uid", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", texts()),
        ],
    );
    known(
        "kubernetes.Namespace",
        vec![
            ("metadata", metadata),
            (
                "spec",
                known("kubernetes.NamespaceSpec", vec![("finalizers", texts())]),
            ),
            (
                "status",
                known("kubernetes.NamespaceStatus", vec![("phase", Type::String)]),
            ),
        ],
    )
});

pub(super) fn request() -> Type {
    REQUEST.clone()
}

pub(super) fn request_ref() -> &'static Type {
    &REQUEST
}

pub(super) fn namespace() -> Type {
    NAMESPACE.clone()
}

pub(super) fn namespace_ref() -> &'static Type {
    &NAMESPACE
}

/// An object of the built-in table.
#[derive(Debug)]
struct OfTable(&'static TableType);

impl ObjectType for OfTable {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn field(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let name = crate::unescape(name).unwrap_or_else(|| name.to_owned());
        let field = self.0.field(&name)?;
        let element = element(field.ty.element);
        let ty = match field.ty.container {
            Container::One => element,
            Container::List => Type::list(element),
            Container::Map => Type::map(Type::String, element),
        };
        Some((field.name.into(), ty))
    }
}

/// The type of a built-in kind.
pub fn table_type(ty: &'static TableType) -> Type {
    match ty.form {
        Form::Object => Type::Object(Arc::new(OfTable(ty))),
        Form::Time | Form::MicroTime => Type::Timestamp,
        // Numbers are quantities too.
        _ => Type::Dyn,
    }
}

fn element(element: Element) -> Type {
    match element {
        Element::String => Type::String,
        Element::Bool => Type::Bool,
        Element::Int32 | Element::Int64 => Type::Int,
        Element::Double => Type::Double,
        Element::Bytes => Type::Bytes,
        Element::Duration => Type::Duration,
        Element::StringList | Element::Verbs => texts(),
        Element::Message(id) => {
            let ty = types::type_by_id(id);
            match ty.form {
                Form::Quantity => Type::String,
                _ => table_type(ty),
            }
        }
    }
}
