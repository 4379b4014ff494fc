//! The configuration file as a JSON Schema: for editors, and for the reference of all settings in `docs/settings.md`.
//!
//! Whatever the reader of the file accepts fits the schema. What `check` refuses besides, such as a number out of its range, may fit it
//! too.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::Config;
use super::values::{BaseUrl, Period, Secret};

/// A text that holds `${NAME}`: what it stands for is known only when the file is read.
const SUBSTITUTED: &str = r"\$\{";

/// The JSON Schema of the whole configuration file, in the draft that editors of YAML know best.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft07().with_transform(RecursiveTransform(as_the_file_is_read));
    settings.into_generator().into_root_schema_for::<Config>()
}

/// Adds to a schema of values what the reader of the file takes for them: a number where a text is expected, `${NAME}` anywhere, and
/// nothing at all for a section or a list in which everything is left out.
fn as_the_file_is_read(schema: &mut Schema) {
    let Some(rules) = schema.as_object_mut() else { return };
    // A section's defaults stand at its settings.
    if rules.get("default").and_then(Value::as_object).is_some_and(|section| !section.is_empty()) {
        rules.remove("default");
    }
    let substituted = json!({"type": "string", "pattern": SUBSTITUTED});
    if let Some(Value::Array(words)) = rules.get_mut("oneOf") {
        words.push(substituted);
        return;
    }
    if let Some(Value::Array(words)) = rules.remove("enum") {
        rules.remove("type");
        let words = words.into_iter().map(|word| json!({"const": word}));
        rules.insert("oneOf".to_owned(), words.chain([substituted]).collect());
        return;
    }
    if ["const", "pattern"].iter().any(|rule| rules.contains_key(*rule)) {
        return;
    }
    let types: Vec<String> = match rules.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return,
    };
    let has_required = rules.contains_key("required");
    let (more, pattern): (&[&str], _) = match types.first().map(String::as_str) {
        Some("object") if has_required => (&[], None),
        Some("object" | "array") => (&["null"], None),
        Some("string") => (&["number", "boolean"], None),
        Some("boolean") => (&["string"], Some(r"^\s*([Tt]rue|TRUE|[Ff]alse|FALSE)\s*$")),
        Some("integer") => (&["string"], Some(r"^\s*\+?[0-9][0-9_]*\s*$")),
        Some("number") => (&["string"], Some(r"^\s*[-+]?[0-9._]+([eE][-+]?[0-9]+)?\s*$")),
        _ => (&[], None),
    };
    let mut all: Vec<&str> = types.iter().map(String::as_str).collect();
    all.extend(more.iter().filter(|more| types.iter().all(|known| known != *more)));
    if all.len() > 1 {
        rules.insert("type".to_owned(), json!(all));
    }
    if let Some(pattern) = pattern {
        rules.insert("pattern".to_owned(), json!(format!("{pattern}|{SUBSTITUTED}")));
    }
}

/// What `values::optional` reads: a value, or an empty text or nothing where it is not set.
pub(super) struct Optional<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Optional<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Optional{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({"anyOf": [value, {"type": ["null", "string"], "pattern": r"^\s*$"}]})
    }
}

/// A path of a file or a folder.
pub(super) enum FilePath {}
/// What `values::listen` reads.
pub(super) enum ListenAddress {}
/// One of the names that `values::hosts` reads.
pub(super) enum HostName {}

/// Describes a kind of value: its name, how it is called in `docs/settings.md`, and its rules.
macro_rules! kind_of_value {
    ($type:ty, $name:literal, $title:literal, $rules:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema: Schema = $rules;
                schema.insert("title".to_owned(), $title.into());
                schema
            }
        }
    };
}

kind_of_value!(
    Period,
    "Period",
    "a length of time such as `5m`",
    json_schema!({
        "description": "A length of time: `5s`, `10m`, `1h 30m`, or a number of seconds. At most 365 days.",
        "examples": ["5s", "10m", "1h 30m", 300],
        "type": ["string", "number"],
        "pattern": format!("[0-9]|{SUBSTITUTED}"),
        "minimum": 0,
        "maximum": Period::MAX.get().as_secs(),
    })
);

kind_of_value!(
    Secret,
    "Secret",
    "a secret",
    json_schema!({
        "description": "A secret, best from the environment: `${NAME}`. Nothing shows it.",
        "examples": ["${OPERATOR_TOKEN}"],
        "type": "string",
    })
);

kind_of_value!(
    BaseUrl,
    "BaseUrl",
    "an address such as `http://host:9090`",
    json_schema!({
        "description": "The base address of a service, `http` or `https`: `http://host:9090`, `https://host/path`.",
        "examples": ["http://host:9090", "https://host/path"],
        "type": "string",
        "pattern": format!(r"^\s*[Hh][Tt][Tt][Pp][Ss]?://\S+\s*$|{SUBSTITUTED}"),
    })
);

kind_of_value!(
    FilePath,
    "FilePath",
    "a path",
    json_schema!({
        "description": "The path of a file or a folder: `/etc/quell/token`. A relative one counts from where the program is started.",
        "examples": ["/etc/quell/token"],
        "type": "string",
    })
);

kind_of_value!(
    ListenAddress,
    "ListenAddress",
    "an address to listen on such as `127.0.0.1:5000`",
    json_schema!({
        "description": "An address to listen on, an IP address and a port: `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`.",
        "examples": ["127.0.0.1:5000", "[::1]:5000", "localhost:5000"],
        "type": "string",
        "pattern": format!(r"^\s*(localhost|[0-9.]+|\[[0-9A-Fa-f:.%]+\]):\+?[0-9]+\s*$|{SUBSTITUTED}"),
    })
);

kind_of_value!(
    HostName,
    "HostName",
    "a name of a host such as `quell.example.com`",
    json_schema!({
        "description": "The name of a host without scheme and port: `quell.example.com`.",
        "examples": ["quell.example.com"],
        "type": ["string", "number", "boolean"],
        "pattern": format!(r"^\s*[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?\s*$|{SUBSTITUTED}"),
    })
);
