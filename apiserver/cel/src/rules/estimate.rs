//! What a rule may cost at most for any object of its schema, before there is one.
//!
//! The model is cel-go's with the sizes that Kubernetes assumes: what has no limit may fill a whole request. Where parts of
//! the model differ, so may the figure; therefore only rules are refused that are dearer than allowed by [`SLACK`], and the
//! limits at run time hold for all.

use schema::structural::{Additional, Node, NodeType};

use crate::ast::{Binary, Comprehension, Expr, Fold, Kind, Literal};
use crate::functions::sequences::SORT_BY_KEYS;

/// Bytes of a request.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// What a rule may cost, times how often it may run for one object.
pub(super) const RULE_COST_MAX: u64 = 10_000_000;
/// What all rules of a schema may cost.
pub(super) const SCHEMA_COST_MAX: u64 = 100_000_000;
/// How far the estimate must be beyond a limit before something is refused.
pub(super) const SLACK: u64 = 10;
/// Letters of a name, or of what is written of a number.
const SHORT: u64 = 253;

/// What is known of a value: the most that it can be.
#[derive(Clone, Copy)]
struct Known<'n> {
    /// Letters, items or entries.
    size: u64,
    node: Option<&'n Node>,
    /// Size and schema of the items, where they come from somewhere else than the node.
    item: Option<(u64, Option<&'n Node>)>,
}

impl<'n> Known<'n> {
    fn sized(size: u64) -> Known<'n> {
        Known {
            size,
            node: None,
            item: None,
        }
    }

    fn of(node: &'n Node) -> Known<'n> {
        Known {
            size: size(node),
            node: Some(node),
            item: None,
        }
    }

    fn item(&self) -> Known<'n> {
        if let Some((size, node)) = self.item {
            return Known {
                size,
                node,
                item: None,
            };
        }
        let below = self
            .node
            .and_then(|node| match (&node.items, &node.additional) {
                (Some(items), _) => Some(&**items),
                (None, Additional::Of(value)) => Some(&**value),
                _ => None,
            });
        below.map_or(Known::sized(SHORT), Known::of)
    }

    fn is_map(&self) -> bool {
        self.node.is_some_and(|node| node.items.is_none())
    }
}

/// The least that a value takes in JSON.
pub(super) fn least_bytes(node: &Node) -> u64 {
    match node.ty {
        Some(NodeType::Boolean) => 4,
        Some(NodeType::Integer | NodeType::Number) => 1,
        Some(NodeType::Object) => {
            let required = node
                .required
                .iter()
                .filter_map(|name| Some((name, node.property(name)?)));
            2 + required
                .map(|(name, property)| name.len() as u64 + 4 + least_bytes(property))
                .sum::<u64>()
        }
        _ => 2,
    }
}

/// How often a value of this schema fits into a request.
pub(super) fn times_in_request(node: &Node) -> u64 {
    REQUEST_BYTES_MAX / least_bytes(node).max(1) + 1
}

/// The most items of the list or map here, if that is said.
pub(super) fn declared_items(node: &Node) -> Option<u64> {
    let limits = node.limits.as_deref()?;
    let most = if node.items.is_some() {
        limits.max_items
    } else {
        limits.max_properties
    };
    u64::try_from(most?).ok()
}

fn size(node: &Node) -> u64 {
    let limits = node.limits.as_deref();
    match node.ty {
        Some(NodeType::String) => {
            let listed = limits.and_then(|limits| {
                limits
                    .enumeration
                    .iter()
                    .map(|value| value.to_string().len() as u64)
                    .max()
            });
            let format = limits.and_then(|limits| limits.format.as_deref());
            let longest = limits.and_then(|limits| u64::try_from(limits.max_length?).ok());
            match (listed, format, longest) {
                (Some(longest), ..) => longest,
                (_, Some("duration" | "date" | "date-time"), _) => 32,
                (_, _, Some(letters)) => letters.saturating_mul(4),
                _ => REQUEST_BYTES_MAX,
            }
        }
        Some(NodeType::Array) => {
            let fits = || REQUEST_BYTES_MAX / (node.items.as_deref().map_or(2, least_bytes) + 1);
            declared_items(node).unwrap_or_else(fits)
        }
        Some(NodeType::Object) => match &node.additional {
            Additional::Of(value) => {
                declared_items(node).unwrap_or_else(|| REQUEST_BYTES_MAX / (least_bytes(value) + 6))
            }
            _ => node.properties.len() as u64,
        },
        _ if node.int_or_string => REQUEST_BYTES_MAX,
        _ => 1,
    }
}

