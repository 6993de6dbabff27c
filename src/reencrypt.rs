//! `kontiki reencrypt`: every object is written as it is, and the server writes those anew that are not encrypted with the
//! first of its keys.

use agents::{Client, ResourceRef};
use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::cli::ReencryptArgs;
use crate::past::find::{client, explained, resource};

/// Objects of one answer.
const PAGE: usize = 200;
/// More lost races on one object than this are no chance.
const ATTEMPTS_MAX: usize = 20;

pub(crate) async fn run(args: &ReencryptArgs) -> Result<()> {
    let client = client(&args.kubeconfig())?;
    for word in &args.resources {
        let resource = resource(&client, word).await?;
        let (seen, written) = all(&client, &resource).await?;
        eprintln!(
            "{}: {seen} read, {written} of them written again",
            resource.plural
        );
    }
    Ok(())
}

/// How many objects there were, and how many of them the server has written again.
async fn all(client: &Client, resource: &ResourceRef) -> Result<(usize, usize)> {
    let (mut seen, mut written) = (0, 0);
    let mut token = String::new();
    loop {
        let path = format!(
            "{}?limit={PAGE}&continue={token}",
            resource.collection_path("")
        );
        let list = client.get_path(&path).await.map_err(explained)?;
        for object in list["items"].as_array().into_iter().flatten() {
            seen += 1;
            written += usize::from(write_again(client, resource, object).await?);
        }
        match list["metadata"]["continue"].as_str() {
            Some(more) if !more.is_empty() => token = more.to_owned(),
            _ => return Ok((seen, written)),
        }
    }
}

/// Whether it was written. One that is gone or that somebody else has written meanwhile need not be.
async fn write_again(client: &Client, resource: &ResourceRef, object: &Value) -> Result<bool> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let mut object = object.clone();
    for field in ["kind", "apiVersion"] {
        // Items of lists need not say it.
        if object[field].is_null() {
            object[field] = match field {
                "kind" => resource.kind.to_string().into(),
                _ => resource.api_version().into(),
            };
        }
    }
    for _ in 0..ATTEMPTS_MAX {
        let version = object["metadata"]["resourceVersion"].clone();
        match client.update(resource, namespace, name, &object).await {
            Ok(after) => return Ok(after["metadata"]["resourceVersion"] != version),
            Err(error) if error.code == 404 => return Ok(false),
            Err(error) if error.code == 409 => {
                let path = resource.object_path(namespace, name, None);
                match client.get_path(&path).await {
                    Ok(now) => object = now,
                    Err(error) if error.code == 404 => return Ok(false),
                    Err(error) => return Err(explained(error)),
                }
            }
            Err(error) => {
                return Err(explained(error))
                    .with_context(|| format!("{} {namespace}/{name}", resource.plural));
            }
        }
    }
    Err(anyhow!(
        "{} {namespace}/{name} changes too often; run this command again",
        resource.plural
    ))
}
