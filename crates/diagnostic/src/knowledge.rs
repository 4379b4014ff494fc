//! Loading what the engines know: the rules, and what their confidence was fitted to.

use std::path::Path;

use quell_diagnose::learned::Learned;
use quell_diagnose::{Aids, RuleSet, RuleSource};
use quell_service::Config;

use crate::error::StartError;

/// A file at the most, in bytes.
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

/// What was learned from this site's outcomes, where that is switched on; otherwise nothing, and confidences are as they are shipped.
pub(crate) fn learned(config: &Config) -> Result<Aids, StartError> {
    let switches = &config.agents.diagnostic;
    let setting = "agents.diagnostic.ml_model_path";
    match (&switches.ml_model_path, switches.use_ml_model) {
        (_, false) => Ok(Aids::default()),
        (None, true) => Err(StartError::Setting {
            setting,
            why: "is not set, while `use_ml_model` is true: `quell eval calibrate` writes a model".to_owned(),
        }),
        (Some(path), true) => {
            let learned = Learned::read(&text_of(path, setting)?).map_err(|error| StartError::Setting {
                setting,
                why: format!("{} cannot be used: {error}", path.display()),
            })?;
            if let Some(ranking) = &learned.ranking {
                tracing::info!(incidents = ranking.incidents(), "learned ranking: {}", ranking.switch.told());
            }
            let calibration = learned.calibration.unwrap_or_default();
            Ok(Aids { calibration, ranking: learned.ranking, readings: Vec::new() })
        }
    }
}

fn read(path: &Path) -> Result<RuleSource, StartError> {
    let text = text_of(path, "diagnostic.rules_file")?;
    Ok(RuleSource { name: path.display().to_string(), text })
}

fn text_of(path: &Path, setting: &'static str) -> Result<String, StartError> {
    let wrong = |why: String| StartError::Setting {
        setting,
        why: format!("{} cannot be read: {why}", path.display()),
    };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}
