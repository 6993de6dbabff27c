//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: programs of others that change and judge what is written.
//!
//! The configurations are read when the caches have new ones, not when requests come: without webhooks a request pays for
//! one look at a flag. Mutating webhooks are asked one after the other, in the order of their configurations' names, each
//! about what the ones before it left; validating ones all at once. What a webhook changes belongs to no field manager.

pub(super) mod hook;
mod identity;
pub(super) mod matching;
pub(super) mod review;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::watch;
use resources::Resource;
use schema::Object;
use schema::decode::FieldValidation;
use schema::structural::Schema;
use serde_json::Value;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::admission::policy::inputs::{self, Rights, Seen};
use crate::cache::Cache;
use crate::metrics::{WebhookCall, WebhookOutcome};
use crate::status::{ApiError, ApiResult, quoted};
use crate::world::World;
use hook::Hook;
pub(super) use identity::keep_identity;
use matching::Shape;
use review::{Request, Verdict};

/// The end of the keys under which the audit log has what became of calls.
const ANNOTATION: &str = "webhook.admission.k8s.io/";
/// The code that is counted where there is no answer.
const NO_ANSWER: u16 = 503;
/// Warnings that are taken from one answer.
const WARNINGS_MAX: usize = 256;

/// Hooks of one sort, in the order in which they are asked.
pub(crate) type Hooks = Arc<Vec<Arc<Hook>>>;

/// All webhooks of the cluster, as of this member's caches.
pub(crate) struct Webhooks {
    mutating: Registry,
    validating: Registry,
}

impl Webhooks {
    pub(crate) fn new(world: &Arc<World>) -> Webhooks {
        Webhooks {
            mutating: Registry::new(world, "mutatingwebhookconfigurations"),
            validating: Registry::new(world, "validatingwebhookconfigurations"),
        }
    }

    /// Whether there are none at all.
    pub(super) fn has_none(&self) -> bool {
        self.mutating.hooks().is_empty() && self.validating.hooks().is_empty()
    }
}

/// The webhooks of one kind of configuration.
struct Registry {
    world: Arc<World>,
    cache: Option<Arc<Cache>>,
    read: Mutex<Read>,
}

struct Read {
    wake: Option<watch::Receiver<u64>>,
    hooks: Hooks,
}

impl Registry {
    fn new(world: &Arc<World>, plural: &str) -> Registry {
        let cache = world.named("admissionregistration.k8s.io", plural).cloned();
        let wake = cache.as_ref().map(|cache| {
            let mut wake = cache.subscribe();
            wake.mark_changed();
            wake
        });
        Registry {
            world: world.clone(),
            cache,
            read: Mutex::new(Read {
                wake,
                hooks: Hooks::default(),
            }),
        }
    }

    fn hooks(&self) -> Hooks {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = read
            .wake
            .as_ref()
            .is_some_and(|wake| wake.has_changed().unwrap_or(false));
        if let (true, Some(cache)) = (changed, &self.cache) {
            if let Some(wake) = read.wake.as_mut() {
                // Before the look: what comes during it is looked at next time.
                wake.mark_unchanged();
            }
            let snapshot = cache.snapshot(0);
            let hooks = snapshot
                .tree
                .iter_prefix(&cache.prefix)
                .flat_map(|entry| Hook::list(&self.world, &entry.object(), &read.hooks))
                .collect();
            read.hooks = Arc::new(hooks);
        }
        read.hooks.clone()
    }
}

/// What the rounds of one request through the mutating webhooks have to know of each other.
pub(super) struct Rounds {
    hooks: Hooks,
    /// Whether this is the second round, which is the last.
    again: bool,
    /// Whether a webhook changed the object in the first.
    changed: bool,
    /// Webhooks that wish to see later changes and were asked before the last one.
    asked: Vec<usize>,
    /// Those of them that are asked in the second round.
    due: Vec<usize>,
    /// What the webhooks left.
    left: Option<Object>,
}

impl Rounds {
    pub(super) fn new(admission: &Admission<'_>) -> Rounds {
        let hooks = if matching::is_exempt(admission.resource) {
            Hooks::default()
        } else {
            admission.context.server.webhooks.mutating.hooks()
        };
        Rounds {
            hooks,
            again: false,
            changed: false,
            asked: Vec::new(),
            due: Vec::new(),
            left: None,
        }
    }

