//! What flow control does by itself: seats that linger come back, levels borrow from each other every ten seconds, the
//! bootstrap objects are put right every minute, and each flow schema says whether its level is there.

use std::sync::Arc;
use std::time::Duration;

use resources::Resource;
use resources::bootstrap::flow::GROUP;
use schema::Object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::shares::{self, Bounds, Demand};
use super::{Configured, FlowControl, Shape};
use crate::ApiServer;
use crate::bootstrap;
use crate::context::Context;
use crate::managed::{Owner, Versions};
use crate::status::ApiResult;
use crate::verbs::update;

/// Kubernetes' intervals.
const ADJUST_EVERY: Duration = Duration::from_secs(10);
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// After a write failed.
const RETRY: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_secs(3_600);
/// The manager of what is written into the status.
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";

pub(crate) async fn run(server: Arc<ApiServer>) {
    let flow = &server.flow;
    tokio::join!(
        release(flow),
        adjust(flow),
        maintain(&server),
        tell(&server)
    );
}

/// Gives back seats that writes kept, where somebody waits for them.
async fn release(flow: &FlowControl) {
    loop {
        let next = flow.release().unwrap_or_else(|| Instant::now() + FAR);
        // Asked again when somebody begins to wait, and when it is time.
        let _ = tokio::time::timeout_at(next, flow.poke.notified()).await;
    }
}

async fn adjust(flow: &FlowControl) {
    let mut ticks = tokio::time::interval(ADJUST_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        flow.adjust();
    }
}

impl FlowControl {
    /// Divides the seats again, by what was wanted since the last time.
    pub(super) fn adjust(&self) {
        let rules = self.rules();
        let limited: Vec<&Configured> = rules
            .levels
            .values()
            .filter(|configured| configured.shape != Shape::Exempt)
            .collect();
        let mut levels: Vec<(Bounds, Demand)> = Vec::new();
        for configured in &limited {
            let seen = configured.level.turn_meter();
            let name = &configured.level.name;
            self.metrics.adjusted(name, seen, configured.bounds);
            levels.push((configured.bounds, seen.demand));
        }
        let (limits, fraction) = shares::allocate(self.total.0, &levels);
        for (configured, limit) in limited.iter().zip(limits) {
            // Where a level lent everything, one request at a time still gets through.
            configured.level.set_seats(limit.max(1));
        }
        self.metrics.fair_fraction(fraction);
    }

    /// Brings the gauges up to date that nobody looks at in between.
    pub(crate) fn observe(&self) {
        for (name, configured) in &self.rules().levels {
            let picture = configured.level.picture();
            let room = picture.room;
            self.metrics
                .now(name, picture.counts, room.seats, room.bytes);
        }
    }
}

async fn maintain(server: &Arc<ApiServer>) {
    server.ready().await;
    let mut ticks = tokio::time::interval(MAINTAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = bootstrap::keep_flow_control(server).await {
            let message = error.message;
            tracing::debug!(message, "flow control objects are put right later");
        }
    }
}

