//! The stages file: how pods of hollow nodes behave, by namespace, labels, annotations and owner.
//!
//! The first stage that selects a pod counts; behind those of the file stand two of our own, one for Jobs, whose pods end,
//! and one for everything else. Pure.

use serde_json::{Map, Value};

use super::delay::{Delay, unit};
use super::health::{self, Bad, Exec};

/// What a stages file may say of one stage.
const FIELDS: &[&str] = &[
    "name",
    "select",
    "start",
    "init",
    "ready",
    "run",
    "exit-code",
    "program",
    "fail",
    "delete",
    "probes",
    "exec",
];
const SELECT_FIELDS: &[&str] = &["namespace", "labels", "annotations", "owner"];
const FAIL_FIELDS: &[&str] = &["rate", "after", "exit-code", "reason"];
/// The only reason that may be given for a failure, and the code that goes with it.
const OOM: (&str, i64) = ("OOMKilled", 137);

/// All stages, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages(Vec<Stage>);

/// How the pods behave that are selected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub(super) name: String,
    select: Select,
    /// From the order to start a container to a running one.
    pub(super) start: Delay,
    /// How long an init container runs whose command says nothing.
    pub(super) init: Delay,
    /// From a running container to a ready one. Where it is said it holds for every container, else for none.
    pub(super) ready: Option<Delay>,
    /// How long a container runs whose command says nothing; without it until it is stopped.
    pub(super) run: Option<Delay>,
    pub(super) exit_code: i64,
    /// Whether `sleep`, `echo` and `exit` in commands are understood.
    pub(super) program: bool,
    pub(super) fail: Option<Fail>,
    /// From the order to stop a container to its end; never longer than the grace period.
    pub(super) delete: Delay,
    /// Probes that fail, by kind.
    pub(super) probes: [Option<Bad>; 3],
    /// How commands end that are not understood; without it well.
    pub(super) exec: Option<Exec>,
}

/// Containers that end badly.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fail {
    /// The share of runs, in [0, 1].
    pub(super) rate: f64,
    /// How long such a container runs before.
    pub(super) after: Delay,
    pub(super) exit_code: i64,
    /// For want of memory.
    pub(super) oom: bool,
}

impl Fail {
    /// Whether the run of this container with this number is one of them.
    pub(super) fn strikes(&self, uid: &str, container: &str, attempt: u32) -> bool {
        unit((uid, container, attempt, "fail")) < self.rate
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Select {
    namespaces: Vec<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    /// Kind of the controller.
    owner: Option<String>,
}

impl Select {
    fn matches(&self, pod: &Value) -> bool {
        let metadata = &pod["metadata"];
        let has = |field: &str, wanted: &[(String, String)]| {
            let of = |(name, value): &(String, String)| metadata[field][name] == value.as_str();
            wanted.iter().all(of)
        };
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let owners = metadata["ownerReferences"].as_array();
        let owned = |kind: &str| {
            let mut owners = owners.into_iter().flatten();
            owners.any(|owner| owner["controller"] == true && owner["kind"] == kind)
        };
        (self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace))
            && has("labels", &self.labels)
            && has("annotations", &self.annotations)
            && self.owner.as_deref().is_none_or(owned)
    }
}

fn millis(millis: u64) -> Delay {
    Delay::steady(std::time::Duration::from_millis(millis))
}

impl Stage {
    fn named(name: &str) -> Stage {
        let ms = std::time::Duration::from_millis;
        Stage {
            name: name.to_owned(),
            select: Select::default(),
            start: Delay::Percentiles {
                p50: ms(30),
                p99: ms(150),
            },
            init: millis(20),
            ready: None,
            run: None,
            exit_code: 0,
            program: true,
            fail: None,
            // Who has just deleted a pod finds it leaving, as on a real node.
            delete: millis(200),
            probes: Default::default(),
            exec: None,
        }
    }
}

impl Default for Stages {
    fn default() -> Stages {
        Stages(own())
    }
}

/// The last stages of every list.
fn own() -> Vec<Stage> {
    let job = Stage {
        select: Select {
            owner: Some("Job".to_owned()),
            ..Select::default()
        },
        run: Some(millis(1000)),
        ..Stage::named("job")
    };
    vec![job, Stage::named("default")]
}

impl Stages {
    /// Reads a stages file; the error names the field and what may stand there.
    pub fn read(text: &str) -> Result<Stages, String> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| format!("not YAML: {error}"))?;
        let file = value.as_object().ok_or("the file is a map with `stages`")?;
        known(file, &["stages"], "")?;
        let list = file.get("stages").and_then(Value::as_array);
        let list = list.ok_or("`stages` has to be a list")?;
        let mut stages = Vec::with_capacity(list.len() + 2);
        for (index, value) in list.iter().enumerate() {
            let path = format!("stages[{index}]");
            let stage = stage(value, &path)?;
            if stages.iter().any(|other: &Stage| other.name == stage.name) {
                return Err(format!(
                    "{path}.name: there is another stage `{}`",
                    stage.name
                ));
            }
            stages.push(stage);
        }
        stages.extend(own());
        Ok(Stages(stages))
    }

    /// The number of the stage that a pod is in.
    pub(super) fn choose(&self, pod: &Value) -> u16 {
        let found = self.0.iter().position(|stage| stage.select.matches(pod));
        found.map_or(u16::MAX, |number| u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// The last one for a number that none has.
    pub(super) fn get(&self, number: u16) -> &Stage {
        &self.0[usize::from(number).min(self.0.len() - 1)]
    }
}

pub(super) fn known(map: &Map<String, Value>, fields: &[&str], path: &str) -> Result<(), String> {
    let Some(other) = map.keys().find(|name| !fields.contains(&name.as_str())) else {
        return Ok(());
    };
    let dot = if path.is_empty() { "" } else { "." };
    Err(format!(
        "{path}{dot}{other}: there is no such field; there are {}",
        fields.join(", ")
    ))
}

pub(super) fn map<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("{path}: has to be a map"))
}

