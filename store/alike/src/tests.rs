use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn unpacked(own: &[u8], like: &[u8], len: usize) -> Result<Vec<u8>, Damaged> {
    let mut into = vec![0; len];
    unpack(own, like, &mut into).map(|()| into)
}

/// What is kept of a text, however much, once it has come back.
fn own(text: &[u8], like: &[u8]) -> Vec<u8> {
    let own = pack_within(text, like, usize::MAX).unwrap();
    assert_eq!(unpacked(&own, like, text.len()).as_deref(), Ok(text));
    let is_worth_it = own.len() <= text.len() / 2;
    assert_eq!(pack(text, like), is_worth_it.then(|| own.clone()));
    own
}

/// Digits that differ in every place.
fn digits(number: u64, salt: u64, len: usize) -> String {
    let words = (salt..).map(|salt| {
        let word = number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(salt);
        let word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        format!("{:016x}", word ^ (word >> 32))
    });
    let words: String = words.take(len.div_ceil(16)).collect();
    words[..len].to_owned()
}

/// A pod of a Deployment that runs on a node, as an API server has it.
fn pod(number: u64) -> String {
    let hex = digits(number, 1, 32);
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    let time = |after: u64| {
        let seconds = number * 7 % 90 + after;
        format!(
            "2026-11-27T14:{:02}:{:02}Z",
            29 + seconds / 60,
            seconds % 60
        )
    };
    let values = [
        ("@uid", format!("{a}-{b}-{c}-{d}-{e}")),
        ("@suffix", digits(number, 50, 5)),
        ("@volume", digits(number, 60, 5)),
        ("@version", (100_000 + number * 7_919 % 800_000).to_string()),
        ("@node", format!("{:04}", number * 677 % 5_000)),
        (
            "@host",
            format!(
                "{}.{}.{}",
                number % 20,
                number * 31 % 256,
                number * 57 % 256
            ),
        ),
        (
            "@ip",
            format!(
                "{}.{}.{}",
                64 + number % 20,
                number * 83 % 256,
                number * 47 % 256
            ),
        ),
        ("@container", digits(number, 90, 64)),
        ("@created", time(0)),
        ("@bound", time(2)),
        ("@ran", time(5)),
    ];
    let template: String = include_str!("../testdata/pod.json").lines().collect();
    let mut values = values.iter();
    values
        .try_fold(template, |pod, (name, value)| {
            pod.contains(*name).then(|| pod.replace(*name, value))
        })
        .expect("the template has all of these")
}

#[test]
fn a_pod_takes_two_hundred_bytes_beside_another_of_its_deployment() {
    let like = pod(0);
    assert!(serde_json::from_str::<Value>(&like).is_ok());
    for number in 1..100 {
        let own = own(pod(number).as_bytes(), like.as_bytes());
        assert!(own.len() <= 200, "{} for {number}", own.len());
    }
}

/// The pod before its containers ran.
fn waits(number: u64) -> String {
    let mut pod: Value = serde_json::from_str(&pod(number)).unwrap();
    let managers = pod["metadata"]["managedFields"].as_array_mut().unwrap();
    managers.pop();
    let scheduled = pod["status"]["conditions"].as_array_mut().unwrap().pop();
    pod["status"] = json!({"phase": "Pending", "conditions": [scheduled], "qosClass": "Burstable"});
    pod.to_string()
}

#[test]
fn what_only_the_other_has_takes_next_to_nothing() {
    let as_text = |number| {
        let pod: Value = serde_json::from_str(&pod(number)).unwrap();
        pod.to_string()
    };
    for number in 1..20 {
        for like in [as_text(0), as_text(number)] {
            let own = own(waits(number).as_bytes(), like.as_bytes());
            assert!(own.len() <= 170, "{} for {number}", own.len());
        }
    }
    // The other way round it is what there is more.
    let (text, like) = (as_text(3), waits(3));
    let own = own(text.as_bytes(), like.as_bytes());
    assert!(own.len() < text.len() + 100 - like.len(), "{}", own.len());
}