/// Writes into each flow schema whether its level is there, whenever one of them changes.
async fn tell(server: &Arc<ApiServer>) {
    server.ready().await;
    let world = &server.world;
    let (Some(schemas), Some(levels), Some(resource)) = (
        world.named(GROUP, "flowschemas"),
        world.named(GROUP, "prioritylevelconfigurations"),
        resources::find(GROUP, "v1", "flowschemas"),
    ) else {
        return;
    };
    let (mut schemas, mut levels) = (schemas.subscribe(), levels.subscribe());
    loop {
        schemas.mark_unchanged();
        levels.mark_unchanged();
        let mut failed = false;
        for entry in world.list(GROUP, "flowschemas", "") {
            let object = entry.object();
            if judged(server, &object).is_some()
                && let Err(error) = write_status(server, resource, entry.name()).await
            {
                failed |= error.code != 404;
                let (schema, message) = (entry.name(), error.message);
                tracing::debug!(schema, message, "a flow schema's status is written later");
            }
        }
        let pause = if failed { RETRY } else { FAR };
        tokio::select! {
            biased;
            changed = schemas.changed() => if changed.is_err() { return },
            changed = levels.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn write_status(server: &Arc<ApiServer>, resource: &Resource, name: &str) -> ApiResult<()> {
    let context = bootstrap::internal(server, resource, "", name);
    let mut make = |old: &Object, _: &Versions<'_>| {
        let mut new = old.clone();
        if let Some(condition) = judged(server, old) {
            let now = schema::time::now_rfc3339(context.now);
            set_condition(&mut new, condition, &now);
        }
        Ok(new)
    };
    let owner = Owner::Manager(CONSUMER, "status");
    let updated = update::apply(&context, resource, "status", false, owner, &mut make).await;
    updated.map(|_| ())
}

/// A new schema says it from the beginning, so that nobody has to write it a second time.
pub(crate) fn enter_status(context: &Context, resource: &Resource, object: &mut Object) {
    if resource.group != GROUP || resource.plural != "flowschemas" {
        return;
    }
    if let Some(condition) = judged(&context.server, object) {
        let now = schema::time::now_rfc3339(context.now);
        set_condition(object, condition, &now);
    }
}

/// The condition that a schema should have, where it has another one.
fn judged(server: &ApiServer, schema: &Object) -> Option<Value> {
    let level = schema.get(&["spec", "priorityLevelConfiguration", "name"]);
    let level = level.and_then(Value::as_str).unwrap_or_default();
    let is_there = server
        .world
        .get(GROUP, "prioritylevelconfigurations", "", level)
        .is_some();
    let wanted = condition(level, is_there);
    let has = |one: &&Value| {
        wanted.as_object().is_some_and(|wanted| {
            wanted
                .iter()
                .all(|(field, value)| one.get(field) == Some(value))
        })
    };
    let conditions = schema.get_array(&["status", "conditions"]);
    match conditions.is_some_and(|list| list.iter().any(|one| has(&one))) {
        true => None,
        false => Some(wanted),
    }
}

/// `Dangling`, in Kubernetes' words.
fn condition(level: &str, is_there: bool) -> Value {
    let (status, reason, end) = match is_there {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}"
    );
    json!({"type": "Dangling", "status": status, "reason": reason, "message": message})
}

fn set_condition(schema: &mut Object, mut condition: Value, now: &str) {
    let list = schema.get_array(&["status", "conditions"]);
    let mut list = list.cloned().unwrap_or_default();
    let before = list.iter().position(|one| one["type"] == condition["type"]);
    let since = before.and_then(|at| {
        let same = list[at]["status"] == condition["status"];
        same.then(|| list[at]["lastTransitionTime"].clone())
    });
    condition["lastTransitionTime"] = since.unwrap_or_else(|| now.into());
    match before {
        Some(at) => list[at] = condition,
        None => list.push(condition),
    }
    schema.set(&["status", "conditions"], Value::Array(list));
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use auth::User;
    use futures::FutureExt;
    use http::Method;

    use super::*;
    use crate::flow::{Kind, Sources, Urgency};
    use crate::request::{Query, RequestInfo};

    #[test]
    fn a_condition_keeps_its_time_while_it_says_the_same() {
        let mut schema = Object::new(json!({"metadata": {"name": "x"}})).unwrap();
        set_condition(&mut schema, condition("a", false), "t1");
        set_condition(&mut schema, condition("b", false), "t2");
        let conditions = schema.get_array(&["status", "conditions"]).unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["lastTransitionTime"], "t1");
        let message = "This FlowSchema references the PriorityLevelConfiguration object named \"b\" but there is no such object";
        assert_eq!(conditions[0]["message"], message);
        set_condition(&mut schema, condition("b", true), "t3");
        let conditions = schema.get_array(&["status", "conditions"]).unwrap();
        assert_eq!(
            (
                &conditions[0]["status"],
                &conditions[0]["lastTransitionTime"]
            ),
            (&json!("False"), &json!("t3"))
        );
    }

    /// A schema for all, of a level whose requests wait for its only seat.
    fn narrow() -> [Object; 2] {
        let queuing = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 10});
        let response = json!({"type": "Queue", "queuing": queuing});
        let limited = json!({"nominalConcurrencyShares": 1, "limitResponse": response});
        let level = json!({"metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": limited}});
        let subjects = json!([{"kind": "User", "user": {"name": "*"}}]);
        let all =
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]);
        let schema = json!({"metadata": {"name": "narrow"}, "spec": {"matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": "narrow"},
            "rules": [{"subjects": subjects, "resourceRules": all}]}});
        [schema, level].map(|value| Object::new(value).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_at_a_level_that_is_gone_gets_a_turn() {
        let control =
            FlowControl::from_sources(Sources::default(), 1, &prometheus::Registry::new());
        let [schema, level] = narrow();
        control.compile(&[schema], &[level]);
        let user = User::new("jane", ["dev"]);
        let uri = "/api/v1/namespaces/a/configmaps/x";
        let info = RequestInfo::parse(&Method::PUT, uri, &Query::default());
        let info = Arc::new(info);
        let matched = control.classify(&user, &info).unwrap();
        let begun = Instant::now();
        let enter = |kind| {
            let who = (&user, &info);
            matched.enter(who, kind, Urgency::Ordinary, begun + FAR)
        };
        let story = async {
            let write = enter(Kind::Write { watches: 10 }).await;
            drop(write.ok().unwrap());
            let mut next = pin!(enter(Kind::Small));
            assert!(next.as_mut().now_or_never().is_none());
            control.compile(&[], &[]);
            assert!(next.await.is_ok());
        };
        tokio::select! {
            biased;
            () = release(&control) => unreachable!("it goes on for ever"),
            () = story => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(control.gone.lock().unwrap().len(), 1);
        drop(matched);
        assert_eq!(control.release(), None);
        assert!(control.gone.lock().unwrap().is_empty());
    }
}
