//! The bytes of an object in the cache: as they are sent, or, of one at rest, what differs from another object.
//!
//! Objects of one kind are much alike, and neighbours by name mostly come from one template. Packed against a neighbour, a
//! pod takes an eighth of its JSON, and is whole again in the time in which a memory of that size is copied a few times.
//! The neighbour itself is kept as it is sent, so that nothing is unpacked but what is asked for. Large objects say the same
//! again and again: each of them is packed by itself.

use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block;

/// Smaller objects are hardly worth it, and the compressor sees no further than the larger number.
const BYTES_MIN: usize = 1 << 9;
const BYTES_MAX: usize = 64 << 10;
/// What any two objects of a kind have to say for themselves: identities and times.
const OWN_FEW: usize = 400;
/// An object that is packed by itself says something twice from this size on.
const ALONE_BYTES_MIN: usize = 16 << 10;
/// Bytes of the number of bytes that something was packed from.
const HEAD: usize = size_of::<u32>();
/// With so much room behind the last byte, the decompressor need not look where it ends before each step.
const SPARE: usize = 64;

/// JSON of one object. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Plain(Bytes),
    Packed(Packed),
}

/// See the module head.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// The bytes of the object that it was packed against; none where it was packed by itself. They stay as they were when
    /// that object changes. One block has them for all that were packed against it.
    like: Option<Arc<Bytes>>,
    /// How many bytes there were, in [`HEAD`] bytes, and then what they were packed to. A number beside it would make every
    /// [`Json`] larger than its [`Bytes`] are.
    own: Arc<[u8]>,
}

impl Json {
    /// The bytes as they are sent.
    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Json::Plain(bytes) => bytes.clone(),
            Json::Packed(packed) => packed.bytes(),
        }
    }

    /// The same, for whoever copies them on at once: what is packed is unpacked into `room`, which serves for many.
    pub(crate) fn read<'a>(&'a self, room: &'a mut Room) -> &'a [u8] {
        match self {
            Json::Plain(bytes) => bytes,
            Json::Packed(packed) => packed.read(room),
        }
    }

    /// The bytes packed by themselves; none where they stay as they are.
    pub(crate) fn alone(&self) -> Option<Json> {
        match self {
            Json::Plain(bytes) if bytes.len() >= ALONE_BYTES_MIN => {
                Json::packed(bytes, None, &block::compress(bytes))
            }
            Json::Plain(_) | Json::Packed(_) => None,
        }
    }

    /// None where it is not worth it.
    fn packed(bytes: &Bytes, like: Option<Arc<Bytes>>, own: &[u8]) -> Option<Json> {
        let len = u32::try_from(bytes.len()).ok()?;
        (HEAD + own.len() <= bytes.len() / 2).then(|| {
            let own = [&len.to_le_bytes()[..], own].concat();
            let own = Arc::from(own);
            Json::Packed(Packed { like, own })
        })
    }

    /// Whether they are kept as what differs from others, or packed by themselves.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Json::Packed(_))
    }

    /// Their number.
    pub(crate) fn len(&self) -> usize {
        match self {
            Json::Plain(bytes) => bytes.len(),
            Json::Packed(packed) => packed.parts().0,
        }
    }

    /// The bytes that it takes by itself.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        match self {
            Json::Plain(bytes) => bytes.len(),
            Json::Packed(packed) => packed.own.len(),
        }
    }
}

/// Where objects are unpacked one after the other, each in the place of the one before.
#[derive(Default)]
pub(crate) struct Room(Vec<u8>);

const UNDAMAGED: &str = "packed by this module, in this memory";

impl Packed {
    fn like(&self) -> &[u8] {
        match &self.like {
            Some(like) => &like[..],
            None => &[],
        }
    }

    /// How many bytes there were, and what they were packed to.
    fn parts(&self) -> (usize, &[u8]) {
        let (len, own) = self.own.split_first_chunk::<HEAD>().expect(UNDAMAGED);
        (u32::from_le_bytes(*len) as usize, own)
    }

    fn bytes(&self) -> Bytes {
        let (len, own) = self.parts();
        let whole = block::decompress_with_dict(own, len, self.like());
        Bytes::from(whole.expect(UNDAMAGED))
    }

    fn read<'a>(&self, room: &'a mut Room) -> &'a [u8] {
        let (len, own) = self.parts();
        let needed = len + SPARE;
        if room.0.len() < needed {
            room.0.resize(needed, 0);
        }
        let len = block::decompress_into_with_dict(own, &mut room.0, self.like());
        &room.0[..len.expect(UNDAMAGED)]
    }
}

fn fits(bytes: &Bytes) -> bool {
    (BYTES_MIN..=BYTES_MAX).contains(&bytes.len())
}

