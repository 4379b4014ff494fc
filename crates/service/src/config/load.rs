//! From a file, the environment and flags to a [`Config`].

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_saphyr::{Error as YamlError, MessageFormatter, PropertySyntax, UserMessageFormatter};

use super::environment::{self, Environment};
use super::error::Position;
use super::substitute::{Prepared, prepare};
use super::values::Secret;
use super::{Agents, Config, ConfigError, TokenEntry, check};

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The largest token file, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 16 << 10;
/// The file that is read when none is named and it exists.
const FILE_DEFAULT: &str = "quell.yaml";
/// How many other keys a message names.
const KNOWN_KEYS_SHOWN_MAX: usize = 24;

/// The daemons, each of which reads its own sections more closely than the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `quell-coordinator`.
    Coordinator,
    /// `quell-diagnostic`.
    Diagnostic,
    /// `quell-resolution`.
    Resolution,
}

impl Daemon {
    /// The name of the binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "quell-coordinator",
            Self::Diagnostic => "quell-diagnostic",
            Self::Resolution => "quell-resolution",
        }
    }
}

/// Where a configuration comes from; kept by a daemon to load it again on SIGHUP.
#[derive(Debug, Clone)]
pub struct Loading {
    /// Whose configuration it is: token files and addresses of other daemons may be missing or unusable here. None means
    /// that everything is checked.
    pub daemon: Option<Daemon>,
    /// The file; without one `QUELL_CONFIG`, then `./quell.yaml` if it exists, then the built-in defaults.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
}

impl Loading {
    /// Loads: defaults, then the file with `${NAME}` substituted, then environment variables, then `flags`; then reads
    /// token files and checks that the whole can be used.
    pub fn load(&self, flags: impl FnOnce(&mut Config)) -> Result<Config, ConfigError> {
        let mut config = match self.path() {
            Some(path) => {
                let text = read_bounded(&path, FILE_BYTES_MAX)
                    .map_err(|why| ConfigError::Unreadable { path: path.clone(), why })?;
                parse(&text, &path.display().to_string(), &self.environment)?
            }
            None => Config::default(),
        };
        self.finish(&mut config, flags)?;
        Ok(config)
    }

    /// The same from a text instead of a file, for tests and for checks of a text that is not saved yet.
    pub fn load_text(&self, text: &str, flags: impl FnOnce(&mut Config)) -> Result<Config, ConfigError> {
        let name = self.file.as_deref().unwrap_or(Path::new(FILE_DEFAULT)).display().to_string();
        let mut config = parse(text, &name, &self.environment)?;
        self.finish(&mut config, flags)?;
        Ok(config)
    }

    /// The file that is read, if any.
    pub fn path(&self) -> Option<PathBuf> {
        let named = self.file.clone().or_else(|| self.environment.get("QUELL_CONFIG").map(PathBuf::from));
        named.or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.is_file()))
    }

    /// What a person should be told at start-up about this configuration; see [`Config::notices`].
    pub fn notices(&self, config: &Config) -> Vec<String> {
        let unknown = environment::unknown(&self.environment).map(|name| {
            format!("the environment variable {name} is not one that Quell knows; it has no effect")
        });
        config.notices().into_iter().chain(unknown).collect()
    }

    fn finish(&self, config: &mut Config, flags: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        environment::apply(config, &self.environment)?;
        flags(config);
        self.resolve_data_dirs(config);
        let concerns = |daemon| self.daemon.is_none_or(|this| this == daemon);
        if concerns(Daemon::Coordinator) {
            resolve_tokens("coordinator.tokens", &mut config.coordinator.tokens)?;
            let Agents { diagnostic, resolution } = &mut config.agents;
            let file = diagnostic.token_file.as_deref();
            resolve_token("agents.diagnostic.token", &mut diagnostic.token, file)?;
            let file = resolution.token_file.as_deref();
            resolve_token("agents.resolution.token", &mut resolution.token, file)?;
            let file = config.coordinator.database_url_file.as_deref();
            resolve_token("coordinator.database_url", &mut config.coordinator.database_url, file)?;
        }
        if concerns(Daemon::Diagnostic) {
            resolve_tokens("diagnostic.tokens", &mut config.diagnostic.tokens)?;
        }
        if concerns(Daemon::Resolution) {
            resolve_tokens("resolution.tokens", &mut config.resolution.tokens)?;
        }
        check::check(config, concerns)
    }

    fn resolve_data_dirs(&self, config: &mut Config) {
        let state_home = self.environment.get("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
            self.environment.get("HOME").map(|home| Path::new(home).join(".local").join("state"))
        });
        // The XDG specification: a path that is not absolute is to be ignored.
        let Some(state) = state_home.filter(|path| path.is_absolute()).map(|home| home.join("quell")) else {
            return;
        };
        config.coordinator.data_dir.get_or_insert_with(|| state.join("coordinator"));
        config.resolution.data_dir.get_or_insert_with(|| state.join("resolution"));
    }
}

