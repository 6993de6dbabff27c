//! What servers of other API versions find in `kube-system/extension-apiserver-authentication`: whose certificates name
//! users, and whose name those who pass requests on. Kept up to date when the files of a running server change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema::Object;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::ApiServer;
use crate::bootstrap;
use crate::config::Config;
use crate::status::{ApiError, ApiResult};

pub(crate) const NAME: &str = "extension-apiserver-authentication";
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Authorities {
    now: Mutex<Told>,
    changed: Notify,
}

/// PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    clients: String,
    proxies: Option<String>,
}

impl Authorities {
    pub(crate) fn new(config: &Config) -> Authorities {
        let proxies = config.front_proxy.as_ref();
        Authorities {
            now: Mutex::new(Told {
                clients: config.ca_pem.clone(),
                proxies: proxies.map(|proxy| proxy.ca_pem.clone()),
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name_clients(&self, ca_pem: &str) {
        self.lock().clients = ca_pem.to_owned();
        self.changed.notify_one();
    }

    pub(crate) fn name_proxies(&self, ca_pem: &str) {
        self.lock().proxies = Some(ca_pem.to_owned());
        self.changed.notify_one();
    }

    /// The ConfigMap as it should be.
    pub(crate) fn config_map(&self) -> ApiResult<Object> {
        let told = self.lock().clone();
        Object::new(config_map(&told))
            .map_err(|_| ApiError::internal("a bootstrap object is not an object"))
    }
}

fn config_map(told: &Told) -> Value {
    let mut data = json!({ "client-ca-file": told.clients });
    if let Some(proxies) = &told.proxies {
        data["requestheader-client-ca-file"] = proxies.as_str().into();
        for (key, list) in [
            ("allowed-names", r#"["front-proxy-client"]"#),
            ("username-headers", r#"["X-Remote-User"]"#),
            ("uid-headers", r#"["X-Remote-Uid"]"#),
            ("group-headers", r#"["X-Remote-Group"]"#),
            ("extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ] {
            data[format!("requestheader-{key}")] = list.into();
        }
    }
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": "kube-system" },
        "data": data
    })
}

/// Writes the ConfigMap anew whenever this server learns of other authorities.
pub(crate) async fn follow(server: &Arc<ApiServer>) {
    loop {
        server.authorities.changed.notified().await;
        while let Err(error) = bootstrap::tell_authorities(server).await {
            tracing::debug!(
                message = error.message,
                "the authorities are not told to other servers yet"
            );
            tokio::time::sleep(RETRY).await;
        }
    }
}
