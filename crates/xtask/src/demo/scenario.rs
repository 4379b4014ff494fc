//! The faults of the simulator, and the alert that each one raises.

/// A fault that can be triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The alert whose incident the scenario is about.
    pub(crate) alert: &'static str,
    /// A further alert of the same fault: a lower threshold of the same disk. It joins the incident of the first; where it does not, its
    /// own ends when that one's runbook has done its work, so it is nobody's merit.
    pub(crate) companion: Option<&'static str>,
}

const fn scenario(name: &'static str, alert: &'static str) -> Scenario {
    Scenario { name, alert, companion: None }
}

/// All of them, in the order in which they are shown.
pub(crate) const ALL: [Scenario; 8] = [
    scenario("database_timeout", "DatabaseConnectionTimeout"),
    scenario("memory_leak", "HighMemoryUsage"),
    scenario("high_cpu", "HighCPUUsage"),
    scenario("api_503", "APIGateway503Errors"),
    Scenario { name: "disk_full", alert: "DiskSpaceCritical", companion: Some("DiskSpaceLow") },
    scenario("certificate_expiry", "CertificateExpiringSoon"),
    scenario("kafka_lag", "KafkaConsumerLagHigh"),
    scenario("postgres_connections", "PostgreSQLConnectionsHigh"),
];

/// Those of a name, or all; the error names them.
pub(crate) fn chosen(name: &str) -> Result<Vec<Scenario>, String> {
    if name == "all" {
        return Ok(ALL.to_vec());
    }
    let found: Vec<_> = ALL.into_iter().filter(|scenario| scenario.name == name).collect();
    if found.is_empty() {
        let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(format!("no scenario is called `{name}`; there are {}, all", names.join(", ")));
    }
    Ok(found)
}
