//! Tokens to the tree, macros included. Recursive descent; depth is bounded before the machine's stack is.

use std::sync::Arc;

use crate::Issue;
use crate::ast::{Binary, Call, Comprehension, Entry, Expr, Fold, Kind, Literal};
use crate::functions;
use crate::lexer::{Spanned, Token, tokens};

/// How deep an expression may nest, as in cel-go.
pub(crate) const DEPTH_MAX: u16 = 250;
/// How many characters an expression may have, as in cel-go.
pub(crate) const LENGTH_MAX: usize = 100_000;

/// Words that are no variable names.
pub(crate) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const OPERANDS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

#[derive(Clone, Copy)]
enum Operator {
    Or,
    And,
    Two(Binary),
}

/// How strongly each binds.
const OPERATORS: &[(&str, u8, Operator)] = &[
    ("||", 1, Operator::Or),
    ("&&", 2, Operator::And),
    ("==", 3, Operator::Two(Binary::Equal)),
    ("!=", 3, Operator::Two(Binary::NotEqual)),
    ("<=", 3, Operator::Two(Binary::LessEqual)),
    (">=", 3, Operator::Two(Binary::GreaterEqual)),
    ("<", 3, Operator::Two(Binary::Less)),
    (">", 3, Operator::Two(Binary::Greater)),
    ("in", 3, Operator::Two(Binary::In)),
    ("+", 4, Operator::Two(Binary::Add)),
    ("-", 4, Operator::Two(Binary::Subtract)),
    ("*", 5, Operator::Two(Binary::Multiply)),
    ("/", 5, Operator::Two(Binary::Divide)),
    ("%", 5, Operator::Two(Binary::Modulo)),
];

struct Parser {
    tokens: Vec<Spanned>,
    next: usize,
    /// Open recursions.
    open: u16,
    /// Whether `cel.bind` is a macro.
    bindings: bool,
}

type Parsed = Result<Expr, Issue>;

pub(crate) fn parse(text: &str, bindings: bool) -> Parsed {
    let text: Vec<char> = text.chars().collect();
    if text.len() > LENGTH_MAX {
        let error = format!(
            "expression code point size exceeds limit: size: {}, limit {LENGTH_MAX}",
            text.len()
        );
        return Err(Issue { at: 0, text: error });
    }
    let tokens = tokens(&text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        open: 0,
        bindings,
    };
    let expr = parser.expr()?;
    match parser.peek().token {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    }
}

fn recursion(at: u32) -> Issue {
    Issue {
        at,
        text: format!("expression recursion limit exceeded: {DEPTH_MAX}"),
    }
}

/// Long chains of `&&` and `||` make one flat node.
#[inline(never)]
fn joined(at: u32, operator: Operator, left: Expr, right: Expr) -> Parsed {
    let kind = match (operator, left.kind) {
        (Operator::And, Kind::And(mut all)) => {
            all.push(right);
            Kind::And(all)
        }
        (Operator::Or, Kind::Or(mut all)) => {
            all.push(right);
            Kind::Or(all)
        }
        (operator, kind) => {
            let left = Expr { kind, ..left };
            match operator {
                Operator::And => Kind::And(vec![left, right]),
                Operator::Or => Kind::Or(vec![left, right]),
                Operator::Two(binary) => Kind::Binary(binary, Box::new([left, right])),
            }
        }
    };
    node(at, kind)
}

fn children(kind: &Kind) -> u16 {
    fn most<'a>(all: impl IntoIterator<Item = &'a Expr>) -> u16 {
        all.into_iter().map(|expr| expr.depth).max().unwrap_or(0)
    }
    match kind {
        Kind::Literal(_) | Kind::Ident(_) => 0,
        Kind::Select { operand, .. } | Kind::Has { operand, .. } => operand.depth,
        Kind::Not(operand) | Kind::Negate(operand) => operand.depth,
        Kind::Index { operand, index, .. } => operand.depth.max(index.depth),
        Kind::Call(call) => most(&call.args),
        Kind::List(items) => most(items.iter().map(|item| &item.value)),
        Kind::Map(items) => most(items.iter().flat_map(|item| [&item.key, &item.value])),
        Kind::Message { fields, .. } => most(fields.iter().map(|field| &field.value)),
        Kind::Fold(fold) => most([&fold.range, &fold.body].into_iter().chain(&fold.condition)),
        Kind::OptMap { operand, body, .. } => operand.depth.max(body.depth),
        Kind::And(all) | Kind::Or(all) => most(all),
        Kind::Conditional(three) => most(three.iter()),
        Kind::Binary(_, two) => most(two.iter()),
    }
}

fn node(at: u32, kind: Kind) -> Parsed {
    let depth = children(&kind) + 1;
    if depth > DEPTH_MAX {
        return Err(recursion(at));
    }
    Ok(Expr { at, depth, kind })
}

