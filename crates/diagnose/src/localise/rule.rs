//! The words of the engines: faults, groups of evidence, and the rules with what they mean.

/// What is wrong with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It uses all CPU that it may.
    CpuSaturation,
    /// Its memory is near the limit, or grew as never before.
    MemoryPressure,
    /// Its disk is nearly full.
    DiskFull,
    /// It was started again.
    Restart,
    /// What it sends and what is sent to it arrives late.
    NetworkDelay,
    /// It does something else than before: steps are left out, errors are new.
    BehaviourChange,
    /// It is asked and does not answer.
    Unreachable,
    /// More of its requests fail.
    ErrorRate,
    /// Its requests take longer.
    Latency,
    /// Some metric is far from its normal, and no rule knows what that means.
    Unusual,
}

impl Fault {
    /// All of them, the most specific first.
    pub const ALL: [Self; 10] = [
        Self::CpuSaturation,
        Self::MemoryPressure,
        Self::DiskFull,
        Self::Restart,
        Self::NetworkDelay,
        Self::BehaviourChange,
        Self::Unreachable,
        Self::ErrorRate,
        Self::Latency,
        Self::Unusual,
    ];

    /// The name of the cause, as in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuSaturation => "cpu_saturation",
            Self::MemoryPressure => "memory_pressure",
            Self::DiskFull => "disk_full",
            Self::Restart => "restart",
            Self::NetworkDelay => "network_delay",
            Self::BehaviourChange => "behaviour_change",
            Self::Unreachable => "unreachable",
            Self::ErrorRate => "error_rate",
            Self::Latency => "latency",
            Self::Unusual => "unusual",
        }
    }
}

impl Fault {
    /// One sentence for people about a service with this fault.
    pub fn sentence(self, service: &str) -> String {
        match self {
            Self::CpuSaturation => format!("{service} uses the CPU that it may use"),
            Self::MemoryPressure => format!("{service} needs more memory than it did"),
            Self::DiskFull => format!("the disk of {service} is nearly full"),
            Self::Restart => format!("{service} was started again"),
            Self::NetworkDelay => format!("calls of {service} are delayed on their way"),
            Self::BehaviourChange => format!("{service} does something else than before"),
            Self::Unreachable => format!("{service} is asked and does not answer"),
            Self::ErrorRate => format!("more requests of {service} fail"),
            Self::Latency => format!("{service} answers more slowly"),
            Self::Unusual => format!("{service} shows something unusual that no rule knows"),
        }
    }
}

/// A group of evidence: what is of one group is not independent, so that a group counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// CPU.
    Cpu,
    /// Memory, disk, restarts.
    Resources,
    /// How long requests take.
    Latency,
    /// How many requests fail.
    Errors,
    /// How many requests there are.
    Traffic,
    /// Log lines.
    Logs,
    /// Traces.
    Traces,
    /// Any metric that no rule knows.
    Metrics,
}

/// The rules of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// CPU is near its limit and was not before.
    CpuNearLimit,
    /// CPU is far above what it was.
    CpuAboveNormal,
    /// Memory is near its limit.
    MemoryNearLimit,
    /// Memory is far above what it was.
    MemoryAboveNormal,
    /// The disk is nearly full.
    DiskNearlyFull,
    /// It was started again.
    Restarted,
    /// Its answers take longer.
    SlowAnswers,
    /// More of its requests fail.
    FailingRequests,
    /// It no longer calls some of those whom it called.
    CallsMissing,
    /// It is called less than its callers' load would have it.
    NotCalled,
    /// Its callers wait, and no callee of theirs says that it takes longer.
    WaitOfCallers,
    /// Calls from and to it take longer than the other end works on them.
    CallGap,
    /// Log lines or steps that belong to its requests are missing.
    StepsMissing,
    /// It logs errors that it did not log before.
    NewErrors,
    /// New errors of others name it.
    NamedInErrors,
    /// Some metric of it is far from its normal.
    UnusualMetric,
}

impl Rule {
    /// The name of the rule, as in claims.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuNearLimit => "cpu-near-limit",
            Self::CpuAboveNormal => "cpu-above-normal",
            Self::MemoryNearLimit => "memory-near-limit",
            Self::MemoryAboveNormal => "memory-above-normal",
            Self::DiskNearlyFull => "disk-nearly-full",
            Self::Restarted => "restarted",
            Self::SlowAnswers => "slow-answers",
            Self::FailingRequests => "failing-requests",
            Self::CallsMissing => "calls-missing",
            Self::NotCalled => "not-called",
            Self::WaitOfCallers => "wait-of-callers",
            Self::CallGap => "call-gap",
            Self::StepsMissing => "steps-missing",
            Self::NewErrors => "new-errors",
            Self::NamedInErrors => "named-in-errors",
            Self::UnusualMetric => "unusual-metric",
        }
    }

    /// The group of evidence that it reads.
    pub fn group(self) -> Group {
        match self {
            Self::CpuNearLimit | Self::CpuAboveNormal => Group::Cpu,
            Self::MemoryNearLimit | Self::MemoryAboveNormal | Self::DiskNearlyFull | Self::Restarted => {
                Group::Resources
            }
            Self::SlowAnswers | Self::WaitOfCallers => Group::Latency,
            Self::FailingRequests => Group::Errors,
            Self::CallsMissing | Self::NotCalled => Group::Traffic,
            Self::CallGap => Group::Traces,
            Self::StepsMissing | Self::NewErrors | Self::NamedInErrors => Group::Logs,
            Self::UnusualMetric => Group::Metrics,
        }
    }

    /// The fault that it is a sign of by itself.
    pub fn fault(self) -> Fault {
        match self {
            Self::CpuNearLimit | Self::CpuAboveNormal => Fault::CpuSaturation,
            Self::MemoryNearLimit | Self::MemoryAboveNormal => Fault::MemoryPressure,
            Self::DiskNearlyFull => Fault::DiskFull,
            Self::Restarted => Fault::Restart,
            Self::SlowAnswers => Fault::Latency,
            Self::FailingRequests => Fault::ErrorRate,
            Self::CallsMissing | Self::StepsMissing | Self::NewErrors => Fault::BehaviourChange,
            Self::NotCalled | Self::NamedInErrors => Fault::Unreachable,
            Self::WaitOfCallers | Self::CallGap => Fault::NetworkDelay,
            Self::UnusualMetric => Fault::Unusual,
        }
    }

    /// How often the service is at fault when the rule shows something in full and nothing else is known: a prior from what the evidence
    /// means, not from any record of outcomes.
    pub fn precision(self) -> f64 {
        match self {
            Self::CpuNearLimit | Self::CallGap => 0.9,
            Self::DiskNearlyFull => 0.85,
            Self::MemoryNearLimit | Self::StepsMissing => 0.8,
            Self::FailingRequests | Self::NewErrors | Self::WaitOfCallers => 0.75,
            Self::SlowAnswers | Self::Restarted => 0.65,
            Self::CallsMissing => 0.6,
            Self::CpuAboveNormal | Self::MemoryAboveNormal | Self::NamedInErrors => 0.4,
            Self::NotCalled => 0.35,
            Self::UnusualMetric => 0.2,
        }
    }

    /// Whether a caller shows it as well when its callee has the fault.
    pub fn is_passed_on(self) -> bool {
        matches!(
            self,
            Self::SlowAnswers
                | Self::FailingRequests
                | Self::CallsMissing
                | Self::NotCalled
                | Self::StepsMissing
                | Self::NewErrors
        )
    }
}
