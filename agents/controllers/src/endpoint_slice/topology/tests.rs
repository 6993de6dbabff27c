use super::*;
use agent_runtime::kinds::EndpointConditions;

/// An endpoint from its zone (`?`: not known), with a `!` before it if it is not ready, and `>` and the zone that it is for.
fn endpoint(text: &str) -> Endpoint {
    let (ready, text) = match text.strip_prefix('!') {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    let (zone, hint) = match text.split_once('>') {
        Some((zone, hint)) => (zone, Some(hint)),
        None => (text, None),
    };
    Endpoint {
        conditions: EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        },
        zone: (zone != "?").then(|| zone.to_owned()),
        hints: hint.map(for_zone),
        ..Endpoint::default()
    }
}

fn endpoints(text: &str) -> Vec<Endpoint> {
    text.split_whitespace().map(endpoint).collect()
}

fn text(endpoints: &[Endpoint]) -> String {
    let one = |endpoint: &Endpoint| {
        let mark = if is_ready(endpoint) { "" } else { "!" };
        let hint = zone_hinted(endpoint).map(|zone| format!(">{zone}"));
        let zone = endpoint.zone.as_deref().unwrap_or("?");
        format!("{mark}{zone}{}", hint.unwrap_or_default())
    };
    let all: Vec<String> = endpoints.iter().map(one).collect();
    all.join(" ")
}

fn shares_of(shares: &[(&str, f64)]) -> Shares {
    let shares = shares.iter();
    shares
        .map(|(zone, share)| ((*zone).to_owned(), *share))
        .collect()
}

/// Slices as text; those that begin with a `*` are written anyway.
fn shared(slices: &[&str], shares: &[(&str, f64)]) -> (Vec<String>, Result<(), Withheld>) {
    let marked = |slice: &&str| slice.starts_with('*');
    let mut contents: Vec<(bool, Vec<Endpoint>)> = slices
        .iter()
        .map(|slice| (marked(slice), endpoints(slice.trim_start_matches('*'))))
        .collect();
    let mut parts: Vec<Part<'_>> = contents
        .iter_mut()
        .map(|(is_written, endpoints)| Part {
            endpoints,
            is_written: *is_written,
        })
        .collect();
    let shares = shares_of(shares);
    let outcome = share_out(&mut parts, (!shares.is_empty()).then_some(&shares));
    let texts = contents.iter().map(|(_, endpoints)| text(endpoints));
    (texts.collect(), outcome)
}

