//! Selectors between their two forms: the text of a scale, and the object of a spec.

use agent_runtime::kinds::{LabelSelector, LabelSelectorRequirement};

/// Reads `a=b,c in (d,e),!f,g`. An error says what cannot be read.
pub(super) fn parse(text: &str) -> Result<LabelSelector, String> {
    let requirements = split(text).into_iter().map(requirement);
    Ok(LabelSelector {
        match_expressions: requirements.collect::<Result<_, _>>()?,
        ..LabelSelector::default()
    })
}

/// At commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn requirement(text: &str) -> Result<LabelSelectorRequirement, String> {
    let text = text.trim();
    let make = |key: &str, operator: &str, values: Vec<String>| {
        let key = key.trim();
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        match !key.is_empty() && key.chars().all(is_key) {
            true => Ok(LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values,
            }),
            false => Err(format!("unable to parse requirement: {text:?}")),
        }
    };
    if let Some(key) = text.strip_prefix('!') {
        return make(key, "DoesNotExist", Vec::new());
    }
    if let Some((head, set)) = text.split_once('(') {
        let values = set.strip_suffix(')').unwrap_or_default().split(',');
        let values = values.map(|value| value.trim().to_owned()).collect();
        let words: Vec<&str> = head.split_whitespace().collect();
        return match words.as_slice() {
            [key, "in"] => make(key, "In", values),
            [key, "notin"] => make(key, "NotIn", values),
            _ => make("", "", Vec::new()),
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = text.split_once("!=") {
        return make(key, "NotIn", one(value));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return make(key, "In", one(value));
    }
    make(text, "Exists", Vec::new())
}

/// The text of a selector; empty where it selects everything.
pub(super) fn text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return String::new();
    };
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().map(|one| {
        let mut values = one.values.clone();
        values.sort_unstable();
        let (key, values) = (&one.key, values.join(","));
        match one.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    labels.chain(others).collect::<Vec<_>>().join(",")
}

/// As Kubernetes prints one in messages.
pub(super) fn printed(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let others = selector.match_expressions.iter().map(|one| {
        let (key, operator, values) = (&one.key, &one.operator, one.values.join(" "));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let others: String = others.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{others}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::kinds::Labels;

    #[test]
    fn the_text_of_a_scale_selects() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let web = labels(&[("app", "web"), ("tier", "front")]);
        for (text, expected) in [
            ("app=web", true),
            ("app==web,tier in (back,front)", true),
            ("app=web,tier notin (front)", false),
            ("app", true),
            ("!app", false),
            ("tier!=back , app", true),
            ("example.com/app=web", false),
        ] {
            assert_eq!(parse(text).unwrap().matches(&web), expected, "{text}");
        }
        for text in ["a b=c", "=x", "a within (b)", "!"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selectors_are_written_for_the_server_and_for_people() {
        let selector = LabelSelector {
            match_labels: [("queue".to_owned(), "jobs".to_owned())].into(),
            match_expressions: vec![LabelSelectorRequirement {
                key: "zone".into(),
                operator: "In".into(),
                values: vec!["b".into(), "a".into()],
            }],
        };
        assert_eq!(text(Some(&selector)), "queue=jobs,zone in (a,b)");
        assert_eq!(text(None), "");
        assert_eq!(
            printed(Some(&selector)),
            "&LabelSelector{MatchLabels:map[string]string{queue: jobs,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:zone,Operator:In,Values:[b a],},},}"
        );
        assert_eq!(printed(None), "nil");
    }
}