/// Packs objects one after the other, each against one before it.
#[derive(Default)]
pub(crate) struct Packer {
    like: Option<Arc<Bytes>>,
    /// The fewest bytes that an object took against it.
    least: Option<usize>,
    /// What others took more than that. When it is as much as an object, the next ones are packed against another: they
    /// have come to be of another template.
    excess: usize,
}

impl Packer {
    /// Takes note of a neighbour that is not to be packed: others may be packed against what it is packed against, or itself.
    pub(crate) fn pass(&mut self, json: &Json) {
        match json {
            Json::Packed(Packed {
                like: Some(like), ..
            }) => {
                let same = self.like.as_ref().is_some_and(|now| Arc::ptr_eq(now, like));
                if !same {
                    self.turn_to(like.clone());
                }
            }
            Json::Plain(bytes) if self.like.is_none() && fits(bytes) => {
                self.turn_to(Arc::new(bytes.clone()));
            }
            Json::Plain(_) | Json::Packed(_) => {}
        }
    }

    fn turn_to(&mut self, like: Arc<Bytes>) {
        *self = Packer {
            like: Some(like),
            ..Packer::default()
        };
    }

    /// Takes note of how an object was packed.
    fn weigh(&mut self, bytes: &Bytes, own: usize) {
        let most = (bytes.len() / 4).max(OWN_FEW).min(bytes.len() / 2);
        if own > most {
            // Not much alike: the next is tried against another.
            self.like = None;
            return;
        }
        let least = self.least.map_or(own, |least| least.min(own));
        self.least = Some(least);
        // Names and times differ by more or less from one to the next.
        self.excess += own.saturating_sub(least + least / 8);
        if self.excess > bytes.len() {
            self.turn_to(Arc::new(bytes.clone()));
        }
    }

    /// The bytes, packed; none where they stay as they are, be it that others are packed against them.
    pub(crate) fn pack(&mut self, json: &Json) -> Option<Json> {
        let Json::Plain(bytes) = json else {
            self.pass(json);
            return None;
        };
        if bytes.len() > BYTES_MAX {
            return json.alone();
        }
        if !fits(bytes) {
            return None;
        }
        let Some(like) = self.like.clone() else {
            self.turn_to(Arc::new(bytes.clone()));
            return None;
        };
        let own = block::compress_with_dict(bytes, &like);
        self.weigh(bytes, own.len());
        Json::packed(bytes, Some(like), &own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_packed_makes_no_entry_larger() {
        assert_eq!(size_of::<Json>(), size_of::<Bytes>());
    }

    fn pod(name: &str, node: &str, image: &str) -> Json {
        let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"];
        let conditions = conditions.map(|one| json!({"type": one, "status": "True", "lastTransitionTime": "2026-11-27T14:29:17Z"}));
        let env: Vec<_> = (0..20)
            .map(|at| json!({"name": format!("SETTING_{at}"), "value": "as the template has it"}))
            .collect();
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": image, "env": env, "resources": {"requests": {"cpu": "100m"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
            "status": {"phase": "Running", "conditions": conditions}});
        Json::Plain(Bytes::from(pod.to_string()))
    }

    #[test]
    fn pods_of_one_template_take_little_beside_the_first() {
        let mut packer = Packer::default();
        assert!(
            packer.pack(&pod("web-0", "one", "web")).is_none(),
            "others are packed against it"
        );
        for (name, node) in [("web-1", "two"), ("web-2", "three")] {
            let plain = pod(name, node, "web");
            let packed = packer.pack(&plain).unwrap();
            assert!(
                packed.room() * 8 < plain.room(),
                "{} of {}",
                packed.room(),
                plain.room()
            );
            assert_eq!((packed.bytes(), packed.len()), (plain.bytes(), plain.len()));
            assert!(packer.pack(&packed).is_none(), "it is packed already");
        }
    }

