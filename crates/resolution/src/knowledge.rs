//! What the agent knows and may do, from its configuration: inventory, tools, runbooks, switches.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use quell_connect::actions::{DeploymentSystem, DeploymentTarget};
use quell_incident::TargetName;
use quell_remedy::{
    CoordinatorKeys, FILE_BYTES_MAX, GuardSettings, Inventory, Knowledge, LoadError, Mistakes, Runbooks,
};
use quell_service::{Config, in_words};
use quell_sign::{KeyError, PublicKey};
use quell_tool::ActionRegistry;
use secrecy::SecretString;

use crate::error::StartError;

/// In the data folder: the key of the coordinator that came first.
const PINNED_KEY_FILE: &str = "coordinator.pub";

/// Loads all of it, or says what is wrong; nothing is half loaded.
pub(crate) fn load(config: &Config) -> Result<Knowledge, StartError> {
    let simulator = config.simulator.url.as_str();
    let inventory = match &config.resolution.inventory_file {
        Some(file) => {
            let text = read(file)?;
            let inventory = Inventory::from_yaml(&file.display().to_string(), &text, Some(simulator));
            inventory.map_err(LoadError::Mistakes)?
        }
        None => {
            let wrong = |why: String| StartError::Setting { setting: "simulator.url", why };
            if has_credentials(simulator) {
                // Said of each target, it would name a file that the site does not have.
                return Err(wrong("has credentials in it; use `simulator.token`".to_owned()));
            }
            Inventory::shipped(simulator).map_err(|error: Mistakes| wrong(error.to_string()))?
        }
    };
    let actions = actions(config, &inventory)?;
    let runbooks = Runbooks::load(config.resolution.runbook_dir.as_deref(), &inventory, &actions)?;
    for file in runbooks.left_out() {
        tracing::info!(
            file,
            "a shipped runbook is not loaded: it was replaced, or its targets are not in the inventory"
        );
    }
    let guard = GuardSettings {
        execute_real_commands: config.agents.resolution.execute_real_commands,
        dry_run: config.agents.resolution.dry_run,
        require_approval: config.agents.resolution.require_approval,
        allowed_targets: allowed_targets(config, &inventory)?,
    };
    let coordinator = coordinator_keys(config)?;
    Ok(Knowledge { inventory, runbooks, actions, guard, coordinator })
}

/// Whether an address has a user, which stands before an `@`.
fn has_credentials(url: &str) -> bool {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    place.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Whose permits count: the configured keys, or that of the coordinator that came first.
fn coordinator_keys(config: &Config) -> Result<CoordinatorKeys, StartError> {
    let setting = "agents.resolution.coordinator_public_keys";
    let keys = &config.agents.resolution.coordinator_public_keys;
    if keys.is_empty() {
        let file = config.resolution_data_dir()?.join(PINNED_KEY_FILE);
        return CoordinatorKeys::pinned(&file).map_err(|error| {
            let why = match &error {
                // No start makes this one, as it would a coordinator's own key.
                KeyError::NoKey { .. } => "there is no public key for permits in it".to_owned(),
                _ => in_words(&error),
            };
            StartError::PinnedKey { file: file.display().to_string(), why }
        });
    }
    let keys = keys.iter().map(|key| key.parse()).collect::<Result<Vec<PublicKey>, _>>();
    let keys = keys.map_err(|error| StartError::Setting { setting, why: error.to_string() })?;
    Ok(CoordinatorKeys::listed(keys))
}

/// The tools, which know the inventory's targets and no others.
fn actions(config: &Config, inventory: &Inventory) -> Result<ActionRegistry, StartError> {
    let simulator = config.simulator.url.as_str();
    let mut targets = Vec::new();
    for target in inventory.iter() {
        let own = target.read_token().map_err(|error| StartError::Setting {
            setting: "resolution.inventory_file",
            why: format!("the token of target `{}` cannot be read: {error}", target.name),
        })?;
        let simulators = config.simulator.token.as_ref().filter(|_| target.endpoint == simulator);
        let token = own.or_else(|| simulators.map(|token| SecretString::from(token.expose().to_owned())));
        targets.push(DeploymentTarget {
            name: target.name.to_string(),
            endpoint: target.endpoint.clone(),
            token,
        });
    }
    let tool = DeploymentSystem::new(targets).map_err(|error| StartError::Setting {
        setting: "resolution.inventory_file",
        why: error.to_string(),
    })?;
    let mut actions = ActionRegistry::new();
    actions.register(Arc::new(tool)).map_err(|error| StartError::Assembly { why: error.to_string() })?;
    Ok(actions)
}

fn allowed_targets(
    config: &Config,
    inventory: &Inventory,
) -> Result<Option<BTreeSet<TargetName>>, StartError> {
    let Some(names) = &config.resolution.allowed_targets else { return Ok(None) };
    let setting = "resolution.allowed_targets";
    let mut allowed = BTreeSet::new();
    for name in names {
        let known = TargetName::declared(name).ok().filter(|name| inventory.get(name).is_some());
        let Some(target) = known else {
            let all: Vec<_> = inventory.names().take(50).collect();
            let why = format!("`{name}` is not in the inventory; it has {}", all.join(", "));
            return Err(StartError::Setting { setting, why });
        };
        allowed.insert(target);
    }
    Ok(Some(allowed))
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    // One byte over the limit is enough for the reader to refuse the file.
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_the_simulator_s_address_are_said_once_and_of_its_setting() {
        let mut config = Config::default();
        config.simulator.url = "http://u:secret@127.0.0.1:8000/x@y".parse().unwrap();
        let error = load(&config).err().unwrap().to_string();
        assert_eq!(error, "`simulator.url`: has credentials in it; use `simulator.token`");
        for sound in ["http://127.0.0.1:8000", "http://127.0.0.1:8000/x@y", "http://h/?q=a@b"] {
            assert!(!has_credentials(sound), "{sound}");
        }
    }

    #[test]
    fn a_pinned_key_that_cannot_be_read_is_said_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.resolution.data_dir = Some(folder.path().to_owned());
        fs::write(folder.path().join(PINNED_KEY_FILE), "no key").unwrap();
        let error = load(&config).err().unwrap();
        let words = in_words(&error);
        assert!(words.contains("there is no public key for permits in it; remove the file"), "{words}");
        assert!(words.ends_with("or set `agents.resolution.coordinator_public_keys`"), "{words}");
        assert!(!words.contains("  ") && !words.contains("next start makes one"), "{words}");
    }
}
