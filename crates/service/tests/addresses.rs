//! No address of the configuration shows who calls it, or what its query has: every setting that is one.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

use quell_service::{Config, ConfigError, Environment, Loading};
use serde_json::{Value, json};

const SECRET: &str = "hunter2";
/// Some can be used and some cannot; none may be repeated as it is.
const ADDRESSES: [&str; 7] = [
    "https://user:hunter2@host:9090/?token=hunter2",
    "https://hunter2@host/a?sig=hunter2#hunter2",
    "https://user:hunter2@host:99999/?token=hunter2",
    "ftp://user:hunter2@host/?api_key=hunter2",
    "user:hunter2@host:9090",
    "https://user:hunter2@ho st/",
    "https://user:hunter2/x@host:9090/",
];

/// The settings that hold an address, by their paths; a list of them ends with `[]`.
fn address_settings() -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        for (name, below) in value.as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name.ends_with("url") {
                found.push(path);
            } else if name.ends_with("urls") {
                found.push(format!("{path}[]"));
            } else {
                walk(below, &path, found);
            }
        }
    }
    let mut found = vec!["diagnostic.health_checks[].url".to_owned()];
    walk(&serde_json::to_value(Config::default()).unwrap(), "", &mut found);
    found
}

/// A configuration with this alone.
fn config_with(setting: &str, address: &str) -> String {
    let mut value = json!(address);
    for name in setting.rsplit('.') {
        let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        value = if is_list { json!([value]) } else { value };
        value = json!({ name: value });
        if name == "health_checks" {
            value[name][0]["name"] = json!("a");
        }
    }
    value.to_string()
}

fn load(text: &str) -> Result<Config, ConfigError> {
    Loading { daemon: None, file: None, environment: Environment::default() }.load_text(text, |_| ())
}

#[test]
fn no_setting_that_is_an_address_shows_a_secret() {
    let settings = address_settings();
    assert!(settings.len() >= 14, "{settings:?}");
    let mut taken = 0;
    for setting in &settings {
        for address in ADDRESSES {
            let shown = match load(&config_with(setting, address)) {
                Ok(config) => {
                    taken += 1;
                    let json = serde_json::to_string(&config).unwrap();
                    let effective = config.render_effective().unwrap();
                    format!("{json} {effective} {config:?} {}", config.notices().join(" "))
                }
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains(SECRET), "{setting}: {address}: {shown}");
        }
    }
    assert!(taken >= settings.len(), "{taken} of them could be used");
}

#[test]
fn a_configuration_that_was_shown_is_not_taken_for_a_whole_one() {
    for setting in address_settings() {
        let Ok(config) = load(&config_with(&setting, ADDRESSES[0])) else { continue };
        if setting.ends_with("database_url") {
            continue;
        }
        let error = load(&config.render_effective().unwrap()).unwrap_err();
        assert!(error.to_string().contains("put in the secret itself"), "{setting}: {error}");
    }
}
