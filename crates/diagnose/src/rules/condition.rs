//! Conditions: CEL expressions over the values of signals, checked when they are loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{Expr, LiteralValue, operators};
use cel::{Context, Env, IdedExpr, Program, Value};

/// An expression at the most, in bytes; with neither loops nor calls its cost is bounded by it.
const CONDITION_BYTES_MAX: usize = 1_000;
/// The variable that holds the reference time in seconds.
pub(crate) const NOW: &str = "now";

/// Where a signal reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalKind {
    Metric,
    Log,
    Event,
    Object,
    Health,
    Change,
}

impl SignalKind {
    /// Fields that are numbers, all of them doubles.
    pub(crate) fn numbers(self) -> &'static [&'static str] {
        match self {
            Self::Metric => {
                &["last", "level", "before", "rate", "slope", "highest", "lowest", "change", "ratio", "score"]
            }
            Self::Log => &["count", "before", "per_minute", "burst"],
            Self::Event => &["count", "before", "objects", "minutes_ago"],
            Self::Object => &["count", "total", "unready", "restarts", "minutes_ago"],
            Self::Health => &["count", "failed", "seconds"],
            Self::Change => &["count", "minutes_ago", "minutes_before"],
        }
    }

    /// Fields that are yes or no.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Metric => &["present", "compared"],
            Self::Log | Self::Event | Self::Object | Self::Health | Self::Change => &["present"],
        }
    }

    pub(crate) fn is_number(self, field: &str) -> bool {
        self.numbers().contains(&field)
    }

    fn type_of(self, field: &str) -> Option<Type> {
        if self.is_number(field) {
            Some(Type::Number)
        } else {
            self.flags().contains(&field).then_some(Type::Flag)
        }
    }

    fn all_fields(self) -> String {
        [self.numbers(), self.flags()].concat().join(", ")
    }
}

/// What an expression answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// A number.
    Number,
    /// A whole number as it is written: fits a comparison, and no arithmetic with doubles.
    Whole,
    /// Yes or no.
    Flag,
}

impl Type {
    fn in_words(self) -> &'static str {
        match self {
            Self::Number | Self::Whole => "a number",
            Self::Flag => "yes or no",
        }
    }
}

/// The values of one signal by field. A number that does not exist is left out, so that a condition on it does not hold.
pub(crate) type Values = BTreeMap<&'static str, Number>;

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Double(f64),
    Flag(bool),
}

/// A compiled condition.
pub(crate) struct Condition {
    text: String,
    program: Program,
    signals: BTreeSet<String>,
}

impl Condition {
    /// Compiles `text` and checks that it speaks of known signals and fields, and answers yes or no.
    pub(crate) fn compile(
        env: &Arc<Env>,
        text: &str,
        signals: &BTreeMap<String, SignalKind>,
    ) -> Result<Self, String> {
        if text.len() > CONDITION_BYTES_MAX {
            return Err(format!("is longer than {CONDITION_BYTES_MAX} bytes"));
        }
        let program = env.compile(text).map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || "is not an expression".to_owned(),
                |error| {
                    let message = error.msg.lines().next().unwrap_or_default();
                    format!("is not an expression: {message} at column {}", error.pos.1)
                },
            )
        })?;
        let mut used = BTreeSet::new();
        if check(program.expression(), signals, &mut used)? != Type::Flag {
            return Err("answers a number, not yes or no: compare it with one".to_owned());
        }
        if used.is_empty() {
            return Err("speaks of no signal".to_owned());
        }
        let condition = Self { text: text.to_owned(), program, signals: used };
        let sample: BTreeMap<&str, Values> = signals
            .iter()
            .map(|(name, kind)| {
                let doubles = kind.numbers().iter().map(|field| (*field, Number::Double(1.0)));
                let flags = kind.flags().iter().map(|field| (*field, Number::Flag(true)));
                (name.as_str(), doubles.chain(flags).collect())
            })
            .collect();
        match condition.evaluate(env, &sample, 1.0) {
            Ok(Value::Bool(_)) => Ok(condition),
            Ok(other) => Err(format!("answers {}, not yes or no", other.type_of())),
            Err(why) => Err(why),
        }
    }

    /// The expression as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The signals that it speaks of.
    pub(crate) fn signals(&self) -> &BTreeSet<String> {
        &self.signals
    }

    /// Whether it holds; not when a value that it needs is missing.
    pub(crate) fn holds(&self, env: &Arc<Env>, values: &BTreeMap<&str, Values>, now: f64) -> bool {
        matches!(self.evaluate(env, values, now), Ok(Value::Bool(true)))
    }

    fn evaluate(&self, env: &Arc<Env>, values: &BTreeMap<&str, Values>, now: f64) -> Result<Value, String> {
        let mut context = Context::with_env(Arc::clone(env));
        context.add_variable_from_value(NOW, Value::Float(now));
        for (name, fields) in values {
            let map: HashMap<String, Value> = fields
                .iter()
                .map(|(field, number)| {
                    let value = match number {
                        Number::Double(value) => Value::Float(*value),
                        Number::Flag(value) => Value::Bool(*value),
                    };
                    ((*field).to_owned(), value)
                })
                .collect();
            context.add_variable_from_value(*name, map);
        }
        self.program.execute(&context).map_err(|error| format!("cannot be evaluated: {error}"))
    }
}

