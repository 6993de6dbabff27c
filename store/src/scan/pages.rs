//! Ranges for whoever reads very much in this process, as a start does: one plan, one snapshot and one pass, whatever the
//! size. A request for each page would look at all later changes of the keys behind it once a page.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kv::{Answer, Joined, KeyValue, PageStream, RangePlan, RangeRequest, StoreError, StoreResult};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use crate::core::Core;
use crate::host;
use crate::metrics::METRICS;
use crate::raft::machine::{Replica, unreadable};

/// Pages that are read and not taken, besides the one that is being read.
const PAGES_AHEAD: usize = 1;

type Page = Result<Vec<KeyValue>, StoreError>;

impl Core {
    /// What can be read of this member now, without regard to other members.
    pub(crate) async fn range_pages(
        &self,
        request: RangeRequest,
        page_bytes: usize,
    ) -> StoreResult<PageStream> {
        kv::check_range(&request)?;
        if !request.is_in_key_order() {
            // All of them are held to be sorted.
            let answer = self.replica.range(request).await?;
            let page = Some(answer.body.kvs).filter(|pairs| !pairs.is_empty());
            let pages: Vec<Page> = page.map(Ok).into_iter().collect();
            return Ok(Answer {
                revision: answer.revision,
                body: in_memory(pages),
            });
        }
        let place = self.place_to_scan().await?;
        METRICS.scans.inc();
        let pass = Pass {
            replica: self.replica.clone(),
            request,
            page_bytes,
            _place: place,
        };
        match host::is_simulated() {
            true => pass.at_once().await,
            false => pass.on_a_thread(self.config.limits.part_patience).await,
        }
    }
}

/// What the pass needs.
struct Pass {
    replica: Arc<Replica>,
    request: RangeRequest,
    page_bytes: usize,
    _place: OwnedSemaphorePermit,
}

impl Pass {
    /// Reads all in one step: a simulated machine has no threads that could wait.
    async fn at_once(self) -> StoreResult<PageStream> {
        let (head, told) = oneshot::channel();
        let read = host::blocking(move || {
            let mut pages: Vec<Page> = Vec::new();
            self.run(head, &mut |page| {
                pages.extend(page);
                true
            });
            pages
        });
        let pages = read.await.map_err(|_| StoreError::Stopped)?;
        let revision = told.await.map_err(|_| StoreError::Stopped)??;
        Ok(Answer {
            revision,
            body: in_memory(pages),
        })
    }

    async fn on_a_thread(self, patience: Duration) -> StoreResult<PageStream> {
        let (head, told) = oneshot::channel();
        let (ahead, pages) = mpsc::channel(PAGES_AHEAD);
        let runtime = Handle::current();
        // Not `host::blocking`: it waits for its reader, which has to go on meanwhile.
        drop(tokio::task::spawn_blocking(move || {
            self.run(head, &mut |page| {
                let given = timeout(patience, ahead.send(page));
                matches!(runtime.block_on(given), Ok(Ok(())))
            });
        }));
        let revision = told.await.map_err(|_| StoreError::Stopped)??;
        Ok(Answer {
            revision,
            body: stream_of(pages),
        })
    }

    /// Says of which revision the pages are, and gives one after the other, and none behind the last. Ends early where
    /// `give` answers that nobody wants more.
    fn run(
        &self,
        head: oneshot::Sender<Result<i64, StoreError>>,
        give: &mut dyn FnMut(Option<Page>) -> bool,
    ) {
        let catalog = self.replica.catalog();
        let db = self.replica.disk().opened();
        let data = db.scan_snapshot();
        let revision = catalog.revision();
        let view = Joined {
            catalog: &catalog,
            data: data.as_ref(),
        };
        let plan = RangePlan::new(&view, &self.request);
        drop(catalog);
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                // Whoever gave up waiting does not need it.
                drop(head.send(Err(refusal.into())));
                return;
            }
        };
        if head.send(Ok(revision)).is_err() {
            return;
        }
        let (mut page, mut bytes, mut wanted) = (Vec::new(), 0, true);
        let read = plan.each(data.as_ref(), &mut |kv| {
            bytes += size_of::<KeyValue>() + kv.key.len() + kv.value.len();
            page.push(kv);
            if bytes >= self.page_bytes {
                bytes = 0;
                wanted = give(Some(Ok(std::mem::take(&mut page))));
            }
            match wanted {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match read {
            _ if !wanted => {}
            Err(broken) => {
                give(Some(Err(unreadable(broken))));
            }
            Ok(_) => {
                if page.is_empty() || give(Some(Ok(page))) {
                    give(None);
                }
            }
        }
    }
}

fn in_memory(pages: Vec<Page>) -> PageStream {
    Box::pin(futures::stream::iter(pages))
}

/// The pages as the thread gives them, which says when these were all.
fn stream_of(pages: mpsc::Receiver<Option<Page>>) -> PageStream {
    Box::pin(futures::stream::unfold(Some(pages), |pages| async {
        let mut pages = pages?;
        match pages.recv().await {
            Some(Some(Ok(page))) => Some((Ok(page), Some(pages))),
            Some(Some(Err(error))) => Some((Err(error), None)),
            Some(None) => None,
            // It has given up on a slow reader, or the member stops.
            None => Some((Err(StoreError::TimedOut), None)),
        }
    }))
}
