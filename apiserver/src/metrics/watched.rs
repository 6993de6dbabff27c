//! What watches send. Each has its handles, so that an event costs a few additions.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};
use resources::Resource;

use crate::cache::Seen;

pub(super) struct Watched {
    events: IntCounterVec,
    sizes: HistogramVec,
    capacities: IntGaugeVec,
    dispatched: IntCounterVec,
    loads: IntCounterVec,
}

/// Where one watch counts what it sends.
pub(crate) struct Sent {
    events: IntCounter,
    sizes: Histogram,
}

impl Sent {
    /// An event of so many bytes.
    pub(crate) fn event(&self, bytes: usize) {
        self.events.inc();
        self.sizes.observe(bytes as f64);
    }
}

impl Watched {
    pub(super) fn new(registry: &Registry) -> Watched {
        const VALID: &str = "names and labels are constants, and registered once";
        let labels = ["group", "version", "resource"];
        let events = Opts::new(
            "apiserver_watch_events_total",
            "Events that were sent to watches.",
        );
        let events = IntCounterVec::new(events, &labels).expect(VALID);
        let sizes = HistogramOpts::new(
            "apiserver_watch_events_sizes",
            "Bytes of the events that were sent to watches.",
        );
        let buckets = exponential_buckets(1024.0, 2.0, 8).expect("positive bounds");
        let sizes = HistogramVec::new(sizes.buckets(buckets), &labels).expect(VALID);
        registry.register(Box::new(events.clone())).expect(VALID);
        registry.register(Box::new(sizes.clone())).expect(VALID);
        let of_cache = ["group", "resource"];
        let capacities = Opts::new(
            "watch_cache_capacity",
            "Changes of a kind that a watch can at most be behind.",
        );
        let capacities = IntGaugeVec::new(capacities, &of_cache).expect(VALID);
        let registered = registry.register(Box::new(capacities.clone()));
        registered.expect(VALID);
        let counters = |name: &str, help: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &of_cache).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        Watched {
            events,
            sizes,
            capacities,
            dispatched: counters(
                "apiserver_watch_cache_events_dispatched_total",
                "Changes that the cache of a kind had for its watches.",
            ),
            loads: counters(
                "apiserver_watch_cache_initializations_total",
                "How often the cache of a kind was filled.",
            ),
        }
    }

    /// So many changes of the resource are kept, and this was seen of it. One reader at a time.
    pub(super) fn show_cache(&self, resource: &Resource, capacity: usize, seen: Seen) {
        let (group, plural): (&str, &str) = (&resource.group, &resource.plural);
        let labels = [group, plural];
        let gauge = self.capacities.with_label_values(&labels);
        gauge.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        for (counters, count) in [(&self.dispatched, seen.changes), (&self.loads, seen.loads)] {
            let counter = counters.with_label_values(&labels);
            // A cache that was made anew begins anew.
            if counter.get() > count {
                counter.reset();
            }
            counter.inc_by(count - counter.get());
        }
    }

    pub(super) fn of(&self, resource: &Resource) -> Sent {
        let (group, version): (&str, &str) = (&resource.group, &resource.version);
        let labels = [group, version, &resource.plural];
        Sent {
            events: self.events.with_label_values(&labels),
            sizes: self.sizes.with_label_values(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn events_are_counted_with_their_sizes() {
        let registry = Registry::new();
        let watched = Watched::new(&registry);
        let pods = resources::find("", "v1", "pods").unwrap();
        let sent = watched.of(pods);
        sent.event(1_500);
        sent.event(100);
        for (changes, loads) in [(5, 1), (7, 2), (3, 1), (4, 1)] {
            watched.show_cache(pods, 64, Seen { changes, loads });
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        let of = "group=\"\",resource=\"pods\",version=\"v1\"";
        for line in [
            format!("apiserver_watch_events_total{{{of}}} 2"),
            format!("apiserver_watch_events_sizes_bucket{{{of},le=\"1024\"}} 1"),
            format!("apiserver_watch_events_sizes_sum{{{of}}} 1600"),
            "watch_cache_capacity{group=\"\",resource=\"pods\"} 64".to_owned(),
            "apiserver_watch_cache_events_dispatched_total{group=\"\",resource=\"pods\"} 4"
                .to_owned(),
            "apiserver_watch_cache_initializations_total{group=\"\",resource=\"pods\"} 1"
                .to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
