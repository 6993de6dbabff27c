//! autoscaling: v2 is the stored shape, v1 is converted.

use crate::builtin::{BuiltIn, NAMESPACED, status};
use crate::resource::{Shared, Storage};
use crate::{convert, defaults, table, validate};

const SCALER: BuiltIn = BuiltIn {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status("HorizontalPodAutoscaler")],
    check_subresource_update: validate::scaler::subresource,
    columns: table::scaler::SCALER,
    ..NAMESPACED
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        version: "v2",
        cells: table::scaler::scaler_v2,
        defaults: defaults::scaler::v2,
        check: validate::scaler::v2,
        ..SCALER
    },
    BuiltIn {
        version: "v1",
        storage: Storage::Shared(&Shared {
            group: "autoscaling",
            version: "v2",
            plural: "horizontalpodautoscalers",
            to_storage: convert::scaler_to_v2,
            from_storage: convert::scaler_from_v2,
        }),
        cells: table::scaler::scaler_v1,
        defaults: defaults::scaler::v1,
        check: validate::scaler::v1,
        ..SCALER
    },
];
