//! Which members hear which, and the packet filter that makes it so: plain functions.

use super::topology::address;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Where members talk to each other.
pub const PEER_PORT: u16 = 6480;

/// From which member to which, by index.
pub type Links = BTreeSet<(usize, usize)>;

/// A member, chosen when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pick {
    Leader,
    /// The so-manieth of those that do not lead.
    Follower(usize),
    Member(usize),
}

impl Pick {
    /// Its index among `count`. Without a leader the first one stands for it.
    pub fn of(self, count: usize, leader: Option<usize>) -> usize {
        let leader = leader.unwrap_or(0);
        match self {
            Pick::Leader => leader,
            Pick::Follower(number) => (leader + 1 + number % (count - 1)) % count,
            Pick::Member(index) => index % count,
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::Leader => f.write_str("the leader"),
            Pick::Follower(number) => write!(f, "follower {}", number + 1),
            Pick::Member(index) => write!(f, "member {}", super::topology::member_name(*index)),
        }
    }
}

/// How the network is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// One does not hear the other, which hears it.
    OneWay { deaf: Pick, to: Pick },
    /// One hears nobody, but is heard.
    Deaf(Pick),
    /// One is not heard, but hears.
    Mute(Pick),
    /// One and all others do not hear each other.
    Alone(Pick),
    /// A minority that begins with this one is apart from the others.
    Halves(usize),
    /// Both halves hear only this one, which hears both.
    Bridge(Pick),
    /// In a ring each hears its neighbours, so that each has a majority, and no two the same one. Of three members each
    /// hears all; there it is as [`Cut::Bridge`].
    Ring,
    /// Nobody hears anybody.
    All,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::OneWay { deaf, to } if deaf == to => {
                write!(f, "{deaf} does not hear the next one")
            }
            Cut::OneWay { deaf, to } => write!(f, "{deaf} does not hear {to}"),
            Cut::Deaf(pick) => write!(f, "{pick} hears nobody"),
            Cut::Mute(pick) => write!(f, "nobody hears {pick}"),
            Cut::Alone(pick) => write!(f, "{pick} is alone"),
            Cut::Halves(_) => f.write_str("a minority is apart"),
            Cut::Bridge(pick) => write!(f, "all hear {pick} alone"),
            Cut::Ring => f.write_str("each hears its neighbours in a ring"),
            Cut::All => f.write_str("nobody hears anybody"),
        }
    }
}

/// The links that a cut takes away.
pub fn links(cut: Cut, count: usize, leader: Option<usize>) -> Links {
    let of = |pick: Pick| pick.of(count, leader);
    let gone: Box<dyn Fn(usize, usize) -> bool> = match cut {
        Cut::OneWay { deaf, to } => {
            let (deaf, other) = (of(deaf), of(to));
            // Picks may fall on the same member: then it is the next one that it does not hear.
            let other = match deaf == other {
                true => (other + 1) % count,
                false => other,
            };
            Box::new(move |from, to| from == other && to == deaf)
        }
        Cut::Deaf(pick) => {
            let deaf = of(pick);
            Box::new(move |_, to| to == deaf)
        }
        Cut::Mute(pick) => {
            let mute = of(pick);
            Box::new(move |from, _| from == mute)
        }
        Cut::Alone(pick) => {
            let alone = of(pick);
            Box::new(move |from, to| from == alone || to == alone)
        }
        Cut::Halves(first) => {
            let minority = move |index: usize| (index + count - first % count) % count < count / 2;
            Box::new(move |from, to| minority(from) != minority(to))
        }
        Cut::Ring if count > 3 => Box::new(move |from, to| {
            let apart = (from + count - to) % count;
            apart != 1 && apart != count - 1
        }),
        Cut::Ring => return links(Cut::Bridge(Pick::Leader), count, leader),
        Cut::Bridge(pick) => {
            let bridge = of(pick);
            let side = move |index: usize| (index + count - bridge) % count <= count / 2;
            Box::new(move |from, to| from != bridge && to != bridge && side(from) != side(to))
        }
        Cut::All => Box::new(|_, _| true),
    };
    let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to && gone(*from, *to))
        .collect()
}

/// What becomes of packets on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    Drop,
    /// So many of a hundred.
    Lose(u8),
    /// Connections break.
    Reset,
    /// New connections are led to this port on the same machine.
    Redirect(u16),
}

/// What is in force on some links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub links: Links,
    pub treatment: Treatment,
}