#[test]
fn each_form_takes_the_bytes_that_its_letters_need() {
    let in_place = |value: &str| format!(r#"{{"metadata":{{"one":"{value}"}},"two":"{value}"}}"#);
    let uid = (
        "9654df76-c27b-4b4c-9200-b413465ebe17",
        "36fb4522-0ab7-4289-848a-40a814e7895c",
    );
    // Where it is, its form and what follows of that, and the letters; the second time only where, and that it is that.
    for (value, like, bytes) in [
        ("a", "a", 0),
        ("x-ray", "_____", 2 + 5 + 2),
        (uid.0, uid.1, 3 + 16 + 2),
        (uid.0, "another-is-no-UID-and-as-long-as-it._", 4 + 36 + 3),
        ("14:29:17.5Z", "23:30:45.25", 2 + 6 + 2),
        ("b7e23ec29af22b0b", "c7e23ec29af22b1a", 3 + 8 + 2),
        ("web", "thirty", 3 + 3 + 3),
        ("", "thirty", 3 + 3),
        ("1", "2", 3 + 3),
    ] {
        let own = own(in_place(value).as_bytes(), in_place(like).as_bytes());
        assert_eq!(own.len(), bytes, "{value}");
    }
}

#[test]
fn an_address_in_a_name_differs_as_in_a_value() {
    let fields = |ip: &str| {
        format!(
            r#"{{"ip":"{ip}","f:podIPs":{{"k:{{\"ip\":\"{ip}\"}}":{{".":{{}},"f:ip":{{}}}}}}}}"#
        )
    };
    let own = own(
        fields("10.64.8.11").as_bytes(),
        fields("10.77.190.2").as_bytes(),
    );
    assert!(own.len() <= 12, "{own:?}");
}

#[test]
fn what_says_something_else_is_none() {
    let noise = digits(1, 0, 3_000);
    let other = digits(2, 5_000, 3_000).to_uppercase();
    assert_eq!(pack(noise.as_bytes(), b""), None);
    assert_eq!(pack(other.as_bytes(), noise.as_bytes()), None);
    assert_eq!(pack(b"", b""), Some(Vec::new()));
    for (text, like) in [
        ("", "{}"),
        ("{}", ""),
        ("\"a", "\"aa"),
        ("\"abc", "\"abc\"}"),
        ("1,", "1}"),
    ] {
        own(text.as_bytes(), like.as_bytes());
        own(like.as_bytes(), text.as_bytes());
    }
    let long = |end: &str| format!(r#"{{"{}{end}":1}}"#, "name".repeat(300));
    own(long("a").as_bytes(), long("b").as_bytes());
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    let (text, like) = (pod(1), pod(0));
    let packed = own(text.as_bytes(), like.as_bytes());
    for len in [0, text.len() - 1, text.len() + 1] {
        assert_eq!(unpacked(&packed, like.as_bytes(), len), Err(Damaged));
    }
    assert_eq!(unpacked(&packed, b"", text.len()), Err(Damaged));
    let huge = [0xff_u8, 0xff, 0xff, 0xff, 0x7f];
    for damaged in [
        &[0x80_u8][..],
        &[0xff; 9],
        &huge,
        &[0, 4],
        &[0, 5],
        &[0, 0xf0],
        &[0, 8],
    ] {
        assert_eq!(unpacked(damaged, b"", 3), Err(Damaged), "{damaged:?}");
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        "([a-f0-9]{1,9}|[:.T-]|\"|\\\\|.){0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 80, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-e]{1,9}|.", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same with other values, members and elements here and there.
fn changed(value: &Value, choices: &mut impl Iterator<Item = u8>) -> Value {
    let choice = choices.next().unwrap_or(u8::MAX);
    match (choice, value) {
        (0, _) => json!("2026-11-27T14:29:17Z"),
        (1, _) => json!(17),
        (2, _) => json!({"added": [null, true]}),
        (_, Value::Array(items)) => {
            let skipped = usize::from(choice % 8 == 3);
            let items = items.iter().skip(skipped);
            Value::Array(items.map(|one| changed(one, choices)).collect())
        }
        (_, Value::Object(members)) => {
            let skipped = usize::from(choice % 8 == 4);
            let kept = members.iter().skip(skipped);
            let mut kept: Map<String, Value> = kept
                .map(|(name, one)| (name.clone(), changed(one, choices)))
                .collect();
            if choice % 8 == 5 {
                kept.insert("another".to_owned(), json!({"a": "b"}));
            }
            Value::Object(kept)
        }
        _ => value.clone(),
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(text in prop::collection::vec(any::<u8>(), 0..300), like in prop::collection::vec(any::<u8>(), 0..300)) {
        own(&text, &like);
    }

    #[test]
    fn any_texts_of_few_letters_come_back(text in "[\"\\\\{},:a1-]{0,200}", like in "[\"\\\\{},:a1-]{0,200}") {
        own(text.as_bytes(), like.as_bytes());
    }

    #[test]
    fn any_json_comes_back(text in tree(), like in tree()) {
        own(text.to_string().as_bytes(), like.to_string().as_bytes());
    }

    #[test]
    fn json_that_was_changed_comes_back(like in tree(), choices in prop::collection::vec(0..40_u8, 0..80)) {
        let text = changed(&like, &mut choices.into_iter()).to_string();
        let like = like.to_string();
        own(text.as_bytes(), like.as_bytes());
        own(like.as_bytes(), text.as_bytes());
    }

    #[test]
    fn a_pod_that_was_changed_comes_back(number in 0..50_u64, choices in prop::collection::vec(0..120_u8, 0..200)) {
        let like = pod(0);
        let value: Value = serde_json::from_str(&pod(number)).unwrap();
        let text = changed(&value, &mut choices.into_iter()).to_string();
        own(text.as_bytes(), like.as_bytes());
    }

    #[test]
    fn nothing_that_is_damaged_stops_the_program(places in prop::collection::vec((0..400_usize, any::<u8>()), 1..4), len in 0..400_usize) {
        let (text, like) = (pod(1), pod(0));
        let mut packed = own(text.as_bytes(), like.as_bytes());
        for (at, byte) in places {
            if let Some(place) = packed.get_mut(at) {
                *place = byte;
            }
        }
        packed.truncate(len);
        if let Ok(other) = unpacked(&packed, like.as_bytes(), text.len()) {
            prop_assert_eq!(other.len(), text.len());
        }
    }

    #[test]
    fn no_bytes_stop_the_program(own in prop::collection::vec(any::<u8>(), 0..60), like in "[a-c-]{0,60}", len in 0..200_usize) {
        let _ = unpacked(&own, like.as_bytes(), len);
    }
}
