//! The rules of a schema: a tree of those of its parts that have any.

use std::sync::Arc;

use schema::field::{ErrorList, FieldError, Path};
use schema::structural::{Additional, Node, Rule, Structural};
use schema::types;

use super::estimate::{self, RULE_COST_MAX, SCHEMA_COST_MAX, SLACK};
use super::types::Types;
use super::validate::default_errors;
use crate::types::Type;
use crate::{BUDGET, Environment, Program};

/// The compiled rules of a schema. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Rules(pub(super) Arc<Part>);

/// The rules of a part of a schema and of what is below.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) ty: Type,
    /// `type` of the schema, which stands in errors.
    pub(super) type_name: &'static str,
    pub(super) rules: Vec<Compiled>,
    pub(super) properties: Vec<(Arc<str>, Part)>,
    pub(super) additional: Option<Box<Part>>,
    pub(super) items: Option<Box<Part>>,
    pub(super) all_of: Vec<Part>,
    /// The fields that tell the items of the list here apart.
    pub(super) list_keys: Vec<Arc<str>>,
    /// Whether values below have a counterpart in the old object.
    pub(super) correlates: bool,
}

impl Part {
    /// Whether the schema says that the values have parts.
    pub(super) fn is_container(&self) -> bool {
        matches!(self.type_name, "object" | "array")
    }
}

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: Rule,
    /// The text of what is wrong with it, where it could not be compiled.
    pub(super) program: Result<Program, String>,
    pub(super) message: Option<Program>,
    pub(super) uses_old: bool,
    pub(super) optional_old: bool,
}

impl Compiled {
    /// What stands in errors about running it.
    pub(super) fn describe(&self) -> &str {
        if self.rule.message.is_empty() {
            self.rule.rule.trim()
        } else {
            self.rule.message.trim()
        }
    }

    /// What stands in the error when it does not hold.
    pub(super) fn message(&self) -> String {
        if self.rule.message.is_empty() {
            format!("failed rule: {}", self.rule.rule.trim())
        } else {
            self.rule.message.trim().to_owned()
        }
    }
}

impl Rules {
    /// The rules of a schema; none when it has none, so that objects of it are not looked at.
    pub fn compile(schema: &Structural) -> Option<Rules> {
        let mut compiler = Compiler {
            types: Types::default(),
            errors: None,
            cost: 0,
            budget: Some(BUDGET),
        };
        let part = compiler.part(schema.root(), &Place::default(), None)?;
        Some(Rules(Arc::new(part)))
    }
}

/// What is wrong with the expressions of a schema; `path` is that of the schema.
pub fn check(schema: &Structural, path: &Path) -> ErrorList {
    let mut compiler = Compiler {
        types: Types::default(),
        errors: Some(ErrorList::new()),
        cost: 0,
        budget: Some(BUDGET),
    };
    let place = Place {
        path: Some(path.clone()),
        uncorrelated: None,
        times: Some(1),
    };
    compiler.part(schema.root(), &place, None);
    let mut errors = compiler.errors.unwrap_or_default();
    if compiler.cost > SCHEMA_COST_MAX * SLACK {
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(
            path,
            estimate::complaint(what, compiler.cost, SCHEMA_COST_MAX),
        ));
    }
    errors
}

/// Where in the schema we are.
#[derive(Clone, Default)]
struct Place {
    /// Only when errors are collected.
    path: Option<Path>,
    /// The list or map around, whose items have no counterpart in the old object.
    uncorrelated: Option<String>,
    /// How many values there may be here in one object; none where nothing says it.
    times: Option<u64>,
}

