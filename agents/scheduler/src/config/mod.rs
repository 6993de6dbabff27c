//! How the scheduler is configured: profiles, each with a name that pods ask for, its plugins and their arguments.
//!
//! The file is Kubernetes' `KubeSchedulerConfiguration`, read strictly: a field that is unknown, or a value that cannot
//! be, is an error that names its path, and nothing starts.

pub mod args;
pub mod extenders;
mod fields;
mod profile;
mod texts;

pub use extenders::Extender;
pub(crate) use profile::GANG_SCHEDULING;
pub use profile::Profile;

use crate::object::{DEFAULT_SCHEDULER, Pod};
use crate::plugins::Sort;
use crate::snapshot::Millis;
use fields::{Fields, Problems};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use texts::duration;

/// The one version of files.
const VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// The times of an election with what they are where the file does not give them.
const ELECTION_TIMES: &[(&str, Duration)] = &[
    ("leaseDuration", Duration::from_secs(15)),
    ("renewDeadline", Duration::from_secs(10)),
    ("retryPeriod", Duration::from_secs(2)),
];

/// See the module head.
#[derive(Debug, Clone)]
pub struct Config {
    profiles: BTreeMap<String, Arc<Profile>>,
    /// Which pod is next: the same for all profiles.
    pub sort: &'static Sort,
    /// Backoff after the first attempt; doubles with each.
    pub backoff_first: Millis,
    /// Backoff never exceeds this.
    pub backoff_max: Millis,
    /// Servers that have a say in decisions, in the order in which they are asked.
    pub extenders: Vec<Extender>,
}

impl Default for Config {
    fn default() -> Config {
        let profile = Profile::default();
        Config {
            sort: profile.sort,
            profiles: BTreeMap::from([(DEFAULT_SCHEDULER.to_owned(), Arc::new(profile))]),
            backoff_first: 1_000,
            backoff_max: 10_000,
            extenders: Vec::new(),
        }
    }
}

impl Config {
    /// From the text of a file, YAML or JSON; an empty one is the default.
    pub fn parse(text: &str) -> Result<Config, String> {
        if text.trim().is_empty() {
            return Ok(Config::default());
        }
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| format!("not YAML: {error}"))?;
        let mut problems = Problems::default();
        let config = Config::take(&value, &mut problems);
        match problems.text() {
            Some(text) => Err(text),
            None => Ok(config),
        }
    }

    fn take(value: &Value, problems: &mut Problems) -> Config {
        let mut config = Config::default();
        let mut fields = Fields::of(Some(value), "", problems);
        for (field, wanted) in [("apiVersion", VERSION), ("kind", KIND)] {
            let found = fields.text(field, problems).unwrap_or_default();
            if found != wanted {
                problems.unsupported(field, found, &[wanted]);
            }
        }
        config.take_backoff(&mut fields, problems);
        let percentage = take_percentage(&mut fields, problems);
        let profiles = fields.list("profiles", problems);
        if !profiles.is_empty() {
            config.profiles.clear();
        }
        let alone = profiles.len() == 1;
        let mut first: Option<Profile> = None;
        for (path, item) in profiles {
            let profile = Profile::take(item, &path, alone, problems);
            config.sort = profile.sort;
            same_sort(
                first.get_or_insert_with(|| profile.clone()),
                &profile,
                &path,
                problems,
            );
            let name = profile.scheduler_name.clone();
            if config
                .profiles
                .insert(name.clone(), Arc::new(profile))
                .is_some()
            {
                problems.duplicate(&fields::below(&path, "schedulerName"), &name);
            }
        }
        for profile in config.profiles.values_mut() {
            if profile.percentage.is_none() {
                Arc::make_mut(profile).percentage = percentage;
            }
        }
        config.take_extenders(&mut fields, problems);
        take_foreign(&mut fields, problems);
        fields.end(problems);
        config
    }

    fn take_extenders(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let taken = extenders::take(fields, problems);
        self.extenders = taken.extenders;
        // They come before what the arguments of a profile say, as in Kubernetes.
        for profile in self
            .profiles
            .values_mut()
            .filter(|_| !taken.ignored.is_empty())
        {
            Arc::make_mut(profile).args.fit.ignored = taken.ignored.clone();
        }
    }

    fn take_backoff(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let mut seconds = |field: &'static str, default: Millis| {
            let Some(seconds) = fields.number(field, problems) else {
                return default;
            };
            if seconds <= 0 && field == "podInitialBackoffSeconds" {
                problems.invalid(field, &seconds.to_string(), "must be greater than 0");
            }
            u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
        };
        self.backoff_first = seconds("podInitialBackoffSeconds", self.backoff_first);
        self.backoff_max = seconds("podMaxBackoffSeconds", self.backoff_max);
        if self.backoff_max < self.backoff_first {
            let why = "must be greater than or equal to PodInitialBackoffSeconds";
            let value = (self.backoff_max / 1_000).to_string();
            problems.invalid("podMaxBackoffSeconds", &value, why);
        }
    }

    /// The profile that a pod asks for, if it is one of ours.
    pub fn profile(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        self.profiles.get(&pod.scheduler_name)
    }

    /// What FairShare was given; the same in all profiles.
    pub fn shares(&self) -> Option<&args::ShareArgs> {
        let first = self.profiles.values().next()?;
        self.sort.by_share.then_some(&*first.args.shares)
    }

    /// All profiles, by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }
}