    #[test]
    fn small_objects_of_a_kind_are_packed_though_much_of_them_is_their_own() {
        let event = |name: &str, uid: &str, time: &str| {
            let event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "uid": uid,
                "creationTimestamp": time, "managedFields": [{"manager": "kontiki", "operation": "Update", "apiVersion": "v1", "time": time,
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:count": {}, "f:involvedObject": {}, "f:message": {}, "f:reason": {}, "f:type": {}}}]},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": name, "uid": uid},
                "reason": "Scheduled", "type": "Normal", "message": format!("Successfully assigned default/{name} to a node")});
            Json::Plain(Bytes::from(event.to_string()))
        };
        let mut packer = Packer::default();
        let uid =
            |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(2);
        packer.pack(&event("web-0", &uid(1), "2026-11-27T14:29:17Z"));
        for number in 2..9 {
            let plain = event(
                &format!("web-{number}"),
                &uid(number),
                "2026-11-27T14:30:45Z",
            );
            let packed = packer.pack(&plain).unwrap();
            assert!(plain.room() < 1024 && packed.room() * 2 <= plain.room());
            assert_eq!(packed.bytes(), plain.bytes());
        }
    }

    #[test]
    fn pods_of_another_template_are_soon_packed_against_one_of_theirs() {
        let mut packer = Packer::default();
        let noise = |seed: u64| -> String {
            let numbers = (1..=16).map(|at| (seed * 16 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            numbers.map(|number| format!("{number:016x}")).collect()
        };
        let mut last = 0;
        for template in 0..3 {
            for number in 0..40 {
                let plain = pod(&format!("web-{template}-{number}"), "one", &noise(template));
                let Some(packed) = packer.pack(&plain) else {
                    assert_eq!((template, number), (0, 0));
                    continue;
                };
                assert_eq!(packed.bytes(), plain.bytes());
                last = packed.room();
                assert!(template == 0 || number > 0 || last > 200, "{last}");
            }
            assert!(last < 100, "{last}");
        }
    }

    #[test]
    fn one_is_packed_against_what_its_neighbour_is_packed_against() {
        let mut packer = Packer::default();
        packer.pack(&pod("web-0", "one", "web"));
        let neighbour = packer.pack(&pod("web-1", "two", "web")).unwrap();
        let mut later = Packer::default();
        later.pass(&neighbour);
        let packed = later.pack(&pod("web-2", "three", "web")).unwrap();
        assert_eq!(packed.bytes(), pod("web-2", "three", "web").bytes());
        let mut again = Packer::default();
        assert!(again.pack(&neighbour).is_none());
        assert!(again.pack(&pod("web-2", "three", "web")).is_some());
        let mut beside = Packer::default();
        beside.pass(&pod("web-0", "one", "web"));
        assert!(beside.pack(&pod("web-2", "three", "web")).is_some());
    }

    #[test]
    fn what_is_small_or_large_or_unlike_stays_as_it_is() {
        let mut packer = Packer::default();
        let noise = |seed: u64, len: usize| {
            let mut state = seed;
            let bytes = (0..len).map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            Json::Plain(bytes.collect())
        };
        for len in [0, 1, BYTES_MIN - 1] {
            assert!(packer.pack(&Json::Plain(vec![b'a'; len].into())).is_none());
        }
        assert!(packer.pack(&noise(3, BYTES_MAX + 1)).is_none());
        assert!(packer.like.is_none(), "nor is anything packed against it");
        assert!(packer.pack(&noise(1, 2000)).is_none());
        assert!(packer.pack(&noise(2, 2000)).is_none());
        assert!(packer.like.is_none(), "the next is tried against another");
    }

    #[test]
    fn a_large_object_is_packed_by_itself_and_others_not_against_it() {
        let mut packer = Packer::default();
        let large = Json::Plain(Bytes::from("what it says it says again. ".repeat(10_000)));
        let packed = packer.pack(&large).unwrap();
        assert!(packer.like.is_none());
        assert!(packed.room() * 10 < large.room());
        assert_eq!((packed.bytes(), packed.len()), (large.bytes(), large.len()));
        assert!(packed.alone().is_none(), "it is packed already");
        assert!(packer.pack(&packed).is_none() && packer.like.is_none());
        assert!(
            pod("web-0", "one", "web").alone().is_none(),
            "it is too small for that"
        );
    }

    #[test]
    fn one_room_serves_for_objects_of_any_size() {
        let large = Json::Plain(Bytes::from("again and ".repeat(9_000)));
        let mut packer = Packer::default();
        packer.pack(&pod("web-0", "one", "web"));
        let mut room = Room::default();
        let small = pod("web-1", "two", "web");
        let packed = packer.pack(&small).unwrap();
        for (json, plain) in [
            (&packed, &small),
            (&large.alone().unwrap(), &large),
            (&packed, &small),
            (&small, &small),
        ] {
            assert_eq!(json.read(&mut room), plain.bytes());
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_the_same_again(texts in prop::collection::vec("[ab]{0,3}(abcd|web-[0-9]|.){200,900}", 2..6)) {
            let mut packer = Packer::default();
            let mut room = Room::default();
            for text in texts {
                let plain = Json::Plain(Bytes::from(text));
                if let Some(packed) = packer.pack(&plain) {
                    prop_assert_eq!(packed.bytes(), plain.bytes());
                    prop_assert_eq!(packed.read(&mut room), &plain.bytes()[..]);
                    prop_assert!(packed.room() * 2 <= plain.len());
                }
            }
        }
    }
}