/// A tenth for each letter or item that is looked at.
fn walk(size: u64) -> u64 {
    size.div_ceil(10)
}

struct Estimator<'n> {
    this: &'n Node,
    scopes: Vec<(String, Known<'n>)>,
    cost: u64,
}

/// The most that an expression may cost for values of this schema.
pub(super) fn most(expr: &Expr, this: &Node) -> u64 {
    let mut estimator = Estimator {
        this,
        scopes: Vec::new(),
        cost: 0,
    };
    estimator.visit(expr);
    estimator.cost
}

impl<'n> Estimator<'n> {
    fn pay(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    /// The cost of what is visited meanwhile, which is not counted yet.
    fn apart(&mut self, visit: impl FnOnce(&mut Self)) -> u64 {
        let before = std::mem::take(&mut self.cost);
        visit(self);
        std::mem::replace(&mut self.cost, before)
    }

    fn visit(&mut self, expr: &Expr) -> Known<'n> {
        match &expr.kind {
            Kind::Literal(Literal::String(text)) => Known::sized(text.len() as u64),
            Kind::Literal(Literal::Bytes(bytes)) => Known::sized(bytes.len() as u64),
            Kind::Literal(_) => Known::sized(1),
            Kind::Ident(name) => {
                self.pay(1);
                let bound = self
                    .scopes
                    .iter()
                    .rev()
                    .find(|(known, _)| **known == **name);
                let own = || {
                    if matches!(&**name, "self" | "oldSelf") {
                        Known::of(self.this)
                    } else {
                        Known::sized(SHORT)
                    }
                };
                bound.map_or_else(own, |(_, known)| *known)
            }
            Kind::Select { operand, field, .. } => {
                self.pay(1);
                let operand = self.visit(operand);
                field_of(&operand, field)
            }
            Kind::Has { operand, .. } => {
                self.visit(operand);
                Known::sized(1)
            }
            Kind::Index { operand, index, .. } => {
                self.pay(1);
                self.visit(index);
                self.visit(operand).item()
            }
            Kind::Call(call) => {
                let args: Vec<Known<'n>> = call.args.iter().map(|arg| self.visit(arg)).collect();
                self.call(&call.name, &args)
            }
            Kind::List(items) => {
                self.pay(10);
                let known: Vec<Known<'n>> =
                    items.iter().map(|item| self.visit(&item.value)).collect();
                let largest = known.iter().max_by_key(|known| known.size);
                Known {
                    item: largest.map(|known| (known.size, known.node)),
                    ..Known::sized(items.len() as u64)
                }
            }
            Kind::Map(items) => {
                self.pay(30);
                for item in items {
                    self.visit(&item.key);
                    self.visit(&item.value);
                }
                Known::sized(items.len() as u64)
            }
            Kind::Message { fields, .. } => {
                self.pay(40);
                fields.iter().for_each(|field| {
                    self.visit(&field.value);
                });
                Known::sized(fields.len() as u64)
            }
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptMap {
                operand,
                name,
                body,
                ..
            } => {
                let operand = self.visit(operand);
                self.scopes.push((name.to_string(), operand));
                let body = self.visit(body);
                self.scopes.pop();
                body
            }
            Kind::And(all) | Kind::Or(all) => {
                all.iter().for_each(|operand| {
                    self.visit(operand);
                });
                Known::sized(1)
            }
            Kind::Not(operand) | Kind::Negate(operand) => {
                self.pay(1);
                self.visit(operand)
            }
            Kind::Conditional(three) => self.conditional(three),
            Kind::Binary(operator, two) => {
                let left = self.visit(&two[0]);
                let right = self.visit(&two[1]);
                self.binary(*operator, left, right)
            }
        }
    }