    /// Whether there is no webhook that could be asked.
    pub(super) fn is_nothing(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Whether everything has to run once more; true at most once.
    pub(super) fn go_again(&mut self) -> bool {
        let again = self.changed && !self.again;
        self.again |= again;
        again
    }

    /// Whether this is the second round.
    pub(super) fn is_again(&self) -> bool {
        self.again
    }

    /// Somebody else changed the object: those that wish to see that are asked again.
    pub(super) fn note_other_change(&mut self) {
        self.changed = true;
    }

    fn note_change(&mut self) {
        self.due.append(&mut self.asked);
    }
}

/// Why a webhook's word does not count, or counts against the request.
enum Failure {
    /// The call brought no answer that counts; the hook's failure policy decides. With the code of the answer, for figures.
    Call(String, u16),
    Refused(ApiError),
}

impl Failure {
    /// There is no answer, or none that says anything.
    fn call(reason: String) -> Failure {
        Failure::Call(reason, NO_ANSWER)
    }
}

/// One round of the mutating webhooks. `object` is none on delete.
pub(super) async fn mutate(
    admission: &Admission<'_>,
    mut object: Option<&mut Object>,
    rounds: &mut Rounds,
) -> ApiResult<()> {
    if rounds.hooks.is_empty() {
        return Ok(());
    }
    if rounds.again && rounds.left.as_ref() != object.as_deref() {
        // The built-in plugins changed what the webhooks left.
        rounds.note_change();
    }
    let hooks = rounds.hooks.clone();
    for (index, hook) in hooks.iter().enumerate() {
        let Some(shape) = concerning(admission, hook, object.as_deref()).await? else {
            continue;
        };
        if rounds.again && !rounds.due.contains(&index) {
            continue;
        }
        let place = format!("round_{}_index_{index}", u8::from(rounds.again));
        let begun = Instant::now();
        let outcome = change(admission, hook, &shape, object.as_deref_mut(), &place).await;
        admission.context.outside.add(begun.elapsed());
        count(admission, hook, "admit", begun, outcome.as_ref().err());
        note_mutation(admission, hook, matches!(outcome, Ok(true)), &place);
        if matches!(outcome, Ok(true)) {
            rounds.changed = true;
            rounds.note_change();
        }
        if hook.reinvoked {
            rounds.asked.push(index);
        }
        match outcome {
            Ok(_) => {}
            Err(failure) => judge(
                admission,
                hook,
                failure,
                &format!("mutation.{ANNOTATION}{place}"),
            )?,
        }
    }
    rounds.left = object.as_deref().cloned();
    Ok(())
}

/// Asks all validating webhooks that the request concerns. The first refusal in their order counts.
pub(super) async fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    if matching::is_exempt(admission.resource) {
        return Ok(());
    }
    let hooks = admission.context.server.webhooks.validating.hooks();
    if hooks.is_empty() {
        return Ok(());
    }
    let mut concerned = Vec::new();
    for (index, hook) in hooks.iter().enumerate() {
        if let Some(shape) = concerning(admission, hook, object).await? {
            concerned.push((index, hook, shape));
        }
    }
    let asked = concerned
        .into_iter()
        .map(|(index, hook, shape)| async move {
            let begun = Instant::now();
            let outcome = ask(admission, hook, &shape, object, false).await;
            count(admission, hook, "validating", begun, outcome.as_ref().err());
            match outcome {
                Ok(_) => Ok(()),
                Err(failure) => {
                    let place = format!("validating.{ANNOTATION}round_0_index_{index}");
                    judge(admission, hook, failure, &place)
                }
            }
        });
    let begun = Instant::now();
    let outcomes = futures::future::join_all(asked).await;
    admission.context.outside.add(begun.elapsed());
    outcomes.into_iter().collect()
}

/// The shape in which a webhook is asked; none where its rules, selectors or conditions leave the request out.
async fn concerning<'a>(
    admission: &Admission<'a>,
    hook: &Hook,
    object: Option<&Object>,
) -> ApiResult<Option<Shape<'a>>> {
    let shape = matching::shape(admission, &hook.criteria, object).await?;
    let Some(shape) = shape else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(shape));
    }
    let rights = Rights::new(admission.context);
    let (namespace, seen) = (
        inputs::namespace(admission, hook.named),
        Seen::new(admission, object, &shape, hook.named).await?,
    );
    let inputs = seen.inputs(&Value::Null, &namespace, &rights);
    match hook.conditions.match_inputs(&inputs) {
        Ok(matches) => Ok(matches.then(|| shape.clone())),
        Err(text) => {
            tracing::warn!(
                webhook = hook.name,
                text,
                "a match condition failed; the request is refused"
            );
            let (group, plural) = (&admission.resource.group, &admission.resource.plural);
            let name = admission.name(object);
            Err(ApiError::forbidden(group, plural, name, &text))
        }
    }
}

