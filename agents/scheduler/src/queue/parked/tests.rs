use super::*;
use crate::devices::claim::{DeviceClaim, DeviceClass};
use crate::object::Node;
use crate::plugins::{Args, DeviceChange, FILTERS, VolumeChange};
use crate::volume::object::{Class as StorageClass, CsiNode, Volume};
use serde_json::{Value, json};

/// The usual filters and the one that is not.
fn config() -> Config {
    Config::parse(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
         - plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 1}]}}\n",
    )
    .unwrap()
}

fn pod(namespace: &str, uid: &str, spec: Value) -> Arc<Pod> {
    let metadata = json!({"name": uid, "namespace": namespace, "uid": uid, "labels": {"is": uid},
        "ownerReferences": [{"uid": uid, "controller": true}]});
    Arc::new(Pod::compile(&json!({"metadata": metadata, "spec": spec})))
}

fn specs() -> Vec<Value> {
    let affinity = |kind: &str| {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}]}}})
    };
    let asking = |resource: &str, amount: &str| json!({"containers": [{"name": "c", "resources": {"requests": {resource: amount}}}]});
    let volume = |volume: Value| json!({"volumes": [volume]});
    let disk = json!({"name": "d", "gcePersistentDisk": {"pdName": "disk"}});
    let claim = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
    vec![
        json!({}),
        json!({"schedulerName": "somebody-else"}),
        json!({"tolerations": [{"key": "t", "operator": "Exists"}]}),
        json!({"nodeSelector": {"disk": "ssd"}}),
        json!({"containers": [{"ports": [{"hostPort": 80, "containerPort": 80}]}]}),
        asking("cpu", "1"),
        asking("cpu", "100"),
        asking("example.com/gpu", "1"),
        affinity("podAffinity"),
        affinity("podAntiAffinity"),
        volume(claim("c")),
        volume(claim("d")),
        volume(disk),
        volume(json!({"name": "e", "ephemeral": {}})),
        json!({"resourceClaims": [{"name": "r", "resourceClaimName": "c"}]}),
        json!({"resourceClaims": [{"name": "r", "resourceClaimTemplateName": "t"}]}),
    ]
}

fn node(labels: Value, spec: Value, cpu: &str) -> Arc<Node> {
    let allocatable = json!({"cpu": cpu, "memory": "8Gi", "pods": "9"});
    Arc::new(Node::compile(
        &json!({"metadata": {"name": "n", "labels": labels}, "spec": spec,
        "status": {"allocatable": allocatable}}),
    ))
}

fn node_changes() -> Vec<Change> {
    let bare = || node(json!({}), json!({}), "4");
    let other = [
        node(json!({"disk": "ssd"}), json!({}), "4"),
        node(json!({}), json!({"unschedulable": true}), "4"),
        node(
            json!({}),
            json!({"taints": [{"key": "t", "effect": "NoSchedule"}]}),
            "4",
        ),
        node(json!({}), json!({}), "200"),
    ];
    let mut changes = vec![
        Change::NodeAdded(bare()),
        Change::NodeRemoved,
        Change::Namespace,
    ];
    for other in other {
        changes.push(Change::NodeAdded(other.clone()));
        let (old, new) = (bare(), other.clone());
        changes.push(Change::NodeUpdated { old, new });
        let (old, new) = (other, bare());
        changes.push(Change::NodeUpdated { old, new });
    }
    changes
}

fn volume_changes() -> Vec<Change> {
    let claim = |namespace: &str, name: &str, new| VolumeChange::Claim {
        namespace: namespace.into(),
        name: name.into(),
        new,
    };
    let volume = |zone: &str| {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        Arc::new(Volume::compile(
            &json!({"metadata": {"name": "v", "labels": labels}}),
        ))
    };
    let class = |mode: &str| Arc::new(StorageClass::compile(&json!({"volumeBindingMode": mode})));
    let limit = |count: i64| {
        let drivers = json!([{"name": "d", "allocatable": {"count": count}}]);
        Arc::new(CsiNode::compile(&json!({"spec": {"drivers": drivers}})))
    };
    let changes = [
        claim("a", "c", true),
        claim("a", "c", false),
        claim("b", "d", true),
        claim("a", "nobodys", true),
        VolumeChange::Volume {
            old: None,
            new: volume("x"),
        },
        VolumeChange::Volume {
            old: Some(volume("x")),
            new: volume("y"),
        },
        VolumeChange::Volume {
            old: Some(volume("x")),
            new: volume("x"),
        },
        VolumeChange::Class {
            old: None,
            new: class("WaitForFirstConsumer"),
        },
        VolumeChange::Class {
            old: Some(class("Immediate")),
            new: class("Immediate"),
        },
        VolumeChange::CsiNode {
            old: None,
            new: limit(1),
        },
        VolumeChange::CsiNode {
            old: Some(limit(1)),
            new: limit(2),
        },
        VolumeChange::CsiNode {
            old: Some(limit(2)),
            new: limit(1),
        },
        VolumeChange::DriverStopsTelling,
        VolumeChange::MoreRoom,
        VolumeChange::Detached { node: "n".into() },
    ];
    changes.into_iter().map(Change::Volumes).collect()
}

