//! What can be typed about the rules of the diagnosis.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// All rules: the shipped ones, and those of files over them
    #[command(after_help = "\
Examples:
  quell rule list
  quell rule list site-rules.yaml -o json | jq -r '.[] | select(.file == \"site-rules.yaml\") | .name'")]
    List {
        /// Files of rules; one of the same name replaces a shipped one
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// What a rule reads, when it holds, how sure it then is, and which runbooks take its cause
    #[command(after_help = "\
Examples:
  quell rule explain memory-leak
  quell rule explain queue-full --rules site-rules.yaml --runbooks /etc/quell/runbooks

Exit codes: 0 told, 1 a file cannot be used, 3 there is no rule of that name.")]
    Explain(ExplainArgs),
    /// Look for mistakes in files of rules and of rule tests; without a file in those that come with Quell
    #[command(after_help = "\
Examples:
  quell rule check site-rules.yaml site-rules-tests.yaml
      Each mistake with its file, line and column, and what was expected there.
  quell rule check -o json site-rules.yaml | jq -r '.mistakes[].why'

Exit codes: 0 no mistake, 1 mistakes, or a file that cannot be read.")]
    Check(Files),
    /// Run rule tests; without a file those that come with Quell
    #[command(after_help = "\
Examples:
  quell rule test
  quell rule test --rule redis-memory-full
  quell rule test --shipped site-rules.yaml site-rules-tests.yaml
      A site's rules with their tests, and the shipped tests beside them: a new rule may disturb an old one.

Exit codes: 0 all passed, 1 some failed, or a file that cannot be used.")]
    Test {
        #[command(flatten)]
        files: Files,
        /// Only the cases of this rule
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
    },
}

/// Files of rules and of tests, told apart by their schema.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Files of rules (schema quell/rules/v1) and of tests (quell/rule-tests/v1)
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Also what comes with Quell; so it is without a file
    #[arg(long)]
    pub(crate) shipped: bool,
}

/// Which rule is explained.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The rule; `quell rule list` shows them
    pub(crate) name: String,
    /// Files of rules over the shipped ones; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Vec<PathBuf>,
    /// A folder of runbooks besides the shipped ones
    #[arg(long, value_name = "FOLDER")]
    pub(crate) runbooks: Option<PathBuf>,
}
