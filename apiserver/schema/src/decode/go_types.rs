//! What Go calls the types of fields where the table does not say it: types that are texts, lists or maps under another name.

use crate::types::{Field, Type};

const GO_TYPES: &str = include_str!("../../data/go_types.txt");

/// The Go type of a field, where it has a name of its own. It is looked for in the text, for only errors ask.
pub(super) fn of_field(owner: &Type, field: &Field) -> Option<&'static str> {
    let mut lines = GO_TYPES.lines();
    let fields = lines.find_map(|line| line.strip_prefix(owner.short_name)?.strip_prefix(' '))?;
    let mut fields = fields.split(' ');
    fields.find_map(|one| one.strip_prefix(field.name)?.strip_prefix('='))
}

/// The type of the items of a list or map type that has no name itself.
pub(super) fn item(ty: &str) -> Option<&str> {
    if let Some(item) = ty.strip_prefix("[]") {
        return Some(item);
    }
    let (_, item) = ty.strip_prefix("map[")?.split_once(']')?;
    Some(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::type_named;

    #[test]
    fn every_line_names_fields_that_are_there() {
        for line in GO_TYPES.lines().filter(|line| !line.starts_with('#')) {
            let (name, fields) = line.split_once(' ').unwrap();
            let ty = type_named(name).unwrap_or_else(|| panic!("{name}"));
            for field in fields.split(' ') {
                let (field, go) = field.split_once('=').unwrap();
                let field = ty.field(field).unwrap_or_else(|| panic!("{name} {field}"));
                assert_eq!(of_field(ty, field), Some(go));
            }
        }
    }

    #[test]
    fn items_have_types_where_their_container_has_no_name() {
        assert_eq!(item("[]v1.Capability"), Some("v1.Capability"));
        assert_eq!(item("map[string]v1.ExtraValue"), Some("v1.ExtraValue"));
        assert_eq!(item("v1.ResourceList"), None);
    }
}