/// Counts a call, its time and what became of it.
fn count(
    admission: &Admission<'_>,
    hook: &Hook,
    kind: &'static str,
    begun: Instant,
    failure: Option<&Failure>,
) {
    let outcome = match failure {
        None => WebhookOutcome::Allowed,
        Some(Failure::Call(_, code)) => WebhookOutcome::Failed {
            closed: hook.fails_closed,
            code: *code,
        },
        Some(Failure::Refused(error)) if error.message.starts_with("admission webhook ") => {
            WebhookOutcome::Refused(error.code)
        }
        Some(Failure::Refused(_)) => WebhookOutcome::Refused(0),
    };
    let call = WebhookCall {
        name: &hook.name,
        kind,
        operation: admission.operation.as_str(),
        elapsed: begun.elapsed(),
    };
    admission
        .context
        .server
        .metrics
        .calls
        .called(&call, &outcome);
}

/// Tells the audit log that a mutating webhook was asked, and whether it changed something.
fn note_mutation(admission: &Admission<'_>, hook: &Hook, mutated: bool, place: &str) {
    let (configuration, webhook) = (quoted(&hook.configuration), quoted(&hook.name));
    let value = format!(
        "{{\"configuration\":{configuration},\"webhook\":{webhook},\"mutated\":{mutated}}}"
    );
    let audit = &admission.context.audit;
    audit.annotate(&format!("mutation.{ANNOTATION}{place}"), &value);
}

/// Tells the audit log what a webhook changed, where it has bodies, too.
fn note_patch(admission: &Admission<'_>, hook: &Hook, patch: &Value, place: &str) {
    let audit = &admission.context.audit;
    if audit.tells_bodies() {
        let (configuration, webhook) = (quoted(&hook.configuration), quoted(&hook.name));
        let value = format!(
            "{{\"configuration\":{configuration},\"webhook\":{webhook},\"patch\":{patch},\"patchType\":\"JSONPatch\"}}"
        );
        audit.annotate(&format!("patch.{ANNOTATION}{place}"), &value);
    }
}

/// What a failure means for the request. `place` is where the audit log has that it is left out.
fn judge(admission: &Admission<'_>, hook: &Hook, failure: Failure, place: &str) -> ApiResult<()> {
    let reason = match failure {
        Failure::Refused(error) => return Err(error),
        Failure::Call(reason, _) => reason,
    };
    let text = format!("failed calling webhook {}: {reason}", quoted(&hook.name));
    if hook.fails_closed {
        tracing::warn!(
            webhook = hook.name,
            reason,
            "webhook failed; the request is refused"
        );
        return Err(ApiError::internal(text));
    }
    tracing::warn!(
        webhook = hook.name,
        reason,
        "webhook failed; it is left out"
    );
    let audit = &admission.context.audit;
    audit.annotate(&format!("failed-open.{place}"), &hook.name);
    if Instant::now() >= admission.context.deadline {
        return Err(ApiError::timeout(
            "request did not complete within requested timeout",
        ));
    }
    Ok(())
}

/// Asks a webhook, and takes over what it changes. True where that is something.
async fn change(
    admission: &Admission<'_>,
    hook: &Hook,
    shape: &Resource,
    object: Option<&mut Object>,
    place: &str,
) -> Result<bool, Failure> {
    let verdict = ask(admission, hook, shape, object.as_deref(), true).await?;
    if verdict.patch.is_empty() {
        return Ok(false);
    }
    let internal = |text: &dyn std::fmt::Display| Failure::Refused(ApiError::internal(text));
    // No answer either: the failure policy decides.
    let undecodable = |text: &dyn std::fmt::Display| {
        Failure::call(format!(
            "received undecodable patch in webhook response: {text}"
        ))
    };
    let operations = schema::decode::json(Schema::Any, &verdict.patch, FieldValidation::Ignore)
        .map_err(|error| undecodable(&error))?
        .value;
    match operations.as_array() {
        None => return Err(undecodable(&schema::patch::json::not_a_patch(&operations))),
        Some(operations) if operations.is_empty() => return Ok(false),
        Some(_) => {}
    }
    let Some(object) = object else {
        return Err(internal(&format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            quoted(&hook.name)
        )));
    };
    if verdict.patch_type != "JSONPatch" {
        let kind = quoted(&verdict.patch_type);
        return Err(Failure::call(format!("unsupported patch type {kind}")));
    }
    let sent = shaped(admission, object, shape).await;
    let sent = sent.map_err(Failure::Refused)?;
    let patched = schema::patch::json::apply_value(sent.value(), &operations)
        .map_err(|error| internal(&error))?;
    let mut new = decoded(admission, shape, patched).map_err(|error| internal(&error))?;
    note_patch(admission, hook, &operations, place);
    let is_custom = shape.custom.is_some() && admission.kind.is_none();
    keep_identity(&mut new, &sent, is_custom).map_err(Failure::Refused)?;
    if new == sent {
        return Ok(false);
    }
    if admission.kind.is_none() {
        shape.default(&mut new);
    }
    *object = unshaped(admission, new, shape)
        .await
        .map_err(Failure::Refused)?;
    Ok(true)
}