/// The whole packet filter of one member, in the words of `nft -f`; it takes the place of the one before at once.
pub fn ruleset(member: usize, rules: &[Rule]) -> String {
    let mut filter = Vec::new();
    let mut redirect = Vec::new();
    for rule in rules {
        for (from, _) in rule.links.iter().filter(|(_, to)| *to == member) {
            let source = format!("ip saddr {}", address(*from));
            match rule.treatment {
                Treatment::Drop => filter.push(format!("{source} drop")),
                Treatment::Lose(percent) => {
                    filter.push(format!("{source} numgen random mod 100 < {percent} drop"))
                }
                Treatment::Reset => {
                    filter.push(format!("{source} meta l4proto tcp reject with tcp reset"))
                }
                Treatment::Redirect(port) => redirect.push(format!(
                    "{source} tcp dport {PEER_PORT} redirect to :{port}"
                )),
            }
        }
    }
    let chain = |name: &str, hook: &str, lines: &[String]| match lines {
        [] => String::new(),
        lines => format!(
            "  chain {name} {{\n    {hook}; policy accept;\n    {}\n  }}\n",
            lines.join("\n    ")
        ),
    };
    // Adding it first makes the deletion right whether it is there or not.
    format!(
        "add table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n{}{}}}\n",
        chain("heard", "type filter hook input priority 0", &filter),
        chain("led", "type nat hook prerouting priority -100", &redirect),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn majorities(links: &Links, count: usize) -> Vec<BTreeSet<usize>> {
        let hears = |one: usize| -> BTreeSet<usize> {
            let both = |other: &usize| {
                *other == one
                    || (!links.contains(&(one, *other)) && !links.contains(&(*other, one)))
            };
            (0..count).filter(both).collect()
        };
        (0..count).map(hears).collect()
    }

    #[test]
    fn cuts_are_what_they_are_called() {
        let of = |cut, count| links(cut, count, Some(1));
        let leader = Pick::Leader;
        let other = Pick::Follower(0);
        let one_way = Cut::OneWay {
            deaf: leader,
            to: other,
        };
        assert_eq!(of(one_way, 3), Links::from([(2, 1)]));
        let same = Cut::OneWay {
            deaf: leader,
            to: Pick::Member(1),
        };
        assert_eq!(of(same, 3), Links::from([(2, 1)]));
        assert_eq!(of(Cut::Deaf(leader), 3), Links::from([(0, 1), (2, 1)]));
        assert_eq!(of(Cut::Mute(leader), 3), Links::from([(1, 0), (1, 2)]));
        let alone = Links::from([(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(of(Cut::Alone(leader), 3), alone);
        assert_eq!(of(Cut::Bridge(leader), 3), Links::from([(0, 2), (2, 0)]));
        assert_eq!(of(Cut::Ring, 3), of(Cut::Bridge(leader), 3));
        assert_eq!(of(Cut::Halves(1), 3), alone);
        assert_eq!(of(Cut::All, 3).len(), 6);
        // Two and two around the bridge.
        assert_eq!(of(Cut::Bridge(leader), 5).len(), 8);
        assert_eq!(of(Cut::Halves(4), 5).len(), 12);
    }

    #[test]
    fn in_a_ring_each_has_a_majority_of_its_own() {
        let majorities = majorities(&links(Cut::Ring, 5, None), 5);
        let different: BTreeSet<_> = majorities.iter().collect();
        assert_eq!(different.len(), 5);
        assert!(majorities.iter().all(|majority| majority.len() == 3));
    }

    #[test]
    fn picks_never_leave_the_members() {
        for leader in [None, Some(0), Some(2)] {
            for number in 0..7 {
                let follower = Pick::Follower(number).of(3, leader);
                assert!(follower < 3 && Some(follower) != leader);
                assert!(Pick::Member(number).of(3, leader) < 3);
            }
        }
    }

    #[test]
    fn a_filter_has_what_its_own_member_does_not_hear() {
        let rules = [
            Rule {
                links: Links::from([(0, 1), (2, 1)]),
                treatment: Treatment::Drop,
            },
            Rule {
                links: Links::from([(1, 0)]),
                treatment: Treatment::Lose(30),
            },
            Rule {
                links: Links::from([(2, 0)]),
                treatment: Treatment::Redirect(7480),
            },
        ];
        let first = ruleset(0, &rules);
        assert!(first.contains("ip saddr 10.77.0.2 numgen random mod 100 < 30 drop"));
        assert!(first.contains("ip saddr 10.77.0.3 tcp dport 6480 redirect to :7480"));
        let second = ruleset(1, &rules);
        assert_eq!(second.matches(" drop").count(), 2, "{second}");
        assert!(!ruleset(2, &rules).contains("saddr"));
    }
}