impl Parser {
    fn peek(&self) -> &Spanned {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn at(&self) -> u32 {
        self.peek().at
    }

    fn unexpected(&self, expected: &str) -> Issue {
        let found = self.peek();
        Issue {
            at: found.at,
            text: format!(
                "Syntax error: mismatched input '{}' expecting {expected}",
                found.text
            ),
        }
    }

    /// Consumes this symbol, if it is next, and says where it stood.
    fn eat(&mut self, symbol: &'static str) -> Option<u32> {
        let found = self.peek();
        let at = found.at;
        if found.token != Token::Symbol(symbol) {
            return None;
        }
        self.next += 1;
        Some(at)
    }

    fn expect(&mut self, symbol: &'static str) -> Result<u32, Issue> {
        self.eat(symbol)
            .ok_or_else(|| self.unexpected(&format!("'{symbol}'")))
    }

    fn ident(&mut self) -> Result<Arc<str>, Issue> {
        match &self.peek().token {
            Token::Ident(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }

    /// The conditional, the weakest of all.
    fn expr(&mut self) -> Parsed {
        self.open += 1;
        if self.open > DEPTH_MAX {
            return Err(recursion(self.at()));
        }
        let condition = self.operators(0)?;
        let made = match self.eat("?") {
            None => Ok(condition),
            Some(at) => self.branches(condition, at),
        };
        self.open -= 1;
        made
    }

    #[inline(never)]
    fn branches(&mut self, condition: Expr, at: u32) -> Parsed {
        let yes = self.operators(0)?;
        self.expect(":")?;
        let no = self.expr()?;
        node(at, Kind::Conditional(Box::new([condition, yes, no])))
    }

    /// Operators that bind at least so strongly.
    fn operators(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let Some((strength, operator)) =
                self.operator().filter(|(strength, _)| *strength >= least)
            else {
                return Ok(left);
            };
            let at = self.at();
            self.next += 1;
            let right = self.operators(strength + 1)?;
            left = joined(at, operator, left, right)?;
        }
    }

    fn operator(&self) -> Option<(u8, Operator)> {
        let Token::Symbol(symbol) = self.peek().token else {
            return None;
        };
        OPERATORS
            .iter()
            .find(|(known, ..)| *known == symbol)
            .map(|(_, strength, operator)| (*strength, *operator))
    }

    fn unary(&mut self) -> Parsed {
        match self.peek().token {
            Token::Symbol("!") => self.negation(),
            Token::Symbol("-") => self.negative(),
            _ => self.member(),
        }
    }

    #[inline(never)]
    fn negation(&mut self) -> Parsed {
        let at = self.at();
        let mut times = 0;
        while self.eat("!").is_some() {
            times += 1;
        }
        let operand = self.member()?;
        if times % 2 == 0 {
            Ok(operand)
        } else {
            node(at, Kind::Not(Box::new(operand)))
        }
    }

    #[inline(never)]
    fn negative(&mut self) -> Parsed {
        let at = self.at();
        self.next += 1;
        let literal = match self.peek().token {
            Token::Int(value) => Some(Literal::Int(-value)),
            Token::IntMin => Some(Literal::Int(i64::MIN)),
            Token::Double(value) => Some(Literal::Double(-value)),
            _ => None,
        };
        if let Some(literal) = literal {
            self.next += 1;
            let operand = node(at, Kind::Literal(literal))?;
            return self.suffixes(operand);
        }
        let mut times = 1;
        while self.eat("-").is_some() {
            times += 1;
        }
        let operand = self.member()?;
        if times % 2 == 0 {
            Ok(operand)
        } else {
            node(at, Kind::Negate(Box::new(operand)))
        }
    }

    fn member(&mut self) -> Parsed {
        let operand = self.primary()?;
        self.suffixes(operand)
    }

    fn suffixes(&mut self, mut operand: Expr) -> Parsed {
        loop {
            operand = match self.peek().token {
                Token::Symbol(".") => self.field(operand)?,
                Token::Symbol("[") => self.index(operand)?,
                Token::Symbol("{") => match operand.dotted() {
                    Some(name) => self.message(name.into())?,
                    None => return Ok(operand),
                },
                _ => return Ok(operand),
            };
        }
    }

    fn field(&mut self, operand: Expr) -> Parsed {
        let at = self.expect(".")?;
        let optional = self.eat("?").is_some();
        let field = self.ident()?;
        if !optional && let Some(open) = self.eat("(") {
            return self.member_call(operand, field, open);
        }
        let operand = Box::new(operand);
        node(
            at,
            Kind::Select {
                operand,
                field,
                optional,
            },
        )
    }

    fn index(&mut self, operand: Expr) -> Parsed {
        let at = self.expect("[")?;
        let optional = self.eat("?").is_some();
        let index = Box::new(self.expr()?);
        self.expect("]")?;
        let operand = Box::new(operand);
        node(
            at,
            Kind::Index {
                operand,
                index,
                optional,
            },
        )
    }

    fn primary(&mut self) -> Parsed {
        match self.peek().token {
            Token::Symbol("(") => self.parenthesis(),
            Token::Symbol("[") => self.list(),
            Token::Symbol("{") => self.map(),
            Token::Symbol(".") => {
                self.next += 1;
                self.name()
            }
            Token::Ident(_) => self.name(),
            _ => self.literal(),
        }
    }

    fn parenthesis(&mut self) -> Parsed {
        self.next += 1;
        let inner = self.expr()?;
        self.expect(")")?;
        Ok(inner)
    }

    fn name(&mut self) -> Parsed {
        let at = self.at();
        let name = self.ident()?;
        self.named(name, at)
    }

    #[inline(never)]
    fn literal(&mut self) -> Parsed {
        let found = self.peek().clone();
        let at = found.at;
        let literal = match found.token {
            Token::Int(value) => Literal::Int(value),
            Token::IntMin => {
                return Err(Issue {
                    at,
                    text: "invalid int literal".into(),
                });
            }
            Token::Uint(value) => Literal::Uint(value),
            Token::Double(value) => Literal::Double(value),
            Token::String(value) => Literal::String(value),
            Token::Bytes(value) => Literal::Bytes(value),
            Token::Symbol("true") => Literal::Bool(true),
            Token::Symbol("false") => Literal::Bool(false),
            Token::Symbol("null") => Literal::Null,
            _ => return Err(self.unexpected(OPERANDS)),
        };
        self.next += 1;
        node(at, Kind::Literal(literal))
    }

    fn named(&mut self, name: Arc<str>, at: u32) -> Parsed {
        if let Some(open) = self.eat("(") {
            let args = self.args(")")?;
            return global_call(name, args, open);
        }
        if RESERVED.contains(&&*name) {
            return Err(Issue {
                at,
                text: format!("reserved identifier: {name}"),
            });
        }
        node(at, Kind::Ident(name))
    }

    fn args(&mut self, close: &'static str) -> Result<Vec<Expr>, Issue> {
        let mut args = Vec::new();
        while self.eat(close).is_none() {
            if !args.is_empty() {
                self.expect(",")?;
            }
            args.push(self.expr()?);
        }
        Ok(args)
    }

    fn list(&mut self) -> Parsed {
        let at = self.expect("[")?;
        let items = self.entries("]", |_| Ok(()))?;
        node(at, Kind::List(items))
    }

    fn map(&mut self) -> Parsed {
        let at = self.expect("{")?;
        let items = self.entries("}", |parser| {
            let key = parser.expr()?;
            parser.expect(":")?;
            Ok(key)
        })?;
        node(at, Kind::Map(items))
    }

    fn message(&mut self, name: Arc<str>) -> Parsed {
        let at = self.expect("{")?;
        let fields = self.entries("}", |parser| {
            let key = parser.ident()?;
            parser.expect(":")?;
            Ok(key)
        })?;
        node(at, Kind::Message { name, fields })
    }

    /// Entries up to `close`; a comma may follow the last one, and each may be optional.
    fn entries<K>(
        &mut self,
        close: &'static str,
        key: impl Fn(&mut Self) -> Result<K, Issue>,
    ) -> Result<Vec<Entry<K>>, Issue> {
        let mut entries = Vec::new();
        while self.eat(close).is_none() {
            let optional = self.eat("?").is_some();
            let key = key(self)?;
            let value = self.expr()?;
            entries.push(Entry {
                key,
                value,
                optional,
            });
            if self.eat(",").is_none() {
                self.expect(close)?;
                break;
            }
        }
        Ok(entries)
    }

    fn member_call(&mut self, operand: Expr, name: Arc<str>, open: u32) -> Parsed {
        let args = self.args(")")?;
        if let Some(prefix) = operand.dotted() {
            let full = format!("{prefix}.{name}");
            if functions::is_known(&full) {
                return call(full.into(), false, args, open);
            }
        }
        let of_cel = matches!(&operand.kind, Kind::Ident(name) if &**name == "cel");
        if self.bindings && of_cel && &*name == "bind" && args.len() == 3 {
            return bind(args, open);
        }
        member_macro(operand, name, args, open)
    }
}

/// `cel.bind(name, value, body)`: the body with a name for a value, which is worked out once. Made of what there is: a list with
/// the value, each item of which becomes the body, and the first of what that gives.
fn bind(mut args: Vec<Expr>, at: u32) -> Parsed {
    let first = variable(
        &args[0],
        "cel.bind() variable names must be simple identifiers",
    )?;
    let body = args.pop().expect("there are three");
    let value = args.pop().expect("there are three");
    let item = Entry {
        key: (),
        value,
        optional: false,
    };
    let fold = Comprehension {
        fold: Fold::List,
        range: node(at, Kind::List(vec![item]))?,
        first,
        second: None,
        condition: None,
        body,
    };
    let list = node(at, Kind::Fold(Box::new(fold)))?;
    let zero = node(at, Kind::Literal(Literal::Int(0)))?;
    node(
        at,
        Kind::Index {
            operand: Box::new(list),
            index: Box::new(zero),
            optional: false,
        },
    )
}

/// `list.sortBy(item, key)`: the list is worked out once, and each of its items once more for its key.
fn sort_by(operand: Expr, mut args: Vec<Expr>, at: u32) -> Parsed {
    // No expression can spell this name.
    let whole = node(at, Kind::Ident("@sorted".into()))?;
    let first = variable(&args[0], "argument is not an identifier")?;
    let fold = Comprehension {
        fold: Fold::List,
        range: whole.clone(),
        first,
        second: None,
        condition: None,
        body: args.remove(1),
    };
    let keys = node(at, Kind::Fold(Box::new(fold)))?;
    let name = functions::sequences::SORT_BY_KEYS;
    let sorted = call(name.into(), true, vec![whole.clone(), keys], at)?;
    bind(vec![whole, operand, sorted], at)
}

fn call(name: Arc<str>, member: bool, args: Vec<Expr>, at: u32) -> Parsed {
    let native = functions::native(&name);
    node(
        at,
        Kind::Call(Box::new(Call {
            name,
            member,
            args,
            native,
            regex: None,
        })),
    )
}

fn global_call(name: Arc<str>, args: Vec<Expr>, at: u32) -> Parsed {
    if &*name != "has" {
        return call(name, false, args, at);
    }
    match <[Expr; 1]>::try_from(args) {
        Ok(
            [
                Expr {
                    kind:
                        Kind::Select {
                            operand,
                            field,
                            optional: false,
                        },
                    ..
                },
            ],
        ) => node(at, Kind::Has { operand, field }),
        Ok([other]) => Err(Issue {
            at: other.at,
            text: "invalid argument to has() macro".into(),
        }),
        Err(args) => call(name, false, args, at),
    }
}

/// The name of a variable that a macro binds.
fn variable(expr: &Expr, what: &str) -> Result<Arc<str>, Issue> {
    match &expr.kind {
        Kind::Ident(name) if &**name != "__result__" => Ok(name.clone()),
        _ => Err(Issue {
            at: expr.at,
            text: what.to_string(),
        }),
    }
}

const NO_NAME: &str = "argument must be a simple name";

fn member_macro(operand: Expr, name: Arc<str>, mut args: Vec<Expr>, at: u32) -> Parsed {
    let fold = match (&*name, args.len()) {
        ("all", 2 | 3) => Fold::All,
        ("exists", 2 | 3) => Fold::Exists,
        ("exists_one" | "existsOne", 2 | 3) => Fold::ExistsOne,
        ("filter", 2) => Fold::Filter,
        ("map", 2 | 3) | ("transformList", 3 | 4) => Fold::List,
        ("transformMap", 3 | 4) => Fold::TransformMap,
        ("transformMapEntry", 3 | 4) => Fold::TransformMapEntry,
        ("optMap" | "optFlatMap", 2) => {
            let variable = variable(&args[0], NO_NAME)?;
            let body = Box::new(args.remove(1));
            let flat = &*name == "optFlatMap";
            return node(
                at,
                Kind::OptMap {
                    operand: Box::new(operand),
                    name: variable,
                    body,
                    flat,
                },
            );
        }
        ("sortBy", 2) => return sort_by(operand, args, at),
        _ => {
            args.insert(0, operand);
            return call(name, true, args, at);
        }
    };
    // `map` with three arguments has a condition; the judging macros then have two variables.
    let two = name.starts_with("transform") || args.len() == 3 && fold != Fold::List;
    let body = args.pop().expect("macros have arguments");
    let first = variable(&args[0], NO_NAME)?;
    let second = two.then(|| variable(&args[1], NO_NAME)).transpose()?;
    if second.as_ref() == Some(&first) {
        return Err(Issue {
            at: args[1].at,
            text: format!("duplicate variable name: {first}"),
        });
    }
    let condition = args.drain(1 + usize::from(two)..).next();
    let fold = Comprehension {
        fold,
        range: operand,
        first,
        second,
        condition,
        body,
    };
    node(at, Kind::Fold(Box::new(fold)))
}
