//! What simulated containers have written, and go on to write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use time::OffsetDateTime;

use super::{World, missing};
use crate::runtime::{LogChunk, LogRequest, Result, State};

/// The lines of a container that the request is about.
pub(super) fn lines(
    world: Arc<Mutex<World>>,
    id: String,
    request: &LogRequest,
) -> BoxStream<'static, Result<LogChunk>> {
    let read = move |from: usize| -> Result<(Vec<LogChunk>, bool)> {
        let now = OffsetDateTime::now_utc();
        let world = world.lock().expect("no panic while locked");
        let container = world.containers.get(&id).ok_or_else(|| missing(&id))?;
        let running = matches!(container.state(now), State::Running { .. });
        Ok((
            container
                .log(now)
                .split_off(from.min(container.log(now).len())),
            running,
        ))
    };
    let (first, running) = match read(0) {
        Ok(first) => first,
        Err(error) => return Box::pin(stream::iter([Err(error)])),
    };
    let seen = first.len();
    let tail = request
        .tail_lines
        .map_or(seen, |lines| usize::try_from(lines).unwrap_or(0));
    let shown: Vec<_> = first
        .into_iter()
        .skip(seen.saturating_sub(tail))
        .map(Ok)
        .collect();
    if !request.follow || !running {
        return Box::pin(stream::iter(shown));
    }
    // A simulated log grows by the clock alone, so it has to be looked at.
    let more = stream::unfold((seen, false), move |(seen, ended)| {
        let read = read.clone();
        async move {
            if ended {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (chunks, running) = read(seen).unwrap_or_default();
            let next = (seen + chunks.len(), !running);
            Some((stream::iter(chunks.into_iter().map(Ok)), next))
        }
    });
    Box::pin(stream::iter(shown).chain(more.flatten()))
}
