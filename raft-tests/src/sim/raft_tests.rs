use std::collections::BTreeSet;

use super::*;

fn place(term: u64, index: u64) -> Place {
    Place { term, index }
}

fn append(term: u64, index: u64) -> Logged {
    Logged::Appended {
        place: place(term, index),
        hash: 100 * term + index,
    }
}

fn look(member: u64, state: RaftState) -> Look {
    Look {
        member,
        life: 1,
        state,
        digest: None,
    }
}

fn follower(term: u64, committed: Option<Place>) -> RaftState {
    RaftState {
        term,
        voted_for: 1,
        elected: true,
        last: Some(100),
        committed,
        ..RaftState::default()
    }
}

fn leader(term: u64, committed: Option<Place>) -> RaftState {
    RaftState {
        leads: true,
        voters: vec![BTreeSet::from([1, 2, 3])],
        voters_at: Some(0),
        ..follower(term, committed)
    }
}

fn vote(term: u64, candidate: u64) -> Logged {
    Logged::Voted(Voted {
        term,
        candidate,
        won: false,
    })
}

/// Three members with the entries 0 to 2 of term 1, which member 1 has committed as its leader.
fn settled() -> Oracle {
    let mut oracle = Oracle::default();
    for member in 1..=3 {
        (0..3).for_each(|index| oracle.logged(member, &append(1, index)));
    }
    (1..=2).for_each(|member| oracle.logged(member, &vote(1, 1)));
    oracle.look(look(1, leader(1, Some(place(1, 2)))));
    oracle.look(look(2, follower(1, Some(place(1, 1)))));
    oracle.look(look(3, follower(1, None)));
    assert_eq!(oracle.violations(), []);
    oracle
}

fn rules(oracle: &Oracle) -> Vec<String> {
    let violations = oracle.violations().into_iter();
    violations.map(|violation| violation.rule).collect()
}

#[test]
fn a_term_has_one_leader() {
    let mut oracle = settled();
    let second = RaftState {
        voted_for: 2,
        ..leader(1, Some(place(1, 1)))
    };
    oracle.look(look(2, second));
    assert_eq!(rules(&oracle), ["two leaders"]);
}

#[test]
fn one_entry_is_the_same_everywhere() {
    let mut oracle = settled();
    oracle.logged(4, &append(1, 0));
    let other = Logged::Appended {
        place: place(1, 1),
        hash: 7,
    };
    oracle.logged(4, &other);
    assert_eq!(rules(&oracle), ["raft: log matching"]);
}

#[test]
fn one_entry_follows_the_same_everywhere() {
    let mut oracle = settled();
    oracle.logged(1, &append(3, 3));
    oracle.logged(2, &append(2, 3));
    oracle.logged(1, &append(3, 4));
    assert_eq!(oracle.violations(), []);
    oracle.logged(2, &append(3, 4));
    assert_eq!(rules(&oracle), ["raft: log matching"]);
}

#[test]
fn a_leader_has_what_was_committed() {
    let elected = RaftState {
        voted_for: 3,
        ..leader(2, None)
    };
    let settled = || {
        let mut oracle = settled();
        for member in [1, 3] {
            oracle.logged(member, &vote(2, 3));
        }
        oracle
    };
    let mut oracle = settled();
    oracle.look(look(3, elected.clone()));
    assert_eq!(oracle.violations(), []);

    let mut oracle = settled();
    oracle.logged(3, &Logged::Made);
    oracle.logged(3, &append(1, 0));
    oracle.look(look(3, elected.clone()));
    assert_eq!(rules(&oracle), ["raft: leader without a committed entry"]);

    // A snapshot has it as well.
    let mut oracle = settled();
    oracle.logged(3, &Logged::Made);
    oracle.logged(3, &Logged::Purged(place(1, 2)));
    oracle.look(look(3, elected));
    assert_eq!(oracle.violations(), []);
}

