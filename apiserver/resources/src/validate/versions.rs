//! The versions of a custom resource definition, with their schemas, columns and subresources.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::structural::Structural;
use schema::structural::definition::{
    self, check, check_column, check_scale, check_selectable_fields,
};
use serde_json::Value;

use super::{complain, items};
use crate::look::{Look, spec};

const DEPRECATION_WARNING_BYTES_MAX: usize = 256;

/// The versions of a definition: their names, and what each of them says.
pub(super) fn check_all(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let versions = spec(object).list("versions");
    if versions.is_empty() {
        errors.push(FieldError::required(
            &path.child("versions"),
            "must have exactly one version marked as storage version",
        ));
        return;
    }
    let common = Common::of(versions);
    let mut seen = BTreeSet::new();
    for (at, (path, version)) in items(spec(object), "versions", &path).enumerate() {
        let name = version.text("name");
        complain(
            names::is_dns1035_label(name),
            &path.child("name"),
            name,
            errors,
        );
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if version.has("deprecationWarning") {
            deprecation_warning(version, &path.child("deprecationWarning"), errors);
        }
        version_fields(version, (at, &path), &common, errors);
    }
    // The older form has the name of the first version apart.
    let first = versions[0].text("name");
    if !first.is_empty() {
        let path = path.child("version");
        complain(names::is_dns1035_label(first), &path, first, errors);
    }
    if versions
        .iter()
        .filter(|version| version.flag("storage"))
        .count()
        != 1
    {
        errors.push(FieldError::invalid(
            &path.child("versions"),
            versions.to_vec(),
            "must have exactly one version marked as storage version",
        ));
    }
}

/// It becomes a header of answers.
fn deprecation_warning(version: &Value, path: &Path, errors: &mut ErrorList) {
    let text = version.text("deprecationWarning");
    let mut complain = |detail: &str| errors.push(FieldError::invalid(path, text, detail));
    if !version.flag("deprecated") {
        return complain("can only be set for deprecated versions");
    }
    if text.len() > DEPRECATION_WARNING_BYTES_MAX {
        complain("must be <= 256 characters long");
    }
    if text.is_empty() {
        complain("must not be an empty string");
    }
    if let Some(at) = text.find(char::is_control) {
        complain(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// What all versions have in common. Kubernetes names its place by the fields of an older form, and looks at it once.
struct Common {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Common {
    fn of(versions: &[Value]) -> Common {
        let same = |key: &str| {
            let mut others = versions.iter().skip(1);
            others.all(|version| version.at(key) == versions[0].at(key))
        };
        Common {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }
}

/// The schema of a version, and what is said in its terms; `at` is the place of the version among all.
fn version_fields(
    version: &Value,
    (at, path): (usize, &Path),
    common: &Common,
    errors: &mut ErrorList,
) {
    let spec = Path::new("spec");
    let base = |common: bool| if common { &spec } else { path };
    let is_told = |common: bool| at == 0 || !common;
    let mut found = ErrorList::new();
    let compiled = version_schema(version, path, common.schema, &mut found);
    if is_told(common.schema) || !version.at("schema").at("openAPIV3Schema").is_object() {
        errors.append(&mut found);
    }
    if is_told(common.columns) {
        let base = base(common.columns);
        for (path, column) in items(version, "additionalPrinterColumns", base) {
            check_column(column, &path, errors);
        }
    }
    if is_told(common.subresources) && version.at("subresources").has("scale") {
        let scale = version.at("subresources").at("scale");
        let path = base(common.subresources).child("subresources");
        check_scale(scale, &path, errors);
    }
    let fields = version.list("selectableFields");
    if common.schema != common.selectable {
        if !fields.is_empty() {
            apart_from_schema(path, common, at, errors);
        }
    } else if let Some(compiled) = compiled.filter(|_| is_told(common.selectable)) {
        let path = base(common.selectable).child("selectableFields");
        check_selectable_fields(fields, &compiled, &path, errors);
    }
}

/// Kubernetes moves what all versions have in common out of them before it looks, and then wants schema and selectable fields
/// in the same place: both common, or both in each version.
fn apart_from_schema(path: &Path, common: &Common, at: usize, errors: &mut ErrorList) {
    let (base, detail) = match common.schema {
        true => (
            path.clone(),
            "may only be set when `version.schema.openAPIV3Schema` is not included",
        ),
        // The place is common, so it is told once.
        false if at > 0 => return,
        false => (
            Path::new("spec"),
            "may only be set when validations.schema is included",
        ),
    };
    let place = base.child("selectableFields");
    errors.push(FieldError::invalid(&place, "", detail));
}

/// None where something is wrong with the schema.
fn version_schema(
    version: &Value,
    path: &Path,
    common: bool,
    errors: &mut ErrorList,
) -> Option<Structural> {
    let schema = version.at("schema").at("openAPIV3Schema");
    let own = path.child("schema").child("openAPIV3Schema");
    if !schema.is_object() {
        errors.push(FieldError::required(&own, ""));
        return None;
    }
    let place = match common {
        true => Path::new("spec")
            .child("validation")
            .child("openAPIV3Schema"),
        false => own,
    };
    let has_status = version.at("subresources").has("status");
    let compiled = check(schema, &place, has_status, errors)?;
    errors.extend(cel::rules::check(&compiled, &place));
    Some(compiled)
}

/// Formats that nobody checks.
pub(crate) fn definition_warnings(object: &Object) -> Vec<String> {
    let mut texts = Vec::new();
    for (path, version) in items(spec(object), "versions", &Path::new("spec")) {
        let path = path.child("schema").child("openAPIV3Schema");
        let found = definition::warnings(version.at("schema").at("openAPIV3Schema"));
        texts.extend(found.iter().map(|text| format!("{path}: {text}")));
    }
    texts
}
