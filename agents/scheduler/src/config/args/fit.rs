//! `NodeResourcesFitArgs`.

use super::take_resources;
use crate::config::fields::{Fields, Problems};
use std::collections::BTreeSet;

/// What NodeResourcesFit looks at and how it scores.
#[derive(Debug, Clone, PartialEq)]
pub struct FitArgs {
    /// Extended resources that others care for.
    pub ignored: BTreeSet<String>,
    /// All of a domain: what stands before the slash.
    pub ignored_groups: BTreeSet<String>,
    /// Resources that count for the score, with their weights.
    pub resources: Vec<(String, i64)>,
    /// How.
    pub strategy: Strategy,
}

/// How the use of a resource becomes a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Emptier is better.
    LeastAllocated,
    /// Fuller is better.
    MostAllocated,
    /// By a line through these points: percent in use, score.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl FitArgs {
    pub(super) fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        self.ignored = owned(&fields.texts("ignoredResources", problems));
        let groups = fields.texts("ignoredResourceGroups", problems);
        for (path, group) in &groups {
            if group.contains('/') {
                let why = "resource group name can't contain '/'";
                problems.invalid(path, &format!("{group:?}"), why);
            }
        }
        self.ignored_groups = owned(&groups);
        let mut strategy = fields.object("scoringStrategy", problems);
        if strategy.is_absent() {
            return;
        }
        let resources = take_resources(&mut strategy, problems);
        let path = strategy.path_of("resources");
        for (at, (name, weight)) in resources.iter().enumerate() {
            let words = format!("resource weight of {name} not in valid range (0, 100]");
            problems.in_range(&format!("{path}[{at}].weight"), *weight, 1..=100, &words);
        }
        if !resources.is_empty() {
            self.resources = resources;
        }
        let ratio_path = strategy.path_of("requestedToCapacityRatio");
        let mut ratio = strategy.object("requestedToCapacityRatio", problems);
        let ratio_given = !ratio.is_absent();
        let shape = take_shape(&mut ratio, problems);
        ratio.end(problems);
        let type_path = strategy.path_of("type");
        let by = strategy.text("type", problems).unwrap_or("LeastAllocated");
        self.strategy = match by {
            "LeastAllocated" => Strategy::LeastAllocated,
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(shape),
            other => {
                let all = [
                    "LeastAllocated",
                    "MostAllocated",
                    "RequestedToCapacityRatio",
                ];
                problems.unsupported(&type_path, other, &all);
                Strategy::LeastAllocated
            }
        };
        let by_ratio = by == "RequestedToCapacityRatio";
        if by_ratio && !ratio_given {
            let why = "must be specified when type is RequestedToCapacityRatio";
            problems.required(&ratio_path, why);
        } else if !by_ratio && ratio_given {
            let why = "must be nil when type is not RequestedToCapacityRatio";
            problems.forbidden(&ratio_path, why);
        }
        strategy.end(problems);
    }

    /// Whether an extended resource is somebody else's business.
    pub fn ignores(&self, resource: &str) -> bool {
        let group = resource.split('/').next().unwrap_or_default();
        self.ignored.contains(resource) || self.ignored_groups.contains(group)
    }
}

fn owned(texts: &[(String, &str)]) -> BTreeSet<String> {
    texts.iter().map(|(_, text)| (*text).to_owned()).collect()
}

/// The best score that a file can give; ours are ten times as fine.
const SCORE_MAX_IN_FILES: i64 = 10;

fn take_shape(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<(i64, i64)> {
    if fields.is_absent() {
        return Vec::new();
    }
    let path = fields.path_of("shape");
    let mut shape: Vec<(i64, i64)> = Vec::new();
    for (path, item) in fields.list("shape", problems) {
        let mut point = Fields::of(Some(item), &path, problems);
        let used = point.number("utilization", problems).unwrap_or(0);
        let score = point.number("score", problems).unwrap_or(0);
        let used_path = point.path_of("utilization");
        if shape.last().is_some_and(|(before, _)| *before >= used) {
            let why = "values must be sorted in increasing order";
            problems.invalid(&used_path, &used.to_string(), why);
        }
        problems.in_range(&used_path, used, 0..=100, "not in valid range [0, 100]");
        let score_path = point.path_of("score");
        let scores = 0..=SCORE_MAX_IN_FILES;
        problems.in_range(&score_path, score, scores, "not in valid range [0, 10]");
        let finer = crate::plugins::SCORE_MAX / SCORE_MAX_IN_FILES;
        shape.push((used, score.saturating_mul(finer)));
        point.end(problems);
    }
    if shape.is_empty() {
        problems.required(&path, "at least one point must be specified");
    }
    shape
}
