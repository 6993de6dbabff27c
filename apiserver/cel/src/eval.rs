//! Running an expression: a walk over the tree that pays for every step.
//!
//! The functions of the walk are many and small, so that its frames are: the deepest tree that the parser lets through has
//! to fit on the stack of a worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Binary, Call, Comprehension, Entry, Expr, Fold, Kind, Literal};
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators;
use crate::value::{Key, List, Map, Text, Value};

/// The variables of an evaluation.
pub trait Activation<'a> {
    /// The value of a variable; none for one that does not exist.
    fn variable(&self, name: &str) -> Option<Value<'a>>;

    /// A field of a variable that is worked out on demand (`variables.x`); none where the variable is an ordinary one.
    fn lazy(&self, _variable: &str, _field: &str) -> Option<Outcome<'a>> {
        None
    }
}

/// A variable that a macro binds, and those around it.
struct Scope<'s, 'a> {
    name: &'s str,
    value: Value<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    fn find(&self, name: &str) -> Option<&Value<'a>> {
        if self.name == name {
            Some(&self.value)
        } else {
            self.outer?.find(name)
        }
    }
}

type Around<'s, 'a> = Option<&'s Scope<'s, 'a>>;

pub(crate) struct Machine<'x, 'm, 'a> {
    pub(crate) meter: &'x mut Meter<'m>,
    pub(crate) activation: &'x dyn Activation<'a>,
}

const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const MESSAGE_COST: u64 = 40;