fn resolve_tokens(setting: &str, entries: &mut [TokenEntry]) -> Result<(), ConfigError> {
    for (index, entry) in entries.iter_mut().enumerate() {
        let setting = format!("{setting}[{index}]");
        resolve_token(&format!("{setting}.token"), &mut entry.token, entry.token_file.as_deref())?;
        if entry.token.is_none() {
            let why = format!("the caller `{}` has neither `token` nor `token_file`", entry.name);
            return Err(ConfigError::setting(setting, why));
        }
    }
    Ok(())
}

fn resolve_token(setting: &str, token: &mut Option<Secret>, file: Option<&Path>) -> Result<(), ConfigError> {
    let Some(file) = file else { return Ok(()) };
    let file_setting = format!("{setting}_file");
    if token.is_some() {
        return Err(ConfigError::setting(
            file_setting,
            format!("is set together with `{setting}`; set one of them"),
        ));
    }
    let text = read_bounded(file, TOKEN_FILE_BYTES_MAX).map_err(|why| {
        ConfigError::setting(&file_setting, format!("cannot read {}: {why}", file.display()))
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(ConfigError::setting(file_setting, format!("{} is empty", file.display())));
    }
    *token = Some(Secret::new(text));
    Ok(())
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(bytes_max + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > bytes_max { Err(format!("it is larger than {bytes_max} bytes")) } else { Ok(text) }
}

fn parse(text: &str, file: &str, environment: &Environment) -> Result<Config, ConfigError> {
    let prepared = prepare(text);
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        property_syntax: PropertySyntax::DockerCompose,
    };
    // The reader's own redaction is given the values here: its messages show `${NAME}` in their place.
    let properties: HashMap<String, String> =
        environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    serde_saphyr::from_str_with_options(&prepared.text, options.with_properties(properties))
        .map_err(|error| explain(&error, &prepared, file))
}

fn explain(error: &YamlError, prepared: &Prepared, file: &str) -> ConfigError {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let at = Position { file: file.to_owned(), line, column: prepared.original_column(line, column) };
    let rest_of_line: String = usize::try_from(line)
        .ok()
        .and_then(|line| prepared.text.lines().nth(line.checked_sub(1)?))
        .map(|text| text.chars().skip(usize::try_from(column.saturating_sub(1)).unwrap_or(0)).collect())
        .unwrap_or_default();
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            // The reader hides the name of a key beside a substituted value; it stands in the file all the same.
            let written: String = rest_of_line
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
                .collect();
            let key = if written.is_empty() { field.clone() } else { written };
            let hint = key_hint(&key, expected);
            ConfigError::UnknownKey { at, key, hint }
        }
        YamlError::UnresolvedProperty { name, .. } => {
            ConfigError::UnsetVariable { at, variable: name.clone(), hint: String::new() }
        }
        YamlError::PropertyRequiredButUnset { name, message, .. }
        | YamlError::PropertyRequiredButEmpty { name, message, .. } => {
            let hint = if message.is_empty() { String::new() } else { format!(" ({message})") };
            ConfigError::UnsetVariable { at, variable: name.clone(), hint }
        }
        YamlError::InvalidScalar { ty, .. } => {
            let kind = if ty.starts_with('f') { "a number" } else { "a whole number in range" };
            ConfigError::Malformed { at, why: format!("{kind} is expected here") }
        }
        other => {
            let mut why =
                UserMessageFormatter.format_message(other).escape_debug().to_string().replace("\\'", "'");
            if rest_of_line.starts_with("${") || rest_of_line.starts_with("{") && !rest_of_line.contains(':')
            {
                why.push_str("; inside { } and [ ] write \"${NAME}\" in quotes");
            }
            ConfigError::Malformed { at, why }
        }
    }
}

/// The nearest known key, then where else a key of this name exists, then what is known in this place.
fn key_hint(key: &str, known: &[&str]) -> String {
    let plain = |key: &str| key.to_lowercase().replace('-', "_");
    let wanted = plain(key);
    let distance_max = 2.max(wanted.chars().count() / 3);
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &plain(known)), known))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, nearest)) = nearest {
        return format!("; did you mean `{nearest}`?");
    }
    let elsewhere = paths_ending_with(key);
    if !elsewhere.is_empty() {
        return format!("; it belongs to `{}`", elsewhere.join("` or `"));
    }
    let shown: Vec<_> = known.iter().take(KNOWN_KEYS_SHOWN_MAX).copied().collect();
    format!("; known here are {}", shown.join(", "))
}

/// The sections of the configuration that have this key.
fn paths_ending_with(key: &str) -> Vec<String> {
    fn walk(value: &serde_json::Value, path: &str, key: &str, found: &mut Vec<String>) {
        for (name, below) in value.as_object().into_iter().flatten() {
            if name == key && !path.is_empty() {
                found.push(path.to_owned());
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(below, &path, key, found);
        }
    }

    let mut found = Vec::new();
    // Serialising the defaults cannot fail; if it did, only this hint would be missing.
    if let Ok(defaults) = serde_json::to_value(Config::default()) {
        walk(&defaults, "", key, &mut found);
    }
    // With many places the hint says nothing.
    if found.len() > 3 { Vec::new() } else { found }
}
