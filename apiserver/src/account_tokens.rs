//! The keys of service account tokens: the one that signs, and those that are still accepted. The file that they come from
//! may change while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use auth::token::{Signer, Verifier, signing_keys};

use crate::config::Config;

pub(crate) struct AccountTokens {
    now: RwLock<Arc<Keys>>,
}

pub(crate) struct Keys {
    pub(crate) signer: Arc<Signer>,
    /// Holds the signer's key and those being rotated out.
    pub(crate) verifier: Verifier,
}

impl AccountTokens {
    pub(crate) fn new(config: &Config) -> AccountTokens {
        let keys = Keys {
            signer: config.signer.clone(),
            verifier: config.verifier.clone(),
        };
        AccountTokens {
            now: RwLock::new(Arc::new(keys)),
        }
    }

    pub(crate) fn now(&self) -> Arc<Keys> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// From now on the first key of `pem` signs. The other ones, and those of before, go on being accepted.
    pub(crate) fn take(&self, pem: &str) -> Result<(), String> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let issuer = now.verifier.issuers().first().cloned().unwrap_or_default();
        let (signer, others) = signing_keys(pem, &issuer).map_err(|error| error.to_string())?;
        let mut keys = vec![signer.public_key().clone()];
        keys.extend(others);
        let verifier = now.verifier.led_by(keys);
        *now = Arc::new(Keys {
            signer: Arc::new(signer),
            verifier,
        });
        Ok(())
    }
}
