//! Ed25519 keys in files, and signatures over bytes: of the coordinator's permits and of the anchors of its log.
//!
//! A key is for one use. Its file says which, so that the key of the one is not taken for the key of the other; and whoever signs begins
//! the bytes with words of that use, so that a signature for the one means nothing in the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// A key's file is one line.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The word for it in key files.
    pub name: &'static str,
    /// The same for people, in the plural: "audit anchors".
    pub signs: &'static str,
    /// How one comes to such a key.
    pub made_by: &'static str,
}

/// The coordinator's permits, which the resolution agent checks.
pub const PERMITS: Use =
    Use { name: "permit", signs: "permits", made_by: "take the file away, and the next start makes one" };

/// Signed notes of how far the coordinator's log went.
pub const AUDIT_ANCHORS: Use =
    Use { name: "audit", signs: "audit anchors", made_by: "make one with `quell audit key`" };

impl Use {
    fn private_prefix(&self) -> String {
        format!("quell-{}-signing-key ed25519 ", self.name)
    }

    fn public_prefix(&self) -> String {
        format!("quell-{}-public-key ed25519 ", self.name)
    }
}

/// What is wrong with a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has no key for this use.
    #[error("{} is no {what}: {made_by}", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        what: String,
        /// How one comes to one.
        made_by: &'static str,
    },
    /// The private key can be read by others.
    #[error("{} can be read by others than its owner: chmod 600 it, and take a new key if anybody may have read it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// No key can be made, or nothing be signed.
    #[error("the system gave no randomness for a key or a signature")]
    Crypto,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |source| KeyError::Io { action, path: path.to_owned(), source }
}

/// Signs.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

/// Checks signatures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}

/// The text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a public key: 64 hexadecimal digits")]
pub struct NotAKey;

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or(NotAKey)
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] when the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| KeyError::Crypto)
    }

    /// The key of a seed: the same seed, the same key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`]; no seed of 32 bytes is known to bring it about.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| KeyError::Crypto)
    }

    /// The key in a file, which only its owner may be able to read.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn read(path: &Path, its_use: &Use) -> Result<Self, KeyError> {
        let metadata = std::fs::metadata(path).map_err(failed("read", path))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned() });
        }
        let what = || format!("signing key for {}", its_use.signs);
        Self::from_seed(&key_in(path, &its_use.private_prefix(), what, its_use)?)
    }

    /// Writes it into a new file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError::Io`], also when the file is there already.
    pub fn write_new(&self, path: &Path, its_use: &Use) -> Result<(), KeyError> {
        write_new(path, 0o600, &self.line(its_use)?)
    }

    /// The key in a file; where there is no file, a new key in a new one. The flag says that it is new. Of several processes that begin
    /// at once on one file one makes the key, and the others read it; so do threads of one process.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn read_or_make(path: &Path, its_use: &Use) -> Result<(Self, bool), KeyError> {
        if path.try_exists().map_err(failed("read", path))? {
            return Ok((Self::read(path, its_use)?, false));
        }
        let made = Self::generate()?;
        let is_new = write_whole(path, 0o600, &made.line(its_use)?)?;
        // What is in the file counts, whoever wrote it.
        Ok((Self::read(path, its_use)?, is_new))
    }

    fn line(&self, its_use: &Use) -> Result<String, KeyError> {
        let seed = self.0.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| KeyError::Crypto)?;
        Ok(format!("{}{}\n", its_use.private_prefix(), hex::encode(seed.as_ref())))
    }

    /// What checks what this one signs.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The signature of these bytes, in hexadecimal; the same bytes have the same one.
    ///
    /// # Errors
    /// [`KeyError::Crypto`]
    pub fn sign(&self, bytes: &[u8]) -> Result<String, KeyError> {
        let signed = self.0.try_sign(bytes).map_err(|_| KeyError::Crypto)?;
        Ok(hex::encode(signed.as_ref()))
    }
}

impl PublicKey {
    /// The key in a file.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn read(path: &Path, its_use: &Use) -> Result<Self, KeyError> {
        let what = || format!("public key for {}", its_use.signs);
        key_in(path, &its_use.public_prefix(), what, its_use).map(Self)
    }

    /// Writes it into a new file.
    ///
    /// # Errors
    /// [`KeyError::Io`], also when the file is there already.
    pub fn write_new(&self, path: &Path, its_use: &Use) -> Result<(), KeyError> {
        write_new(path, 0o644, &format!("{}{self}\n", its_use.public_prefix()))
    }

    /// Writes it into a file unless there is one, and returns the key that is in the file then.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn write_unless_there(&self, path: &Path, its_use: &Use) -> Result<Self, KeyError> {
        write_whole(path, 0o600, &format!("{}{self}\n", its_use.public_prefix()))?;
        Self::read(path, its_use)
    }

    /// Whether this key has signed these bytes; the signature is in hexadecimal.
    pub fn has_signed(&self, bytes: &[u8], signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, &signature).is_ok()
    }
}

