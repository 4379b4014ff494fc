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
use quell_service::Config;
use quell_sign::PublicKey;
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
        None => Inventory::shipped(simulator).map_err(|error: Mistakes| StartError::Setting {
            setting: "simulator.url",
            why: error.to_string(),
        })?,
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

/// Whose permits count: the configured keys, or that of the coordinator that came first.
fn coordinator_keys(config: &Config) -> Result<CoordinatorKeys, StartError> {
    let setting = "agents.resolution.coordinator_public_keys";
    let keys = &config.agents.resolution.coordinator_public_keys;
    if keys.is_empty() {
        let file = config.resolution_data_dir()?.join(PINNED_KEY_FILE);
        return CoordinatorKeys::pinned(&file)
            .map_err(|error| StartError::PinnedKey { file: file.display().to_string(), source: error });
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
