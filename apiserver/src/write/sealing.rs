//! Objects as the store has them: encrypted, where the server was told to.

use kv::{KeyValue, Request, RequestOp};
use resources::{Resource, Storage};

use crate::ApiServer;
use crate::encryption::Opened;
use crate::status::{ApiError, ApiResult};

impl ApiServer {
    /// The write as the store gets to see it.
    pub(super) fn sealed(&self, resource: &Resource, key: &str, mut op: RequestOp) -> RequestOp {
        if let Some(Request::Put(put)) = &mut op.request {
            let clear = std::mem::take(&mut put.value);
            let seal = |of: (&str, &str)| self.world.sealer.seal(of, key, clear);
            put.value = self.stored_as(resource, seal);
        }
        op
    }

    /// What the store has under a key, in clear.
    pub(super) fn opened(
        &self,
        resource: &Resource,
        pair: &KeyValue,
        key: &str,
    ) -> ApiResult<Opened> {
        let open = |of: (&str, &str)| self.world.sealer.open(of, key, &pair.value);
        let opened = self.stored_as(resource, open);
        opened.map_err(|unreadable| ApiError::internal(unreadable.why))
    }

    /// Whether objects of a resource are written under another key now than under that of this mark.
    pub(super) fn is_outdated(&self, resource: &Resource, mark: u32) -> bool {
        self.stored_as(resource, |of| self.world.sealer.mark(of)) != mark
    }

    /// Asks with group and plural of the resource as which objects of `resource` are stored.
    fn stored_as<T>(&self, resource: &Resource, ask: impl FnOnce((&str, &str)) -> T) -> T {
        if matches!(resource.storage, Storage::Shared(_))
            && let Some(cache) = self.world.cache(resource)
        {
            return ask(cache.resource());
        }
        ask((&resource.group, &resource.plural))
    }
}