/// There is one queue, so all profiles have to sort it alike.
fn same_sort(first: &Profile, profile: &Profile, path: &str, problems: &mut Problems) {
    let why = "queueSort must be the same for all profiles";
    let value = format!("{:?}", profile.sort.name);
    if first.sort != profile.sort {
        problems.invalid(&fields::below(path, "plugins.queueSort"), &value, why);
    } else if profile.sort.by_share && first.args.shares != profile.args.shares {
        problems.invalid(&fields::below(path, "pluginConfig.args"), &value, why);
    }
}

/// `percentageOfNodesToScore`, of the file or of a profile.
fn take_percentage(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<u8> {
    let percentage = fields.number("percentageOfNodesToScore", problems)?;
    let path = fields.path_of("percentageOfNodesToScore");
    let words = "not in valid range [0-100]";
    problems.in_range(&path, percentage, 0..=100, words);
    u8::try_from(percentage).ok()
}

/// Fields that a file may have and that mean nothing here, since they are about being a process of its own.
fn take_foreign(fields: &mut Fields<'_>, problems: &mut Problems) {
    if let Some(parallelism) = fields.number("parallelism", problems)
        && parallelism <= 0
    {
        let why = "should be an integer value greater than zero";
        problems.invalid("parallelism", &parallelism.to_string(), why);
    }
    for flag in [
        "enableProfiling",
        "enableContentionProfiling",
        "delayCacheUntilActive",
    ] {
        fields.flag(flag, problems);
    }
    take_election(fields.object("leaderElection", problems), problems);
    let mut connection = fields.object("clientConnection", problems);
    for field in ["kubeconfig", "acceptContentTypes", "contentType"] {
        connection.text(field, problems);
    }
    connection.value("qps");
    if let Some(burst) = connection.number("burst", problems)
        && burst < 0
    {
        let path = connection.path_of("burst");
        problems.invalid(&path, &burst.to_string(), "must be non-negative");
    }
    connection.end(problems);
}

/// `leaderElection`, checked as Kubernetes does: its times only where there is an election, 0 being as good as absent.
fn take_election(mut fields: Fields<'_>, problems: &mut Problems) {
    let elects = fields.flag("leaderElect", problems).unwrap_or(true);
    for field in ["resourceLock", "resourceName", "resourceNamespace"] {
        fields.text(field, problems);
    }
    let mut times = Vec::new();
    for (field, default) in ELECTION_TIMES {
        let text = fields.text(field, problems).unwrap_or("0");
        match duration(text) {
            Some(time) if time.is_zero() => times.push(*default),
            Some(time) => times.push(time),
            None if elects => {
                let path = fields.path_of(field);
                problems.invalid(&path, &format!("{text:?}"), "must be greater than zero");
            }
            None => {}
        }
    }
    if let [lease, renew, _] = times[..]
        && elects
        && lease < renew
    {
        let why = "LeaseDuration must be greater than RenewDeadline";
        let path = fields.path_of("leaseDuration");
        problems.invalid(&path, &format!("\"{}s\"", renew.as_secs_f64()), why);
    }
    fields.end(problems);
}

#[cfg(test)]
mod tests;
