//! Who may write what of the status of a ResourceClaim, beside the right to write the status at all: its allocation and its
//! consumers are the scheduler's (`resourceclaims/binding`), and what is told of a device is its driver's
//! (`resourceclaims/driver`, by the driver's name), as Kubernetes 1.36 asks by default.

use std::collections::BTreeSet;

use auth::User;
use auth::request::{Attributes, Forbidden};
use auth::user::EXTRA_NODE_NAME;
use resources::Resource;
use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value;

use crate::context::Context;

/// What an update of a status touches.
#[derive(Debug, PartialEq, Eq)]
struct Changes<'a> {
    /// The allocation, or who uses it.
    binds: bool,
    /// Whose devices something else is told of.
    drivers: BTreeSet<&'a str>,
    /// The one node that the claim is allocated on.
    node: Option<&'a str>,
}

pub(crate) fn concerns(resource: &Resource, subresource: &str) -> bool {
    subresource == "status"
        && resource.group == "resource.k8s.io"
        && resource.plural == "resourceclaims"
}

/// The rights that lack for an update of a claim's status.
pub(crate) async fn refusals(context: &Context, new: &Object, old: &Object) -> ErrorList {
    let (info, user) = (&context.info, &*context.user);
    let changes = Changes::of(new, old);
    let status = Path::new("status");
    let mut errors = ErrorList::new();
    let asked = Attributes {
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        ..Attributes::default()
    };
    if changes.binds {
        // For all namespaces: a scheduler that may bind at all is no tenant's.
        let asked = Attributes {
            subresource: "binding",
            ..asked
        };
        if let Err(why) = ask(context, &asked).await {
            let verb = info.verb;
            let detail = format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
            );
            errors.push(FieldError::forbidden(&status, detail));
        }
    }
    let verbs = verbs_of_driver(user, changes.node, info.verb);
    for driver in changes.drivers {
        let mut refused = None;
        for verb in &verbs {
            let asked = Attributes {
                verb,
                subresource: "driver",
                namespace: &info.namespace,
                name: driver,
                ..asked
            };
            match ask(context, &asked).await {
                Ok(()) => {
                    refused = None;
                    break;
                }
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        if let Some(why) = refused {
            let verbs = verbs.join(" ");
            let detail = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{verbs}]\" permission: {why}"
            );
            errors.push(FieldError::forbidden(&status.child("devices"), detail));
        }
    }
    errors
}

/// Why the user may not do this.
async fn ask(context: &Context, asked: &Attributes<'_>) -> Result<(), String> {
    let user = &*context.user;
    let decision = context.server.authorizer.authorize(user, asked).await;
    match decision.allowed {
        true => Ok(()),
        false => Err(Forbidden::by_authorizer(user, asked, &decision.reason).message),
    }
}

/// Any of these verbs is enough. A service account on the node of the claim, as its token says, may have the right for the
/// devices of its own node only.
fn verbs_of_driver(user: &User, node: Option<&str>, verb: &str) -> Vec<String> {
    let anywhere = format!("arbitrary-node:{verb}");
    let nodes = user.extra.get(EXTRA_NODE_NAME).map(Vec::as_slice);
    let is_there = match (nodes, node) {
        (Some([of_user]), Some(node)) => {
            user.service_account_identity().is_some() && of_user == node
        }
        _ => false,
    };
    match is_there {
        true => vec![format!("associated-node:{verb}"), anywhere],
        false => vec![anywhere],
    }
}

impl<'a> Changes<'a> {
    fn of(new: &'a Object, old: &'a Object) -> Changes<'a> {
        let differs = |field: &str| {
            let path = ["status", field];
            shown(new.get(&path)) != shown(old.get(&path))
        };
        Changes {
            binds: differs("allocation") || differs("reservedFor"),
            drivers: drivers(new, old),
            node: node(new),
        }
    }
}

/// What there is of a field: an empty list and an absent one are the same.
fn shown(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    })
}

fn list<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    object
        .get_array(path)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// By which a device is known.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| text(device, field))
}

/// Drivers of the devices of which something came, changed or went; what went with the allocation is the binder's.
fn drivers<'a>(new: &'a Object, old: &'a Object) -> BTreeSet<&'a str> {
    const DEVICES: &[&str] = &["status", "devices"];
    const RESULTS: &[&str] = &["status", "allocation", "devices", "results"];
    let (now, before) = (list(new, DEVICES), list(old, DEVICES));
    let is_in = |devices: &[Value], device: &Value| {
        devices
            .iter()
            .any(|other| identity(other) == identity(device))
    };
    let came = now.iter().filter(|device| !before.contains(device));
    let went = before.iter().filter(|device| {
        let was_freed = is_in(list(old, RESULTS), device) && !is_in(list(new, RESULTS), device);
        !is_in(now, device) && !was_freed
    });
    came.chain(went)
        .map(|device| text(device, "driver"))
        .collect()
}

