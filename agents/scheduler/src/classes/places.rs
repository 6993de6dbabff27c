//! The values of one node label as small numbers, and sums of something over the nodes that have each.

use host::HashMap;

/// The place of a node without the label.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Values of a label, numbered in the order in which they were met.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    ids: HashMap<String, u32>,
}

impl Numbered {
    pub(super) fn id(&mut self, value: &str) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = self.ids.len() as u32;
        self.ids.insert(value.to_owned(), id);
        id
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether most of the values can be of no node any more.
    pub(super) fn is_stale(&self, slots: usize) -> bool {
        self.ids.len() > 2 * slots + 64
    }
}

/// A sum for each place: of what each of its nodes adds.
#[derive(Debug, Default)]
pub(super) struct Sums {
    numbered: Numbered,
    /// By slot: where the node is, and what it adds.
    places: Vec<u32>,
    added: Vec<i64>,
    /// By place.
    sums: Vec<i64>,
    /// Places whose sum is not zero.
    some: usize,
    /// Nodes that add anything, somewhere or nowhere.
    adding: usize,
}

impl Sums {
    /// The node in this slot has this value of the label now and adds this.
    pub(super) fn set(&mut self, slot: u32, label: Option<&str>, adds: i64) {
        let at = slot as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
            self.added.resize(at + 1, 0);
        }
        let place = label.map_or(NOWHERE, |label| self.numbered.id(label));
        self.sums.resize(self.numbered.len(), 0);
        self.add(self.places[at], -self.added[at]);
        self.add(place, adds);
        self.adding = self.adding + usize::from(adds != 0) - usize::from(self.added[at] != 0);
        self.places[at] = place;
        self.added[at] = adds;
    }

    /// Whether no node adds anything.
    pub(super) fn is_unused(&self) -> bool {
        self.adding == 0
    }

    fn add(&mut self, place: u32, more: i64) {
        if let Some(sum) = self.sums.get_mut(place as usize) {
            self.some -= usize::from(*sum != 0);
            *sum += more;
            self.some += usize::from(*sum != 0);
        }
    }

    /// Whether the node has the label.
    pub(super) fn is_somewhere(&self, slot: u32) -> bool {
        self.places[slot as usize] != NOWHERE
    }

    /// The sum of the node's place, zero if it is nowhere.
    pub(super) fn at(&self, slot: u32) -> i64 {
        let place = self.places[slot as usize];
        self.sums.get(place as usize).copied().unwrap_or(0)
    }

    /// Whether all sums are zero.
    pub(super) fn is_zero(&self) -> bool {
        self.some == 0
    }

    pub(super) fn is_stale(&self, slots: usize) -> bool {
        self.numbered.is_stale(slots)
    }
}
