//! Alarms: what members have found wrong with themselves, replicated, so that every member knows.

use bytes::Bytes;

use crate::command::{Alarm, AlarmChange, AlarmKind, Alarms};
use crate::view::{Staged, View};

/// Names of the records: this, the member, the kind, both as big endian numbers.
const PREFIX: &[u8] = b"alarm/";

/// Answers what has changed by it: raising what is raised, or ending what is not there, changes nothing.
pub(crate) fn apply(staged: &mut Staged<'_>, change: AlarmChange) -> Alarms {
    let changed: Vec<Alarm> = if change.raised {
        let known = AlarmKind::try_from(change.alarm.kind);
        let new = matches!(known, Ok(AlarmKind::NoSpace | AlarmKind::Corrupt))
            && change.alarm.member != 0
            && staged.record(&name(change.alarm)).is_none();
        new.then_some(change.alarm).into_iter().collect()
    } else {
        let mut ended = alarms(staged);
        ended.retain(|alarm| matches(*alarm, change.alarm));
        ended
    };
    for alarm in &changed {
        let value = change.raised.then(Bytes::new);
        staged.set_record(name(*alarm), value);
    }
    Alarms { alarms: changed }
}

/// Whether an alarm is of the member and the kind of another, where 0 means any.
pub fn matches(alarm: Alarm, asked: Alarm) -> bool {
    (asked.member == 0 || asked.member == alarm.member)
        && (asked.kind == AlarmKind::None as i32 || asked.kind == alarm.kind)
}

/// All alarms, by member and kind.
pub fn alarms(view: &dyn View) -> Vec<Alarm> {
    let records = view.records(PREFIX).into_iter();
    records.filter_map(|(name, _)| alarm_of(&name)).collect()
}

fn name(alarm: Alarm) -> Bytes {
    [
        PREFIX,
        &alarm.member.to_be_bytes(),
        &alarm.kind.to_be_bytes(),
    ]
    .concat()
    .into()
}

fn alarm_of(name: &[u8]) -> Option<Alarm> {
    let (member, kind) = name.strip_prefix(PREFIX)?.split_at_checked(8)?;
    Some(Alarm {
        member: u64::from_be_bytes(member.try_into().ok()?),
        kind: i32::from_be_bytes(kind.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Entry, Reply};
    use crate::mem::MemState;

    fn alarm(member: u64, kind: AlarmKind) -> Alarm {
        Alarm {
            member,
            kind: kind as i32,
        }
    }

    fn change(state: &mut MemState, alarm: Alarm, raised: bool) -> Vec<Alarm> {
        let entry = Entry::new(0, Command::Alarm(AlarmChange { alarm, raised }));
        let (response, _) = state.apply(&entry, 1).unwrap();
        match response.body.unwrap() {
            Reply::Alarms(changed) => changed.alarms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn alarms_are_raised_once_and_ended_by_member_or_kind() {
        let mut state = MemState::default();
        let full = alarm(7, AlarmKind::NoSpace);
        let wrong = alarm(7, AlarmKind::Corrupt);
        let other = alarm(0xffff_ffff_ffff_ffff, AlarmKind::NoSpace);
        for raised in [full, wrong, other] {
            assert_eq!(change(&mut state, raised, true), [raised]);
            assert_eq!(change(&mut state, raised, true), []);
        }
        assert_eq!(alarms(&state.view()), [full, wrong, other]);
        assert_eq!(state.catalog.revision(), 1, "an alarm is no revision");
        let of_any_member = alarm(0, AlarmKind::NoSpace);
        assert_eq!(change(&mut state, of_any_member, false), [full, other]);
        assert_eq!(alarms(&state.view()), [wrong]);
        assert_eq!(change(&mut state, alarm(8, AlarmKind::None), false), []);
        assert_eq!(
            change(&mut state, alarm(7, AlarmKind::None), false),
            [wrong]
        );
        assert_eq!(alarms(&state.view()), []);
    }

    #[test]
    fn what_is_no_alarm_is_not_raised() {
        let mut state = MemState::default();
        for none in [alarm(7, AlarmKind::None), alarm(0, AlarmKind::Corrupt)] {
            assert_eq!(change(&mut state, none, true), []);
        }
        let unknown = Alarm { member: 7, kind: 9 };
        assert_eq!(change(&mut state, unknown, true), []);
        assert_eq!(alarms(&state.view()), []);
    }
}
