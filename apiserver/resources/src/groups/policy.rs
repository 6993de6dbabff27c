//! policy/v1.

use crate::builtin::{BuiltIn, NAMESPACED, status};
use crate::{defaults, table, validate};

pub(super) static KINDS: &[BuiltIn] = &[BuiltIn {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short_names: &["pdb"],
    subresources: &[status("PodDisruptionBudget")],
    generation: Some(&["spec"]),
    columns: table::policy::DISRUPTION_BUDGET,
    cells: table::policy::disruption_budget,
    on_create: defaults::prepare::disruption_budget_create,
    check: validate::policy::disruption_budget,
    ..NAMESPACED
}];
