use super::*;

const PERIODS: Periods = Periods {
    lease: Duration::from_secs(10),
    report: Duration::from_secs(300),
    flap: Duration::from_secs(60),
};

fn shown(uid: &str, ready: &str, behaviour: Option<&str>) -> Shown {
    Shown::of(&json!({
        "metadata": {"uid": uid, "annotations": {BEHAVIOUR: behaviour}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ready() -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True"}]})
}

#[test]
fn names_are_numbers_and_back() {
    let names = Names::new("hollow", 20);
    assert_eq!(names.of(7), "hollow-00007");
    assert_eq!(names.number("hollow-00019"), Some(19));
    for other in [
        "hollow-00020",
        "hollow-7",
        "other-00007",
        "hollow-0000x",
        "hollow-+0007",
    ] {
        assert_eq!(names.number(other), None, "{other}");
    }
}

#[test]
fn a_node_registers_reports_and_rests_until_the_next_report() {
    let mut node = Node::new(3, "n".into(), Behaviour::Steady);
    assert_eq!(node.errand(at(0), &PERIODS, 10), Ok(Errand::Register));
    assert!(node.see(shown("u", "Unknown", None)));
    assert_eq!(node.errand(at(1), &PERIODS, 10), Ok(Errand::Report));
    node.reported(&ready(), true, at(1));
    assert!(node.is_ready());
    assert_eq!(node.errand(at(2), &PERIODS, 10), Err(Some(at(301))));
    assert_eq!(node.errand(at(301), &PERIODS, 10), Ok(Errand::Report));
}

#[test]
fn what_the_api_shows_otherwise_is_told_again_and_a_deleted_node_comes_back() {
    let mut node = Node::new(3, "n".into(), Behaviour::Steady);
    node.see(shown("u", "True", None));
    node.reported(&ready(), true, at(1));
    assert!(!node.see(shown("u", "True", None)));
    assert!(node.see(shown("u", "Unknown", None)));
    assert_eq!(node.errand(at(2), &PERIODS, 10), Ok(Errand::Report));
    node.lose();
    assert_eq!(node.errand(at(3), &PERIODS, 10), Ok(Errand::Register));
    assert!(!node.is_ready());
}

#[test]
fn what_a_late_watch_shows_is_not_contradicted() {
    let of = |version: &str, ready: &str| {
        let metadata = json!({"uid": "u", "resourceVersion": version});
        let conditions = json!([{"type": "Ready", "status": ready}]);
        Shown::of(&json!({"metadata": metadata, "status": {"conditions": conditions}}))
    };
    let mut node = Node::new(3, "n".into(), Behaviour::Steady);
    node.see(of("7", "True"));
    node.reported(&ready(), true, at(1));
    assert!(!node.see(of("5", "Unknown")));
    assert!(node.is_ready());
    assert!(node.see(of("8", "Unknown")));
}

#[test]
fn an_annotation_turns_what_the_command_line_said() {
    let mut node = Node::new(0, "n".into(), Behaviour::Silent);
    assert_eq!(node.errand(at(0), &PERIODS, 10), Err(None));
    assert!(node.see(shown("u", "True", Some("steady"))));
    assert!(node.errand(at(0), &PERIODS, 10).is_ok());
    node.see(shown("u", "True", Some("silent")));
    assert!(node.is_silent());
    node.see(shown("u", "True", Some("nonsense")));
    assert_eq!(
        node.behaviour(),
        Behaviour::Silent,
        "what is not understood says nothing"
    );
}

#[test]
fn a_flapping_node_tells_the_opposite_after_each_turn() {
    let mut node = Node::new(0, "n".into(), Behaviour::Flapping);
    node.see(shown("u", "True", None));
    node.reported(&ready(), true, at(5));
    assert_eq!(node.errand(at(5), &PERIODS, 10), Err(Some(at(60))));
    assert_eq!(node.errand(at(60), &PERIODS, 10), Ok(Errand::Report));
    let status = |ready: &str| json!({"conditions": [{"type": "Ready", "status": ready}]});
    assert_eq!(node.news(&status("False")), ["NodeNotReady"]);
    assert!(node.news(&status("True")).is_empty());
    let new = Node::new(1, "m".into(), Behaviour::Steady);
    assert!(new.news(&status("True")).is_empty(), "thousands would be");
    node.reported(&json!({}), false, at(60));
    assert_eq!(node.errand(at(61), &PERIODS, 10), Err(Some(at(120))));
    assert!(!node.is_ready());
}

#[test]
fn what_a_node_is_asked_to_pretend_is_told_at_once_and_taken_back_once() {
    let asked = |pressure: Option<&str>| {
        let annotations = json!({pressure::PRETENDED: pressure});
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        Shown::of(
            &json!({"metadata": {"uid": "u", "annotations": annotations},
            "status": {"conditions": conditions}}),
        )
    };
    let mut node = Node::new(0, "n".into(), Behaviour::Steady);
    node.see(asked(None));
    assert_eq!(node.told_pressure(0), None, "it has nothing to say of it");
    node.reported(&ready(), true, at(1));
    assert!(node.see(asked(Some("cpu=80"))));
    assert_eq!(node.errand(at(2), &PERIODS, 10), Ok(Errand::Report));
    let told = node.told_pressure(0).unwrap();
    let told = told["annotations"][pressure::ANNOTATION].as_str().unwrap();
    assert_eq!(Pressure::read(told), Some((Pressure::of([80, 0, 0]), 0)));
    node.reported(&ready(), true, at(2));
    assert_eq!(node.errand(at(3), &PERIODS, 10), Err(Some(at(302))));
    assert!(node.see(asked(Some("nonsense"))));
    assert_eq!(node.errand(at(4), &PERIODS, 10), Ok(Errand::Report));
    let gone = json!({"annotations": {pressure::ANNOTATION: null}});
    assert_eq!(node.told_pressure(0), Some(gone));
    node.reported(&ready(), true, at(4));
    assert_eq!(node.told_pressure(0), None);
}

#[test]
fn what_somebody_gives_a_node_pods_may_have() {
    let of = |capacity: Value, allocatable: Value| {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        Shown::of(&json!({"metadata": {"uid": "u"}, "status":
            {"conditions": conditions, "capacity": capacity, "allocatable": allocatable}}))
    };
    let template = Template {
        config: super::super::config(&super::super::HollowNodes::new(1), false),
        zones: 0,
        periods: PERIODS,
        port: 1,
    };
    let mut node = Node::new(0, "n".into(), Behaviour::Steady);
    let (none, some) = (
        json!({"cpu": "4"}),
        json!({"cpu": "4", "example.com/lens": "3"}),
    );
    node.see(of(none.clone(), none.clone()));
    node.reported(&ready(), true, at(1));
    assert!(node.errand(at(2), &PERIODS, 1).is_err());
    assert!(node.see(of(some.clone(), none.clone())));
    assert_eq!(node.errand(at(2), &PERIODS, 1), Ok(Errand::Report));
    let told = |node: &mut Node| {
        let now = (at(2), OffsetDateTime::UNIX_EPOCH);
        let (status, _) = node.status(&template, now, 1);
        node.reported(&ready(), true, at(2));
        status["allocatable"]["example.com/lens"].clone()
    };
    assert_eq!(told(&mut node), "3");
    assert!(node.errand(at(3), &PERIODS, 1).is_err(), "it is told once");
    assert!(!node.see(of(some.clone(), some.clone())));
    assert!(node.see(of(none, some)));
    assert_eq!(told(&mut node), Value::Null);
}

#[test]
fn what_another_life_of_the_process_told_is_taken_back() {
    let annotations = json!({pressure::ANNOTATION: Pressure::of([80, 0, 0]).tell(0)});
    let metadata = json!({"uid": "u", "annotations": annotations});
    let shown = Shown::of(&json!({"metadata": metadata, "status": ready()}));
    let mut node = Node::new(0, "n".into(), Behaviour::Steady);
    assert!(node.see(shown));
    assert_eq!(node.errand(at(0), &PERIODS, 10), Ok(Errand::Report));
    let gone = json!({"annotations": {pressure::ANNOTATION: null}});
    assert_eq!(node.told_pressure(0), Some(gone));
    node.reported(&ready(), true, at(0));
    assert_eq!(node.told_pressure(0), None);
    assert_eq!(node.errand(at(1), &PERIODS, 10), Err(Some(at(300))));
}

#[test]
fn phases_spread_evenly_over_a_period() {
    let phases: Vec<_> = (0..5)
        .map(|n| Node::new(n, String::new(), Behaviour::Steady).phase(at(10), 5))
        .collect();
    assert_eq!(phases, [at(0), at(2), at(4), at(6), at(8)]);
}