fn key_in(
    path: &Path,
    prefix: &str,
    what: impl FnOnce() -> String,
    its_use: &Use,
) -> Result<[u8; 32], KeyError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(failed("read", path))?;
    let key = text.trim_end().strip_prefix(prefix).and_then(|digits| digits.parse::<PublicKey>().ok());
    let none = || KeyError::NoKey { path: path.to_owned(), what: what(), made_by: its_use.made_by };
    key.map(|PublicKey(bytes)| bytes).ok_or_else(none)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(failed("create", path))
}

/// Writes a file that is there whole or not at all, also after a power cut; whether it was this call that made it.
fn write_whole(path: &Path, mode: u32, text: &str) -> Result<bool, KeyError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed("create", folder))?;
    // The number of the process would not do: threads share it, and so do the first processes of two containers.
    let mut number = [0; 8];
    aws_lc_rs::rand::fill(&mut number).map_err(|_| KeyError::Crypto)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex::encode(number)));
    let temporary = path.with_file_name(name);
    write_new(&temporary, mode, text)?;
    // Unlike a rename, a link does not take the place of what another process has just put there.
    let linked = std::fs::hard_link(&temporary, path);
    let removed = std::fs::remove_file(&temporary);
    let is_new = match linked {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed("create", path)(error)),
    };
    removed.map_err(failed("remove", &temporary))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
    Ok(is_new)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const HERE: Use = Use { name: "test", signs: "tests", made_by: "make one" };
    const ELSEWHERE: Use = Use { name: "other", signs: "others", made_by: "make one" };

    #[test]
    fn a_signature_is_of_one_key_over_one_text() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let signature = key.sign(b"text").unwrap();
        assert_eq!(signature, SigningKey::from_seed(&[7; 32]).unwrap().sign(b"text").unwrap());
        assert!(key.public().has_signed(b"text", &signature));
        assert!(!key.public().has_signed(b"texts", &signature));
        assert!(!SigningKey::generate().unwrap().public().has_signed(b"text", &signature));
        for cut in ["", "zz", &signature[2..], &format!("{signature}00")] {
            assert!(!key.public().has_signed(b"text", cut), "{cut}");
        }
        // As long as it has to be, and one bit is wrong.
        let bytes = hex::decode(&signature).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(!key.public().has_signed(b"text", &hex::encode(damaged)), "byte {at}");
        }
    }

    #[test]
    fn a_public_key_crosses_text() {
        let key = SigningKey::generate().unwrap().public();
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        for text in ["", "ab", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            assert_eq!(text.parse::<PublicKey>(), Err(NotAKey), "{text}");
        }
    }

    #[test]
    fn the_first_start_makes_a_key_that_only_its_owner_can_read_and_later_ones_find_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("key");
        let (made, is_new) = SigningKey::read_or_make(&path, &HERE).unwrap();
        assert!(is_new);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (found, is_new) = SigningKey::read_or_make(&path, &HERE).unwrap();
        assert!(!is_new);
        assert_eq!(found.public(), made.public());
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "something was left behind"
        );
    }

    #[test]
    fn many_that_begin_at_once_have_one_key() {
        const MANY: usize = 8;
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            let start = Barrier::new(MANY);
            let begin = || {
                start.wait();
                let (key, is_new) = SigningKey::read_or_make(&path, &HERE).unwrap();
                (key.public(), is_new)
            };
            let had: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(begin)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let kept = SigningKey::read(&path, &HERE).unwrap().public();
            assert!(had.iter().all(|(key, _)| *key == kept), "{had:?}");
            assert_eq!(had.iter().filter(|(_, is_new)| *is_new).count(), 1, "{had:?}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
        }
    }

    #[test]
    fn what_is_in_the_file_already_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let other = SigningKey::generate().unwrap();
        other.write_new(&path, &HERE).unwrap();
        // As by one that looked for the file before it was there.
        let mine = SigningKey::generate().unwrap();
        assert!(!write_whole(&path, 0o600, &mine.line(&HERE).unwrap()).unwrap());
        assert_eq!(SigningKey::read_or_make(&path, &HERE).unwrap().0.public(), other.public());
    }

    #[test]
    fn a_file_for_another_use_or_for_others_eyes_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = (folder.path().join("private"), folder.path().join("public"));
        let key = SigningKey::generate().unwrap();
        key.write_new(&private, &HERE).unwrap();
        key.public().write_new(&public, &HERE).unwrap();
        assert_eq!(PublicKey::read(&public, &HERE).unwrap(), key.public());
        assert!(matches!(SigningKey::read(&private, &ELSEWHERE), Err(KeyError::NoKey { .. })));
        assert!(matches!(PublicKey::read(&public, &ELSEWHERE), Err(KeyError::NoKey { .. })));
        assert!(matches!(PublicKey::read(&private, &HERE), Err(KeyError::NoKey { .. })));
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = SigningKey::read(&private, &HERE).unwrap_err();
        assert!(error.to_string().contains("private can be read by others"), "{error}");
    }
}