#[test]
fn a_leader_has_the_votes_of_a_quorum_on_disk() {
    let elected = || RaftState {
        voted_for: 3,
        ..leader(5, None)
    };
    let judged = |votes: &[(u64, Logged)], state| {
        let mut oracle = settled();
        let votes = votes.iter();
        votes.for_each(|(member, vote)| oracle.logged(*member, vote));
        oracle.look(look(3, state));
        rules(&oracle)
    };
    let without = ["raft: elected without a quorum"];
    assert_eq!(judged(&[(3, vote(5, 3))], elected()), without);
    let other = [(3, vote(5, 3)), (1, vote(5, 1)), (2, vote(4, 3))];
    assert_eq!(judged(&other, elected()), without);
    let nobody = Vec::<String>::new();
    assert_eq!(
        judged(&[(3, vote(5, 3)), (2, vote(5, 3))], elected()),
        nobody
    );
    // It may have voted for this leader before.
    assert_eq!(
        judged(&[(3, vote(5, 3)), (2, vote(6, 2))], elected()),
        nobody
    );
    let changing = RaftState {
        voters: vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([3, 4, 5])],
        ..elected()
    };
    assert_eq!(
        judged(&[(3, vote(5, 3)), (2, vote(5, 3))], changing),
        nobody
    );
}

#[test]
fn terms_grow_along_a_log() {
    let mut oracle = settled();
    oracle.logged(2, &append(1, 3));
    oracle.logged(2, &append(1, 4));
    oracle.logged(2, &Logged::Truncated { from: 3 });
    oracle.logged(2, &append(2, 3));
    assert_eq!(oracle.violations(), []);
    let mut oracle = settled();
    oracle.logged(2, &append(1, 3));
    oracle.logged(2, &append(1, 4));
    oracle.logged(2, &append(2, 3));
    assert_eq!(rules(&oracle), ["raft: terms out of order"]);
    let mut oracle = settled();
    oracle.logged(2, &append(2, 3));
    oracle.logged(2, &append(1, 4));
    assert_eq!(rules(&oracle), ["raft: terms out of order"]);
}

#[test]
fn committed_entries_stay() {
    let mut oracle = settled();
    oracle.logged(2, &append(1, 3));
    oracle.logged(2, &Logged::Truncated { from: 3 });
    assert_eq!(oracle.violations(), []);
    oracle.logged(2, &Logged::Truncated { from: 2 });
    assert_eq!(rules(&oracle), ["raft: committed entry removed"]);
}

#[test]
fn committed_entries_are_the_same_for_all() {
    let mut oracle = settled();
    oracle.look(look(2, follower(2, Some(place(2, 2)))));
    assert_eq!(rules(&oracle), ["raft: committed entry changed"]);
}

#[test]
fn what_was_committed_on_the_way_counts_too() {
    let mut oracle = settled();
    oracle.logged(1, &append(1, 3));
    oracle.logged(2, &append(1, 3));
    oracle.look(look(1, leader(1, Some(place(1, 3)))));
    // It has another entry 2, that nobody sees at its end.
    oracle.logged(3, &Logged::Made);
    (0..2).for_each(|index| oracle.logged(3, &append(1, index)));
    oracle.logged(3, &append(2, 2));
    oracle.logged(3, &append(2, 3));
    oracle.logged(3, &append(2, 4));
    oracle.look(look(3, follower(2, Some(place(2, 4)))));
    assert_eq!(rules(&oracle), ["raft: committed entry changed"]);
}

#[test]
fn what_a_leader_commits_is_on_a_quorum() {
    let mut oracle = settled();
    oracle.logged(1, &append(1, 3));
    oracle.look(look(1, leader(1, Some(place(1, 3)))));
    assert_eq!(rules(&oracle), ["raft: committed without a quorum"]);

    let mut oracle = settled();
    oracle.logged(2, &append(1, 3));
    oracle.logged(3, &append(1, 3));
    oracle.look(look(1, leader(1, Some(place(1, 3)))));
    assert_eq!(
        oracle.violations(),
        [],
        "two of three, without the leader itself"
    );
}

#[test]
fn while_the_voters_change_a_quorum_of_both_sets_is_needed() {
    let joint = |at| RaftState {
        voters: vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])],
        voters_at: Some(at),
        ..leader(1, Some(place(1, 3)))
    };
    let mut oracle = settled();
    oracle.logged(1, &append(1, 3));
    oracle.logged(2, &append(1, 3));
    oracle.look(look(1, joint(4)));
    assert_eq!(
        oracle.violations(),
        [],
        "the entry is older than the change"
    );

    let mut oracle = settled();
    oracle.logged(1, &append(1, 3));
    oracle.logged(2, &append(1, 3));
    oracle.look(look(1, joint(3)));
    assert_eq!(rules(&oracle), ["raft: committed without a quorum"]);
}

