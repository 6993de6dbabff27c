//! What a request or a class demands of a device, in CEL.

use super::slice::{Attribute, Device};
use crate::object::text;
use cel::{Environment, ObjectType, Program, Type, Value as Term, Variables};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// An expression over `device`, compiled once.
#[derive(Debug, Clone)]
pub struct Selector {
    expression: Option<String>,
    /// Why it cannot be run, where it cannot.
    program: Compiled,
}

impl PartialEq for Selector {
    fn eq(&self, other: &Selector) -> bool {
        self.expression == other.expression
    }
}

/// The type of `device`.
#[derive(Debug)]
struct DeviceType;

impl ObjectType for DeviceType {
    fn name(&self) -> &str {
        "kubernetes.DRADevice"
    }

    fn field(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let by_domain = |value: Type| Type::map(Type::String, Type::map(Type::String, value));
        let ty = match name {
            "driver" => Type::String,
            "attributes" => by_domain(Type::Dyn),
            "capacity" => by_domain(cel::quantity_type()),
            "allowMultipleAllocations" => Type::Bool,
            _ => return None,
        };
        Some((name.into(), ty))
    }
}

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let mut environment = Environment::new().with("device", Type::Object(Arc::new(DeviceType)));
    environment.bindings = true;
    environment
});

/// What a text means, or why it means nothing.
type Compiled = Result<Arc<Program>, String>;

/// So many programs are kept of each age.
const PROGRAMS_MAX: usize = 128;

/// Programs by their text. Claims say the same over and over, and each is read again whenever somebody writes to it. What was
/// not asked for since as many others came is forgotten.
struct Programs {
    young: BTreeMap<String, Compiled>,
    old: BTreeMap<String, Compiled>,
}

static PROGRAMS: Mutex<Programs> = Mutex::new(Programs::new());

impl Programs {
    const fn new() -> Programs {
        Programs {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
        }
    }

    fn get(&mut self, expression: &str) -> Option<Compiled> {
        if let Some(known) = self.young.get(expression) {
            return Some(known.clone());
        }
        let (expression, known) = self.old.remove_entry(expression)?;
        self.put(expression, known.clone());
        Some(known)
    }

    fn put(&mut self, expression: String, compiled: Compiled) {
        if self.young.len() >= PROGRAMS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(expression, compiled);
    }
}

/// What the text means, looked up or found out.
fn compiled(expression: &str) -> Compiled {
    let programs = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = programs().get(expression) {
        return known;
    }
    // Not under the lock: a long text keeps nobody waiting.
    let compiled = compile(expression);
    programs().put(expression.to_owned(), compiled.clone());
    compiled
}

fn compile(expression: &str) -> Compiled {
    match Program::compile(&ENVIRONMENT, expression) {
        Err(error) => Err(format!("compilation failed: {error}")),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn => Ok(Arc::new(program)),
            other => Err(format!(
                "must evaluate to bool or the unknown type, not {other}"
            )),
        },
    }
}

impl Selector {
    /// Compiles one selector of an API object.
    pub fn compile(object: &Value) -> Selector {
        if !object.get("cel").is_some_and(Value::is_object) {
            return Selector {
                expression: None,
                program: Err(String::new()),
            };
        }
        let expression = text(object, "/cel/expression");
        Selector {
            program: compiled(&expression),
            expression: Some(expression),
        }
    }

    /// Whether it is one of a kind that we know.
    pub fn is_known(&self) -> bool {
        self.expression.is_some()
    }

    /// Whether the device is what is demanded, and what it cost to find out. The error is in the words of the event.
    pub fn matches(&self, device: &Device) -> (Result<bool, String>, u64) {
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => return (Err(format!("CEL compile error: {error}")), 0),
        };
        let device = match term(device) {
            Ok(device) => device,
            Err(error) => return (Err(format!("CEL runtime error: {error}")), 0),
        };
        let variables = Variables::new().with("device", device);
        let (outcome, cost) = program.run(&variables, None);
        let matches = match outcome {
            Ok(Term::Bool(matches)) => Ok(matches),
            Ok(other) => Err(format!(
                "CEL runtime error: CEL result of type {} could not be converted to bool: unsupported native conversion from {} to 'bool'",
                other.type_name(),
                other.type_name()
            )),
            Err(error) => Err(format!("CEL runtime error: {}", enhanced(&error.text))),
        };
        (matches, cost)
    }
}

/// A missing key comes with advice, as in Kubernetes.
fn enhanced(error: &str) -> String {
    match error.starts_with("no such key:") {
        true => format!(
            "{error}. Consider using CEL optional chaining (?), has() macro, or orValue() for optional fields"
        ),
        false => error.to_owned(),
    }
}