impl<'a> Machine<'_, '_, 'a> {
    pub(crate) fn run(&mut self, expr: &Expr) -> Outcome<'a> {
        self.eval(expr, None)
    }

    fn eval(&mut self, expr: &Expr, scope: Around<'_, 'a>) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(value_of(literal)),
            Kind::Ident(name) => self.ident(name, scope),
            Kind::Select {
                operand,
                field,
                optional,
            } => self.select(operand, field, *optional, scope),
            Kind::Has { operand, field } => self.has(operand, field, scope),
            Kind::Index {
                operand,
                index,
                optional,
            } => self.index(operand, index, *optional, scope),
            Kind::Call(call) => self.call(call, scope),
            Kind::List(items) => self.list(items, scope),
            Kind::Map(items) => self.map(items, scope),
            Kind::Message { name, fields } => self.message(name, fields, scope),
            Kind::Fold(fold) => self.fold(fold, scope),
            Kind::OptMap {
                operand,
                name,
                body,
                flat,
            } => self.opt_map(operand, name, body, *flat, scope),
            Kind::And(all) => self.logic(all, false, scope),
            Kind::Or(all) => self.logic(all, true, scope),
            Kind::Not(operand) => self.not(operand, scope),
            Kind::Negate(operand) => self.negate(operand, scope),
            Kind::Conditional(three) => self.conditional(three, scope),
            Kind::Binary(operator, two) => self.binary(*operator, two, scope),
        }
    }

    #[inline(never)]
    fn ident(&mut self, name: &Arc<str>, scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(1)?;
        if let Some(value) = scope.and_then(|scope| scope.find(name)) {
            return Ok(value.clone());
        }
        if let Some(value) = self.activation.variable(name) {
            return Ok(value);
        }
        match crate::check::type_named(name) {
            Some(_) => Ok(Value::Type(runtime_name(name).into())),
            None => Err(EvalError::new(format!("no such attribute(s): {name}"))),
        }
    }

    #[inline(never)]
    fn select(
        &mut self,
        operand: &Expr,
        field: &Arc<str>,
        optional: bool,
        scope: Around<'_, 'a>,
    ) -> Outcome<'a> {
        self.meter.charge(1)?;
        if let Kind::Ident(name) = &operand.kind
            && scope.and_then(|scope| scope.find(name)).is_none()
            && let Some(outcome) = self.activation.lazy(name, field)
        {
            return outcome;
        }
        let operand = self.eval(operand, scope)?;
        select(&operand, field, optional)
    }

    #[inline(never)]
    fn has(&mut self, operand: &Expr, field: &Arc<str>, scope: Around<'_, 'a>) -> Outcome<'a> {
        let operand = self.eval(operand, scope)?;
        match present(&operand, field)? {
            Some(_) => Ok(Value::Bool(true)),
            None => Ok(Value::Bool(false)),
        }
    }

    #[inline(never)]
    fn index(
        &mut self,
        operand: &Expr,
        index: &Expr,
        optional: bool,
        scope: Around<'_, 'a>,
    ) -> Outcome<'a> {
        self.meter.charge(1)?;
        let operand = self.eval(operand, scope)?;
        let index = self.eval(index, scope)?;
        let (inner, chained) = match &operand {
            Value::Optional(None) => return Ok(operand),
            Value::Optional(Some(inner)) => (&**inner, true),
            other => (other, false),
        };
        match index_of(inner, &index) {
            Ok(value) if optional || chained => Ok(Value::some(value)),
            Ok(value) => Ok(value),
            Err(Missing::Absent(_)) if optional || chained => Ok(Value::Optional(None)),
            Err(Missing::Absent(error) | Missing::Wrong(error)) => Err(error),
        }
    }

    #[inline(never)]
    fn call(&mut self, call: &Call, scope: Around<'_, 'a>) -> Outcome<'a> {
        let native = call.native;
        let native =
            native.ok_or_else(|| EvalError::new(format!("no such overload: {}", call.name)))?;
        let mut args = Vec::with_capacity(call.args.len());
        if matches!(&*call.name, "or" | "orValue") && call.args.len() == 2 {
            return self.or_value(&call.args, &call.name, scope);
        }
        for arg in &call.args {
            args.push(self.eval(arg, scope)?);
        }
        self.meter.charge(1)?;
        if let Some(regex) = &call.regex {
            return crate::functions::regexes::with_literal(self.meter, &call.name, regex, &args);
        }
        let outcome = native(self.meter, &args);
        match outcome {
            Err(error) if error.text == "no such overload" => {
                let types: Vec<&str> = args.iter().map(Value::type_name).collect();
                Err(EvalError::new(format!(
                    "no such overload: {}({})",
                    call.name,
                    types.join(", ")
                )))
            }
            other => other,
        }
    }

    /// The second argument is looked at only when it is needed.
    fn or_value(&mut self, args: &[Expr], name: &str, scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(1)?;
        match self.eval(&args[0], scope)? {
            Value::Optional(Some(value)) if name == "orValue" => Ok((*value).clone()),
            Value::Optional(Some(value)) => Ok(Value::Optional(Some(value))),
            Value::Optional(None) => self.eval(&args[1], scope),
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn list(&mut self, items: &[Entry<()>], scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(LIST_COST)?;
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            let value = self.eval(&item.value, scope)?;
            made.extend(entry(value, item.optional)?);
        }
        Ok(Value::list(made))
    }

    #[inline(never)]
    fn map(&mut self, items: &[Entry<Expr>], scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(MAP_COST)?;
        let mut made = BTreeMap::new();
        for item in items {
            let key = self.eval(&item.key, scope)?;
            let key = key
                .key()
                .ok_or_else(|| EvalError::new("unsupported key type"))?;
            let value = self.eval(&item.value, scope)?;
            if let Some(value) = entry(value, item.optional)?
                && let Some(_) = made.insert(key.clone(), value)
            {
                let key = display(&Value::from(&key));
                return Err(EvalError::new(format!("Failed with repeated key: {key}")));
            }
        }
        Ok(Value::Map(Map::Owned(Arc::new(made))))
    }

    #[inline(never)]
    fn message(
        &mut self,
        name: &Arc<str>,
        fields: &[Entry<Arc<str>>],
        scope: Around<'_, 'a>,
    ) -> Outcome<'a> {
        self.meter.charge(MESSAGE_COST)?;
        let mut made = BTreeMap::new();
        for field in fields {
            let value = self.eval(&field.value, scope)?;
            if let Some(value) = entry(value, field.optional)? {
                made.insert(Key::String(Text::Shared(field.key.clone())), value);
            }
        }
        Ok(Value::Map(Map::Message(name.clone(), Arc::new(made))))
    }

    /// `&&` and `||`: an operand that decides makes up for the errors of others.
    #[inline(never)]
    fn logic(&mut self, all: &[Expr], decides: bool, scope: Around<'_, 'a>) -> Outcome<'a> {
        let mut failed = None;
        for operand in all {
            match self.eval(operand, scope) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(value)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(EvalError::no_overload())),
                Err(error) if error.over_limit => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    #[inline(never)]
    fn not(&mut self, operand: &Expr, scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(1)?;
        match self.eval(operand, scope)? {
            Value::Bool(value) => Ok(Value::Bool(!value)),
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn negate(&mut self, operand: &Expr, scope: Around<'_, 'a>) -> Outcome<'a> {
        self.meter.charge(1)?;
        let operand = self.eval(operand, scope)?;
        operators::negate(&operand)
    }

    #[inline(never)]
    fn conditional(&mut self, three: &[Expr; 3], scope: Around<'_, 'a>) -> Outcome<'a> {
        match self.eval(&three[0], scope)? {
            Value::Bool(true) => self.eval(&three[1], scope),
            Value::Bool(false) => self.eval(&three[2], scope),
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn binary(&mut self, operator: Binary, two: &[Expr; 2], scope: Around<'_, 'a>) -> Outcome<'a> {
        let left = self.eval(&two[0], scope)?;
        let right = self.eval(&two[1], scope)?;
        operators::binary(self.meter, operator, &left, &right)
    }

    #[inline(never)]
    fn opt_map(
        &mut self,
        operand: &Expr,
        name: &str,
        body: &Expr,
        flat: bool,
        scope: Around<'_, 'a>,
    ) -> Outcome<'a> {
        self.meter.charge(1)?;
        match self.eval(operand, scope)? {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => {
                let inner = Scope {
                    name,
                    value: (*value).clone(),
                    outer: scope,
                };
                let made = self.eval(body, Some(&inner))?;
                if flat {
                    Ok(made)
                } else {
                    Ok(Value::some(made))
                }
            }
            _ => Err(EvalError::no_overload()),
        }
    }

    #[inline(never)]
    fn fold(&mut self, fold: &Comprehension, scope: Around<'_, 'a>) -> Outcome<'a> {
        let range = self.eval(&fold.range, scope)?;
        self.meter.charge(1)?;
        let mut made = Made::default();
        match &range {
            Value::List(list) => {
                for at in 0..list.len() {
                    let Some(item) = list.get(at) else { break };
                    let (first, second) = match fold.second {
                        Some(_) => (Value::Int(at as i64), Some(item)),
                        None => (item, None),
                    };
                    if self.step(fold, first, second, &mut made, scope)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let second = fold.second.as_ref().and_then(|_| map.get(&key));
                    if self.step(fold, Value::from(&key), second, &mut made, scope)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_overload()),
        }
        made.finish(fold.fold)
    }

    /// One item. True when the rest does not matter.
    fn step(
        &mut self,
        fold: &Comprehension,
        first: Value<'a>,
        second: Option<Value<'a>>,
        made: &mut Made<'a>,
        outer: Around<'_, 'a>,
    ) -> Result<bool, EvalError> {
        self.meter.charge(3)?;
        let key = first.clone();
        let scope = Scope {
            name: &fold.first,
            value: first,
            outer,
        };
        let inner = match (&fold.second, second) {
            (Some(name), Some(value)) => &Scope {
                name,
                value,
                outer: Some(&scope),
            },
            _ => &scope,
        };
        self.item(fold, key, made, inner)
    }

    fn item(
        &mut self,
        fold: &Comprehension,
        key: Value<'a>,
        made: &mut Made<'a>,
        scope: &Scope<'_, 'a>,
    ) -> Result<bool, EvalError> {
        if let Some(condition) = &fold.condition {
            match self.eval(condition, Some(scope))? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                _ => return Err(EvalError::no_overload()),
            }
        }
        let value = self.eval(&fold.body, Some(scope));
        match (fold.fold, value) {
            (_, Err(error)) if error.over_limit => return Err(error),
            (Fold::All, Ok(Value::Bool(value))) => return Ok(made.decide(value, false)),
            (Fold::Exists, Ok(Value::Bool(value))) => return Ok(made.decide(value, true)),
            (Fold::All | Fold::Exists, Ok(_)) => made.fail(EvalError::no_overload()),
            (Fold::All | Fold::Exists, Err(error)) => made.fail(error),
            (_, Err(error)) => return Err(error),
            (Fold::ExistsOne, Ok(Value::Bool(value))) => made.count += u32::from(value),
            (Fold::Filter, Ok(Value::Bool(value))) => {
                if value {
                    self.meter.charge(LIST_COST)?;
                    made.items.push(key);
                }
            }
            (Fold::ExistsOne | Fold::Filter, Ok(_)) => return Err(EvalError::no_overload()),
            (Fold::List, Ok(value)) => {
                self.meter.charge(LIST_COST)?;
                made.items.push(value);
            }
            (Fold::TransformMap, Ok(value)) => {
                self.meter.charge(LIST_COST)?;
                let key = key.key().ok_or_else(EvalError::no_overload)?;
                made.map.insert(key, value);
            }
            (Fold::TransformMapEntry, Ok(value)) => {
                self.meter.charge(LIST_COST)?;
                made.extend(&value)?;
            }
        }
        Ok(false)
    }
}