/// The node that an allocation names, where it names just one.
fn node(claim: &Object) -> Option<&str> {
    let terms = ["status", "allocation", "nodeSelector", "nodeSelectorTerms"];
    let [term] = list(claim, &terms) else {
        return None;
    };
    let of_term = |field: &str| {
        let list = term.get(field).and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    };
    let [field] = of_term("matchFields") else {
        return None;
    };
    let is_by_name = text(field, "key") == "metadata.name" && text(field, "operator") == "In";
    let [name] = field.get("values")?.as_array()?.as_slice() else {
        return None;
    };
    let is_all = is_by_name && of_term("matchExpressions").is_empty();
    name.as_str().filter(|name| is_all && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(status: Value) -> Object {
        Object::new(json!({ "status": status })).unwrap()
    }

    fn allocation(devices: &[&str]) -> Value {
        let result =
            |device: &&str| json!({"request": "r", "driver": "d", "pool": "p", "device": device});
        let field = json!({"key": "metadata.name", "operator": "In", "values": ["n"]});
        json!({"devices": {"results": devices.iter().map(result).collect::<Vec<_>>()},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]}})
    }

    #[test]
    fn an_update_touches_the_binding_or_what_drivers_tell() {
        let told = |device: &str, driver: &str, data: i64| json!({"driver": driver, "pool": "p", "device": device, "data": {"x": data}});
        let touched = |old: Value, new: Value| {
            let (old, new) = (claim(old), claim(new));
            let changes = Changes::of(&new, &old);
            let drivers: Vec<String> = changes.drivers.iter().map(ToString::to_string).collect();
            (changes.binds, drivers.join(" "))
        };
        let nothing = (false, String::new());
        let held = json!({"allocation": allocation(&["a"]), "devices": [told("a", "d", 1)]});
        assert_eq!(touched(held.clone(), held.clone()), nothing);
        assert_eq!(
            touched(json!({}), json!({"reservedFor": [], "devices": []})),
            nothing
        );
        let user = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
        assert_eq!(touched(json!({}), user), (true, String::new()));
        assert_eq!(
            touched(json!({}), json!({"allocation": allocation(&["a"])})),
            (true, String::new())
        );
        assert_eq!(
            touched(held.clone(), json!({})),
            (true, String::new()),
            "what is told goes with the allocation"
        );

        let with = |devices: Value| json!({"allocation": allocation(&["a"]), "devices": devices});
        let changed = with(json!([told("a", "d", 2)]));
        assert_eq!(touched(held.clone(), changed), (false, "d".to_owned()));
        let more = with(json!([told("a", "d", 1), told("b", "e", 1)]));
        assert_eq!(touched(held.clone(), more), (false, "e".to_owned()));
        assert_eq!(
            touched(held, with(json!([]))),
            (false, "d".to_owned()),
            "the device is allocated still"
        );
    }

    #[test]
    fn a_driver_may_have_the_right_for_its_own_node() {
        let verbs =
            |user: &User, node: Option<&str>| verbs_of_driver(user, node, "patch").join(" ");
        let mut driver = User::service_account("kube-system", "driver", "u");
        assert_eq!(verbs(&driver, Some("n")), "arbitrary-node:patch");
        driver
            .extra
            .insert(EXTRA_NODE_NAME.to_owned(), vec!["n".to_owned()]);
        let both = "associated-node:patch arbitrary-node:patch";
        assert_eq!(verbs(&driver, Some("n")), both);
        assert_eq!(verbs(&driver, Some("m")), "arbitrary-node:patch");
        assert_eq!(verbs(&driver, None), "arbitrary-node:patch");
        driver.name = "jane".to_owned();
        assert_eq!(verbs(&driver, Some("n")), "arbitrary-node:patch");
    }

    #[test]
    fn an_allocation_is_of_a_node_where_it_names_just_that() {
        let named = |change: &dyn Fn(&mut Value)| {
            let mut status = json!({"allocation": allocation(&["a"])});
            change(&mut status["allocation"]["nodeSelector"]["nodeSelectorTerms"]);
            node(&claim(status)).map(str::to_owned)
        };
        assert_eq!(named(&|_| {}).as_deref(), Some("n"));
        let others: [&dyn Fn(&mut Value); 5] = [
            &|terms| *terms = json!([terms[0], terms[0]]),
            &|terms| terms[0]["matchExpressions"] = json!([{"key": "k", "operator": "Exists"}]),
            &|terms| terms[0]["matchFields"][0]["operator"] = "NotIn".into(),
            &|terms| terms[0]["matchFields"][0]["values"] = json!(["n", "m"]),
            &|terms| *terms = json!(null),
        ];
        for change in others {
            assert_eq!(named(change), None);
        }
    }
}