/// What describes the objects that are written.
pub(super) fn schema_of<'a>(admission: &Admission<'_>, shape: &'a Resource) -> Schema<'a> {
    match admission.kind {
        Some((group, version, kind)) => schema::type_of(group, version, kind).into(),
        None => shape.schema(),
    }
}

/// A patched object with the fields that its type has.
pub(super) fn decoded(
    admission: &Admission<'_>,
    shape: &Resource,
    patched: Value,
) -> Result<Object, String> {
    let ty = schema_of(admission, shape);
    let decoded = schema::decode::value(ty, patched, FieldValidation::Ignore)
        .map_err(|error| error.to_string())?;
    Object::new(decoded.value).map_err(|error| error.to_string())
}

/// The object in another shape of its kind.
pub(super) async fn shaped(
    admission: &Admission<'_>,
    object: &Object,
    shape: &Resource,
) -> ApiResult<Object> {
    let object = object.clone();
    if std::ptr::eq(shape, admission.resource) {
        return Ok(object);
    }
    let server = &admission.context.server;
    server.in_shape(admission.resource, shape, object).await
}

/// An object of another shape in that of the request.
pub(super) async fn unshaped(
    admission: &Admission<'_>,
    object: Object,
    shape: &Resource,
) -> ApiResult<Object> {
    if std::ptr::eq(shape, admission.resource) {
        return Ok(object);
    }
    let server = &admission.context.server;
    server.in_shape(shape, admission.resource, object).await
}

/// One call.
async fn ask(
    admission: &Admission<'_>,
    hook: &Hook,
    shape: &Resource,
    object: Option<&Object>,
    mutating: bool,
) -> Result<Verdict, Failure> {
    if admission.dry_run && hook.has_side_effects {
        return Err(Failure::Refused(ApiError::bad_request(format!(
            "admission webhook {} does not support dry run",
            quoted(&hook.name)
        ))));
    }
    let peer = hook
        .peer
        .as_ref()
        .map_err(|error| Failure::call(format!("could not get REST client: {error}")))?;
    let uid = crate::chance::uuid().to_string();
    let body = body(admission, hook, shape, object, &uid).await;
    let body = body.map_err(Failure::Refused)?;
    let now = Instant::now();
    let deadline = admission.context.deadline.min(now + hook.timeout);
    let query = format!("timeout={}s", seconds_up(deadline - now));
    let answer = peer.post(&query, body, deadline).await;
    let answer =
        answer.map_err(|error| Failure::call(format!("failed to call webhook: {error}")))?;
    let asked = (uid.as_str(), hook.review_version);
    let verdict = review::read(answer.status, &answer.body, asked, mutating);
    let verdict = verdict.map_err(|reason| match answer.status.is_success() {
        true => Failure::call(reason),
        false => Failure::Call(reason, answer.status.as_u16()),
    })?;
    for (key, value) in &verdict.annotations {
        let key = format!("{}/{key}", hook.name);
        // What could be no key of an annotation is left out, as in Kubernetes.
        if schema::names::is_qualified_name(&key).is_empty() {
            admission.context.audit.annotate(&key, value);
        }
    }
    for warning in verdict.warnings.iter().take(WARNINGS_MAX) {
        admission.context.warn(warning.as_str());
    }
    if verdict.allowed {
        Ok(verdict)
    } else {
        Err(Failure::Refused(verdict.refusal(&hook.name)))
    }
}

/// Whole seconds, rounded up.
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

async fn body(
    admission: &Admission<'_>,
    hook: &Hook,
    shape: &Resource,
    object: Option<&Object>,
    uid: &str,
) -> ApiResult<Bytes> {
    let object = match object {
        Some(object) => Some(shaped(admission, object, shape).await?),
        None => None,
    };
    let old = match admission.old {
        Some(old) => Some(shaped(admission, old, shape).await?),
        None => None,
    };
    let request = Request {
        uid,
        resource: shape,
        requested: admission.resource,
        subresource: admission.subresource,
        kind: admission.kind,
        name: admission.name(object.as_ref()),
        namespace: admission.namespace(object.as_ref()),
        operation: admission.operation,
        user: &admission.context.user,
        object: object.as_ref().map(Object::value),
        old: old.as_ref().map(Object::value),
        dry_run: admission.dry_run,
        options: &admission.options(),
    };
    let review = request.to_json(hook.review_version);
    Ok(Bytes::from(review.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_told_in_whole_seconds() {
        for (millis, seconds) in [(10_000, 10), (9_001, 10), (1, 1), (0, 0)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds);
        }
    }
}