/// What a comprehension has so far.
#[derive(Default)]
struct Made<'a> {
    items: Vec<Value<'a>>,
    map: BTreeMap<Key<'a>, Value<'a>>,
    count: u32,
    decided: bool,
    failed: Option<EvalError>,
}

impl<'a> Made<'a> {
    fn decide(&mut self, value: bool, decides: bool) -> bool {
        self.decided |= value == decides;
        self.decided
    }

    fn fail(&mut self, error: EvalError) {
        self.failed.get_or_insert(error);
    }

    fn extend(&mut self, value: &Value<'a>) -> Result<(), EvalError> {
        let Value::Map(map) = value else {
            return Err(EvalError::no_overload());
        };
        for key in map.keys() {
            let value = map.get(&key).unwrap_or(Value::Null);
            if self.map.contains_key(&key) {
                return Err(EvalError::new(format!(
                    "insert failed: key {} already exists",
                    display(&Value::from(&key))
                )));
            }
            self.map.insert(key, value);
        }
        Ok(())
    }

    fn finish(self, fold: Fold) -> Outcome<'a> {
        match fold {
            Fold::All | Fold::Exists => {
                let value = self.decided == (fold == Fold::Exists);
                match self.failed {
                    Some(error) if !self.decided => Err(error),
                    _ => Ok(Value::Bool(value)),
                }
            }
            Fold::ExistsOne => Ok(Value::Bool(self.count == 1)),
            Fold::List | Fold::Filter => Ok(Value::list(self.items)),
            Fold::TransformMap | Fold::TransformMapEntry => {
                Ok(Value::Map(Map::Owned(Arc::new(self.map))))
            }
        }
    }
}