impl Place {
    fn below(&self, node: &Node, step: impl FnOnce(&Path) -> Path) -> Place {
        let path = self.path.as_ref();
        let uncorrelated = self.uncorrelated.clone().or_else(|| {
            let shown = || path.map(ToString::to_string).unwrap_or_default();
            (!correlates(node)).then(shown)
        });
        let times = match node.items.is_some() || matches!(node.additional, Additional::Of(_)) {
            true => self
                .times
                .zip(estimate::declared_items(node))
                .map(|(outer, own)| outer.saturating_mul(own)),
            false => self.times,
        };
        Place {
            path: path.map(step),
            uncorrelated,
            times,
        }
    }
}

struct Compiler {
    types: Types,
    /// None when nobody reads them.
    errors: Option<ErrorList>,
    /// What all rules may cost at most, as far as they could be compiled.
    cost: u64,
    /// What is left for the rules that judge defaults; none once it is used up. As in Kubernetes all of them share it.
    budget: Option<u64>,
}

/// Whether what is below has a counterpart in the old object.
fn correlates(node: &Node) -> bool {
    match node.items {
        Some(_) => node.list_type == Some(types::ListType::Map),
        // Fields have one also where writers replace them together.
        None => true,
    }
}

impl Compiler {
    fn complain(&mut self, error: FieldError) {
        if let Some(errors) = &mut self.errors {
            errors.push(error);
        }
    }

    /// `outer` is the type of the values, where the schema is one of a junction's.
    fn part(&mut self, node: &Node, place: &Place, outer: Option<&Type>) -> Option<Part> {
        let mut properties = Vec::new();
        for property in &node.properties {
            let below = place.below(node, |path| path.child("properties").key(&property.name));
            if let Some(part) = self.part(&property.node, &below, None) {
                properties.push((property.name.clone(), part));
            }
        }
        let additional = match &node.additional {
            Additional::Of(value) => {
                let below = place.below(node, |path| path.child("additionalProperties"));
                self.part(value, &below, None)
            }
            _ => None,
        };
        let items = node.items.as_ref().and_then(|items| {
            let below = place.below(node, |path| path.child("items"));
            self.part(items, &below, None)
        });
        let ty = outer.cloned().or_else(|| self.types.of(node));
        let mut all_of = Vec::new();
        for (at, inner) in node
            .limits
            .iter()
            .flat_map(|limits| limits.all_of.iter())
            .enumerate()
        {
            let below = Place {
                path: place
                    .path
                    .as_ref()
                    .map(|path| path.child("allOf").index(at)),
                ..place.clone()
            };
            all_of.extend(self.part(inner, &below, ty.as_ref()));
        }
        let rules = self.rules(node, ty.as_ref(), place);
        let is_empty = rules.is_empty()
            && properties.is_empty()
            && additional.is_none()
            && items.is_none()
            && all_of.is_empty();
        let part = (!is_empty).then(|| Part {
            ty: ty.unwrap_or(Type::Dyn),
            type_name: node.ty.map_or("", |ty| ty.as_str()),
            rules,
            properties,
            additional: additional.map(Box::new),
            items: items.map(Box::new),
            all_of,
            list_keys: node.list_keys.to_vec(),
            correlates: correlates(node),
        });
        self.check_default(node, part.as_ref(), place);
        part
    }

    /// The default of a schema keeps to the rules here and below, as what is new and as what stays.
    fn check_default(&mut self, node: &Node, part: Option<&Part>, place: &Place) {
        let (Some(default), Some(part), Some(path)) = (&node.default, part, &place.path) else {
            return;
        };
        let Some(errors) = self.errors.as_mut().filter(|errors| errors.is_empty()) else {
            return;
        };
        let path = path.child("default");
        errors.extend(default_errors(part, default, &path, &mut self.budget));
    }

