//! Some neighbouring keys, in order, in two pieces of memory: what they have in common stands once, then their tails
//! one after the other. A key is found among them by its tail alone, in memory that lies together. An allocation for
//! each key would double what it costs, and to compare whole keys, which mostly begin alike, is most of a search.
//!
//! Keys are copied in: one that arrived as a part of a request would keep the request in memory with it.

/// By so many places a list grows: doubling, as a vector grows by itself, would leave a quarter of the memory unused.
const STEP: usize = 16;

/// See the module head.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRun {
    /// What all keys begin with.
    prefix: Box<[u8]>,
    /// What follows, key after key.
    tails: Vec<u8>,
    /// Where each tail ends.
    ends: Vec<u32>,
}

impl KeyRun {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, place: usize) -> usize {
        match place {
            0 => 0,
            _ => self.ends[place - 1] as usize,
        }
    }

    fn tail(&self, place: usize) -> &[u8] {
        &self.tails[self.start(place)..self.ends[place] as usize]
    }

    pub(crate) fn key(&self, place: usize) -> Box<[u8]> {
        [&self.prefix[..], self.tail(place)].concat().into()
    }

    /// The key, as the two parts that it is made of.
    pub(crate) fn parts(&self, place: usize) -> [&[u8]; 2] {
        [&self.prefix, self.tail(place)]
    }

    /// Where the key is, or would be.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(tail) = key.strip_prefix(&*self.prefix) else {
            return Err(match key < &*self.prefix {
                true => 0,
                false => self.len(),
            });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.tail(middle).cmp(tail) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Adds a key where [`KeyRun::search`] says that it would be.
    pub(crate) fn insert(&mut self, place: usize, key: &[u8]) {
        if self.is_empty() {
            self.prefix = key.into();
        }
        if !key.starts_with(&self.prefix) {
            self.shorten(common(&self.prefix, key));
        }
        let tail = &key[self.prefix.len()..];
        let start = self.start(place);
        if self.tails.capacity() - self.tails.len() < tail.len() {
            let more = tail.len().max(self.tails.len() / 8);
            self.tails.reserve_exact(more);
        }
        self.tails.extend_from_slice(tail);
        self.tails[start..].rotate_right(tail.len());
        make_room(&mut self.ends);
        self.ends.insert(place, (start + tail.len()) as u32);
        for later in &mut self.ends[place + 1..] {
            *later += tail.len() as u32;
        }
    }

    pub(crate) fn remove(&mut self, place: usize) {
        let start = self.start(place);
        let end = self.ends.remove(place);
        self.tails.drain(start..end as usize);
        let length = end - start as u32;
        for later in &mut self.ends[place..] {
            *later -= length;
        }
    }

    /// Some of the keys, by their places in order, in no more memory than they need.
    pub(crate) fn pick(&self, places: impl Iterator<Item = usize> + Clone) -> KeyRun {
        let (first, last) = (places.clone().next(), places.clone().last());
        let (Some(first), Some(last)) = (first, last) else {
            return KeyRun::default();
        };
        let first = self.tail(first);
        // In order, so what the first and the last have in common they all have.
        let shared = common(first, self.tail(last));
        let bytes = places.clone().map(|place| self.tail(place).len() - shared);
        let mut run = KeyRun {
            prefix: [&self.prefix[..], &first[..shared]].concat().into(),
            tails: Vec::with_capacity(bytes.sum()),
            ends: Vec::with_capacity(places.clone().count()),
        };
        for place in places {
            run.tails.extend_from_slice(&self.tail(place)[shared..]);
            run.ends.push(run.tails.len() as u32);
        }
        run
    }

    /// Gives away the keys from a place on.
    pub(crate) fn split_off(&mut self, place: usize) -> KeyRun {
        let right = self.pick(place..self.len());
        *self = self.pick(0..place);
        right
    }

    /// Takes over keys that are all larger than its own.
    pub(crate) fn join(&mut self, next: &KeyRun) {
        if next.is_empty() {
            return;
        }
        if self.is_empty() {
            self.prefix.clone_from(&next.prefix);
        }
        let length = common(&self.prefix, &next.prefix);
        self.shorten(length);
        let more = &next.prefix[length..];
        self.tails
            .reserve_exact(next.tails.len() + more.len() * next.len());
        self.ends.reserve_exact(next.len());
        for place in 0..next.len() {
            self.tails.extend_from_slice(more);
            self.tails.extend_from_slice(next.tail(place));
            self.ends.push(self.tails.len() as u32);
        }
    }

    /// Moves what is beyond so many bytes of the prefix into the tails.
    fn shorten(&mut self, length: usize) {
        if length == self.prefix.len() {
            return;
        }
        let more = &self.prefix[length..];
        let mut tails = Vec::with_capacity(self.tails.len() + more.len() * self.len());
        for place in 0..self.len() {
            tails.extend_from_slice(more);
            tails.extend_from_slice(self.tail(place));
        }
        for (place, end) in self.ends.iter_mut().enumerate() {
            *end += (more.len() * (place + 1)) as u32;
        }
        self.tails = tails;
        self.prefix = self.prefix[..length].into();
    }

    /// Bytes of memory that it has allocated, without what the allocator adds.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.prefix.len() + self.tails.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// For one more in a list that has a place for each key of a run.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(STEP);
    }
}

/// Where to cut a full run. Keys often arrive in order: the full part is left behind when it grows at its end.
pub(crate) fn cut(length: usize, grown_at: usize) -> usize {
    match grown_at + 1 == length {
        true => length - 1,
        false => length / 2,
    }
}

/// How many bytes two keys have in common at their beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn keys(run: &KeyRun) -> Vec<Vec<u8>> {
        (0..run.len())
            .map(|place| run.parts(place).concat())
            .collect()
    }

    /// Of few letters, so that many begin alike and some are prefixes of others.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 0..6)
    }

    proptest! {
        #[test]
        fn a_run_is_a_sorted_set(
            ops in prop::collection::vec((any_key(), any::<bool>()), 0..80),
            asked in prop::collection::vec(any_key(), 10),
            cut in 0..80_usize,
        ) {
            let (mut run, mut plain) = (KeyRun::default(), BTreeSet::new());
            for (key, add) in ops {
                match run.search(&key) {
                    Ok(place) => {
                        prop_assert!(plain.contains(&key));
                        if !add {
                            run.remove(place);
                            plain.remove(&key);
                        }
                    }
                    Err(place) => {
                        prop_assert!(!plain.contains(&key));
                        if add {
                            run.insert(place, &key);
                            plain.insert(key);
                        }
                    }
                }
            }
            let all: Vec<Vec<u8>> = plain.into_iter().collect();
            prop_assert_eq!(keys(&run), all.clone());
            for key in &asked {
                prop_assert_eq!(run.search(key), all.binary_search(key));
            }
            let odd = run.pick((0..run.len()).filter(|place| place % 2 == 1));
            let expected: Vec<Vec<u8>> = all.iter().skip(1).step_by(2).cloned().collect();
            prop_assert_eq!(keys(&odd), expected);
            let cut = cut.min(all.len());
            let right = run.split_off(cut);
            prop_assert_eq!(keys(&run), all[..cut].to_vec());
            prop_assert_eq!(keys(&right), all[cut..].to_vec());
            run.join(&right);
            prop_assert_eq!(keys(&run), all);
        }
    }
}
