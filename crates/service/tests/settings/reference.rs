//! The reference of all settings, made from the schema, the defaults and the table of environment variables.

use std::fmt::Write as _;

use quell_service::Config;
use quell_service::config::VARIABLES;
use serde_json::{Map, Value, json};

const HEAD: &str = "# Settings

This page is made from the code by `INSTA_UPDATE=always cargo test -p quell-service --test settings`; do not edit it.

All daemons read one YAML file: `--config`, else the file that `QUELL_CONFIG` names, else `./quell.yaml`, else the defaults below. In
values `${NAME}` stands for an environment variable, `${NAME:-default}` has a default, and `$$` is a `$`. An environment variable that is
named at a setting wins over the file, and a flag of the daemon wins over both. A key that is not listed here is an error. `--check` prints
what is in effect, with secrets hidden.

A setting without a default is not set until you set it. A setting that is needed has to stand in each entry of its list.
";

/// A setting, by its path; `[]` stands for an entry of a list.
pub(crate) struct Setting {
    pub(crate) path: String,
    /// `None` where it has to be given.
    pub(crate) default: Option<Value>,
    kind: String,
    said: String,
}

struct Section {
    path: String,
    said: String,
    settings: Vec<Setting>,
}

/// All sections, in the order of the code.
pub(crate) struct Reference<'a> {
    schema: &'a Value,
    default: &'a Value,
    sections: Vec<Section>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(schema: &'a Value, default: &'a Value) -> Self {
        let mut reference = Self { schema, default, sections: Vec::new() };
        reference.section("", "What holds for all daemons.", schema);
        reference
    }

    pub(crate) fn settings(&self) -> Vec<&Setting> {
        self.sections.iter().flat_map(|section| &section.settings).collect()
    }

    fn section(&mut self, path: &str, said: &str, object: &'a Value) {
        let properties = object["properties"].as_object().unwrap();
        let fields = fields(path);
        let mut sorted = fields.clone();
        sorted.sort();
        assert!(
            sorted.iter().eq(properties.keys()),
            "the schema and the reader differ on `{path}`: {fields:?}"
        );
        let at = self.sections.len();
        self.sections.push(Section { path: path.to_owned(), said: said.to_owned(), settings: Vec::new() });
        for name in fields {
            let property = &properties[&name];
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            let said = property["description"].as_str().unwrap_or_default();
            let plain = self.resolved(property);
            if plain.get("properties").is_some() {
                self.section(&path, &both(said, plain), plain);
                continue;
            }
            let entries = plain.get("items").map(|items| self.resolved(items));
            let entries = entries.filter(|entries| entries.get("properties").is_some());
            let kind = match entries {
                Some(_) => format!("a list of [entries](#{})", anchor(&path)),
                None => self.kind(property),
            };
            let default = self.default_of(&path, object, property);
            let said = format!("{said}{}", self.alternatives(plain));
            self.sections[at].settings.push(Setting { path: path.clone(), default, kind, said });
            if let Some(entries) = entries {
                self.section(&format!("{path}[]"), &both("", entries), entries);
            }
        }
    }

    /// The default of the whole configuration; what that leaves out, and an entry of a list, has it in the schema.
    fn default_of(&self, path: &str, object: &Value, property: &Value) -> Option<Value> {
        let name = path.rsplit('.').next().unwrap_or_default();
        let required = object["required"].as_array().into_iter().flatten().any(|required| required == name);
        let of_whole = self.default.pointer(&format!("/{}", path.replace('.', "/")));
        let of_schema = property.get("default");
        (!required).then(|| of_whole.or(of_schema).cloned().unwrap_or_default())
    }

    /// The schema itself, without references and without what stands for a value that is not set.
    fn resolved(&self, mut schema: &'a Value) -> &'a Value {
        loop {
            if let Some(pointer) = schema["$ref"].as_str() {
                schema = self.schema.pointer(pointer.trim_start_matches('#')).unwrap();
            } else if let Some(first) = ["allOf", "anyOf"].iter().find_map(|rule| schema[*rule].get(0)) {
                schema = first;
            } else {
                return schema;
            }
        }
    }

    fn kind(&self, schema: &'a Value) -> String {
        let schema = self.resolved(schema);
        if let Some(title) = schema["title"].as_str() {
            return title.to_owned();
        }
        let words = words(schema);
        if !words.is_empty() {
            return format!("one of {}", words.join(", "));
        }
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap() {
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => "a whole number".to_owned(),
            "number" => "a number".to_owned(),
            "string" => "a text".to_owned(),
            "array" => format!("a list, each {}", self.kind(&schema["items"])),
            "object" => format!("a map, each value {}", self.kind(&schema["additionalProperties"])),
            other => panic!("no words for {other}"),
        }
    }

    /// What each of the alternatives means, where that is said.
    fn alternatives(&self, schema: &'a Value) -> String {
        let schema = schema.get("items").map_or(schema, |items| self.resolved(items));
        let said = schema["oneOf"].as_array().into_iter().flatten().filter_map(|word| {
            Some(format!(" `{}`: {}", word["const"].as_str()?, word["description"].as_str()?))
        });
        said.collect()
    }

    pub(crate) fn render(&self) -> String {
        let mut page = HEAD.to_owned();
        for section in &self.sections {
            let level = section.path.split('.').filter(|name| !name.is_empty()).count().clamp(1, 2);
            let title = if section.path.is_empty() {
                "All daemons".to_owned()
            } else {
                format!("`{}`", section.path)
            };
            writeln!(page, "\n{} {title}\n\n{}", "#".repeat(level + 1), one_line(&section.said)).unwrap();
            if section.settings.is_empty() {
                continue;
            }
            page.push_str("\n| setting | type | default | meaning |\n|---|---|---|---|\n");
            for setting in &section.settings {
                let default = match &setting.default {
                    None => "needed".to_owned(),
                    Some(Value::Null) => String::new(),
                    Some(default) => format!("`{}`", yaml(default)),
                };
                let variables =
                    VARIABLES.iter().filter(|variable| variable.settings.contains(&&*setting.path));
                let variables: Vec<_> = variables.map(|variable| format!("`{}`", variable.name)).collect();
                let environment = match variables.as_slice() {
                    [] => String::new(),
                    some => format!(" Environment: {}.", some.join(", ")),
                };
                let cells = [
                    &format!("`{}`", setting.path),
                    &setting.kind,
                    &default,
                    &format!("{}{environment}", setting.said),
                ];
                let cells = cells.map(|cell| one_line(cell).replace('|', "\\|"));
                writeln!(page, "| {} |", cells.join(" | ")).unwrap();
            }
        }
        page
    }
}

