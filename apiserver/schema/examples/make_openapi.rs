//! Writes the OpenAPI documents of a list of resources, to look at them or to serve them to a
//! client: `cargo run -p schema --example make_openapi -- api-resources.tsv <directory>`.
//!
//! The rows are `group, version, resource[/subresource], kind, scope, -, -, verbs, response`.

use schema::openapi::{
    Served, ServedSubresource, root_path, v2_document, v2_protobuf, v3_document, v3_index,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: make_openapi <api-resources.tsv> <directory>";
    let mut arguments = std::env::args().skip(1);
    let table = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let directory = std::path::PathBuf::from(arguments.next().ok_or(usage)?);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|l| l.split('\t').collect())
        .filter(|r: &Vec<&str>| r.len() >= 9)
        .collect();
    let verbs: Vec<Vec<&str>> = rows.iter().map(|r| r[7].split(',').collect()).collect();
    let subresources: Vec<Vec<ServedSubresource<'_>>> = rows
        .iter()
        .map(|parent| {
            let of_parent = rows.iter().zip(&verbs).filter_map(|(row, verbs)| {
                let (plural, name) = row[2].split_once('/')?;
                let is_child = row[..2] == parent[..2] && plural == parent[2];
                let (group, version) = row[8].split_once('/').unwrap_or(("", ""));
                is_child.then_some(ServedSubresource {
                    name,
                    kind: row[3],
                    group,
                    version,
                    verbs,
                })
            });
            of_parent.collect()
        })
        .collect();
    let served: Vec<Served<'_>> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| !row[2].contains('/'))
        .map(|(i, row)| Served {
            group: row[0],
            version: row[1],
            plural: row[2],
            singular: "",
            kind: row[3],
            namespaced: row[4] == "N",
            verbs: &verbs[i],
            subresources: &subresources[i],
            custom: None,
        })
        .collect();
    let write = |path: &str, value: &serde_json::Value| -> std::io::Result<()> {
        let file = directory.join(format!("{path}.json"));
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, value.to_string())
    };
    write("openapi/v3", &v3_index(&served))?;
    let v2 = v2_document(&served, "v1.36.0");
    write("openapi/v2", &v2)?;
    std::fs::write(directory.join("openapi/v2.pb"), v2_protobuf(&v2))?;
    for resource in &served {
        if let Some(document) = v3_document(&served, resource.group, resource.version, "v1.36.0") {
            write(
                &format!("openapi/v3/{}", root_path(resource.group, resource.version)),
                &document,
            )?;
        }
    }
    Ok(())
}
