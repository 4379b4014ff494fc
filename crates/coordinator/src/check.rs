//! What a start would find wrong with the files and folders that a configuration names: found for `--check`, which leaves nothing behind.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use quell_service::{Config, ConfigError};
use quell_sign::{KeyError, PERMITS, SigningKey};
use quell_store::audit::AnchorError;

use crate::StartError;

/// How an address of a database begins.
const DATABASE_SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// Whether the database's address, if there is one, is the address of a PostgreSQL database. It is not shown: it has the password.
pub(crate) fn database_address(config: &Config) -> Result<(), StartError> {
    let Some(url) = &config.coordinator.database_url else { return Ok(()) };
    let parsed = url.expose().parse::<reqwest::Url>();
    if parsed.is_ok_and(|url| DATABASE_SCHEMES.contains(&url.scheme())) {
        return Ok(());
    }
    Err(StartError::Config(ConfigError::Setting {
        setting: "coordinator.database_url".to_owned(),
        why: "is no address of a database, expected `postgres://user:password@host:port/database`".to_owned(),
    }))
}

/// The data folder, the key of the permits, and what the anchors need.
pub(crate) fn places(config: &Config) -> Result<(), StartError> {
    if config.coordinator.database_url.is_none() {
        let folder = config.coordinator_data_dir()?;
        let unusable = |why| StartError::DataFolder { folder: folder.to_owned(), why };
        can_be_written(folder).map_err(unusable)?;
    }
    permit_key(&config.permit_key_file()?).map_err(StartError::PermitKey)?;
    audit(config)
}

/// Whether there is a key, or a start can make one.
fn permit_key(file: &Path) -> Result<(), KeyError> {
    if fs::symlink_metadata(file).is_ok() {
        return SigningKey::read(file, &PERMITS).map(drop);
    }
    let failed = |source| KeyError::Io { action: "create", path: file.to_owned(), source };
    can_be_written(folder_of(file)).map_err(failed)
}

/// Whether anchors can be signed and written, where they are configured. A start makes their file in a folder that is there, and no folder.
pub(crate) fn audit(config: &Config) -> Result<(), StartError> {
    let audit = &config.coordinator.audit;
    let (Some(file), Some(key)) = (&audit.anchor_file, &audit.signing_key_file) else { return Ok(()) };
    quell_store::audit::SigningKey::read(key).map_err(StartError::Audit)?;
    let opened = match OpenOptions::new().read(true).append(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_written(folder_of(file)),
        opened => opened.map(drop),
    };
    let failed = |source| AnchorError::Io { action: "open", path: file.clone(), source };
    opened.map_err(failed).map_err(StartError::Audit)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether files can be made in this folder, or in the nearest one above it that is there, so that it can be made itself.
fn can_be_written(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    for place in folder.ancestors() {
        match fs::symlink_metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) if fs::metadata(place)?.is_dir() => return is_written(place),
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Whether a file can be made in this folder. Modes alone do not tell: a file system may be read-only. The file is taken away again.
fn is_written(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".quell-check-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
        // Left behind by a process with the same number that was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use quell_service::{Exit, Failure as _};

    use super::*;

    /// Everything below a folder.
    fn found(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_a_start_would_refuse_is_found_and_nothing_is_left_behind() {
        let kept = tempfile::tempdir().unwrap();
        let at = |name: &str| kept.path().join(name);
        fs::write(at("file"), "no key").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(at("folder")).unwrap();
        SigningKey::generate().unwrap().write_new(&at("permit.key"), &PERMITS).unwrap();
        SigningKey::generate().unwrap().write_new(&at("open.key"), &PERMITS).unwrap();
        fs::set_permissions(at("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
        quell_store::audit::SigningKey::generate().unwrap().write_new(&at("audit.key")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        let before = found(kept.path());

        type Change = fn(&mut Config, &dyn Fn(&str) -> PathBuf);
        let cases: [(Change, Exit, &[&str]); 12] = [
            (
                |config, at| config.coordinator.data_dir = Some(at("file")),
                Exit::Data,
                &["coordinator.data_dir", "file"],
            ),
            (
                |config, at| config.coordinator.data_dir = Some(at("file/below")),
                Exit::Data,
                &["coordinator.data_dir"],
            ),
            (
                |config, _| config.coordinator.data_dir = Some("/proc/quell/data".into()),
                Exit::Data,
                &["coordinator.data_dir"],
            ),
            (
                |config, at| config.coordinator.data_dir = Some(at("dangling")),
                Exit::Data,
                &["coordinator.data_dir"],
            ),
            (
                |config, at| config.coordinator.signing_key_file = Some(at("file")),
                Exit::Usage,
                &["coordinator.signing_key_file", "no signing key for permits"],
            ),
            (
                |config, at| config.coordinator.signing_key_file = Some(at("folder")),
                Exit::Usage,
                &["coordinator.signing_key_file"],
            ),
            (
                |config, at| config.coordinator.signing_key_file = Some(at("open.key")),
                Exit::Usage,
                &["coordinator.signing_key_file", "chmod 600"],
            ),
            (
                |config, at| config.coordinator.signing_key_file = Some(at("audit.key")),
                Exit::Usage,
                &["coordinator.signing_key_file", "no signing key for permits"],
            ),
            (
                |config, at| config.coordinator.audit.signing_key_file = Some(at("none")),
                Exit::Usage,
                &["coordinator.audit.signing_key_file", "none", "No such file"],
            ),
            (
                |config, at| config.coordinator.audit.signing_key_file = Some(at("permit.key")),
                Exit::Usage,
                &["coordinator.audit.signing_key_file", "quell audit key"],
            ),
            (
                |config, at| config.coordinator.audit.anchor_file = Some(at("none/anchors")),
                Exit::Usage,
                &["coordinator.audit.anchor_file", "No such file"],
            ),
            (
                |config, _| config.coordinator.database_url = "notaurl".parse().ok(),
                Exit::Usage,
                &["coordinator.database_url", "postgres://"],
            ),
        ];
        let sound = || {
            let mut config = Config::default();
            config.coordinator.data_dir = Some(at("new/data"));
            config.coordinator.audit.signing_key_file = Some(at("audit.key"));
            config.coordinator.audit.anchor_file = Some(at("folder/anchors"));
            config
        };
        crate::check(&sound()).unwrap();
        for (number, (change, exit, words)) in cases.into_iter().enumerate() {
            let mut config = sound();
            change(&mut config, &at);
            let error = crate::check(&config).unwrap_err();
            assert_eq!(error.exit(), exit, "{number}: {error}");
            for word in words {
                assert!(error.to_string().contains(word), "{number}: {word:?} is not in {error}");
            }
        }
        let mut with_key = sound();
        with_key.coordinator.signing_key_file = Some(at("permit.key"));
        with_key.coordinator.database_url = "postgresql:///quell?host=/run/postgresql".parse().ok();
        crate::check(&with_key).unwrap();
        assert_eq!(found(kept.path()), before);
    }
}