    fn conditional(&mut self, three: &[Expr; 3]) -> Known<'n> {
        self.visit(&three[0]);
        let (mut yes, mut no) = (Known::sized(1), Known::sized(1));
        let first = self.apart(|estimator| yes = estimator.visit(&three[1]));
        let second = self.apart(|estimator| no = estimator.visit(&three[2]));
        self.pay(first.max(second));
        if yes.size >= no.size { yes } else { no }
    }

    fn binary(&mut self, operator: Binary, left: Known<'n>, right: Known<'n>) -> Known<'n> {
        match operator {
            Binary::Add => {
                let size = left.size.saturating_add(right.size);
                self.pay(if left.node.is_some_and(|node| node.items.is_some()) {
                    1
                } else {
                    walk(size)
                });
                return Known { size, ..left };
            }
            Binary::In if right.is_map() => self.pay(1),
            Binary::In => self.pay(right.size),
            _ => self.pay(walk(left.size.min(right.size)).max(1)),
        }
        Known::sized(1)
    }

    fn call(&mut self, name: &str, args: &[Known<'n>]) -> Known<'n> {
        let sizes = |at: usize| args.get(at).map_or(1, |known| known.size);
        let (cost, made) = match name {
            "contains" => (walk(sizes(0)).saturating_mul(walk(sizes(1))), 1),
            "startsWith" | "endsWith" => (walk(sizes(1)), 1),
            "matches" | "find" | "findAll" => (
                walk(sizes(0) + 1).saturating_mul(sizes(1).div_ceil(4)),
                sizes(0),
            ),
            "size" | "dyn" | "type" | "orValue" | "or" | "value" | "hasValue" | "optional.of" => {
                (1, sizes(0))
            }
            "int" | "uint" | "double" | "duration" | "timestamp" | "quantity" | "ip" | "cidr"
            | "url" => (walk(sizes(0)), SHORT),
            "sort" | "reverse" | "distinct" | "slice" | "flatten" | SORT_BY_KEYS => {
                (sizes(0), sizes(0))
            }
            "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => (sizes(0), SHORT),
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                (sizes(0).saturating_mul(sizes(1)), 1)
            }
            "replace" | "join" | "split" | "substring" | "lowerAscii" | "upperAscii" | "trim"
            | "format" | "string" | "bytes" => (walk(sizes(0)), sizes(0).saturating_add(sizes(2))),
            _ => (1, SHORT),
        };
        self.pay(cost.max(1));
        let keeps = matches!(
            name,
            "dyn"
                | "orValue"
                | "or"
                | "value"
                | "optional.of"
                | "sort"
                | "reverse"
                | "distinct"
                | "slice"
                | SORT_BY_KEYS
        );
        match args.first() {
            Some(first) if keeps => *first,
            _ => Known::sized(made),
        }
    }

    fn fold(&mut self, fold: &Comprehension) -> Known<'n> {
        let range = self.visit(&fold.range);
        let item = range.item();
        let key = if range.is_map() {
            Known::sized(SHORT)
        } else {
            Known::sized(1)
        };
        let (first, second) = match (&fold.second, range.is_map()) {
            (Some(_), _) => (key, item),
            (None, true) => (key, item),
            (None, false) => (item, item),
        };
        let known = self.scopes.len();
        self.scopes.push((fold.first.to_string(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.to_string(), second));
        }
        let mut body = Known::sized(1);
        let once = self.apart(|estimator| {
            if let Some(condition) = &fold.condition {
                estimator.visit(condition);
            }
            body = estimator.visit(&fold.body);
        });
        self.scopes.truncate(known);
        let own = match fold.fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => 3,
            _ => 12,
        };
        self.pay(
            range
                .size
                .saturating_mul(once.saturating_add(own))
                .saturating_add(1),
        );
        match fold.fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => Known::sized(1),
            Fold::Filter => range,
            _ => Known {
                item: Some((body.size, body.node)),
                ..Known::sized(range.size)
            },
        }
    }
}

fn field_of<'n>(operand: &Known<'n>, field: &str) -> Known<'n> {
    let name = crate::unescape(field).unwrap_or_else(|| field.to_owned());
    let found = operand.node.and_then(|node| match node.property(&name) {
        Some(property) => Some(Known::of(property)),
        None if matches!(node.additional, Additional::Of(_)) => Some(operand.item()),
        None => None,
    });
    // The names in metadata, and what is unknown.
    found.unwrap_or(Known::sized(SHORT))
}

/// The text of a refusal.
pub(super) fn complaint(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
