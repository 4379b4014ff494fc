//! The rules that come with Quell and their tests, by the files that they are in.

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        [$((concat!($folder, $name), include_str!(concat!("../../rules/", $folder, $name)))),*]
    };
}

/// The rules.
pub(super) const RULES: [(&str, &str); 14] = files!["":
    "certificates.yaml",
    "database.yaml",
    "edge.yaml",
    "host.yaml",
    "jvm.yaml",
    "kafka.yaml",
    "kubernetes.yaml",
    "machines.yaml",
    "messaging.yaml",
    "network.yaml",
    "node-js.yaml",
    "postgres.yaml",
    "redis.yaml",
    "services.yaml",
];

/// Their tests.
pub(super) const TESTS: [(&str, &str); 14] = files!["tests/":
    "certificates.yaml",
    "database.yaml",
    "edge.yaml",
    "host.yaml",
    "jvm.yaml",
    "kafka.yaml",
    "kubernetes.yaml",
    "machines.yaml",
    "messaging.yaml",
    "network.yaml",
    "node-js.yaml",
    "postgres.yaml",
    "redis.yaml",
    "services.yaml",
];