#[test]
fn states_are_in_order() {
    let mut oracle = settled();
    let state = RaftState {
        applied: Some(place(1, 2)),
        ..follower(1, Some(place(1, 1)))
    };
    oracle.look(look(2, state));
    assert_eq!(rules(&oracle), ["raft: order of states"]);
    for (purged, snapshot) in [(2, 1), (1, 2)] {
        let mut oracle = settled();
        let state = RaftState {
            purged: Some(place(1, purged)),
            snapshot: Some(place(1, snapshot)),
            applied: Some(place(1, 1)),
            ..follower(1, Some(place(1, 2)))
        };
        oracle.look(look(2, state));
        assert_eq!(rules(&oracle), ["raft: order of states"]);
    }
    let mut oracle = settled();
    let state = RaftState {
        last: Some(1),
        ..follower(1, Some(place(1, 2)))
    };
    oracle.look(look(2, state));
    assert_eq!(rules(&oracle), ["raft: order of states"]);
}

#[test]
fn nothing_goes_back_while_a_process_lives() {
    let high = || RaftState {
        applied: Some(place(1, 2)),
        snapshot: Some(place(1, 2)),
        purged: Some(place(1, 2)),
        ..follower(2, Some(place(1, 2)))
    };
    let low = Some(place(1, 1));
    let back = [
        RaftState {
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            ..high()
        },
        RaftState {
            applied: low,
            snapshot: None,
            purged: None,
            ..high()
        },
        RaftState {
            snapshot: low,
            purged: None,
            ..high()
        },
        RaftState {
            purged: low,
            ..high()
        },
    ];
    for state in back {
        let mut oracle = settled();
        oracle.look(look(2, high()));
        let again = Look {
            life: 2,
            ..look(2, state.clone())
        };
        oracle.look(look(2, state));
        assert_eq!(rules(&oracle), ["raft: going backwards"]);

        let mut oracle = settled();
        oracle.look(look(2, high()));
        oracle.look(again);
        assert_eq!(oracle.violations(), [], "a new process begins anew");
    }
}

#[test]
fn a_term_does_not_go_back() {
    let mut oracle = settled();
    oracle.look(look(2, follower(2, None)));
    oracle.look(look(2, follower(1, None)));
    assert_eq!(rules(&oracle), ["raft: going backwards"]);
}

#[test]
fn a_vote_outlives_the_process_and_is_for_one() {
    let voted = |term, candidate, won| Voted {
        term,
        candidate,
        won,
    };
    let cases = [
        (voted(5, 2, false), Some(voted(6, 3, false)), true),
        (voted(5, 2, false), Some(voted(5, 2, true)), true),
        (voted(5, 2, false), Some(voted(5, 3, true)), true),
        (voted(5, 2, true), Some(voted(5, 3, true)), false),
        (voted(5, 2, false), Some(voted(4, 2, true)), false),
        (voted(5, 2, false), Some(voted(5, 3, false)), false),
        (voted(5, 2, true), Some(voted(5, 2, false)), false),
        (voted(5, 2, false), None, false),
    ];
    for (before, after, right) in cases {
        let mut oracle = Oracle::default();
        oracle.logged(1, &Logged::Found(None));
        oracle.logged(1, &Logged::Voted(before));
        oracle.logged(1, &Logged::Found(after));
        assert_eq!(
            oracle.violations().is_empty(),
            right,
            "{before:?} {after:?}"
        );
        if !right {
            assert_eq!(rules(&oracle), ["raft: vote taken back"]);
        }
    }
}

#[test]
fn the_same_entries_make_the_same_state() {
    let mut oracle = settled();
    let digest = |member, digest| Look {
        digest: Some(digest),
        ..look(member, follower(1, None))
    };
    oracle.look(digest(4, (2, 11)));
    oracle.look(digest(5, (3, 12)));
    oracle.look(digest(6, (2, 11)));
    assert_eq!(oracle.violations(), []);
    oracle.look(digest(7, (3, 11)));
    assert_eq!(rules(&oracle), ["raft: states differ"]);
}
