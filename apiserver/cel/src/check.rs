//! Types before anything runs. What the checker lets through can still fail when it meets values that it knew nothing of.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ast::{Binary, Call, Comprehension, Entry, Expr, Fold, Kind, Literal};
use crate::functions::{self, Signature, regexes, time};
use crate::meter::compile_regex;
use crate::types::Type;
use crate::{Environment, Issue};

pub(crate) struct Checker<'e> {
    environment: &'e Environment,
    /// Variables of macros, the inner ones last.
    scopes: Vec<(Arc<str>, Type)>,
    pub(crate) issues: Vec<Issue>,
    /// The variables of the environment that are named.
    pub(crate) uses: BTreeSet<String>,
    /// The fields that are taken from variables themselves, as `variable.field`.
    pub(crate) fields: BTreeSet<String>,
    /// Whether lists and maps that are written out may mix types here.
    mixed: bool,
}

/// The type that a name means, if it is the name of one.
pub(crate) fn type_named(name: &str) -> Option<&str> {
    const NAMES: &[&str] = &[
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional_type",
        "timestamp",
        "duration",
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "kubernetes.NamedFormat",
        "kubernetes.Quantity",
        "kubernetes.Semver",
        "kubernetes.URL",
        "net.CIDR",
        "net.IP",
    ];
    NAMES.iter().copied().find(|known| *known == name)
}

fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Int | Type::Uint | Type::Double | Type::Dyn)
}

fn alike(a: &Type, b: &Type) -> bool {
    a.accepts(b, &mut Vec::new()) || b.accepts(a, &mut Vec::new())
}

/// One type for two values that may stand in the same place: the one that says less.
fn join(a: Type, b: &Type) -> Type {
    match (&a, b) {
        (_, Type::Dyn) => Type::Dyn,
        (Type::Null, other) => other.clone(),
        (Type::List(_), Type::List(list)) if list.item.is_dyn() => b.clone(),
        _ => a,
    }
}

