//! Makes `data/types.txt` from a table of API types in tab-separated rows:
//!
//! ```text
//! T <name> <json type> <group/version/Kind ...> <protobuf message> <flags>
//! F <name> <type> <protobuf tag:type> <required, list=, map=, patch=, default=>
//! M <protobuf-only message>
//! ```
//!
//! Usage: `cargo run -p schema --example make_types -- api-types.tsv > data/types.txt`
//!
//! The output is the same facts in the form that `types.rs` reads: one line a type, one indented
//! line a field, names of other types shortened to `package.Type`. What the rows do not say
//! (embedded messages, pointers, enums) is written by hand in `data/overlay.txt`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// The short name of a Go package: the word that its types are known by.
fn alias(package: &str) -> &str {
    match package {
        "io.k8s.apimachinery.pkg.apis.meta.v1" => "meta",
        "io.k8s.apimachinery.pkg.api.resource" => "quantity",
        "io.k8s.apimachinery.pkg.util.intstr" => "intstr",
        "io.k8s.apimachinery.pkg.runtime" => "runtime",
        "io.k8s.apimachinery.pkg.version" => "version",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1" => "apiextensions",
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1" => "apiregistration",
        "io.k8s.api.autoscaling.v2" => "autoscaling2",
        _ => package
            .strip_prefix("io.k8s.api.")
            .and_then(|p| p.split('.').next())
            .unwrap_or(package),
    }
}

fn short(name: &str) -> String {
    let (package, local) = name.rsplit_once('.').unwrap_or(("", name));
    format!("{}.{local}", alias(package))
}

fn short_type(text: &str) -> String {
    let scalar = |t: &str| match t {
        "integer:int32" => "int32".to_owned(),
        "integer:int64" => "int64".to_owned(),
        "boolean" => "bool".to_owned(),
        "number:double" => "double".to_owned(),
        "string:byte" => "bytes".to_owned(),
        "string" => "string".to_owned(),
        other => short(other),
    };
    if let Some(element) = text.strip_prefix("map:[]") {
        format!("map:[]{}", scalar(element))
    } else if let Some(element) = text.strip_prefix("map:") {
        format!("map:{}", scalar(element))
    } else if let Some(element) = text.strip_prefix("[]") {
        format!("[]{}", scalar(element))
    } else {
        scalar(text)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: make_types <api-types.tsv>")?;
    let table = std::fs::read_to_string(path)?;
    let mut packages = BTreeMap::new();
    let mut body = String::new();
    let mut in_type = false;
    for line in table.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        match columns.as_slice() {
            ["T", name, json, kinds, _message, flags] => {
                in_type = true;
                let (package, _) = name.rsplit_once('.').ok_or("a type without a package")?;
                packages.insert(alias(package).to_owned(), package.to_owned());
                write!(body, "{}", short(name))?;
                if *json != "object" {
                    write!(body, " json={json}")?;
                }
                for kind in kinds.split(' ').filter(|k| *k != "-") {
                    write!(body, " kind={kind}")?;
                }
                for flag in flags
                    .split(' ')
                    .filter(|f| *f != "-" && !f.starts_with("union"))
                {
                    write!(body, " {flag}")?;
                }
                body.push('\n');
            }
            ["M", ..] => in_type = false,
            ["F", name, json, tag, attributes] if in_type => {
                let number = tag.split(':').next().unwrap_or("-");
                write!(body, " {name} {} {number}", short_type(json))?;
                for attribute in attributes.split(' ').filter(|a| *a != "-") {
                    write!(body, " {attribute}")?;
                }
                body.push('\n');
            }
            ["F", ..] => {}
            _ => return Err(format!("row of an unknown form: {line}").into()),
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "# Made by examples/make_types.rs: the types of the Kubernetes 1.36 API (GA versions). Do not edit."
    )?;
    writeln!(
        out,
        "# package <alias> <name> / <type> [json=] [kind=group/version/Kind] / <field> <type> <protobuf tag> [attributes]"
    )?;
    for (alias, package) in packages {
        writeln!(out, "package {alias} {package}")?;
    }
    write!(out, "{body}")?;
    Ok(())
}