/// The value of an entry that may be marked optional; none when it is left out.
fn entry<'a>(value: Value<'a>, optional: bool) -> Result<Option<Value<'a>>, EvalError> {
    match value {
        Value::Optional(inner) if optional => Ok(inner.map(|inner| (*inner).clone())),
        _ if optional => Err(EvalError::no_overload()),
        value => Ok(Some(value)),
    }
}

fn value_of<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(value) => Value::String(Text::Shared(value.clone())),
        Literal::Bytes(value) => Value::Bytes(value.clone()),
    }
}

fn runtime_name(name: &str) -> &str {
    match name {
        "timestamp" => "google.protobuf.Timestamp",
        "duration" => "google.protobuf.Duration",
        other => other,
    }
}

/// A field that may be absent.
fn present<'a>(operand: &Value<'a>, field: &str) -> Result<Option<Value<'a>>, EvalError> {
    match operand {
        Value::Map(map) => Ok(map.field(field)),
        Value::Optional(None) => Ok(None),
        Value::Optional(Some(inner)) => present(inner, field),
        Value::List(_) => Err(EvalError::not_an_index("string")),
        // What has no fields has not this one either: null and numbers can be asked as maps can.
        _ => Ok(None),
    }
}

fn select<'a>(operand: &Value<'a>, field: &str, optional: bool) -> Outcome<'a> {
    let chained = matches!(operand, Value::Optional(_));
    let found = present(operand, field)?;
    if optional || chained {
        return Ok(Value::Optional(found.map(Arc::new)));
    }
    found.ok_or_else(|| EvalError::no_key(field))
}

pub(crate) enum Missing {
    Absent(EvalError),
    Wrong(EvalError),
}

pub(crate) fn index_of<'a>(operand: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>, Missing> {
    match operand {
        Value::List(list) => list_item(list, index),
        Value::Map(map) => {
            let key = index
                .key()
                .ok_or_else(|| Missing::Wrong(EvalError::no_overload()))?;
            map.get(&key)
                .ok_or_else(|| Missing::Absent(EvalError::no_key(display(index))))
        }
        _ => Err(Missing::Absent(EvalError::no_key(display(index)))),
    }
}

fn list_item<'a>(list: &List<'a>, index: &Value<'a>) -> Result<Value<'a>, Missing> {
    let at = match index.key() {
        Some(Key::Number { value, .. }) => value,
        _ => {
            return Err(Missing::Wrong(EvalError::not_an_index(index.type_name())));
        }
    };
    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
    found.ok_or_else(|| Missing::Absent(EvalError::new(format!("index out of bounds: {at}"))))
}

/// A simple value as error texts say it.
pub(crate) fn display(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        other => other.type_name().to_string(),
    }
}