fn device_changes() -> Vec<Change> {
    let claim = |namespace: &str, name: &str, user: &str, allocated: bool| {
        let mut claim = json!({"metadata": {"namespace": namespace, "name": name},
            "status": {"reservedFor": [{"uid": user}]}});
        if allocated {
            claim["status"]["allocation"] = json!({"devices": {"results": []}});
        }
        Arc::new(DeviceClaim::compile(&claim))
    };
    let change = |old, new| DeviceChange::Claim { old, new };
    let class = |resource: &str| {
        let spec = json!({"extendedResourceName": resource});
        DeviceChange::Class(Arc::new(DeviceClass::compile(
            &json!({"metadata": {"name": "card"}, "spec": spec}),
        )))
    };
    let changes = [
        change(None, claim("a", "c", "u", false)),
        change(None, claim("b", "c", "u", false)),
        change(
            Some(claim("a", "c", "u", false)),
            claim("a", "c", "v", false),
        ),
        change(
            Some(claim("a", "c", "u", false)),
            claim("a", "c", "u", false),
        ),
        change(
            Some(claim("a", "c", "u", false)),
            claim("a", "c", "u", true),
        ),
        change(
            Some(claim("x", "x", "u", true)),
            claim("x", "x", "u", false),
        ),
        DeviceChange::Freed,
        DeviceChange::Offer,
        class("example.com/gpu"),
        class("example.com/none"),
    ];
    changes.into_iter().map(Change::Devices).collect()
}

fn changes() -> Vec<Change> {
    let mut changes = node_changes();
    for namespace in ["a", "b", "c"] {
        for spec in specs() {
            let other = pod(namespace, "other", spec);
            changes.push(Change::PodPlaced(other.clone()));
            changes.push(Change::PodRelabelled(other.clone()));
            changes.push(Change::PodGone(other));
        }
    }
    changes.extend(volume_changes());
    changes.extend(device_changes());
    changes
}

