use super::*;
use proptest::prelude::*;
use serde_json::json;

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    LabelSelector::parse(selector)
        .unwrap()
        .matches(labels.iter().copied())
}

#[test]
fn label_matching() {
    let l = [("app", "web"), ("tier", ""), ("n", "5")];
    for yes in [
        "",
        "app",
        "app=web",
        "app==web",
        "app!=db",
        "app in (web,db)",
        "app notin (db)",
        "!old",
        "old!=x",
        "old notin (x)",
        "tier=",
        "tier in ()",
        "tier in (,a)",
        "app=web,!old , n>4,n<6",
        "in",
        "notin,app",
    ] {
        let expected = yes != "in" && yes != "notin,app";
        assert_eq!(matches(yes, &l), expected, "{yes}");
    }
    for no in [
        "app=db",
        "!app",
        "app notin (web)",
        "old=x",
        "n>5",
        "old>1",
        "app>1",
    ] {
        assert!(!matches(no, &l), "{no}");
    }
}

#[test]
fn label_display_is_sorted_and_parses_again() {
    let s = LabelSelector::parse("z notin (b,a),a==1,!c,b,d!=2,e in (x)").unwrap();
    assert_eq!(s.to_string(), "a==1,b,!c,d!=2,e in (x),z notin (a,b)");
    assert_eq!(LabelSelector::parse(&s.to_string()).unwrap(), s);
}

#[test]
fn label_errors() {
    for (text, error) in [
        (
            ",",
            "found ',', expected: !, identifier, or 'end of string'",
        ),
        ("a,", "found '', expected: identifier after ','"),
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "a in b",
            "unable to parse requirement: found 'b' expected: '('",
        ),
        (
            "a in (b",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        (
            "a in (b c)",
            "unable to parse requirement: found 'c', expected: ',' or ')'",
        ),
        ("a==b c", "found 'c', expected: ',' or 'end of string'"),
        (
            "!",
            "unable to parse requirement: found '', expected: identifier",
        ),
        (
            "a=(",
            "unable to parse requirement: found '(', expected: identifier",
        ),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ] {
        assert_eq!(
            LabelSelector::parse(text).unwrap_err().to_string(),
            error,
            "{text}"
        );
    }
    let text = LabelSelector::parse("-a=b").unwrap_err().to_string();
    assert!(
        text.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"
        ),
        "{text}"
    );
    let text = LabelSelector::parse("a=b!").unwrap_err().to_string();
    assert_eq!(text, "found '!', expected: ',' or 'end of string'");
    let text = LabelSelector::parse("a=b/c").unwrap_err().to_string();
    assert!(
        text.starts_with(
            "unable to parse requirement: values[0][a]: Invalid value: \"b/c\": a valid label must"
        ),
        "{text}"
    );
}

#[test]
fn label_selector_of_an_object() {
    let s = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
    let s = LabelSelector::from_object(Some(&s)).unwrap();
    assert_eq!(s.to_string(), "a in (x,y),b=1,!c");
    let empty = LabelSelector::from_object(Some(&json!({}))).unwrap();
    assert!(empty.matches([].into_iter()) && empty.is_empty());
    let nothing = LabelSelector::from_object(None).unwrap();
    assert!(!nothing.matches([].into_iter()) && !nothing.is_empty());
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
    assert_eq!(
        LabelSelector::from_object(Some(&bad))
            .unwrap_err()
            .to_string(),
        "\"Near\" is not a valid label selector operator"
    );
}

#[test]
fn field_selectors() {
    let s = FieldSelector::parse(r"metadata.name==a,,spec.nodeName!=b\,c\=d\\").unwrap();
    assert_eq!(s.to_string(), r"metadata.name=a,spec.nodeName!=b\,c\=d\\");
    assert_eq!(s.required_value("metadata.name"), Some("a"));
    assert_eq!(s.required_value("spec.nodeName"), None);
    let field = |f: &str| (f == "metadata.name").then(|| "a".to_owned());
    assert!(s.matches(field));
    assert!(
        !FieldSelector::parse("metadata.name!=a")
            .unwrap()
            .matches(field)
    );
    for (text, error) in [
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        (
            "a=b=c",
            "invalid field selector: unescaped character in value: 61",
        ),
        (
            r"a=\n",
            r"invalid field selector: invalid escape sequence: \n",
        ),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c=!(),<> in]{0,20}|\\PC{0,20}") {
        if let Ok(s) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&s.to_string()).map(|s| s.to_string()), Ok(s.to_string()));
        }
        if let Ok(s) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&s.to_string()), Ok(s));
        }
    }
}
