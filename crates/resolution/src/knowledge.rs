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
const COORDINATOR_KEYS: &str = "agents.resolution.coordinator_public_keys";

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

/// Whether approved steps take effect.
pub(crate) fn executes(guard: &GuardSettings) -> bool {
    guard.execute_real_commands && !guard.dry_run
}

/// What is to be said of whom the agent believes; nothing where its configuration says whom.
pub(crate) fn whom_it_believes(knowledge: &Knowledge) -> Option<String> {
    let (file, key) = knowledge.coordinator.pin()?;
    let (file, setting) = (file.display(), COORDINATOR_KEYS);
    let set_it = "set it to what `quell-coordinator --print-public-key` prints";
    Some(match key {
        None if executes(&knowledge.guard) => format!(
            "execution is switched on and {setting} is not set: the coordinator that introduces itself first is trusted for good, whoever it \
             is, and its key is kept in {file}; {set_it}"
        ),
        None => {
            format!("{setting} is not set: the coordinator that comes first is trusted for good; {set_it}")
        }
        Some(key) => format!(
            "{setting} is not set: the coordinator with the key {key} is trusted, as it came first ({file}); compare it, and {set_it}"
        ),
    })
}

/// Trusting whoever comes first is for one machine. Where others reach the agent and its steps take effect, whose word counts has to be
/// said, also when somebody came already: that may have been anybody.
fn refuse_the_first_from_elsewhere(config: &Config, keys: &CoordinatorKeys) -> Result<(), StartError> {
    let switches = &config.agents.resolution;
    let (Some((file, key)), listen) = (keys.pin(), config.resolution.listen) else { return Ok(()) };
    let takes_effect = switches.execute_real_commands && !switches.dry_run;
    if !takes_effect || listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let known = key.map_or_else(String::new, |key| {
        format!("; the one that came first here, kept in {}, has the key {key}", file.display())
    });
    let why = format!(
        "is not set, and steps take effect: {listen} (`resolution.listen`) can be reached from other machines, and the coordinator that \
         introduces itself first would be trusted, whoever it is; set it to what `quell-coordinator --print-public-key` prints, or listen on \
         127.0.0.1{known}"
    );
    Err(StartError::Setting { setting: COORDINATOR_KEYS, why })
}

/// Whose permits count: the configured keys, or that of the coordinator that came first.
fn coordinator_keys(config: &Config) -> Result<CoordinatorKeys, StartError> {
    let keys = &config.agents.resolution.coordinator_public_keys;
    if keys.is_empty() {
        let file = config.resolution_data_dir()?.join(PINNED_KEY_FILE);
        let pinned = CoordinatorKeys::pinned(&file).map_err(|error| {
            let why = match &error {
                // No start makes this one, as it would a coordinator's own key.
                KeyError::NoKey { .. } => "there is no public key for permits in it".to_owned(),
                _ => in_words(&error),
            };
            StartError::PinnedKey { file: file.display().to_string(), why }
        })?;
        refuse_the_first_from_elsewhere(config, &pinned)?;
        return Ok(pinned);
    }
    let keys = keys.iter().map(|key| key.parse()).collect::<Result<Vec<PublicKey>, _>>();
    let keys =
        keys.map_err(|error| StartError::Setting { setting: COORDINATOR_KEYS, why: error.to_string() })?;
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

    fn switched_on(folder: &Path, listen: &str) -> Config {
        let mut config = Config::default();
        config.resolution.data_dir = Some(folder.to_owned());
        config.resolution.listen = listen.parse().unwrap();
        config.agents.resolution.execute_real_commands = true;
        config.agents.resolution.dry_run = false;
        config
    }

    #[test]
    fn whoever_comes_first_from_another_machine_is_not_believed_where_steps_take_effect() {
        let folder = tempfile::tempdir().unwrap();
        let error_of = |config: &Config| load(config).err().map(|error| error.to_string());
        let key = quell_sign::SigningKey::generate().unwrap().public();
        for listen in ["0.0.0.0:50053", "[::]:50053", "192.0.2.7:50053"] {
            let mut config = switched_on(folder.path(), listen);
            let said = error_of(&config).unwrap();
            for part in
                [COORDINATOR_KEYS, listen, "resolution.listen", "quell-coordinator --print-public-key"]
            {
                assert!(said.contains(part), "{said}");
            }
            config.agents.resolution.coordinator_public_keys = vec![key.to_string()];
            assert_eq!(error_of(&config), None, "{listen}");
            config.agents.resolution.coordinator_public_keys.clear();
            config.agents.resolution.dry_run = true;
            assert_eq!(error_of(&config), None, "{listen}: nothing takes effect");
        }
        for listen in ["127.0.0.1:50053", "[::1]:50053", "[::ffff:127.0.0.1]:50053"] {
            assert_eq!(error_of(&switched_on(folder.path(), listen)), None, "{listen}");
        }
        // Who came before this was refused may have been anybody: its key is shown, and not believed.
        key.write_unless_there(&folder.path().join(PINNED_KEY_FILE), &quell_sign::PERMITS).unwrap();
        let said = error_of(&switched_on(folder.path(), "0.0.0.0:50053")).unwrap();
        assert!(said.contains(&key.to_string()) && said.contains(PINNED_KEY_FILE), "{said}");
    }

    #[test]
    fn whom_the_agent_believes_is_said_until_the_configuration_says_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = switched_on(folder.path(), "127.0.0.1:0");
        let said = |config: &Config| whom_it_believes(&load(config).unwrap());
        let open = said(&config).unwrap();
        for part in ["execution is switched on", COORDINATOR_KEYS, PINNED_KEY_FILE, "--print-public-key"] {
            assert!(open.contains(part), "{open}");
        }
        let key = quell_sign::SigningKey::generate().unwrap().public();
        load(&config).unwrap().coordinator.meet(key).unwrap();
        let pinned = said(&config).unwrap();
        assert!(pinned.contains(&key.to_string()) && pinned.contains(COORDINATOR_KEYS), "{pinned}");
        config.agents.resolution.coordinator_public_keys = vec![key.to_string()];
        assert_eq!(said(&config), None);
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
