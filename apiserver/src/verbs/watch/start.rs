//! Where a watch begins, and how long it lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kv::mutants::{Bug, planted};
use resources::{Handle, Resource};
use tokio::time::Instant;

use super::{BOOKMARK_EVERY, Watcher};
use crate::cache::{Cache, Snapshot};
use crate::context::Context;
use crate::conversion;
use crate::entry::Entry;
use crate::negotiate::Form;
use crate::protobuf::Written;
use crate::read_version::WatchOptions;
use crate::selection::Selection;
use crate::status::{ApiError, ApiResult};
use crate::world::{REVISION_WAIT, World};

const TIMEOUT_SECONDS_MIN: u64 = 1_800;

impl Watcher {
    pub(super) async fn open(
        context: &Context,
        resource: &Handle,
        options: &WatchOptions,
        selection: Selection,
    ) -> ApiResult<Watcher> {
        let server = &context.server;
        let world = server.world.clone();
        match options.version {
            Some(version) if version > 0 => {
                world
                    .wait_for(version, Instant::now() + REVISION_WAIT)
                    .await?
            }
            // "Most recent" for both forms of a watch, and for 0 as well: see `ReadAt::MostRecent`.
            Some(_) | None => {
                world.wait_most_recent(&*server.store).await?;
            }
        }
        let by_form = selects_forms(context.output.form, resource, &selection);
        // Only now: while the request waited, a definition may have changed, and another cache have come with it.
        let Start {
            cache,
            initial,
            cursor,
            sent,
        } = Start::of(context, resource, options, (&selection, by_form))?;
        let member = cache.join(&selection.interest(&cache.prefix, by_form));
        let wake = member.subscribe();
        let now = Instant::now();
        let end = now + lasts(options);
        let namespace = match selection.prefix == cache.prefix {
            true => "",
            false => &context.info.namespace,
        };
        let watched = selection.is_wide().then(|| cache.watched(namespace));
        let initial_end = options.initial_events.then_some(sent);
        let mut watcher = Watcher {
            resource: resource.clone(),
            selection,
            output: context.output,
            protobuf: Written::of(&context.output, resource),
            bookmarks: options.bookmarks,
            cache,
            member,
            server: server.clone(),
            by_form,
            wake,
            behind: true,
            timer: Box::pin(tokio::time::sleep_until(end)),
            initial,
            initial_bytes: None,
            initial_end,
            cursor,
            sent,
            next_bookmark: now + BOOKMARK_EVERY,
            end,
            ended: false,
            columns_sent: false,
            // One of its own: it is asked at each event, and all watches would meet at one lock.
            stopping: server.stopping.child_token(),
            sent_events: server.metrics.sent_to_watches(resource),
            _open: server.metrics.open_watch(&context.info, resource),
            _watched: watched,
        };
        watcher.schedule_bookmark(now);
        Ok(watcher)
    }
}

/// Where a watch begins.
struct Start {
    cache: Arc<Cache>,
    initial: VecDeque<Arc<Entry>>,
    cursor: u64,
    sent: i64,
}

impl Start {
    fn of(
        context: &Context,
        resource: &Resource,
        options: &WatchOptions,
        (selection, by_form): (&Selection, bool),
    ) -> ApiResult<Start> {
        let world = &context.server.world;
        match options.version {
            Some(version) if version != 0 && !options.initial_events => {
                Start::after(world, resource, selection, version)
            }
            _ => {
                // sendInitialEvents=false says that the client knows the state, or does not want it.
                let skip_state =
                    !options.initial_events && context.query.get("sendInitialEvents").is_some();
                let (start, snapshot) = Start::now(world, resource, selection)?;
                Ok(match skip_state {
                    true => start,
                    false => start.with_state(&snapshot, selection, by_form),
                })
            }
        }
    }

    /// Behind the newest state.
    fn now(
        world: &World,
        resource: &Resource,
        selection: &Selection,
    ) -> ApiResult<(Start, Snapshot)> {
        let (cache, snapshot) = world
            .snapshot_of(resource)
            .ok_or_else(ApiError::no_such_resource)?;
        snapshot.check_readable(&selection.prefix)?;
        let start = Start {
            cache,
            initial: VecDeque::new(),
            cursor: snapshot.cursor,
            sent: snapshot.revision,
        };
        Ok((start, snapshot))
    }

    /// The same, after what there is.
    fn with_state(self, snapshot: &Snapshot, selection: &Selection, by_form: bool) -> Start {
        let there = snapshot.tree.iter_prefix(&selection.prefix);
        let wanted = there.filter(|entry| match by_form {
            true => selection.may_match(entry),
            false => selection.matches(entry),
        });
        Start {
            initial: wanted.cloned().collect(),
            ..self
        }
    }

    /// Behind a revision that the client knows. A cache that is closed is read to its end and sends nothing that it does not
    /// have: the client comes back.
    fn after(
        world: &World,
        resource: &Resource,
        selection: &Selection,
        version: i64,
    ) -> ApiResult<Start> {
        let cache = world
            .cache(resource)
            .ok_or_else(ApiError::no_such_resource)?;
        cache.check_readable(&selection.prefix)?;
        let from = match planted(Bug::WatchResumesNow) {
            true => world.revision(),
            false => version,
        };
        if planted(Bug::ExpiresForNothing) && version < world.revision() {
            return Err(ApiError::too_old(version, world.revision()));
        }
        let cursor = cache
            .cursor_after(from)
            .map_err(|oldest| ApiError::too_old(version, oldest.0))?;
        Ok(Start {
            cache,
            initial: VecDeque::new(),
            cursor,
            sent: version,
        })
    }
}

/// How long a watch lasts: those that do not say it end at different times, so that not all of them come back at once.
fn lasts(options: &WatchOptions) -> Duration {
    let seconds = options.timeout_seconds.unwrap_or_else(|| {
        TIMEOUT_SECONDS_MIN + u64::from(host::random::<u16>()) % TIMEOUT_SECONDS_MIN
    });
    Duration::from_secs(seconds.min(7 * 86_400))
}

/// Whether only what a webhook makes of an object shows whether it is selected: its own fields, and its labels as this
/// version has them. Of metadata alone the labels are those that are stored.
fn selects_forms(form: Form, resource: &Resource, selection: &Selection) -> bool {
    let by_labels = selection.has_labels() && !matches!(form, Form::Partial { .. });
    conversion::by_webhook(resource).is_some() && (by_labels || selection.has_fields())
}
