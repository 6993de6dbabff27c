//! Tokens that a webhook knows: a TokenReview, and its answer for a while.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::User;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::outgoing::kubeconfig::Target;
use crate::outgoing::review::Reviewer;
use crate::recent::{self, Recent};
use crate::world::World;

/// A webhook that does not answer within this time knows nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the API group of the reviews.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Who a token stands for, and for which audiences.
pub(super) type Identity = (User, Vec<String>);

pub(crate) struct TokenWebhook {
    reviewer: Reviewer,
    version: String,
    /// How long an answer holds.
    time: Duration,
    answers: Recent<Option<Identity>>,
}

impl TokenWebhook {
    /// From a file in the form of a kubeconfig.
    pub(crate) fn read(
        world: &Arc<World>,
        file: &Path,
        version: &str,
        time: Duration,
    ) -> Result<TokenWebhook, String> {
        if !VERSIONS.contains(&version) {
            return Err(format!(
                "the version of TokenReviews is v1 or v1beta1, not {version:?}"
            ));
        }
        Ok(TokenWebhook {
            reviewer: Reviewer::new(Target::read(file)?.peer(world)?),
            version: version.to_owned(),
            time,
            answers: Recent::default(),
        })
    }

    /// None where the webhook does not know the token; an error, with what it says, where it cannot tell.
    pub(super) async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        own_audiences: &[String],
    ) -> Result<Option<Identity>, String> {
        let parts = [token]
            .into_iter()
            .chain(audiences.iter().map(String::as_str));
        let key = recent::key(parts);
        if let Some(known) = self.answers.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = json!({
            "kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": audiences}, "status": {"user": {}},
        });
        let status = self.reviewer.ask(&review, PATIENCE).await?;
        let identity = identity(&status, audiences, own_audiences)?;
        self.answers
            .put(key, identity.clone(), self.time, Instant::now());
        Ok(identity)
    }
}

/// What the status of a review says.
fn identity(
    status: &Value,
    audiences: &[String],
    own_audiences: &[String],
) -> Result<Option<Identity>, String> {
    // A webhook that knows nothing of audiences speaks of this server's.
    let good_for = match texts(&status["audiences"]) {
        none if none.is_empty() => own_audiences.to_vec(),
        some => some,
    };
    let good_for: Vec<String> = audiences
        .iter()
        .filter(|one| good_for.contains(one))
        .cloned()
        .collect();
    if status["authenticated"] != Value::Bool(true) {
        return match status["error"].as_str().unwrap_or_default() {
            "" => Ok(None),
            error => Err(error.chars().take(1_000).collect()),
        };
    }
    let user = user(&status["user"]);
    Ok((!good_for.is_empty() && !user.name.is_empty()).then_some((user, good_for)))
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user(info: &Value) -> User {
    let text = |field: &str| info[field].as_str().unwrap_or_default();
    let mut user = User::new(text("username"), texts(&info["groups"]));
    user.uid = text("uid").to_owned();
    for (key, values) in info["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), texts(values));
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_names_a_user_for_audiences() {
        let own = ["api".to_owned()];
        let asked = ["api".to_owned(), "other".to_owned()];
        let jane = json!({"authenticated": true, "user": {"username": "jane", "uid": "7", "groups": ["dev"],
            "extra": {"a": ["b"]}}});
        let (user, good_for) = identity(&jane, &asked, &own).unwrap().unwrap();
        assert_eq!(good_for, ["api"]);
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(
            (user.groups, &user.extra["a"]),
            (vec!["dev".to_owned()], &vec!["b".to_owned()])
        );
        let mut for_other = jane.clone();
        for_other["audiences"] = json!(["other", "more"]);
        assert_eq!(
            identity(&for_other, &asked, &own).unwrap().unwrap().1,
            ["other"]
        );
        assert_eq!(identity(&for_other, &own, &own), Ok(None));
        assert_eq!(identity(&jane, &["other".to_owned()], &own), Ok(None));
    }

    #[test]
    fn a_review_that_names_nobody() {
        let own = ["api".to_owned()];
        for nobody in [
            json!({}),
            json!({"authenticated": false, "user": {"username": "jane"}}),
            json!({"authenticated": "true", "user": {"username": "jane"}}),
            json!({"authenticated": true, "user": {"username": ""}}),
            json!({"authenticated": true, "user": 7, "audiences": 7}),
        ] {
            assert_eq!(identity(&nobody, &own, &own), Ok(None), "{nobody}");
        }
        let error = json!({"authenticated": false, "error": "broken"});
        assert_eq!(identity(&error, &own, &own), Err("broken".to_owned()));
    }
}
