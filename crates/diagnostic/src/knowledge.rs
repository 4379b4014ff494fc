//! Loading the rules.

use std::path::Path;

use quell_diagnose::{RuleSet, RuleSource};
use quell_service::Config;

use crate::error::StartError;

/// A rule file at the most, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The shipped rules with the site's own; none where the rules engine is switched off, and then every diagnosis abstains.
pub(crate) fn load(config: &Config) -> Result<RuleSet, StartError> {
    if !config.agents.diagnostic.use_rules_engine {
        return Ok(RuleSet::empty());
    }
    let site: Vec<RuleSource> =
        config.diagnostic.rules_file.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    Ok(RuleSet::load(&site)?)
}

fn read(path: &Path) -> Result<RuleSource, StartError> {
    let wrong = |why: String| StartError::Setting {
        setting: "diagnostic.rules_file",
        why: format!("{} cannot be read: {why}", path.display()),
    };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok(RuleSource { name: path.display().to_string(), text })
}
