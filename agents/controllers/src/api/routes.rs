//! Which request asks for what, and what is answered.

use super::{Answer, NOT_FOUND, Serves, State};
use agent_runtime::{Body, BoxError};
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

impl State {
    /// An error is no answer at all.
    pub(super) fn answer(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), BoxError> {
        if *method != Method::GET {
            match &mut self.left {
                Some(0) => return Err("nobody answers".into()),
                Some(left) => *left -= 1,
                None => {}
            }
        }
        let answer = match self.others.get(path) {
            Some(other) => other.clone(),
            None => self.serve(method, path, body),
        };
        Ok(match answer {
            Ok(value) => (200, value),
            Err((code, reason)) => (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason, "details": {}}),
            ),
        })
    }

    fn serve(&mut self, method: &Method, path: &str, body: &Value) -> Answer {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let rest = match parts.as_slice() {
            ["apis"] => return Ok(self.groups()),
            ["api", _] => return Ok(self.resources("")),
            ["apis", group, _] => return Ok(self.resources(group)),
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => return Err(NOT_FOUND),
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            _ => ("", rest),
        };
        let [plural, rest @ ..] = rest else {
            return Err(NOT_FOUND);
        };
        match (method.as_str(), rest) {
            ("GET", []) => Ok(json!({"items": self.in_namespace(plural, namespace)})),
            ("GET", [name]) => self.object(plural, namespace, name),
            ("GET", [name, "scale"]) => self.object(plural, namespace, name).map(|of| scale(&of)),
            ("PATCH", [name, ..]) => self.patch(plural, namespace, name, body),
            ("PUT", [name, "finalize"]) => {
                let patch = json!({"spec": {"finalizers": body["spec"]["finalizers"]}});
                self.patch(plural, namespace, name, &patch)
            }
            ("DELETE", [name]) => self.delete(plural, namespace, name, body),
            ("DELETE", []) => {
                for object in self.in_namespace(plural, namespace) {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    self.delete(plural, namespace, name, body)?;
                }
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            _ => Err(NOT_FOUND),
        }
    }

    fn groups(&self) -> Value {
        let mut versions: Vec<(&str, String)> = Vec::new();
        for (resource, _) in self.serves.iter().filter(|one| !one.0.group.is_empty()) {
            let one = (&*resource.group, resource.api_version());
            if !versions.contains(&one) {
                versions.push(one);
            }
        }
        let group = |(name, version): (&str, String)| {
            let version = json!({"groupVersion": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        let groups: Vec<Value> = versions.into_iter().map(group).collect();
        json!({"groups": groups})
    }

    fn resources(&self, group: &str) -> Value {
        let of_group = self.serves.iter().filter(|one| one.0.group == group);
        let resource = |(resource, verbs): &Serves| json!({"name": resource.plural, "kind": resource.kind, "namespaced": resource.namespaced, "verbs": verbs});
        let resources: Vec<Value> = of_group.map(resource).collect();
        json!({"resources": resources})
    }
}

fn scale(of: &Value) -> Value {
    json!({
        "metadata": {"resourceVersion": of["metadata"]["resourceVersion"]},
        "spec": {"replicas": of["spec"]["replicas"]},
        "status": {"replicas": of["status"]["replicas"], "selector": "app=web"},
    })
}

pub(super) fn reply(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let response = Response::builder().status(code).body(body);
    response.unwrap()
}