    fn rules(&mut self, node: &Node, ty: Option<&Type>, place: &Place) -> Vec<Compiled> {
        let rules = node
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| !rule.rule.trim().is_empty());
        let rules: Vec<(usize, &Rule)> = rules.collect();
        rules
            .into_iter()
            .map(|(at, rule)| self.rule(at, rule, node, ty, place))
            .collect()
    }

    fn rule(
        &mut self,
        at: usize,
        rule: &Rule,
        node: &Node,
        ty: Option<&Type>,
        place: &Place,
    ) -> Compiled {
        let path = place
            .path
            .as_ref()
            .map(|path| path.child("x-kubernetes-validations").index(at));
        let optional_old = rule.optional_old_self == Some(true);
        let environment = environment(ty, optional_old);
        let program = compiled(&environment, &rule.rule, |ty| matches!(ty, Type::Bool));
        let program =
            program.map_err(|problem| problem.text("", "cel expression must evaluate to a bool"));
        if let (Err(text), Some(path)) = (&program, &path) {
            self.complain(FieldError::invalid(
                &path.child("rule"),
                &*rule.rule,
                text.clone(),
            ));
        }
        if let (Ok(program), Some(path)) = (&program, &path) {
            self.estimate(program, node, place, path);
        }
        let uses_old = program
            .as_ref()
            .is_ok_and(|program| program.uses("oldSelf"));
        if let (false, Some(optional), Some(path)) = (uses_old, rule.optional_old_self, &path) {
            let text = "may not be set if oldSelf is not used in rule";
            let path = path.child("optionalOldSelf");
            self.complain(FieldError::invalid(&path, optional, text));
        }
        if let (true, Some(within), Some(path)) = (uses_old, &place.uncorrelated, &path) {
            let text = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
            );
            self.complain(FieldError::invalid(&path.child("rule"), &*rule.rule, text));
        }
        let message = self.message(rule, &environment, path.as_ref());
        Compiled {
            rule: rule.clone(),
            program,
            message,
            uses_old,
            optional_old,
        }
    }

    fn estimate(&mut self, program: &Program, node: &Node, place: &Place, path: &Path) {
        let times = place
            .times
            .unwrap_or_else(|| estimate::times_in_request(node));
        let cost = estimate::most(program.expr(), node).saturating_mul(times);
        self.cost = self.cost.saturating_add(cost);
        if cost > RULE_COST_MAX * SLACK {
            let text = estimate::complaint("estimated rule cost", cost, RULE_COST_MAX);
            self.complain(FieldError::forbidden(&path.child("rule"), text));
        }
    }

    fn message(
        &mut self,
        rule: &Rule,
        environment: &Environment,
        path: Option<&Path>,
    ) -> Option<Program> {
        if rule.message_expression.trim().is_empty() {
            return None;
        }
        match compiled(environment, &rule.message_expression, |ty| {
            matches!(ty, Type::String)
        }) {
            Ok(program) => Some(program),
            Err(problem) => {
                if let Some(path) = path {
                    let text = problem.text(
                        "messageExpression ",
                        "messageExpression must evaluate to a string",
                    );
                    self.complain(FieldError::invalid(
                        &path.child("messageExpression"),
                        &*rule.message_expression,
                        text,
                    ));
                }
                None
            }
        }
    }
}

fn environment(ty: Option<&Type>, optional_old: bool) -> Environment {
    let Some(ty) = ty else {
        return Environment::new();
    };
    let old = if optional_old {
        Type::optional(ty.clone())
    } else {
        ty.clone()
    };
    Environment::new()
        .with("self", ty.clone())
        .with("oldSelf", old)
}

enum Problem {
    Text(String),
    Result,
}

impl Problem {
    fn text(self, what: &str, wrong_type: &str) -> String {
        match self {
            Problem::Text(text) => format!("{what}compilation failed: {text}"),
            Problem::Result => wrong_type.to_owned(),
        }
    }
}

fn compiled(
    environment: &Environment,
    text: &str,
    is_fine: fn(&Type) -> bool,
) -> Result<Program, Problem> {
    let program = Program::compile(environment, text).map_err(|error| Problem::Text(error.0))?;
    if is_fine(program.result()) {
        Ok(program)
    } else {
        Err(Problem::Result)
    }
}
