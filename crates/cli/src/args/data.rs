//! What can be typed about data folders.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::{Since, secret, since};

/// Which data folder.
#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// The data folder of a coordinator (`coordinator.data_dir`), by default where it is without a setting
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What the variables say, which are read here alone
    #[arg(long, hide = true, env = "QUELL_DATA_DIR", hide_env = true)]
    quell_data_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "XDG_STATE_HOME", hide_env = true)]
    xdg_state_home: Option<PathBuf>,
    #[arg(long, hide = true, env = "HOME", hide_env = true)]
    home: Option<PathBuf>,
}

impl DataDir {
    /// Whether a folder was named, and not only found.
    pub(crate) fn is_named(&self) -> bool {
        self.data_dir.is_some()
    }

    /// The folder as the coordinator finds it; none without any variable.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let state = self.xdg_state_home.clone().filter(|path| path.is_absolute());
        let state = state.or_else(|| Some(self.home.as_ref()?.join(".local").join("state")));
        let by_variable = || Some(self.quell_data_dir.as_ref()?.join("coordinator"));
        let by_default = || Some(state.as_ref()?.join("quell").join("coordinator"));
        self.data_dir.clone().or_else(by_variable).or_else(by_default)
    }
}

/// Which store: a folder or a database.
#[derive(Debug, Args)]
pub(crate) struct AuditedStore {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// The database of coordinators (`coordinator.database_url`), such as postgres://quell@db.example/quell
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = secret)]
    pub(crate) database_url: Option<SecretString>,
    /// The coordinator's configuration: whichever store it names, where neither a folder nor a database is named
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Whether anything was changed, removed or inserted; reads only, also beside a coordinator that runs
    #[command(after_help = "\
Examples:
  quell audit verify
      Checks every record, digest and chain hash of this machine's coordinator.
  quell audit verify --data-dir /backup/coordinator --anchor anchors.jsonl --public-key audit.key.pub
      Also finds a cut end and a journal that was rewritten as a whole.
  quell audit verify --database-url postgres://auditor@db.example/quell
      The same in a database; a user that may only read is enough.
  quell audit verify --config /etc/quell/quell.yaml
      Whichever store that coordinator has.

Exit codes: 0 sound, 1 it could not be read, 4 tampered with or damaged, also if whatever would show a cut end
cannot be read.")]
    Verify {
        #[command(flatten)]
        store: AuditedStore,
        /// Signed anchors (`coordinator.audit.anchor_file`) that were kept elsewhere; may be given several times
        #[arg(long, value_name = "FILE")]
        anchor: Vec<PathBuf>,
        /// The public key that the anchors must be signed with
        #[arg(long, value_name = "FILE", requires = "anchor")]
        public_key: Option<PathBuf>,
    },
    /// Write every record as a line of JSON
    #[command(after_help = "\
Examples:
  quell audit export > audit.jsonl
  quell audit export --since 24h | jq -c 'select(.kind == \"appended\") | [.time, .actor, .event_types]'")]
    Export {
        #[command(flatten)]
        store: AuditedStore,
        /// Only from then on, such as 24h or 2026-05-01T12:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<Since>,
    },
    /// Make a key pair for anchors: FILE for the coordinator, FILE.pub for whoever verifies
    #[command(after_help = "\
Examples:
  quell audit key /etc/quell/audit.key
      Then set coordinator.audit.signing_key_file, and keep /etc/quell/audit.key.pub elsewhere.")]
    Key {
        /// Where the private key goes; only its owner can read it
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Write the whole journal to standard output as lines of JSON; the coordinator must be stopped
    #[command(after_help = "\
Examples:
  quell store export --data-dir /var/lib/quell/coordinator > store.jsonl")]
    Export {
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// Fill an empty data folder from such lines on standard input
    #[command(after_help = "\
Examples:
  quell store import --data-dir /var/lib/quell/coordinator < store.jsonl
      Cut half-way, the folder is refused until the import was repeated.")]
    Import {
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// Give up records that a data folder has lost, so that it opens again; the coordinator must be stopped
    #[command(after_help = "\
A coordinator does not start on a journal that ends before, or is another one than, what its index, its `durable.mark` or its
evidence know. If there is no backup to put back, this makes the journal end where it ends, notes in it who gave up what and
why, puts what cannot be kept aside in the data folder, and has the index made anew at the next start.
Where neither `durable.mark` nor an index says how far the journal went, whether something is lost cannot be told: this names
the record that it ends at, and notes who goes on from there and why.
Locks, cool-downs and switches that stood in the lost records are lost with them. Locks that are taken from then on get fencing
tokens far above those before, so that an agent that has seen some of the lost ones does not refuse them.

Examples:
  quell store accept-loss --data-dir /var/lib/quell/coordinator --at 1204 --why 'disk failed, no newer backup'
      1204 is the record that the start's error names.

Exit codes: 0 given up, also if that was done before, 1 failed, 3 nothing is lost, the journal ends at another record, or the folder
has none.")]
    AcceptLoss {
        #[command(flatten)]
        data_dir: DataDir,
        /// The record after which everything is given up, as the start's error names it; 0 gives up all
        #[arg(long, value_name = "RECORD")]
        at: u64,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        why: String,
        /// Who decides it, for the audit trail
        #[arg(
            long,
            value_name = "NAME",
            env = "USER",
            hide_env_values = true,
            default_value = "a person at the machine"
        )]
        by: String,
    },
    /// Copy from one store to another; sequences, digests and chain stay
    #[command(after_help = "\
Examples:
  quell store copy --from /var/lib/quell/coordinator --to /backup/coordinator")]
    Copy(Places),
    /// Copy, and compare both ends afterwards: to move a site to another backend
    #[command(after_help = "\
Examples:
  quell store migrate --from /var/lib/quell/coordinator --to postgres://quell@db.example/quell
      The coordinator must be stopped. Start it on the new store once this says that both are the same.")]
    Migrate(Places),
}

/// A reason has to say something.
fn reason(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it has to say something") } else { Ok(text.to_owned()) }
}

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// A data folder, or postgres://...
    #[arg(long, value_name = "STORE")]
    pub(crate) from: String,
    /// An empty data folder, or postgres://...
    #[arg(long, value_name = "STORE")]
    pub(crate) to: String,
}
