//! What can be typed after `quell tool`.

use std::time::Duration;

use clap::{Args, Subcommand};

/// How the agent is reached.
#[derive(Debug, Args)]
pub(crate) struct ToolOptions {
    /// Address of the diagnostic agent
    #[arg(
        long,
        global = true,
        env = "QUELL_DIAGNOSTIC_URL",
        hide_env_values = true,
        default_value = "127.0.0.1:50052",
        value_name = "HOST:PORT"
    )]
    pub(crate) agent: String,
    /// How long an answer may take
    #[arg(long, global = true, default_value = "60s", value_name = "TIME", value_parser = super::duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolCommand {
    /// Which tools there are
    #[command(after_help = "\
Examples:
  quell tool list
  quell tool list -o json | jq '.[] | select(.name == \"search-logs\") | .inputSchema'
      What a tool wants to be given.")]
    List,
    /// Call one; all of them only look
    #[command(after_help = "\
Examples:
  quell tool call health-check
  quell tool call log-analyzer --input '{\"incident_id\": \"by hand\", \"time_range\": \"1h\"}'
  quell tool call query-metrics --input @query.json | jq '.series[].labels'
  echo '{\"query\": \"up == 0\"}' | quell tool call prometheus-query --input -")]
    Call {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// What it is given: JSON, @FILE for a file with it, or - for standard input
        #[arg(short, long, default_value = "{}", value_name = "JSON")]
        input: String,
    },
}