/// The device as expressions see it: names without domain are the driver's, and a domain of which there is nothing is an
/// empty map.
fn term(device: &Device) -> Result<Term<'_>, String> {
    let driver: &str = &device.id.pool.driver;
    let mut attributes = Vec::with_capacity(device.attributes.len());
    for (name, value) in &device.attributes {
        let value = match value {
            Attribute::Int(value) => Term::Int(*value),
            Attribute::Bool(value) => Term::Bool(*value),
            Attribute::Text(value) => Term::String(cel::value::Text::Borrowed(value)),
            Attribute::Version(version) => Term::semver(version).ok_or_else(|| {
                format!("attribute {name}: parse semantic version: {version:?} is none")
            })?,
            Attribute::Unknown => {
                return Err(format!("attribute {name}: unsupported attribute value"));
            }
        };
        attributes.push((name.as_str(), value));
    }
    let capacity = device.capacity.iter().filter_map(|(name, amount)| {
        let amount = Term::quantity(&amount.value.text)?;
        Some((name.as_str(), amount))
    });
    Ok(Term::map([
        ("driver", Term::String(cel::value::Text::Borrowed(driver))),
        ("attributes", by_domain(attributes, driver)),
        ("capacity", by_domain(capacity, driver)),
        ("allowMultipleAllocations", Term::Bool(device.shared)),
    ]))
}

fn by_domain<'a>(
    values: impl IntoIterator<Item = (&'a str, Term<'a>)>,
    driver: &'a str,
) -> Term<'a> {
    let mut domains: BTreeMap<&str, Vec<(&str, Term<'_>)>> = BTreeMap::new();
    for (name, value) in values {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().push((name, value));
    }
    let domains = domains.into_iter();
    Term::map_or_empty(domains.map(|(domain, values)| (domain, Term::map(values))))
}

#[cfg(test)]
mod tests {
    use super::super::slice::Slice;
    use super::*;
    use serde_json::json;

    fn device() -> Device {
        let slice = Slice::compile(
            &json!({"spec": {"driver": "d.example.com", "pool": {"name": "p"}, "devices": [
            {"name": "a", "attributes": {
                "model": {"string": "x1"}, "cores": {"int": 8}, "ecc": {"bool": true}, "firmware": {"version": "1.10.2"},
                "net.example.com/link": {"string": "up"}},
             "capacity": {"memory": {"value": "40Gi"}}}]}}),
        );
        slice.devices[0].clone()
    }

    fn judge(expression: &str) -> Result<bool, String> {
        let selector = Selector::compile(&json!({"cel": {"expression": expression}}));
        selector.matches(&device()).0
    }

    #[test]
    fn expressions_see_driver_attributes_and_capacity() {
        for (expression, expected) in [
            ("device.driver == 'd.example.com'", true),
            ("device.attributes['d.example.com'].model == 'x1'", true),
            ("device.attributes['d.example.com'].cores > 8", false),
            ("device.attributes['d.example.com'].ecc", true),
            ("device.attributes['net.example.com'].link == 'up'", true),
            (
                "device.attributes['d.example.com'].firmware.isGreaterThan(semver('1.9.0'))",
                true,
            ),
            (
                "device.capacity['d.example.com'].memory.compareTo(quantity('40Gi')) >= 0",
                true,
            ),
            (
                "device.capacity['d.example.com'].memory.isGreaterThan(quantity('41Gi'))",
                false,
            ),
            ("device.allowMultipleAllocations", false),
            (
                "cel.bind(d, device.attributes['d.example.com'], d.ecc && d.cores == 8)",
                true,
            ),
            ("has(device.attributes['d.example.com'].color)", false),
            ("'color' in device.attributes['none.example.com']", false),
            ("'none.example.com' in device.attributes", false),
            ("'net.example.com' in device.attributes", true),
        ] {
            assert_eq!(judge(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn errors_are_in_the_words_of_kubernetes() {
        assert_eq!(
            judge("device.attributes['none.example.com'].color == 'red'"),
            Err("CEL runtime error: no such key: color. Consider using CEL optional chaining (?), has() macro, or orValue() for optional fields".into())
        );
        let error = judge("device.color == 'red'").unwrap_err();
        assert!(
            error.starts_with(
                "CEL compile error: compilation failed: ERROR: <input>:1:7: undefined field 'color'"
            ),
            "{error}"
        );
        assert_eq!(
            judge("device.driver"),
            Err("CEL compile error: must evaluate to bool or the unknown type, not string".into())
        );
        let error = judge("device.attributes['d.example.com'].model").unwrap_err();
        assert!(error.starts_with("CEL runtime error: CEL result of type string"));
    }

    #[test]
    fn a_text_is_compiled_once_as_long_as_it_is_asked_for_and_few_are_kept() {
        let mut programs = Programs::new();
        let program = compile("true");
        let address = |compiled: Compiled| Arc::as_ptr(&compiled.unwrap());
        programs.put("asked for".into(), program.clone());
        programs.put("forgotten".into(), program.clone());
        for other in 0..10 * PROGRAMS_MAX {
            programs.put(other.to_string(), Err("no program".into()));
            let known = programs.get("asked for").unwrap();
            assert_eq!(address(known), address(program.clone()));
            assert!(programs.young.len() + programs.old.len() <= 2 * PROGRAMS_MAX);
        }
        assert!(programs.get("forgotten").is_none());
        let selector = || Selector::compile(&json!({"cel": {"expression": "1 + 1 == 2"}}));
        assert_eq!(address(selector().program), address(selector().program));
    }

    #[test]
    fn an_expression_that_never_ends_is_cut_off() {
        let long = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let list = format!("[{long}]");
        let expression = format!(
            "{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d >= 0))))"
        );
        let selector = Selector::compile(&json!({"cel": {"expression": expression}}));
        let (result, cost) = selector.matches(&device());
        assert_eq!(
            result,
            Err("CEL runtime error: operation cancelled: actual cost limit exceeded".into())
        );
        assert!(cost > 1_000_000);
    }
}
