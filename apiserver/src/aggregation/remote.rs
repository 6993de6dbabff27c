//! A group version that another server serves, as its APIService says.

use schema::Object;
use serde_json::Value;

/// The port of a Service that is asked where the APIService names none.
const PORT_DEFAULT: u16 = 443;

/// What an APIService with a Service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Of the APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    /// Where the group stands among others; higher ones come first.
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    pub(crate) service: Target,
    /// Whether its condition says that the other server is there.
    pub(crate) available: bool,
}

/// Where and how the other server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// PEM in base64; empty where the system's roots are meant.
    pub(crate) ca_bundle: String,
    pub(crate) insecure: bool,
}

impl Remote {
    /// None for one that this server serves itself.
    pub(crate) fn of(object: &Object) -> Option<Remote> {
        let service = object
            .get(&["spec", "service"])
            .filter(|one| one.is_object())?;
        let text = |path: &[&str]| object.get_str(path).unwrap_or_default().to_owned();
        let of_service = |field: &str| {
            let text = service.get(field).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let port = service.get("port").and_then(Value::as_u64);
        Some(Remote {
            name: object.name().to_owned(),
            group: text(&["spec", "group"]),
            version: text(&["spec", "version"]),
            group_priority: object
                .get_i64(&["spec", "groupPriorityMinimum"])
                .unwrap_or(0),
            version_priority: object.get_i64(&["spec", "versionPriority"]).unwrap_or(0),
            service: Target {
                namespace: of_service("namespace"),
                name: of_service("name"),
                port: port
                    .and_then(|port| port.try_into().ok())
                    .unwrap_or(PORT_DEFAULT),
                ca_bundle: text(&["spec", "caBundle"]),
                insecure: object
                    .get_bool(&["spec", "insecureSkipTLSVerify"])
                    .unwrap_or(false),
            },
            available: object.condition_status("Available") == Some("True"),
        })
    }
}