/// Only comparisons, arithmetic and logic over fields of signals are taken: nothing that loops, so that a rule cannot be slow. Both
/// sides of everything are looked at, since the evaluation of a sample would stop at the first that decides.
fn check(
    expression: &IdedExpr,
    signals: &BTreeMap<String, SignalKind>,
    used: &mut BTreeSet<String>,
) -> Result<Type, String> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => Ok(Type::Flag),
        Expr::Literal(LiteralValue::Double(_)) => Ok(Type::Number),
        Expr::Literal(LiteralValue::Int(_)) => Ok(Type::Whole),
        Expr::Ident(name) if name == NOW => Ok(Type::Number),
        Expr::Ident(name) => match signals.get(name) {
            Some(kind) => {
                let example = kind.numbers().first().copied().unwrap_or("present");
                Err(format!(
                    "names the signal `{name}` without a field: write for example `{name}.{example}`"
                ))
            }
            None => Err(unknown_signal(name, signals)),
        },
        Expr::Select(select) if !select.test => {
            let Expr::Ident(name) = &select.operand.expr else {
                return Err("selects a field of something that is not a signal".to_owned());
            };
            let kind = signals.get(name).ok_or_else(|| unknown_signal(name, signals))?;
            let Some(found) = kind.type_of(&select.field) else {
                return Err(format!(
                    "asks for `{name}.{}`, which does not exist: `{name}` has {}",
                    select.field,
                    kind.all_fields()
                ));
            };
            used.insert(name.clone());
            Ok(found)
        }
        Expr::Call(call) if call.target.is_none() => {
            let arguments: Result<Vec<Type>, String> =
                call.args.iter().map(|part| check(part, signals, used)).collect();
            let Some(wanted) = wanted(&call.func_name) else {
                return Err(NOT_ALLOWED.to_owned());
            };
            answer(wanted, &arguments?)
        }
        _ => Err(NOT_ALLOWED.to_owned()),
    }
}

/// What a condition is made of.
const NOT_ALLOWED: &str = "may hold comparisons, arithmetic and logic over signals only";

fn unknown_signal(name: &str, signals: &BTreeMap<String, SignalKind>) -> String {
    let names: Vec<&str> = signals.keys().map(String::as_str).collect();
    format!("speaks of `{name}`, which is not one of the rule's signals: {}", names.join(", "))
}

/// What an operator takes and answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Arithmetic,
    Comparison,
    Equality,
    Logic,
    Choice,
}

fn wanted(function: &str) -> Option<Operator> {
    Some(match function {
        operators::ADD
        | operators::SUBSTRACT
        | operators::MULTIPLY
        | operators::DIVIDE
        | operators::NEGATE => Operator::Arithmetic,
        operators::GREATER | operators::GREATER_EQUALS | operators::LESS | operators::LESS_EQUALS => {
            Operator::Comparison
        }
        operators::EQUALS | operators::NOT_EQUALS => Operator::Equality,
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => Operator::Logic,
        operators::CONDITIONAL => Operator::Choice,
        _ => return None,
    })
}

