//! Whether the node takes the pod, and whether it has to give way to a more important one.

use agent_runtime::EventType;
use time::OffsetDateTime;

use super::Worker;
use crate::clock;
use crate::node;
use crate::pod::admission::{self, Admission, preempt, site::Site};
use crate::pod::plan;
use crate::pod::status::Verdict;

impl Worker {
    /// Why this node does not take the pod, of which nothing has begun. Of two that come at once, one is taken. Those in whose
    /// place it is taken are told to end.
    pub(super) async fn refusal(&mut self) -> Option<Verdict> {
        let uid = &self.pod.metadata.uid;
        if plan::is_recorded_terminal(&self.pod) || self.agent.admitted().has(uid) {
            return None;
        }
        let object = self.desired.object();
        let has_begun = admission::was_taken(&object)
            || self.observed.sandbox().is_some()
            || self.observed.all_containers().next().is_some();
        if has_begun {
            self.agent.admitted().keep(uid);
            return None;
        }
        // Who was deleted by force holds nothing any more, though it may not have ended.
        let decide = |site: &Site, is_last: bool| {
            let mut admitted = self.agent.admitted();
            let admission = admitted.take(site, &object, &self.agent.present_objects());
            if let Admission::InPlaceOf(victims) = &admission
                && is_last
            {
                admitted.replace(uid, victims);
            }
            admission
        };
        if let Some(known) = self.agent.site()
            && decide(&known, false) == Admission::Taken
        {
            return None;
        }
        // What is known of the node may be a little old: nobody is refused or ended for that.
        let site = node::look(&self.agent).await;
        match decide(&site, true) {
            Admission::Taken => None,
            Admission::Refused(verdict) => {
                let text = verdict.message.trim_start_matches(admission::REJECTED);
                self.event(None, EventType::Warning, verdict.reason, text.to_owned());
                Some(verdict)
            }
            Admission::InPlaceOf(victims) => {
                let patience = self.agent.preempt(&victims);
                self.replaced = Some((victims, clock::now() + patience));
                None
            }
        }
    }

    /// Whether those in whose place the pod was taken still have it, and may take the time for that.
    pub(super) fn waits_for_room(&mut self, now: OffsetDateTime) -> bool {
        let agent = &self.agent;
        self.replaced = self.replaced.take().filter(|(victims, until)| {
            *until > now && victims.iter().any(|uid| agent.is_occupied_by(uid))
        });
        self.replaced.is_some()
    }

    /// The node ends the pod for a more important one.
    pub(super) fn end_if_preempted(&mut self) {
        let over = plan::is_recorded_terminal(&self.pod) || self.verdict.is_some();
        if self.desired.is_preempted() && !over {
            let message = preempt::MESSAGE.to_owned();
            self.event(None, EventType::Warning, preempt::REASON, message.clone());
            self.verdict = Some(Verdict {
                reason: preempt::REASON,
                message,
            });
        }
    }
}
