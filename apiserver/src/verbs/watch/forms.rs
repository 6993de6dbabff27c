//! Watches of what a webhook converts: its client sees what the webhook makes of the stored objects.

use std::sync::Arc;

use super::Watcher;
use crate::cache::Change;
use crate::conversion::{self, Asker};
use crate::entry::Entry;
use crate::negotiate::Form;
use crate::status::{ApiError, ApiResult};

impl Watcher {
    /// Whether what is sent is what a webhook makes of the stored objects.
    fn sends_forms(&self) -> bool {
        let is_whole = !matches!(self.output.form, Form::Partial { .. });
        conversion::by_webhook(&self.resource).is_some() && (is_whole || self.by_form)
    }

    /// The entries as they are sent. A watch that waits for a webhook holds up nobody but its own client.
    pub(super) async fn forms(&self, entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        if !self.sends_forms() {
            return Ok(entries);
        }
        let forms = self.server.forms(&self.resource, entries, Asker::Watch);
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(ApiError::unavailable("the server is stopping")),
            forms = forms => forms,
        }
    }

    /// The changes with their entries as they are sent.
    pub(super) async fn changes(&self, changes: Vec<Arc<Change>>) -> ApiResult<Vec<Arc<Change>>> {
        if !self.sends_forms() {
            return Ok(changes);
        }
        // What was there before matters where it may have been selected, or is shown for the last time.
        let wanted = |change: &Change| {
            let may = |entry: &&Arc<Entry>| self.selection.may_match(entry);
            let new = change.new.as_ref().filter(may);
            let old = change.old.as_ref().filter(may);
            let old = old.filter(|_| self.by_form || new.is_none());
            [old.cloned(), new.cloned()]
        };
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut places = Vec::with_capacity(changes.len());
        for change in &changes {
            places.push(wanted(change).map(|entry| {
                entries.extend(entry);
                entries.len()
            }));
        }
        let forms = self.forms(entries).await?;
        let mut from = 0;
        let mut at = |end: usize| {
            let form = (end > from).then(|| forms[end - 1].clone());
            from = end;
            form
        };
        let shown = changes.iter().zip(places).map(|(change, [old, new])| {
            let (old, new) = (at(old), at(new));
            // One that stays selected need not be known as it was.
            let old = old.or_else(|| change.old.clone().filter(|_| new.is_some()));
            Arc::new(Change::as_shown(change.revision, old, new, None))
        });
        Ok(shown.collect())
    }
}
