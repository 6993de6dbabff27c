//! What is asked for, the answer, and the text of a refusal.

use crate::user::User;
use schema::field::go_quote as quote;

/// One request as the authorizers see it. All fields are empty by default; a request with an empty `resource`
/// is a non-resource request and is judged by `path`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// get, list, watch, create, update, patch, delete, deletecollection; the lower-case method for paths.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Only for non-resource requests.
    pub path: &'a str,
    /// The raw `fieldSelector` of a list, watch or deletecollection; the node authorizer looks at it.
    pub field_selector: &'a str,
    /// The raw `labelSelector` of the same; webhooks are told.
    pub label_selector: &'a str,
}

impl Attributes<'_> {
    pub fn is_resource_request(&self) -> bool {
        !self.resource.is_empty()
    }

    /// True when the field selector demands `field=value`.
    pub fn selects(&self, field: &str, value: &str) -> bool {
        // By the parser that evaluates the selector: an escaped comma must not make a term of its own.
        schema::selector::FieldSelector::parse(self.field_selector)
            .is_ok_and(|selector| selector.required_value(field) == Some(value))
    }
}

/// An authorizer's answer. `reason` explains an allowance (for the audit) or a refusal (for the client).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// No other authorizer is asked any more.
    pub denied: bool,
    pub reason: String,
    /// What kept an authorizer from deciding.
    pub error: String,
}

impl Decision {
    pub fn allow(reason: impl Into<String>) -> Self {
        Decision {
            allowed: true,
            reason: reason.into(),
            ..Decision::default()
        }
    }

    /// For good, whoever would be asked next.
    pub fn deny(reason: impl Into<String>) -> Self {
        Decision {
            denied: true,
            ..Decision::no_opinion(reason)
        }
    }

    /// Without any allowance the request is refused.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Decision {
            reason: reason.into(),
            ..Decision::default()
        }
    }
}

/// A refusal in the parts of a `Status` with reason Forbidden (code 403).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// `Status.message`.
    pub message: String,
    /// `Status.details.group`, `.kind` (a plural resource, as Kubernetes has it) and `.name`.
    pub group: String,
    pub resource: String,
    pub name: String,
}

impl Forbidden {
    /// The refusal of a request that no authorizer allowed.
    pub fn by_authorizer(user: &User, attributes: &Attributes<'_>, reason: &str) -> Self {
        let mut text = html_escape(&cannot(user, attributes));
        if !reason.is_empty() {
            text.push_str(": ");
            text.push_str(reason);
        }
        Forbidden::new(
            attributes.group,
            attributes.resource,
            attributes.name,
            &text,
        )
    }

    /// The refusal of an object for another reason, such as privilege escalation.
    pub fn new(group: &str, resource: &str, name: &str, text: &str) -> Self {
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {text}"),
            (false, true) => format!("{} is forbidden: {text}", qualified(group, resource)),
            (false, false) => format!(
                "{} {} is forbidden: {text}",
                qualified(group, resource),
                quote(name)
            ),
        };
        Forbidden {
            message,
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
        }
    }
}

fn cannot(user: &User, attributes: &Attributes<'_>) -> String {
    let user = quote(&user.name);
    let verb = attributes.verb;
    if !attributes.is_resource_request() {
        return format!("User {user} cannot {verb} path {}", quote(attributes.path));
    }
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let what = format!(
        "User {user} cannot {verb} resource {} in API group {}",
        quote(&resource),
        quote(attributes.group)
    );
    match attributes.namespace {
        "" => format!("{what} at the cluster scope"),
        namespace => format!("{what} in the namespace {}", quote(namespace)),
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

/// The text may be shown by a browser.
fn html_escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_inside_an_escaped_value_selects_nothing() {
        let of = |field_selector| Attributes {
            field_selector,
            ..Attributes::default()
        };
        assert!(of("spec.nodeName=n1").selects("spec.nodeName", "n1"));
        assert!(of("status.phase!=Failed,spec.nodeName==n1").selects("spec.nodeName", "n1"));
        assert!(!of("spec.nodeName!=n1").selects("spec.nodeName", "n1"));
        assert!(!of("metadata.namespace!=x\\,spec.nodeName=n1").selects("spec.nodeName", "n1"));
    }

    #[test]
    fn refusals_read_as_in_kubernetes() {
        let jane = User::new("jane", ["dev"]);
        let list = Attributes {
            verb: "list",
            version: "v1",
            resource: "pods",
            namespace: "default",
            ..Attributes::default()
        };
        let table = [
            (
                list,
                "",
                r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes {
                    group: "apps",
                    resource: "deployments",
                    subresource: "scale",
                    name: "web",
                    verb: "update",
                    ..list
                },
                "",
                r#"deployments.apps "web" is forbidden: User "jane" cannot update resource "deployments/scale" in API group "apps" in the namespace "default""#,
            ),
            (
                Attributes {
                    resource: "nodes",
                    namespace: "",
                    ..list
                },
                r#"RBAC: clusterrole.rbac.authorization.k8s.io "x" not found"#,
                r#"nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io "x" not found"#,
            ),
            (
                Attributes {
                    verb: "get",
                    path: "/metrics<b>",
                    ..Attributes::default()
                },
                "",
                r#"forbidden: User "jane" cannot get path "/metrics&lt;b&gt;""#,
            ),
        ];
        for (attributes, reason, expected) in table {
            assert_eq!(
                Forbidden::by_authorizer(&jane, &attributes, reason).message,
                expected
            );
        }
    }

    #[test]
    fn field_selectors_are_compared_by_term() {
        let of = |field_selector| Attributes {
            field_selector,
            ..Attributes::default()
        };
        for yes in [
            "spec.nodeName=n1",
            "spec.nodeName==n1",
            "status.phase!=Failed,spec.nodeName=n1",
        ] {
            assert!(of(yes).selects("spec.nodeName", "n1"), "{yes}");
        }
        for no in [
            "",
            "spec.nodeName=n11",
            "spec.nodeName!=n1",
            "xspec.nodeName=n1",
        ] {
            assert!(!of(no).selects("spec.nodeName", "n1"), "{no}");
        }
    }
}