fn answer(operator: Operator, arguments: &[Type]) -> Result<Type, String> {
    let wrong = |what: &str, wants: &str, found: Type| {
        Err(format!("{what} {}, where {wants} is expected", found.in_words()))
    };
    let number = |one: &Type| matches!(one, Type::Number | Type::Whole);
    match (operator, arguments) {
        (Operator::Arithmetic, _) => match arguments.iter().find(|one| !number(one)) {
            Some(found) => wrong("calculates with", "a number", *found),
            None if arguments.len() > 1 && arguments.contains(&Type::Whole) => {
                Err("mixes a whole number with doubles: write for example `2.0`".to_owned())
            }
            None => Ok(if arguments.contains(&Type::Whole) { Type::Whole } else { Type::Number }),
        },
        (Operator::Comparison, _) => match arguments.iter().find(|one| !number(one)) {
            Some(found) => wrong("compares", "a number", *found),
            None => Ok(Type::Flag),
        },
        (Operator::Equality, [one, other]) if number(one) != number(other) => {
            Err("compares a number with yes or no, where two of a kind are expected".to_owned())
        }
        (Operator::Logic, _) => match arguments.iter().find(|one| number(one)) {
            Some(found) => wrong("joins by logic", "yes or no", *found),
            None => Ok(Type::Flag),
        },
        (Operator::Choice, [condition, one, other]) => {
            if number(condition) {
                wrong("chooses by", "yes or no", *condition)
            } else if one == other {
                Ok(*one)
            } else {
                Err("chooses between two that are not of a kind: expected two doubles, or twice yes or no"
                    .to_owned())
            }
        }
        _ => Ok(Type::Flag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Condition, String> {
        let signals = BTreeMap::from([
            ("memory".to_owned(), SignalKind::Metric),
            ("lines".to_owned(), SignalKind::Log),
            ("kills".to_owned(), SignalKind::Event),
        ]);
        Condition::compile(&Arc::new(Env::stdlib()), text, &signals)
    }

    #[test]
    fn mistakes_are_found_when_it_is_loaded() {
        for (text, expected) in [
            ("memory.last >", "is not an expression"),
            ("memory.lst > 1.0", "`memory` has last, level"),
            ("lines.rate > 1.0", "`lines` has count, before"),
            ("other.last > 1.0", "not one of the rule's signals"),
            ("memory > 1.0", "without a field"),
            ("memory.last * 2 > 1.0", "write for example `2.0`"),
            ("memory.last + 2.0", "not yes or no"),
            ("memory.last && true", "joins by logic a number, where yes or no is expected"),
            ("memory.last > 0.5 || memory.last", "joins by logic a number"),
            ("memory.present > 0.5", "compares yes or no, where a number is expected"),
            ("memory.present == 1.0", "two of a kind are expected"),
            ("(memory.present ? 1.0 : true) == 1.0", "not of a kind"),
            ("kills.burst > 1.0", "`kills` has count, before, objects, minutes_ago, present"),
            ("1.0 > 2.0", "speaks of no signal"),
            ("[1, 2].exists(x, x > 1)", "comparisons, arithmetic and logic"),
            ("size('a') > 0", "comparisons, arithmetic and logic"),
            ("memory['last'] > 1.0", "comparisons, arithmetic and logic"),
        ] {
            let error = compile(text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_condition_on_a_missing_value_does_not_hold() {
        let env = Arc::new(Env::stdlib());
        let either = compile("memory.last > 1 || lines.count >= 2").unwrap();
        let neither = compile("!(memory.last > 1.0)").unwrap();
        let lines = Values::from([("count", Number::Double(3.0)), ("present", Number::Flag(true))]);
        let values =
            BTreeMap::from([("memory", Values::from([("present", Number::Flag(false))])), ("lines", lines)]);
        assert!(either.holds(&env, &values, 0.0));
        assert!(!neither.holds(&env, &values, 0.0));
    }
}