/// A value as it stands in YAML, on one line.
pub(crate) fn yaml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(section) => {
            let pairs = section.iter().map(|(name, value)| format!("{name}: {}", yaml(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        plain => serde_saphyr::to_string(plain).unwrap().trim_end().to_owned(),
    }
}

/// The settings that the reader knows at this path, in the order of the code: it names them when one does not exist.
fn fields(path: &str) -> Vec<String> {
    let mut document = json!({"?": null});
    for name in path.split('.').filter(|name| !name.is_empty()).rev() {
        let (name, within) = match name.strip_suffix("[]") {
            Some(name) => (name, json!([document])),
            None => (name, document),
        };
        document = Value::Object(Map::from_iter([(name.to_owned(), within)]));
    }
    let refused = serde_json::from_value::<Config>(document).unwrap_err().to_string();
    assert!(refused.starts_with("unknown field `?`, expected "), "{path}: {refused}");
    refused.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn words(schema: &Value) -> Vec<String> {
    let all = schema["oneOf"].as_array().into_iter().flatten();
    all.filter_map(|word| Some(format!("`{}`", word["const"].as_str()?))).collect()
}

/// What is said of the setting and of its type, without saying the same twice.
fn both(said: &str, object: &Value) -> String {
    let more = object["description"].as_str().unwrap_or_default();
    let start = |text: &str| one_line(text).trim_end_matches('.').to_lowercase();
    if start(said).starts_with(&start(more)) {
        said.to_owned()
    } else if start(more).starts_with(&start(said)) {
        more.to_owned()
    } else {
        format!("{said} {more}")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How GitHub names the heading of a section.
fn anchor(path: &str) -> String {
    path.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-')).collect()
}