fn queued(pod: &Arc<Pod>, refused_by: &[&'static str]) -> Queued {
    Queued {
        pod: pod.clone(),
        attempts: 1,
        first_active: None,
        begun: None,
        since: 0,
        refused_by: refused_by.iter().copied().collect(),
    }
}

/// As if each pod were asked about each change.
fn is_helped(queued: &Queued, change: &Change, config: &Config) -> bool {
    let refused_by = &queued.refused_by;
    let Some(profile) = config.profile(&queued.pod) else {
        return true;
    };
    refused_by.is_empty()
        || refused_by.contains(extender::NAME)
        || profile.filters.iter().any(|filter| {
            refused_by.contains(filter.name)
                && (filter.wakes_on)(&queued.pod, change, &profile.args)
        })
}

/// Two of each kind in two namespaces, refused by each filter alone, by several, by none, and by who is no filter.
fn crowd() -> Vec<Queued> {
    let mut refusals: Vec<Vec<&'static str>> =
        FILTERS.iter().map(|filter| vec![filter.name]).collect();
    refusals.extend([
        vec![],
        vec![extender::NAME, "NodeName"],
        vec!["GangScheduling"],
        vec!["NodeResourcesFit", "TaintToleration"],
        vec!["PodTopologySpread", "InterPodAffinity"],
    ]);
    let mut crowd = Vec::new();
    for refused_by in &refusals {
        for spec in specs() {
            for namespace in ["a", "a", "b", "b"] {
                let uid = format!("p{}", crowd.len());
                crowd.push(queued(&pod(namespace, &uid, spec.clone()), refused_by));
            }
        }
    }
    crowd
}

/// The later ones in the crowd wait longer, two at a time.
fn place(at: usize, queued: &Queued) -> Place {
    Place::Unschedulable(10_000 - at as Millis / 2, queued.pod.uid.clone())
}

fn park(crowd: &[Queued], config: &Config) -> Parked {
    let mut parked = Parked::default();
    for (at, queued) in crowd.iter().enumerate() {
        parked.put(queued, &place(at, queued), config);
    }
    parked
}

#[test]
fn a_change_helps_those_whose_filters_say_so_in_the_order_in_which_they_wait() {
    let (config, crowd) = (config(), crowd());
    let parked = park(&crowd, &config);
    assert!(parked.classes.len() < crowd.len());
    for change in changes() {
        let helped = crowd.iter().enumerate();
        let helped = helped.filter(|(_, queued)| is_helped(queued, &change, &config));
        let mut places: Vec<Place> = helped.map(|(at, queued)| place(at, queued)).collect();
        places.sort();
        let expected: Vec<&str> = places.iter().map(Place::uid).collect();
        assert_eq!(parked.helped_by(&change, &config), expected, "{change:?}");
    }
}

#[test]
fn each_filter_hears_of_what_it_wakes_on() {
    let (changes, namespaces) = (changes(), ["a", "b"]);
    let pods = namespaces.map(|namespace| {
        specs()
            .into_iter()
            .map(move |spec| pod(namespace, "p", spec))
    });
    let pods: Vec<Arc<Pod>> = pods.into_iter().flatten().collect();
    for (filter, pod) in FILTERS
        .iter()
        .flat_map(|f| pods.iter().map(move |pod| (f, pod)))
    {
        let class = Class {
            pod: pod.clone(),
            refused_by: BTreeSet::from([filter.name]),
        };
        let hears = filter.hears.iter();
        let near = hears.flat_map(|(kind, near)| class.topics_near(*kind, *near));
        let topics: BTreeSet<Topic> = near.collect();
        for change in &changes {
            if (filter.wakes_on)(pod, change, &Args::default()) {
                let heard = Topic::of(change).iter().any(|topic| topics.contains(topic));
                assert!(heard, "{} does not hear of {change:?}", filter.name);
            }
        }
    }
}

#[test]
fn a_change_is_held_against_one_of_a_template_and_against_nobody_whom_it_cannot_help() {
    let config = config();
    let waiting = |namespace: &str, refused_by: &'static str| {
        let pods = (0..1000).map(|at| pod(namespace, &format!("p{at}"), json!({})));
        let crowd: Vec<Queued> = pods.map(|pod| queued(&pod, &[refused_by])).collect();
        park(&crowd, &config)
    };
    let other = |namespace: &str| pod(namespace, "other", json!({}));
    let table = [
        ("NodeResourcesFit", Change::PodPlaced(other("a")), 0),
        ("NodeResourcesFit", Change::PodRelabelled(other("a")), 0),
        ("NodeResourcesFit", Change::PodGone(other("b")), 1),
        ("PodTopologySpread", Change::PodPlaced(other("a")), 1),
        ("PodTopologySpread", Change::PodPlaced(other("b")), 0),
        ("TaintToleration", Change::PodGone(other("a")), 0),
        ("VolumeBinding", Change::PodGone(other("a")), 0),
    ];
    for (refused_by, change, classes) in table {
        let parked = waiting("a", refused_by);
        assert_eq!(
            parked.concerned(&change).len(),
            classes,
            "{refused_by} {change:?}"
        );
    }
}

#[test]
fn claims_are_found_by_their_names() {
    let config = config();
    let claiming = |at: usize| {
        let claim = json!({"name": "v", "persistentVolumeClaim": {"claimName": format!("c{at}")}});
        let spec = json!({"volumes": [claim], "resourceClaims": [{"name": "r", "resourceClaimName": format!("c{at}")}]});
        pod("a", &format!("p{at}"), spec)
    };
    let refused_by = ["VolumeBinding", "DynamicResources"];
    let crowd: Vec<Queued> = (0..100)
        .map(|at| queued(&claiming(at), &refused_by))
        .collect();
    let parked = park(&crowd, &config);
    let volume = Change::Volumes(VolumeChange::Claim {
        namespace: "a".into(),
        name: "c7".into(),
        new: true,
    });
    let new = json!({"metadata": {"namespace": "a", "name": "c8"}});
    let new = Arc::new(DeviceClaim::compile(&new));
    let device = Change::Devices(DeviceChange::Claim { old: None, new });
    for (change, uid) in [(volume, "p7"), (device, "p8")] {
        assert_eq!(parked.concerned(&change).len(), 1);
        assert_eq!(parked.helped_by(&change, &config), [uid]);
    }
}

#[test]
fn nothing_is_left_of_those_who_have_gone() {
    let (config, crowd) = (config(), crowd());
    let mut parked = park(&crowd, &config);
    for (at, queued) in crowd.iter().enumerate() {
        match at % 2 {
            0 => parked.remove(&queued.pod.uid),
            _ => parked.put(queued, &Place::Gated(queued.pod.uid.clone()), &config),
        }
    }
    assert!(parked.numbers.is_empty() && parked.classes.is_empty());
    assert!(parked.hearing.is_empty() && parked.pods.is_empty());
}
