//! `PressureAwareArgs`.

use super::take_resources;
use crate::config::fields::{Fields, Problems};
use crate::object::WEIGHT_MAX;
use agent_runtime::pressure::FIGURES;

/// How the pressures on a node count, in the order of their figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PressureArgs {
    /// For pods that do not say themselves how much they mind.
    pub weights: [i64; 3],
    /// A node above that is refused.
    pub most: [Option<u8>; 3],
}

impl PressureArgs {
    pub(super) fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let resources = take_resources(fields, problems);
        let path = fields.path_of("resources");
        if !resources.is_empty() {
            self.weights = [0; 3];
        }
        for (at, (name, weight)) in resources.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let all = 1..=i64::from(WEIGHT_MAX);
            let words = "not in valid range [1, 100]";
            problems.in_range(&format!("{path}.weight"), *weight, all, words);
            match FIGURES.iter().position(|known| known == name) {
                None => problems.unsupported(&format!("{path}.name"), name, &FIGURES),
                Some(figure) if self.weights[figure] != 0 => {
                    problems.duplicate(&format!("{path}.name"), name);
                }
                Some(figure) => self.weights[figure] = *weight,
            }
        }
        let mut most = fields.object("maxPressure", problems);
        for (figure, name) in FIGURES.into_iter().enumerate() {
            let Some(percent) = most.number(name, problems) else {
                continue;
            };
            let words = "not in valid range [0, 100]";
            problems.in_range(&most.path_of(name), percent, 0..=100, words);
            self.most[figure] = u8::try_from(percent).ok();
        }
        most.end(problems);
    }
}