fn stage(value: &Value, path: &str) -> Result<Stage, String> {
    let fields = map(value, path)?;
    known(fields, FIELDS, path)?;
    let name = fields
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        return Err(format!("{path}.name: a stage needs a name"));
    }
    let mut stage = Stage::named(name);
    let delay = |name: &str| {
        let read = fields.get(name).map(Delay::read).transpose();
        read.map_err(|text| format!("{path}.{name}: {text}"))
    };
    stage.start = delay("start")?.unwrap_or(stage.start);
    stage.init = delay("init")?.unwrap_or(stage.init);
    stage.delete = delay("delete")?.unwrap_or(stage.delete);
    stage.ready = delay("ready")?;
    stage.run = delay("run")?;
    stage.exit_code = exit_code(fields, 0, path)?;
    if let Some(program) = fields.get("program") {
        let text = || format!("{path}.program: `{program}` is neither true nor false");
        stage.program = program.as_bool().ok_or_else(text)?;
    }
    if let Some(value) = fields.get("select") {
        stage.select = select(value, &format!("{path}.select"))?;
    }
    if let Some(value) = fields.get("probes") {
        stage.probes = health::read_probes(value, &format!("{path}.probes"))?;
    }
    if let Some(value) = fields.get("exec") {
        stage.exec = Some(health::read_exec(value, &format!("{path}.exec"))?);
    }
    if let Some(value) = fields.get("fail") {
        stage.fail = Some(fail(value, &format!("{path}.fail"))?);
    }
    Ok(stage)
}

pub(super) fn exit_code(
    fields: &Map<String, Value>,
    default: i64,
    path: &str,
) -> Result<i64, String> {
    let Some(value) = fields.get("exit-code") else {
        return Ok(default);
    };
    let code = value.as_i64().filter(|code| (0..=255).contains(code));
    code.ok_or_else(|| format!("{path}.exit-code: `{value}` is not a number from 0 to 255"))
}

fn select(value: &Value, path: &str) -> Result<Select, String> {
    let fields = map(value, path)?;
    known(fields, SELECT_FIELDS, path)?;
    let text = |name: &str, value: &Value| {
        let found = value.as_str().map(str::to_owned);
        found.ok_or_else(|| format!("{path}.{name}: `{value}` is not a text; numbers need quotes"))
    };
    let pairs = |name: &str| match fields.get(name) {
        None => Ok(Vec::new()),
        Some(value) => map(value, &format!("{path}.{name}"))?
            .iter()
            .map(|(key, value)| Ok((key.clone(), text(&format!("{name}.{key}"), value)?)))
            .collect::<Result<Vec<_>, String>>(),
    };
    let namespaces = match fields.get("namespace") {
        None => Vec::new(),
        Some(Value::Array(all)) => all
            .iter()
            .map(|one| text("namespace", one))
            .collect::<Result<_, _>>()?,
        Some(one) => vec![text("namespace", one)?],
    };
    Ok(Select {
        namespaces,
        labels: pairs("labels")?,
        annotations: pairs("annotations")?,
        owner: fields
            .get("owner")
            .map(|owner| text("owner", owner))
            .transpose()?,
    })
}

/// A `rate`.
pub(super) fn share(rate: &Value, path: &str) -> Result<f64, String> {
    let number = rate.as_f64().filter(|rate| (0.0..=1.0).contains(rate));
    number.ok_or_else(|| format!("{path}.rate: `{rate}` is not a share from 0 to 1, as 0.05 is"))
}

fn fail(value: &Value, path: &str) -> Result<Fail, String> {
    let fields = map(value, path)?;
    known(fields, FAIL_FIELDS, path)?;
    let number = share(fields.get("rate").unwrap_or(&Value::Null), path)?;
    let after = fields.get("after").map(Delay::read).transpose();
    let oom = match fields.get("reason") {
        None => false,
        Some(reason) if reason == OOM.0 => true,
        Some(other) => return Err(format!("{path}.reason: `{other}` is not {}", OOM.0)),
    };
    let code = exit_code(fields, if oom { OOM.1 } else { 1 }, path)?;
    if code == 0 {
        return Err(format!("{path}.exit-code: 0 is no failure"));
    }
    Ok(Fail {
        rate: number,
        after: after
            .map_err(|text| format!("{path}.after: {text}"))?
            .unwrap_or(millis(1000)),
        exit_code: code,
        oom,
    })
}

#[cfg(test)]
mod tests;
