//! Conditions: CEL expressions over the values of signals, checked when they are loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{Expr, LiteralValue, operators};
use cel::{Context, Env, IdedExpr, Program, Value};

/// An expression at the most, in bytes; with neither loops nor calls its cost is bounded by it.
const CONDITION_BYTES_MAX: usize = 1_000;
/// The variable that holds the reference time in seconds.
pub(crate) const NOW: &str = "now";

/// Fields of a metric signal, all doubles but the flags.
pub(crate) const METRIC_FIELDS: [&str; 10] =
    ["last", "level", "before", "rate", "slope", "highest", "lowest", "change", "ratio", "score"];
/// Flags of a metric signal.
pub(crate) const METRIC_FLAGS: [&str; 2] = ["present", "compared"];
/// Fields of a log signal.
pub(crate) const LOG_FIELDS: [&str; 4] = ["count", "before", "per_minute", "burst"];
/// Flags of a log signal.
pub(crate) const LOG_FLAGS: [&str; 1] = ["present"];

/// Metric or log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalKind {
    Metric,
    Log,
}

impl SignalKind {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Metric => &METRIC_FIELDS,
            Self::Log => &LOG_FIELDS,
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Metric => &METRIC_FLAGS,
            Self::Log => &LOG_FLAGS,
        }
    }

    pub(crate) fn has(self, field: &str) -> bool {
        self.fields().contains(&field) || self.flags().contains(&field)
    }

    pub(crate) fn is_number(self, field: &str) -> bool {
        self.fields().contains(&field)
    }

    pub(crate) fn all_fields(self) -> String {
        [self.fields(), self.flags()].concat().join(", ")
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
        check(program.expression(), signals, &mut used)?;
        if used.is_empty() {
            return Err("speaks of no signal".to_owned());
        }
        let condition = Self { program, signals: used };
        let sample: BTreeMap<&str, Values> = signals
            .iter()
            .map(|(name, kind)| {
                let doubles = kind.fields().iter().map(|field| (*field, Number::Double(1.0)));
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

/// Only comparisons, arithmetic and logic over fields of signals are taken: nothing that loops, so that a rule cannot be slow.
fn check(
    expression: &IdedExpr,
    signals: &BTreeMap<String, SignalKind>,
    used: &mut BTreeSet<String>,
) -> Result<(), String> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(_) | LiteralValue::Double(_) | LiteralValue::Int(_)) => Ok(()),
        Expr::Ident(name) if name == NOW => Ok(()),
        Expr::Ident(name) if signals.contains_key(name) => {
            Err(format!("names the signal `{name}` without a field: write for example `{name}.last`"))
        }
        Expr::Ident(name) => Err(format!("speaks of `{name}`, which is not one of the rule's signals")),
        Expr::Select(select) if !select.test => {
            let Expr::Ident(name) = &select.operand.expr else {
                return Err("selects a field of something that is not a signal".to_owned());
            };
            let Some(kind) = signals.get(name) else {
                return Err(format!("speaks of `{name}`, which is not one of the rule's signals"));
            };
            if !kind.has(&select.field) {
                return Err(format!(
                    "asks for `{name}.{}`, which does not exist: `{name}` has {}",
                    select.field,
                    kind.all_fields()
                ));
            }
            used.insert(name.clone());
            Ok(())
        }
        Expr::Call(call) if call.target.is_none() && is_allowed(&call.func_name) => {
            let whole = |part: &IdedExpr| matches!(part.expr, Expr::Literal(LiteralValue::Int(_)));
            if is_arithmetic(&call.func_name) && call.args.iter().any(whole) {
                return Err("mixes a whole number with doubles: write for example `2.0`".to_owned());
            }
            call.args.iter().try_for_each(|part| check(part, signals, used))
        }
        _ => Err("may hold comparisons, arithmetic and logic over signals only".to_owned()),
    }
}

fn is_arithmetic(function: &str) -> bool {
    [operators::ADD, operators::SUBSTRACT, operators::MULTIPLY, operators::DIVIDE].contains(&function)
}

fn is_allowed(function: &str) -> bool {
    is_arithmetic(function)
        || [
            operators::CONDITIONAL,
            operators::LOGICAL_AND,
            operators::LOGICAL_OR,
            operators::LOGICAL_NOT,
            operators::NEGATE,
            operators::EQUALS,
            operators::NOT_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
            operators::LESS,
            operators::LESS_EQUALS,
        ]
        .contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Condition, String> {
        let signals = BTreeMap::from([
            ("memory".to_owned(), SignalKind::Metric),
            ("lines".to_owned(), SignalKind::Log),
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
            ("memory.last && true", "cannot be evaluated"),
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
