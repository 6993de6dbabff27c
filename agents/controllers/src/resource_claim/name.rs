//! Names of claims that are made for pods.

use crate::world::SAFE_CHARACTERS;

/// Of a name of 63 characters, with room for what makes it unique.
const BASE_MAX: usize = 57;
/// A pod whose claim went needs another name only where somebody else has taken the first.
const ROUNDS_MAX: u64 = 64;

/// What the name begins with: the pod and its name of the claim, each shortened alike where they are too long together.
pub(super) fn base(pod: &str, claim: &str) -> String {
    let length = pod.len() + claim.len() + 2;
    if length <= BASE_MAX {
        return format!("{pod}-{claim}-");
    }
    let part = |name: &str| -> String {
        // No name begins with a hyphen.
        let room = (name.len() * BASE_MAX / length).max(1);
        name.chars().take(room).collect()
    };
    let pod = part(pod);
    // A dot before a hyphen would not be a name.
    let pod = pod.trim_end_matches(|last: char| !last.is_ascii_alphanumeric());
    format!("{pod}-{}", part(claim))
}

/// A name that nobody has. It depends on the pod alone, so that two leaders who make a claim at a time make one.
pub(super) fn unique(
    base: &str,
    uid: &str,
    claim: &str,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    let name = |round: u64| format!("{base}{}", suffix(uid, claim, round));
    let mut free = (0..ROUNDS_MAX).map(name).filter(|name| !is_taken(name));
    free.next().unwrap_or_else(|| name(ROUNDS_MAX))
}

fn suffix(uid: &str, claim: &str, round: u64) -> String {
    // FNV-1a, with a byte between the parts that is in no name.
    let round = round.to_le_bytes();
    let bytes = uid.bytes().chain([0]).chain(claim.bytes()).chain(round);
    let mut bits = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits alone are not mixed well.
    bits ^= bits >> 32;
    let letters = (0..5).map(|_| {
        let at = usize::try_from(bits % 27).unwrap_or(0);
        bits /= 27;
        char::from(SAFE_CHARACTERS[at])
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_pod_and_the_claim() {
        assert_eq!(base("pod", "gpu"), "pod-gpu-");
        let (pod, claim) = ("p".repeat(200), "c".repeat(50));
        let short = base(&pod, &claim);
        assert!(short.len() <= BASE_MAX, "{short}");
        assert!(
            short.starts_with("ppp") && short.ends_with("ccc"),
            "{short}"
        );
        assert!(base("p", &"c".repeat(63)).starts_with("p-ccc"));
        let dotted = base(&format!("{}.{}", "p".repeat(44), "p".repeat(155)), &claim);
        assert!(!dotted.contains(".-") && dotted.contains("p-c"), "{dotted}");
        assert!(
            base(&"é".repeat(100), "c").len() <= 2 * BASE_MAX,
            "whatever comes"
        );
    }

    #[test]
    fn the_same_pod_gets_the_same_name_until_somebody_has_it() {
        let free = |_: &str| false;
        let first = unique("p-c-", "u", "c", free);
        assert_eq!(first, unique("p-c-", "u", "c", free));
        assert_eq!(first.len(), "p-c-".len() + 5);
        let second = unique("p-c-", "u", "c", |name| name == first);
        assert_ne!(first, second);
        assert_ne!(first, unique("p-c-", "v", "c", free));
        assert_ne!(first[4..], unique("p-d-", "u", "d", free)[4..]);
        assert!(unique("p-c-", "u", "c", |_| true).starts_with("p-c-"));
    }
}
