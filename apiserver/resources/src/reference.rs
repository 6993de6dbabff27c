//! The reference page of the kinds, derived from the list. `make reference` writes it.

use std::fmt::Write;
use std::path::Path;

use crate::{ALL, Resource};

const PAGE: &str = "../../docs/reference/kinds.md";

fn page() -> String {
    let mut text = String::from(
        "# Kinds\n\nMade from the list of kinds by `make reference`; a test fails when it is stale. The field selectors are those besides\n\
         `metadata.name` and `metadata.namespace`.\n\n\
         | group/version | resource | short | kind | namespaced | verbs | subresources | field selectors |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    ALL.iter().for_each(|resource| row(&mut text, resource));
    text
}

fn row(text: &mut String, resource: &Resource) {
    let version = match &*resource.group {
        "" => resource.version.to_string(),
        group => format!("{group}/{}", resource.version),
    };
    let subresources: Vec<&str> = resource.subresources.iter().map(|sub| sub.name).collect();
    let _ = writeln!(
        text,
        "| {version} | {} | {} | {} | {} | {} | {} | {} |",
        resource.plural,
        resource.short_names.join(" "),
        resource.kind,
        if resource.namespaced { "yes" } else { "no" },
        resource.verbs.join(" "),
        subresources.join(" "),
        resource.field_selectors.join(" ")
    );
}

#[test]
fn the_page_is_what_the_list_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("KONTIKI_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, page()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/kinds.md is stale: run `make reference`"
    );
}
