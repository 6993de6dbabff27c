//! Objects in which the server writes down who asked for them, whatever the client says there.

use auth::User;
use resources::Resource;
use schema::Object;
use serde_json::Value;

/// The fields of `spec` that say it.
const FIELDS: [&str; 4] = ["username", "uid", "groups", "extra"];

/// Enters who wants the certificate: an approver goes by it.
pub(crate) fn enter(user: &User, resource: &Resource, object: &mut Object) {
    if resource.plural != "certificatesigningrequests" || resource.group != "certificates.k8s.io" {
        return;
    }
    let values: [Value; 4] = [
        user.name.as_str().into(),
        user.uid.as_str().into(),
        user.groups.clone().into(),
        user.extra
            .iter()
            .map(|(key, values)| (key.clone(), Value::from(values.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    ];
    for (field, value) in FIELDS.into_iter().zip(values) {
        let is_empty = value.as_str().is_some_and(str::is_empty)
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        object.remove(&["spec", field]);
        if !is_empty {
            object.set_default(&["spec", field], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut user = User::new("jane", ["dev"]);
        user.extra.insert("scope".to_owned(), vec!["a".to_owned()]);
        let forged = json!({"username": "root", "uid": "1", "groups": ["system:masters"], "extra": {"b": ["c"]},
            "signerName": "example.com/s"});
        let entered = |group: &str, plural: &str| {
            let resource = resources::find(group, "v1", plural).unwrap();
            let mut object = Object::new(json!({"spec": forged})).unwrap();
            enter(&user, resource, &mut object);
            object.into_value()["spec"].take()
        };
        let said = json!({"username": "jane", "groups": ["dev"], "extra": {"scope": ["a"]}, "signerName": "example.com/s"});
        assert_eq!(
            entered("certificates.k8s.io", "certificatesigningrequests"),
            said
        );
        assert_eq!(entered("", "configmaps"), forged);
    }
}
