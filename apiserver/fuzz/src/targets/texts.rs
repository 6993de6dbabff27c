//! Short texts: selectors, quantities, times, paths, names, expressions.

use super::text;
use crate::{Target, samples};
use cel::{Environment, Program, Type, Value, Variables};
use schema::jsonpath::JsonPath;
use schema::quantity::Quantity;
use schema::selector::{FieldSelector, LabelSelector};
use schema::{names, time};
use serde_json::json;

pub(crate) const LABEL_SELECTOR: Target = Target {
    name: "label-selector",
    help: "a label selector as text and as an object: it reads the same when it is written and read again",
    seeds: || {
        samples::texts(&[
            "a=b,c!=d,e in (f,g),h notin (i),j,!k,example.com/l>3,m<4",
            "a==b, x in ()",
            r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d"]},{"key":"e","operator":"DoesNotExist"}]}"#,
        ])
    },
    run: |bytes| {
        let labels = [("a", "b"), ("example.com/l", "5")];
        if let Ok(selector) = LabelSelector::parse(&text(bytes)) {
            let _ = selector.matches(labels.into_iter());
            let written = selector.to_string();
            let again = LabelSelector::parse(&written)
                .unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again.to_string(), written);
            assert_eq!(
                again.matches(labels.into_iter()),
                selector.matches(labels.into_iter()),
                "{written}"
            );
        }
        if let Ok(value) = serde_json::from_slice(bytes)
            && let Ok(selector) = LabelSelector::from_object(Some(&value))
        {
            let _ = selector.matches(labels.into_iter());
            let _ = selector.to_string();
        }
    },
};

pub(crate) const FIELD_SELECTOR: Target = Target {
    name: "field-selector",
    help: "a field selector: it reads the same when it is written and read again",
    seeds: || {
        samples::texts(&[
            "metadata.name=a,spec.nodeName!=b\\,c,x==\\\\,y=\\=",
            "a=,b!=",
        ])
    },
    run: |bytes| {
        if let Ok(selector) = FieldSelector::parse(&text(bytes)) {
            let _ = selector.matches(|field| (field == "a").then(|| "b".to_owned()));
            let written = selector.to_string();
            let again = FieldSelector::parse(&written)
                .unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again.to_string(), written);
        }
    },
};

pub(crate) const QUANTITY: Target = Target {
    name: "quantity",
    help: "a quantity: as it is written, it is as much",
    seeds: || {
        samples::texts(&[
            "1",
            "-1.5",
            "100m",
            "64Mi",
            "1e3",
            "0.000000001",
            "9223372036854775807",
            "1E",
            "+.5k",
            "12345678901234567890n",
        ])
    },
    run: |bytes| {
        if let Ok(quantity) = Quantity::parse(&text(bytes)) {
            let written = quantity.to_string();
            let again =
                Quantity::parse(&written).unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again.nanos(), quantity.nanos(), "{written}");
            assert_eq!(again.to_string(), written);
            let _ = (
                quantity.value(),
                quantity.milli_value(),
                quantity.as_f64(),
                quantity.sign(),
            );
        }
        let _ = Quantity::from_json(&json!(text(bytes)));
    },
};

pub(crate) const TIME: Target = Target {
    name: "time",
    help: "a time in RFC 3339: as it is written, it is the same second",
    seeds: || {
        samples::texts(&[
            "2026-01-01T00:00:00Z",
            "1970-01-01T00:00:00.123456+14:00",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:60-12:00",
            "9999-12-31T23:59:30-12:00",
            "0000-01-01T00:00:00+12:00",
        ])
    },
    run: |bytes| {
        if let Some(seconds) = time::parse(&text(bytes)) {
            let written = time::now_rfc3339(seconds);
            assert_eq!(time::parse(&written), Some(seconds), "{written}");
        }
        let _ = time::parse_nanos(&text(bytes));
    },
};

pub(crate) const JSON_PATH: Target = Target {
    name: "json-path",
    help: "the path of a printer column, on a pod",
    seeds: || {
        samples::texts(&[
            ".spec.containers[*].name",
            "$.status.conditions[?(@.type==\"Ready\")].status",
            ".metadata.annotations['a\\.b']",
            "..name",
            ".spec.containers[0:2:1].ports[-1]",
            "{range .items[*]}{.a}{end}",
        ])
    },
    run: |bytes| {
        let text = text(bytes);
        let _ = schema::jsonpath::field_steps(&text);
        if let Ok(path) = JsonPath::parse(&text) {
            let pod = samples::pod();
            let _ = path.find(&pod);
            let _ = path.first(&pod);
        }
    },
};

pub(crate) const NAMES: Target = Target {
    name: "names",
    help: "names of all sorts: each rule knows what it wants to say",
    seeds: || {
        samples::texts(&[
            "a-b.c",
            "Example.com/Name_1",
            "10.0.0.0/8",
            "fe80::1",
            "*.example.com",
            "http",
            "50%",
            "../a",
            "A=B",
        ])
    },
    run: |bytes| {
        let text = text(bytes);
        let checks = [
            names::is_dns1123_label,
            names::is_dns1123_subdomain,
            names::is_dns1123_subdomain_with_underscore,
            names::is_dns1035_label,
            names::is_wildcard_dns1123_subdomain,
            names::is_qualified_name,
            names::is_valid_label_value,
            names::is_config_map_key,
            names::is_relaxed_env_var_name,
            names::is_env_var_name,
            names::is_c_identifier,
            names::is_http_header_name,
            names::is_valid_port_name,
            names::is_valid_percent,
            names::is_valid_ip,
            names::is_valid_cidr,
            names::is_valid_path_segment_name,
            names::is_fully_qualified_name,
        ];
        for check in checks {
            assert!(check(&text).iter().all(|problem| !problem.is_empty()));
        }
        assert!(!names::is_valid_cidr(&text).is_empty() || names::parse_cidr(&text).is_some());
    },
};

/// What an expression may cost here: a hundredth of what the server allows.
const COST: u64 = cel::CALL_COST_MAX / 100;

pub(crate) const CEL: Target = Target {
    name: "cel",
    help: "an expression: it is refused, or ends within its costs",
    seeds: || {
        samples::texts(&[
            "self.spec.containers.all(c, c.name.matches('^[a-z]+$') && size(c.image) < 100)",
            "has(self.metadata.labels) ? self.metadata.labels['app'] in ['web', \"x\"] : false",
            "duration('1h30m') + timestamp('2026-01-01T00:00:00Z') > timestamp(0) || 1u / 2u == 0u",
            "[1, 2.5, -3].map(x, x * 2).exists_one(x, x > 1) ? {'a': b'\\x00', 'b': r'\\'} : dyn({})",
            "self.spec.?nodeName.orValue('none').split('').join(',').replace('a', 'b').lowerAscii().charAt(0)",
            "quantity('1Ki').isGreaterThan(quantity('1')) && ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1')",
            "url('https://a:1/b?c=d').getHostname() + string(semver('1.2.3').major()) + 'x'.format([1]) + \"%s\".format(['y'])",
            "cel.bind(x, [self], x + x)[0] == self && type(self) == map && math.greatest(1, 2) == 2",
        ])
    },
    run: |bytes| {
        let environment = Environment::new().with("self", Type::Dyn);
        let Ok(program) = Program::compile(&environment, &text(bytes)) else {
            return;
        };
        let pod = samples::pod();
        let variables = Variables::new().with("self", Value::json(&pod, &Type::Dyn));
        let (outcome, _) = program.run_within(COST, &variables, None);
        if let Ok(value) = outcome {
            let _ = cel::to_json(&value);
        }
    },
};
