//! `PodTopologySpreadArgs`.

use super::Args;
use crate::config::fields::{Fields, Problems};
use crate::object::{DefaultSpread, SpreadConstraint};
use serde_json::Value;

impl Args {
    pub(super) fn take_spread(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let mut constraints: Vec<SpreadConstraint> = Vec::new();
        for (path, item) in fields.list("defaultConstraints", problems) {
            if let Some(constraint) = take_constraint(item, &path, problems) {
                let same = |other: &SpreadConstraint| {
                    other.topology_key == constraint.topology_key && other.hard == constraint.hard
                };
                if constraints.iter().any(same) {
                    let when = match constraint.hard {
                        true => "DoNotSchedule",
                        false => "ScheduleAnyway",
                    };
                    problems.duplicate(&path, &format!("{{{}, {when}}}", constraint.topology_key));
                }
                constraints.push(constraint);
            }
        }
        let path = fields.path_of("defaultingType");
        let by = fields.text("defaultingType", problems).unwrap_or("System");
        match by {
            "List" => self.spread = DefaultSpread::List(constraints),
            "System" if constraints.is_empty() => self.spread = DefaultSpread::System,
            "System" => problems.invalid(
                &path,
                "\"System\"",
                "when .defaultConstraints are not empty",
            ),
            other => problems.unsupported(&path, other, &["System", "List"]),
        }
    }
}

/// A constraint that says everything but whom it counts.
fn take_constraint(item: &Value, path: &str, problems: &mut Problems) -> Option<SpreadConstraint> {
    let mut fields = Fields::of(Some(item), path, problems);
    let max_skew = fields.number("maxSkew", problems).unwrap_or(0);
    if max_skew <= 0 {
        let path = fields.path_of("maxSkew");
        problems.invalid(&path, &max_skew.to_string(), "not in valid range (0, inf)");
    }
    let key = fields.text("topologyKey", problems).unwrap_or_default();
    if key.is_empty() {
        problems.required(&fields.path_of("topologyKey"), "can not be empty");
    }
    let path = fields.path_of("whenUnsatisfiable");
    match fields
        .text("whenUnsatisfiable", problems)
        .unwrap_or_default()
    {
        "" => problems.required(&path, "can not be empty"),
        "DoNotSchedule" | "ScheduleAnyway" => {}
        other => problems.unsupported(&path, other, &["DoNotSchedule", "ScheduleAnyway"]),
    }
    if fields.value("labelSelector").is_some() {
        let why = "constraint must not define a selector, as they deduced for each pod";
        problems.forbidden(&fields.path_of("labelSelector"), why);
    }
    let known = [
        "minDomains",
        "nodeAffinityPolicy",
        "nodeTaintsPolicy",
        "matchLabelKeys",
    ];
    for field in known {
        fields.value(field);
    }
    fields.end(problems);
    item.is_object()
        .then(|| SpreadConstraint::without_selector(item))
}