impl<'e> Checker<'e> {
    pub(crate) fn new(environment: &'e Environment) -> Checker<'e> {
        Checker {
            environment,
            scopes: Vec::new(),
            issues: Vec::new(),
            uses: BTreeSet::new(),
            fields: BTreeSet::new(),
            mixed: false,
        }
    }

    fn complain(&mut self, at: u32, text: impl Into<String>) -> Type {
        self.issues.push(Issue {
            at,
            text: text.into(),
        });
        Type::Dyn
    }

    fn no_overload(&mut self, at: u32, function: &str, types: &[&Type]) -> Type {
        let types: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
        self.complain(
            at,
            format!(
                "found no matching overload for '{function}' applied to '({})'",
                types.join(", ")
            ),
        )
    }

    /// The name of a type with dots in it, where no variable has the name of its first part.
    fn type_of_library(&self, expr: &Expr) -> Option<String> {
        if !matches!(expr.kind, Kind::Select { .. }) {
            return None;
        }
        let full = expr.dotted().filter(|full| type_named(full).is_some())?;
        let (first, _) = full.split_once('.')?;
        let is_variable = self.scopes.iter().any(|(known, _)| &**known == first)
            || self.environment.variable(first).is_some();
        (!is_variable).then_some(full)
    }

    /// Some variables have a dot in their names.
    fn join_dotted(&mut self, expr: &mut Expr) {
        if let Some(full) = self.type_of_library(expr) {
            expr.kind = Kind::Ident(full.into());
            return;
        }
        let Kind::Select { operand, field, .. } = &expr.kind else {
            return;
        };
        let Kind::Ident(name) = &operand.kind else {
            return;
        };
        if self.scopes.iter().any(|(known, _)| known == name) {
            return;
        }
        let full = format!("{name}.{field}");
        if self.environment.variable(&full).is_some() {
            expr.kind = Kind::Ident(full.into());
        } else {
            self.fields.insert(full);
        }
    }

    pub(crate) fn check(&mut self, expr: &mut Expr) -> Type {
        self.join_dotted(expr);
        let at = expr.at;
        match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let name = name.clone();
                self.ident(at, &name)
            }
            Kind::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.check(operand);
                self.select(at, &operand, field, *optional)
            }
            Kind::Has { operand, field } => {
                let operand = self.check(operand);
                self.select(at, &operand, field, false);
                Type::Bool
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                let operand = self.check(operand);
                let index = self.check(index);
                self.index(at, &operand, &index, *optional)
            }
            Kind::Call(call) => self.call(at, call),
            Kind::List(items) => self.list(items),
            Kind::Map(items) => self.map(items),
            Kind::Message { name, fields } => self.message(at, name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptMap {
                operand,
                name,
                body,
                flat,
            } => self.opt_map(at, operand, name, body, *flat),
            Kind::And(all) => self.logic(at, "_&&_", all),
            Kind::Or(all) => self.logic(at, "_||_", all),
            Kind::Not(operand) => {
                let ty = self.check(operand);
                match ty {
                    Type::Bool | Type::Dyn => Type::Bool,
                    other => self.no_overload(at, "!_", &[&other]),
                }
            }
            Kind::Negate(operand) => {
                let ty = self.check(operand);
                match ty {
                    Type::Int | Type::Double | Type::Dyn => ty,
                    other => self.no_overload(at, "-_", &[&other]),
                }
            }
            Kind::Conditional(three) => self.conditional(at, three),
            Kind::Binary(operator, two) => {
                let operator = *operator;
                let left = self.check(&mut two[0]);
                let right = self.check(&mut two[1]);
                self.binary(at, operator, &left, &right)
            }
        }
    }

    fn ident(&mut self, at: u32, name: &str) -> Type {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return ty.clone();
        }
        if let Some(ty) = self.environment.variable(name) {
            self.uses.insert(name.to_string());
            return ty.clone();
        }
        if type_named(name).is_some() {
            return Type::Type;
        }
        self.complain(
            at,
            format!("undeclared reference to '{name}' (in container '')"),
        )
    }

    fn select(&mut self, at: u32, operand: &Type, field: &str, optional: bool) -> Type {
        let found = match operand {
            Type::Optional(inner) => {
                let inner = (**inner).clone();
                return Type::optional(self.select(at, &inner, field, false));
            }
            Type::Dyn => Type::Dyn,
            Type::Map(types) => types.1.clone(),
            Type::Object(object) => match object.field(field) {
                Some((_, ty)) => ty,
                None => self.complain(at, format!("undefined field '{field}'")),
            },
            other => self.complain(
                at,
                format!("type '{other}' does not support field selection"),
            ),
        };
        if optional {
            Type::optional(found)
        } else {
            found
        }
    }

    fn index(&mut self, at: u32, operand: &Type, index: &Type, optional: bool) -> Type {
        let found = match operand {
            Type::Optional(inner) => {
                let inner = (**inner).clone();
                return Type::optional(self.index(at, &inner, index, false));
            }
            Type::Dyn => Type::Dyn,
            Type::List(list) if is_number(index) => list.item.clone(),
            Type::Map(types) if types.0.accepts(index, &mut Vec::new()) => types.1.clone(),
            other => self.no_overload(at, "_[_]", &[other, index]),
        };
        if optional {
            Type::optional(found)
        } else {
            found
        }
    }

    fn call(&mut self, at: u32, call: &mut Call) -> Type {
        // What is formatted is of any type.
        let around = self.mixed;
        self.mixed |= call.member && &*call.name == "format";
        let args: Vec<Type> = call.args.iter_mut().map(|arg| self.check(arg)).collect();
        self.mixed = around;
        self.literals(call);
        let Some(signatures) = functions::signatures(&call.name) else {
            let text = format!("undeclared reference to '{}' (in container '')", call.name);
            return self.complain(at, text);
        };
        let mut result: Option<Type> = None;
        for signature in signatures
            .iter()
            .filter(|signature| signature.member == call.member)
        {
            if let Some(found) = applied(signature, &args) {
                result = Some(match result {
                    Some(known) if known.to_string() != found.to_string() => Type::Dyn,
                    _ => found,
                });
            }
        }
        result.unwrap_or_else(|| self.no_such_call(at, call, &args))
    }

    fn no_such_call(&mut self, at: u32, call: &Call, args: &[Type]) -> Type {
        let (receiver, args) = match args.split_first() {
            Some((receiver, rest)) if call.member => (format!("{receiver}."), rest),
            _ => (String::new(), args),
        };
        let args: Vec<String> = args.iter().map(Type::to_string).collect();
        let text = format!(
            "found no matching overload for '{}' applied to '{receiver}({})'",
            call.name,
            args.join(", ")
        );
        self.complain(at, text)
    }

    /// Patterns, durations and timestamps that are written out are read now.
    fn literals(&mut self, call: &mut Call) {
        let place = usize::from(regexes::takes_pattern(&call.name));
        let Some(Expr {
            kind: Kind::Literal(Literal::String(text)),
            at,
            ..
        }) = call.args.get(place)
        else {
            return;
        };
        let (text, at) = (text.clone(), *at);
        match &*call.name {
            name if regexes::takes_pattern(name) => match compile_regex(&text) {
                Ok(regex) => call.regex = Some(regex),
                Err(_) => {
                    self.complain(at, format!("invalid {name} argument"));
                }
            },
            "duration" if time::parse_duration(&text).is_none() => {
                self.complain(at, "invalid duration argument");
            }
            "timestamp" if time::parse_timestamp(&text).is_none() => {
                self.complain(at, "invalid timestamp argument");
            }
            _ => {}
        }
    }

    /// The type of an entry, without the optional around it when it is marked.
    fn entry(&mut self, value: &mut Expr, optional: bool) -> Type {
        let ty = self.check(value);
        match ty {
            Type::Optional(inner) if optional => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other if optional => self.complain(
                value.at,
                format!("expected type 'optional_type({other})' but found '{other}'"),
            ),
            other => other,
        }
    }

    /// `known` is the type of the entries before; none for the first one.
    fn joined(&mut self, known: Option<Type>, ty: &Type, at: u32) -> Option<Type> {
        let Some(known) = known else {
            return Some(ty.clone());
        };
        if alike(&known, ty) {
            return Some(join(known, ty));
        }
        // One error says it for all entries.
        if !self.mixed {
            self.complain(at, format!("expected type '{known}' but found '{ty}'"));
        }
        Some(Type::Dyn)
    }

    fn list(&mut self, items: &mut [Entry<()>]) -> Type {
        let mut item = None;
        for entry in items {
            let ty = self.entry(&mut entry.value, entry.optional);
            item = self.joined(item, &ty, entry.value.at);
        }
        Type::list(item.unwrap_or(Type::Dyn))
    }

    fn map(&mut self, items: &mut [Entry<Expr>]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in items {
            let key = self.check(&mut entry.key);
            if !matches!(
                key,
                Type::Dyn | Type::Bool | Type::Int | Type::Uint | Type::String
            ) {
                self.complain(entry.key.at, format!("unsupported key type '{key}'"));
            }
            keys = self.joined(keys, &key, entry.key.at);
            let value = self.entry(&mut entry.value, entry.optional);
            values = self.joined(values, &value, entry.value.at);
        }
        Type::map(keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn))
    }

    fn message(&mut self, at: u32, name: &Arc<str>, fields: &mut [Entry<Arc<str>>]) -> Type {
        let is_patch = &**name == "JSONPatch";
        let is_object = &**name == "Object" || name.starts_with("Object.");
        if !self.environment.mutation || !(is_patch || is_object) {
            for field in fields {
                self.check(&mut field.value);
            }
            return self.complain(
                at,
                format!("undeclared reference to '{name}' (in container '')"),
            );
        }
        for field in fields {
            let ty = self.entry(&mut field.value, field.optional);
            let wanted = match &*field.key {
                "op" | "path" | "from" if is_patch => Type::String,
                "value" if is_patch => Type::Dyn,
                other if is_patch => self.complain(at, format!("undefined field '{other}'")),
                _ => Type::Dyn,
            };
            if !wanted.accepts(&ty, &mut Vec::new()) {
                self.complain(
                    field.value.at,
                    format!(
                        "expected type of field '{}' is '{wanted}' but provided type is '{ty}'",
                        field.key
                    ),
                );
            }
            if let Type::Opaque(made) = &ty
                && made.starts_with("Object")
                && is_object
                && **made != *format!("{name}.{}", field.key)
            {
                let text = format!(
                    "expected type of field '{}' is '{name}.{}' but provided type is '{made}'",
                    field.key, field.key
                );
                self.complain(field.value.at, text);
            }
        }
        Type::Opaque(name.clone())
    }

    fn fold(&mut self, fold: &mut Comprehension) -> Type {
        let range = self.check(&mut fold.range);
        let two = fold.second.is_some();
        let (first, second) = match &range {
            Type::List(list) if two => (Type::Int, list.item.clone()),
            Type::List(list) => (list.item.clone(), Type::Dyn),
            Type::Map(types) => (types.0.clone(), types.1.clone()),
            // Properties are not items: only what is keyed by data can be walked.
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.complain(fold.range.at, text), Type::Dyn)
            }
        };
        let known = self.scopes.len();
        self.scopes.push((fold.first.clone(), first.clone()));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        if let Some(condition) = &mut fold.condition {
            let ty = self.check(condition);
            self.judgement(condition.at, &ty, fold.fold, &first);
        }
        let body = self.check(&mut fold.body);
        let at = fold.body.at;
        self.scopes.truncate(known);
        match fold.fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => {
                self.judgement(at, &body, fold.fold, &first);
                Type::Bool
            }
            Fold::Filter => {
                self.judgement(at, &body, fold.fold, &first);
                Type::list(first)
            }
            Fold::List => Type::list(body),
            Fold::TransformMap => {
                let key = if matches!(range, Type::List(_)) {
                    Type::Int
                } else {
                    first
                };
                Type::map(key, body)
            }
            Fold::TransformMapEntry => body,
        }
    }

    fn judgement(&mut self, at: u32, ty: &Type, fold: Fold, item: &Type) {
        if matches!(ty, Type::Bool | Type::Dyn) {
            return;
        }
        let items = Type::list(item.clone());
        match fold {
            Fold::All => self.no_overload(at, "_&&_", &[&Type::Bool, ty]),
            Fold::Exists => self.no_overload(at, "_||_", &[&Type::Bool, ty]),
            Fold::ExistsOne => self.no_overload(at, "_?_:_", &[ty, &Type::Int, &Type::Int]),
            _ => self.no_overload(at, "_?_:_", &[ty, &items, &items]),
        };
    }

    fn opt_map(
        &mut self,
        at: u32,
        operand: &mut Expr,
        name: &Arc<str>,
        body: &mut Expr,
        flat: bool,
    ) -> Type {
        let inner = match self.check(operand) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let text =
                    format!("found no matching overload for 'hasValue' applied to '{other}.()'");
                self.complain(at, text)
            }
        };
        self.scopes.push((name.clone(), inner));
        let body = self.check(body);
        self.scopes.pop();
        if flat { body } else { Type::optional(body) }
    }

    fn logic(&mut self, at: u32, name: &str, all: &mut [Expr]) -> Type {
        for operand in all {
            let ty = self.check(operand);
            if !matches!(ty, Type::Bool | Type::Dyn) {
                self.no_overload(at, name, &[&Type::Bool, &ty]);
            }
        }
        Type::Bool
    }

    fn conditional(&mut self, at: u32, three: &mut [Expr; 3]) -> Type {
        let condition = self.check(&mut three[0]);
        let yes = self.check(&mut three[1]);
        let no = self.check(&mut three[2]);
        if !matches!(condition, Type::Bool | Type::Dyn) || !alike(&yes, &no) {
            return self.no_overload(at, "_?_:_", &[&condition, &yes, &no]);
        }
        join(yes, &no)
    }

    fn binary(&mut self, at: u32, operator: Binary, left: &Type, right: &Type) -> Type {
        let found = match operator {
            Binary::Equal | Binary::NotEqual => alike(left, right).then_some(Type::Bool),
            Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
                ordered(left, right).then_some(Type::Bool)
            }
            Binary::In => within(left, right).then_some(Type::Bool),
            _ => arithmetic(operator, left, right),
        };
        found.unwrap_or_else(|| self.no_overload(at, operator.name(), &[left, right]))
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