/// Zones and their shares.
type Zones<'a> = &'a [(&'a str, f64)];
/// Zones and numbers of endpoints.
type Amounts<'a> = &'a [(&'a str, usize)];
type Slices<'a> = &'a [&'a str];

const HALVES: Zones<'_> = &[("a", 0.5), ("b", 0.5)];
const NEARLY: Zones<'_> = &[("a", 0.45), ("b", 0.55)];
const THIRDS: Zones<'_> = &[("a", 0.3), ("b", 0.4), ("c", 0.3)];

#[test]
fn hints_that_can_be_given() {
    let cases: &[(&str, Zones<'_>, Slices<'_>, Slices<'_>)] = &[
        ("one to each zone", NEARLY, &["*a b"], &["a>a b>b"]),
        (
            "only ready ones",
            NEARLY,
            &["*a b !b !b"],
            &["a>a b>b !b !b"],
        ),
        (
            "three zones, new and changed slices",
            &[("a", 0.35), ("b", 0.35), ("c", 0.3)],
            &["*a b", "*c c a", "*a a", "*b c a"],
            &["a>b b>b", "c>c c>c a>a", "a>a a>a", "b>b c>c a>a"],
        ),
        (
            "all in one zone",
            HALVES,
            &["*a a a a"],
            &["a>b a>b a>a a>a"],
        ),
        (
            "a zone without processors that count keeps its own",
            HALVES,
            &["*a b c c"],
            &["a>a b>b c>c c>c"],
        ),
        (
            "slices stay as they are while no zone has too many",
            HALVES,
            &["a>a a>b b>b", "*a b b"],
            &["a>a a>b b>b", "a>a b>a b>b"],
        ),
        (
            "one without hint is written",
            HALVES,
            &["a>a b", "b>b a>a"],
            &["a>a b>b", "b>b a>a"],
        ),
        (
            "one for a zone that has no share any more is written",
            HALVES,
            &["a>c b>b", "b>b a>a"],
            &["a>a b>b", "b>b a>a"],
        ),
        (
            "one that gives a zone too many is written",
            HALVES,
            &["a>a a>a a>a", "b>a b>a b>b"],
            &["a>a a>a a>a", "b>b b>b b>b"],
        ),
        (
            "others in their place do not",
            HALVES,
            &["a>b b>a", "a>b b>a"],
            &["a>b b>a", "a>b b>a"],
        ),
    ];
    for (told, shares, slices, expected) in cases {
        let (texts, outcome) = shared(slices, shares);
        assert_eq!(outcome, Ok(()), "{told}");
        assert_eq!(texts, *expected, "{told}");
        // What was given stays.
        let given: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(shared(&given, shares).0, *expected, "{told}, again");
    }
}

#[test]
fn hints_that_cannot_be_given_go() {
    let too_few = |endpoints, zones| Withheld::TooFew { endpoints, zones };
    let overload = |endpoints, zones| Withheld::Overload { endpoints, zones };
    let small: Zones<'_> = &[("a", 0.1), ("b", 0.9)];
    let cases: &[(&str, Zones<'_>, Slices<'_>, Withheld)] = &[
        ("no endpoints, no zones", &[], &[], Withheld::NodesUnknown),
        ("no zones", &[], &["*a"], Withheld::NodesUnknown),
        (
            "no zones any more",
            &[],
            &["a>a b>b"],
            Withheld::NodesUnknown,
        ),
        ("no endpoints", HALVES, &["*"], too_few(0, 2)),
        ("two for three zones", THIRDS, &["*a b"], too_few(2, 3)),
        ("one that is ready", HALVES, &["a>a !b"], too_few(1, 2)),
        // 2.7 of 3 need 3 in the large zone, and the small one needs one too.
        ("a small zone", small, &["*a b b"], overload(3, 2)),
        (
            "no longer in fractions",
            small,
            &["a>a b>b", "b>b"],
            overload(3, 2),
        ),
        ("no zone", HALVES, &["*a b b ?"], Withheld::ZoneUnknown),
        (
            "no zone in one of two",
            HALVES,
            &["a>a b>b", "*? b"],
            Withheld::ZoneUnknown,
        ),
    ];
    for (told, shares, slices, why) in cases {
        let (texts, outcome) = shared(slices, shares);
        assert_eq!(outcome, Err(*why), "{told}");
        assert!(
            texts.iter().all(|text| !text.contains('>')),
            "{told}: {texts:?}"
        );
    }
}

#[test]
fn why_hints_are_withheld_is_said_in_kubernetes_words() {
    for (why, expected) in [
        (
            Withheld::NodesUnknown,
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
        ),
        (
            Withheld::TooFew {
                endpoints: 2,
                zones: 3,
            },
            "Insufficient number of endpoints (2 endpoints, 3 zones)",
        ),
        (
            Withheld::Overload {
                endpoints: 3,
                zones: 2,
            },
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (3 endpoints, 2 zones)",
        ),
        (
            Withheld::ZoneUnknown,
            "One or more endpoints do not have a zone specified",
        ),
    ] {
        assert_eq!(why.to_string(), expected);
    }
}

#[test]
fn a_zone_has_what_keeps_its_endpoints_within_the_overload() {
    let max_and_desired = |endpoints: usize, shares: &[(&str, f64)]| {
        let shares = shares_of(shares);
        let found = allocations(&shares, endpoints);
        found.map(|all| -> Vec<(usize, f64)> {
            let all = all.values();
            all.map(|one| (one.max, one.desired)).collect()
        })
    };
    // At least they have 1 and 1, 2 and 2, 5 and 5, 3 and 3 and 3, 1 and 8.
    assert_eq!(max_and_desired(2, NEARLY), Ok(vec![(1, 1.0), (1, 1.1)]));
    assert_eq!(max_and_desired(4, HALVES), Ok(vec![(2, 2.0), (2, 2.0)]));
    assert_eq!(max_and_desired(12, HALVES), Ok(vec![(7, 6.0), (7, 6.0)]));
    let nine = max_and_desired(10, &[("a", 0.35), ("b", 0.35), ("c", 0.3)]);
    assert_eq!(nine, Ok(vec![(4, 3.5), (4, 3.5), (4, 3.0)]));
    let small = max_and_desired(10, &[("a", 0.1), ("b", 0.9)]);
    assert_eq!(small, Ok(vec![(2, 1.0), (9, 9.0)]));
}

#[test]
fn whoever_has_most_gives_to_whoever_lacks_most() {
    type Desired = [f64; 3];
    let cases: &[(&str, Desired, Amounts<'_>, Amounts<'_>, Amounts<'_>)] = &[
        (
            "as it should be, nearly",
            [1.2, 1.1, 1.0],
            &[("a", 1), ("b", 1), ("c", 1)],
            &[],
            &[],
        ),
        (
            "nobody gives for less than one",
            [5.1, 5.1, 5.8],
            &[("a", 16)],
            &[("a", 10)],
            &[("b", 5), ("c", 5)],
        ),
        (
            "the last goes to whoever lacks more",
            [5.0, 5.6, 5.4],
            &[("a", 16)],
            &[("a", 11)],
            &[("b", 6), ("c", 5)],
        ),
        (
            "two give",
            [5.0, 5.6, 5.4],
            &[("b", 8), ("c", 8)],
            &[("b", 2), ("c", 3)],
            &[("a", 5)],
        ),
        (
            "more than there should be",
            [5.0, 5.0, 5.0],
            &[("a", 6), ("b", 6), ("c", 6)],
            &[],
            &[],
        ),
    ];
    for (told, desired, hinted, giving, receiving) in cases {
        let zones = ["a", "b", "c"].into_iter().zip(*desired);
        let allocations = zones
            .map(|(zone, desired)| (zone, Allocation { max: 0, desired }))
            .collect();
        let hinted = hinted
            .iter()
            .map(|(zone, count)| ((*zone).to_owned(), *count))
            .collect();
        let expected: [BTreeMap<&str, usize>; 2] =
            [giving, receiving].map(|all| all.iter().copied().collect());
        let (giving, receiving) = transfers(&allocations, &hinted);
        assert_eq!([giving, receiving], expected, "{told}");
    }
}

#[test]
fn a_slice_stays_while_its_hints_leave_room() {
    let cases: &[(&str, &str, Option<Amounts<'_>>)] = &[
        ("no endpoints", "", Some(&[])),
        ("its own zone", "a>a", Some(&[("a", 1)])),
        ("what is not ready", "a>a !a !b>b", Some(&[("a", 1)])),
        ("other zones", "a>a a>b b>b", Some(&[("a", 1), ("b", 2)])),
        ("a zone without share", "a>x", None),
        ("no hint", "a", None),
        ("too many", "a>a a>a a>a", None),
    ];
    let allocation = |zone| {
        let (max, desired) = (3, 0.0);
        (zone, Allocation { max, desired })
    };
    let allocations: Allocations<'_> = ["a", "b", "c"].map(allocation).into();
    let hinted: Counts = ["a", "b", "c"].map(|zone| (zone.to_owned(), 1)).into();
    for (told, slice, expected) in cases {
        let expected: Option<Counts> = expected.map(|counts| {
            let counts = counts.iter();
            counts
                .map(|(zone, count)| ((*zone).to_owned(), *count))
                .collect()
        });
        let found = kept(&endpoints(slice), &hinted, &allocations);
        assert_eq!(found, expected, "{told}");
    }
    for hints in [
        json!({}),
        json!({"forZones": []}),
        json!({"forZones": [{"name": "a"}, {"name": "b"}]}),
        json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]}),
    ] {
        let mut other = endpoint("a");
        other.hints = Some(hints);
        assert_eq!(kept(&[other], &hinted, &allocations), None);
    }
}

#[test]
fn who_asks_for_it() {
    let [mode, old] = [MODE, HINTS].map(|name| move |value: &str| format!("{name}: '{value}'"));
    for (annotations, address, expected) in [
        (mode("Auto"), "10.0.0.1", true),
        (mode("auto"), "10.0.0.1", true),
        (mode("AUTO"), "10.0.0.1", false),
        (mode("Disabled"), "10.0.0.1", false),
        (old("auto"), "10.0.0.1", true),
        (old("Auto"), "fd00::1", true),
        (
            [mode("Auto"), old("Disabled")].join(", "),
            "10.0.0.1",
            false,
        ),
        ([mode("Disabled"), old("Auto")].join(", "), "10.0.0.1", true),
        (String::new(), "10.0.0.1", false),
        (mode("Auto"), "None", true),
    ] {
        let text = format!(
            "{{metadata: {{annotations: {{{annotations}}}}}, spec: {{clusterIP: '{address}'}}}}"
        );
        assert_eq!(is_auto(&crate::testing::object(&text)), expected, "{text}");
    }
}
