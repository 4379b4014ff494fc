//! What a metric of a service measures, told from its name as exporters and meshes name them.

/// Which end of a call a latency or a count was taken at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Of the requests that the service answers.
    Server,
    /// Of the requests that the service sends.
    Client,
}

/// Which statistic of the requests a latency is, in the order in which they are trusted: a mean notices what happens to few requests,
/// and so does a high quantile, which moves by chance as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statistic {
    /// The mean, or not said.
    Mean,
    /// The median.
    P50,
    /// The 90th percentile.
    P90,
    /// The 95th percentile.
    P95,
    /// The 99th percentile, or the maximum.
    Tail,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Requests in a second.
    PerSecond,
    /// Requests since the sample before.
    PerStep,
}

/// What a metric measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantity {
    /// CPU as a share of what the service may use, in percent or as a fraction.
    CpuShare,
    /// CPU in any other unit.
    Cpu,
    /// Memory as a share of its limit.
    MemoryShare,
    /// Memory in any other unit.
    Memory,
    /// Disk space as a share.
    DiskShare,
    /// How long requests take.
    Latency(Side, Statistic),
    /// Requests that fail, as a share of all.
    ErrorShare,
    /// Requests that succeed, as a share of all.
    SuccessShare,
    /// Requests that fail, counted.
    Errors(Counted),
    /// Requests.
    Traffic(Counted),
    /// Starts of a container or process since something began.
    Restarts,
    /// Of the machine below, which other services use as well.
    Host,
    /// Anything else.
    #[default]
    Other,
}

impl Quantity {
    /// What the name says by convention.
    pub fn of(metric: &str) -> Self {
        let name = metric.to_ascii_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
        let holds = |any: &[&str]| any.iter().any(|part| name.contains(part));
        let share = has(&["rate", "ratio", "percent", "pct", "usage", "util", "utilisation", "utilization"]);
        let counted =
            if has(&["sum", "total", "count", "increase"]) { Counted::PerStep } else { Counted::PerSecond };
        if has(&["node", "host", "machine"]) {
            return Self::Host;
        }
        if holds(&["restart"]) {
            return Self::Restarts;
        }
        if holds(&["latency", "duration", "response_time", "responsetime", "rtt"]) || has(&["lat"]) {
            let client = has(&["cli", "client", "outbound", "upstream", "egress"]);
            let side = if client { Side::Client } else { Side::Server };
            return Self::Latency(side, statistic(&words));
        }
        if holds(&["error", "fail", "5xx", "exception"]) {
            let relative = share || has(&["share"]);
            return if relative { Self::ErrorShare } else { Self::Errors(counted) };
        }
        if holds(&["success", "availab"]) {
            return Self::SuccessShare;
        }
        if holds(&["cpu"]) {
            return if share { Self::CpuShare } else { Self::Cpu };
        }
        if holds(&["mem"]) || has(&["rss"]) {
            return if share { Self::MemoryShare } else { Self::Memory };
        }
        if share && (holds(&["disk", "filesystem"]) || has(&["fs"])) {
            return Self::DiskShare;
        }
        if holds(&["workload", "request", "throughput"]) || has(&["rps", "qps", "calls"]) {
            return Self::Traffic(counted);
        }
        Self::Other
    }
}

fn statistic(words: &[&str]) -> Statistic {
    let named = |word: &&str| match *word {
        "50" | "p50" | "median" => Some(Statistic::P50),
        "90" | "p90" => Some(Statistic::P90),
        "95" | "p95" => Some(Statistic::P95),
        "99" | "p99" | "999" | "p999" | "max" => Some(Statistic::Tail),
        _ => None,
    };
    words.iter().find_map(named).unwrap_or(Statistic::Mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_exporters_and_meshes_are_understood() {
        for (name, expected) in [
            ("cpu", Quantity::Cpu),
            ("cpu_rate", Quantity::CpuShare),
            ("process_cpu_usage_percent", Quantity::CpuShare),
            ("node_cpu", Quantity::Host),
            ("mem", Quantity::Memory),
            ("memory_usage", Quantity::MemoryShare),
            ("srv_lat_95", Quantity::Latency(Side::Server, Statistic::P95)),
            ("cli_lat_90", Quantity::Latency(Side::Client, Statistic::P90)),
            ("latency-Average", Quantity::Latency(Side::Server, Statistic::Mean)),
            ("http_request_duration_seconds", Quantity::Latency(Side::Server, Statistic::Mean)),
            ("availability-Average", Quantity::SuccessShare),
            ("requests-Sum", Quantity::Traffic(Counted::PerStep)),
            ("workload", Quantity::Traffic(Counted::PerSecond)),
            ("http_requests_failed_total", Quantity::Errors(Counted::PerStep)),
            ("error_rate", Quantity::ErrorShare),
            ("restarts_total", Quantity::Restarts),
            ("disk_usage_percent", Quantity::DiskShare),
            ("net_rx", Quantity::Other),
        ] {
            assert_eq!(Quantity::of(name), expected, "{name}");
        }
    }
}
