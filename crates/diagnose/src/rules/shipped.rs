//! The rules that come with Quell and their tests, by the files that they are in. Each file of rules has one of
//! tests; what exporters really give them stands in one of its own.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The rules.
        pub(super) const RULES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../rules/", $name)))),*];

        /// Their tests.
        pub(super) const TESTS: &[(&str, &str)] =
            &[
                $((concat!("tests/", $name), include_str!(concat!("../../rules/tests/", $name))),)*
                ("tests/real-shapes.yaml", include_str!("../../rules/tests/real-shapes.yaml")),
            ];
    };
}

files![
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
