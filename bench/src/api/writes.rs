//! Every verb that writes. Clients write at once, each to a pod of its own, so that none waits for another's.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::http::{APPLY_PATCH, MERGE_PATCH, Request, STRATEGIC_PATCH};
use super::objects::{Message, Template, turned};
use super::plane::{Make, Plane, WRITTEN, pods};
use super::report;
use super::{Bench, Rows};
use crate::store::load::Span;

const CLIENTS: usize = 16;

pub(super) async fn run(bench: &Bench<'_>, plane: &Plane, rows: &mut Rows<'_>) -> Result<()> {
    let count = Span::Operations(bench.args.writes);
    let note = format!("{CLIENTS} clients");
    let template = plane.pod("written").await?;
    let own = own_pods(plane, &template).await?;
    let applied = applied(&template)?;
    let message = Message::new(&applied, &spoken_name(0))?;
    for (operation, span, make) in [
        (report::CREATE, count, create(template.clone())),
        (report::CREATE_PROTOBUF, count, create_protobuf(message)),
        (report::MERGE, bench.span(), merge()),
        (report::STRATEGIC, bench.span(), strategic()),
        (report::APPLY, bench.span(), apply(applied)),
        (report::UPDATE, bench.span(), update(own)),
        // What the first of these made.
        (report::DELETE, count, delete()),
    ] {
        let row = plane.row(operation, CLIENTS, span, make).await?;
        rows.keep(row.note(note.clone()));
    }
    Ok(())
}

fn own_name(client: usize) -> String {
    format!("own-{client:04}")
}

fn own_path(client: usize) -> String {
    format!("{}/{}", pods(WRITTEN), own_name(client))
}

fn created_name(number: u64) -> String {
    format!("new-{number:08}")
}

/// Makes the pod of each client; as they are answered.
async fn own_pods(plane: &Plane, template: &Template) -> Result<Vec<Value>> {
    let connection = plane.connect().await?;
    let mut own = Vec::new();
    for client in 0..CLIENTS {
        let _left_over = connection.call(&Request::delete(own_path(client))).await?;
        let request = Request::post(pods(WRITTEN), template.named(&own_name(client)));
        own.push(connection.ask(&request).await?.json()?);
    }
    Ok(own)
}

fn create(template: Template) -> Make {
    Arc::new(move |_, number| Request::post(pods(WRITTEN), template.named(&created_name(number))))
}

/// Names of the same length.
fn spoken_name(number: u64) -> String {
    format!("protobuf-{number:08}")
}

fn create_protobuf(message: Message) -> Make {
    Arc::new(move |_, number| {
        let body = message.named(&spoken_name(number));
        Request::post(pods(WRITTEN), body).in_protobuf()
    })
}

fn delete() -> Make {
    Arc::new(|_, number| Request::delete(format!("{}/{}", pods(WRITTEN), created_name(number))))
}

fn turn(number: u64) -> Value {
    json!({ "annotations": { "turn": number.to_string() } })
}

fn merge() -> Make {
    Arc::new(|client, number| {
        let patch = json!({ "metadata": turn(number) });
        Request::patch(own_path(client), MERGE_PATCH, patch.to_string())
    })
}

/// Changes one element of a list that merges by a key.
fn strategic() -> Make {
    Arc::new(|client, number| {
        let image = format!("registry.example/team/main:{number}");
        let patch = json!({ "metadata": turn(number), "spec": { "containers": [{ "name": "main", "image": image }] } });
        Request::patch(own_path(client), STRATEGIC_PATCH, patch.to_string())
    })
}

/// The whole pod as its owner knows it, with a place for the annotation.
fn applied(template: &Template) -> Result<Value> {
    Ok(serde_json::from_slice(&template.named("any"))?)
}

fn apply(mut pod: Value) -> Make {
    pod["metadata"]["name"] = "%CLIENT%".into();
    pod["metadata"]["annotations"]["turn"] = "%TURN%".into();
    let text = pod.to_string();
    Arc::new(move |client, number| {
        let body = text.replace("%CLIENT%", &own_name(client));
        let body = body.replace("%TURN%", &number.to_string());
        let path = format!("{}?fieldManager=bench-apply&force=true", own_path(client));
        Request::patch(path, APPLY_PATCH, body)
    })
}

/// What was read, changed and sent back whole.
fn update(own: Vec<Value>) -> Make {
    // Made before, so that the load is as small for this verb as for the others.
    let texts: Vec<String> = own
        .iter()
        .map(|pod| {
            let mut pod = turned(pod, 0);
            pod["metadata"]["annotations"]["turn"] = "%TURN%".into();
            pod.to_string()
        })
        .collect();
    Arc::new(move |client, number| {
        let body = texts[client].replace("%TURN%", &number.to_string());
        Request::put(own_path(client), body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::objects::pod;

    fn body(request: &Request) -> Value {
        serde_json::from_slice(&request.body).unwrap()
    }

    #[test]
    fn each_client_writes_its_own_pod_another_way_each_time() {
        let template = Template::new(&pod("written", 10));
        let own: Vec<Value> = (0..2).map(|_| applied(&template).unwrap()).collect();
        for make in [
            merge(),
            strategic(),
            apply(applied(&template).unwrap()),
            update(own),
        ] {
            let (one, two) = (make(1, 5), make(1, 6));
            assert!(one.path.contains(&own_name(1)), "{}", one.path);
            assert_eq!(body(&one)["metadata"]["annotations"]["turn"], "5");
            assert_ne!(one.body, two.body);
            assert_ne!(one.path, make(0, 5).path);
        }
    }

    #[test]
    fn a_pod_in_protobuf_is_one_of_its_own() {
        let template = Template::new(&pod("written", 10));
        let mut expected = applied(&template).unwrap();
        let make = create_protobuf(Message::new(&expected, &spoken_name(0)).unwrap());
        expected["metadata"]["name"] = spoken_name(7).into();
        let request = make(3, 7);
        let read = schema::protobuf::decode(&request.body).unwrap();
        assert_eq!(read["metadata"]["name"], expected["metadata"]["name"]);
        assert_eq!(
            request.body,
            schema::protobuf::encode_any(&expected).unwrap()
        );
        assert_ne!(request.body, make(3, 8).body);
    }

    #[test]
    fn what_is_created_is_deleted() {
        let create = create(Template::new(&pod("written", 10)));
        let name = body(&create(0, 3))["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(delete()(1, 3).path.ends_with(&name));
    }
}