fn applied(signature: &Signature, args: &[Type]) -> Option<Type> {
    let mut bound = Vec::new();
    let fits = signature.args.len() == args.len()
        && signature
            .args
            .iter()
            .zip(args)
            .all(|(wanted, given)| wanted.accepts(given, &mut bound));
    fits.then(|| signature.result.substitute(&bound))
}

fn ordered(left: &Type, right: &Type) -> bool {
    let comparable = |ty: &Type| {
        matches!(
            ty,
            Type::Dyn
                | Type::Bool
                | Type::Int
                | Type::Uint
                | Type::Double
                | Type::String
                | Type::Bytes
                | Type::Timestamp
                | Type::Duration
        )
    };
    comparable(left)
        && comparable(right)
        && (alike(left, right) || is_number(left) && is_number(right))
}

fn within(item: &Type, whole: &Type) -> bool {
    match whole {
        Type::Dyn => true,
        Type::List(list) => alike(&list.item, item),
        Type::Map(types) => alike(&types.0, item),
        _ => false,
    }
}

fn arithmetic(operator: Binary, left: &Type, right: &Type) -> Option<Type> {
    use Binary::{Add, Modulo, Subtract};
    let concatenates = operator == Add;
    let shifts = matches!(operator, Add | Subtract);
    Some(match (left, right) {
        (Type::Dyn, Type::Dyn) => Type::Dyn,
        (Type::Int, Type::Int) => Type::Int,
        (Type::Uint, Type::Uint) => Type::Uint,
        (Type::Double, Type::Double) if operator != Modulo => Type::Double,
        (Type::String, Type::String) if concatenates => Type::String,
        (Type::Bytes, Type::Bytes) if concatenates => Type::Bytes,
        (Type::List(_), Type::List(_)) if concatenates && alike(left, right) => {
            join(left.clone(), right)
        }
        (Type::Duration, Type::Duration) if shifts => Type::Duration,
        (Type::Timestamp, Type::Duration) if shifts => Type::Timestamp,
        (Type::Duration, Type::Timestamp) if concatenates => Type::Timestamp,
        (Type::Timestamp, Type::Timestamp) if operator == Subtract => Type::Duration,
        (Type::Timestamp | Type::Duration, Type::Dyn)
        | (Type::Dyn, Type::Timestamp | Type::Duration)
            if shifts =>
        {
            Type::Dyn
        }
        (Type::Dyn, other) | (other, Type::Dyn) => {
            arithmetic(operator, other, other)?;
            other.clone()
        }
        _ => return None,
    })
}
