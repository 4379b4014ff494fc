//! The rules over the real world: who fires, who does not, and that they say what the Prometheus files say.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Deserialize;

use super::rules::{EXTERNAL_LABEL, RULES, Scrapes};
use super::state::Alerting;
use super::webhook::Status;
use crate::world::{Exporter, Operation, Scenario, World};

/// Runs a world and its alerting together.
struct Lab {
    world: World,
    rng: StdRng,
    now: Timestamp,
    tick: Duration,
    ticks_per_evaluation: u32,
    scrapes: Scrapes,
    alerting: Alerting,
}

impl Lab {
    fn new(tick: Duration, interval: Duration, hold: Duration) -> Lab {
        let mut rng = StdRng::seed_from_u64(7);
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().unwrap();
        let window = hold.max(interval * 4).max(tick * 6);
        Lab {
            world: World::new(now, &mut rng),
            rng,
            now,
            tick,
            ticks_per_evaluation: u32::try_from(interval.as_millis() / tick.as_millis()).unwrap(),
            scrapes: Scrapes::new(window),
            alerting: Alerting::new(hold, Duration::from_secs(3600), "http://127.0.0.1:8000".to_owned()),
        }
    }

    /// The messages of the evaluations within that time, as (alert, status).
    fn run(&mut self, duration: Duration) -> Vec<(String, Status)> {
        let mut said = Vec::new();
        for passed in 1..=u32::try_from(duration.as_millis() / self.tick.as_millis()).unwrap() {
            self.now += SignedDuration::try_from(self.tick).unwrap();
            self.world.tick(self.now, self.tick, &mut self.rng);
            if passed % self.ticks_per_evaluation == 0 {
                let exporters =
                    Exporter::ALL.into_iter().map(|one| (one.job(), self.world.metrics(one))).collect();
                self.scrapes.take(self.now, exporters);
                for message in self.alerting.evaluate(self.now, self.scrapes.matches()) {
                    let name = serde_json::to_value(&message).unwrap()["groupLabels"]["alertname"].clone();
                    said.push((name.as_str().unwrap().to_owned(), message.status));
                }
            }
        }
        said
    }
}

const SLOW: (Duration, Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60));
const FAST: (Duration, Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2));

#[test]
fn a_healthy_world_raises_nothing() {
    for (tick, interval, hold) in [SLOW, FAST] {
        let mut lab = Lab::new(tick, interval, hold);
        assert_eq!(lab.run(hold * 60), [], "tick {tick:?}");
    }
}

#[test]
fn each_fault_raises_its_alerts_once_and_healing_resolves_them() {
    let one = |name| vec![name];
    let operation = |target, operation| vec![(target, operation)];
    let replicas = Operation::Replicas;
    let settings = serde_json::json!({ "connection_timeout": 30, "pool_size": 20 });
    let settings = Operation::Config(settings.as_object().cloned().unwrap());
    let cases = [
        (
            Scenario::DatabaseTimeout,
            one("DatabaseConnectionTimeout"),
            vec![("db-server-01", settings), ("order_service", Operation::Restart)],
        ),
        (Scenario::MemoryLeak, one("HighMemoryUsage"), operation("order_service", Operation::Restart)),
        (Scenario::HighCpu, one("HighCPUUsage"), operation("order_service", replicas(4))),
        (Scenario::Api503, one("APIGateway503Errors"), operation("catalog_service", Operation::Restart)),
        (
            Scenario::DiskFull,
            vec!["DiskSpaceCritical", "DiskSpaceLow"],
            operation("storage-node-01", Operation::Clean("/data".to_owned())),
        ),
        (
            Scenario::CertificateExpiry,
            one("CertificateExpiringSoon"),
            operation("api.example.com", Operation::Renew),
        ),
        (Scenario::KafkaLag, one("KafkaConsumerLagHigh"), operation("email-service", replicas(6))),
        (
            Scenario::PostgresConnections,
            one("PostgreSQLConnectionsHigh"),
            operation("postgres-01", Operation::EndIdleSessions),
        ),
    ];
    assert_eq!(cases.len(), Scenario::ALL.len());
    for (tick, interval, hold) in [SLOW, FAST] {
        for (scenario, alerts, repair) in &cases {
            let mut lab = Lab::new(tick, interval, hold);
            assert_eq!(lab.run(hold * 2), []);
            lab.world.trigger(lab.now, *scenario, None);
            let firing: Vec<_> = alerts.iter().map(|name| ((*name).to_owned(), Status::Firing)).collect();
            assert_eq!(lab.run(hold * 10), firing, "{scenario:?} at tick {tick:?}");
            for (target, operation) in repair {
                lab.world.operate(lab.now, target, operation, None).unwrap();
            }
            let resolved: Vec<_> = alerts.iter().map(|name| ((*name).to_owned(), Status::Resolved)).collect();
            assert_eq!(lab.run(hold * 10), resolved, "{scenario:?} healed at tick {tick:?}");
        }
    }
}

#[test]
fn a_firing_alert_is_repeated_and_keeps_its_start() {
    let mut lab = Lab::new(Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60));
    lab.world.trigger(lab.now, Scenario::KafkaLag, None);
    let said = lab.run(Duration::from_secs(2 * 3600 + 300));
    assert_eq!(said, vec![("KafkaConsumerLagHigh".to_owned(), Status::Firing); 3]);
}

#[test]
fn alerts_have_the_labels_that_prometheus_gives_them() {
    let mut lab = Lab::new(Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60));
    lab.world.trigger(lab.now, Scenario::DatabaseTimeout, None);
    lab.world.trigger(lab.now, Scenario::PostgresConnections, None);
    lab.run(Duration::from_secs(120));
    let found: BTreeMap<_, _> = lab.scrapes.matches().into_iter().map(|one| (one.rule.name, one)).collect();

    let database = &found["DatabaseConnectionTimeout"];
    let expected = [
        ("alertname", "DatabaseConnectionTimeout"),
        ("component", "database"),
        ("database", "customer_db"),
        ("instance", "db-server-01:9090"),
        ("job", "database-server"),
        ("monitor", "incident-response-monitor"),
        ("severity", "critical"),
    ];
    assert_eq!(database.labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let summary = &database.annotations()["summary"];
    assert_eq!(summary, "Database connection timeouts on db-server-01:9090");
    let description = &database.annotations()["description"];
    assert!(description.contains(&format!("into {:.2} connection", database.value)), "{description}");

    // A sum by instance keeps nothing else of the series, its job neither.
    let names: Vec<_> = found["PostgreSQLConnectionsHigh"].labels.keys().map(String::as_str).collect();
    assert_eq!(names, ["alertname", "component", "instance", "monitor", "severity"]);
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    name: String,
    rules: Vec<FileRule>,
}

#[derive(Deserialize)]
struct FileRule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn the_shipped_rules_say_the_same() {
    let shipped = include_str!("../../../../monitoring/rules.yml");
    let file: RuleFile = serde_saphyr::from_str(shipped).unwrap();
    let [group] = file.groups.as_slice() else { panic!("one group") };
    assert_eq!(group.name, "incident_rules");
    assert_eq!(group.rules.len(), RULES.len());
    for (rule, own) in group.rules.iter().zip(&RULES) {
        assert_eq!((rule.alert.as_str(), rule.expr.as_str()), (own.name, own.expression));
        let labels = BTreeMap::from([("severity", own.severity), ("component", own.component)]);
        assert!(
            rule.labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .eq(labels.into_iter().collect::<BTreeMap<_, _>>()),
            "{}",
            own.name
        );
        let annotations = BTreeMap::from([("summary", own.summary), ("description", own.description)]);
        assert!(
            rule.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(annotations),
            "{}",
            own.name
        );
    }
}

#[test]
fn the_external_label_is_that_of_the_shipped_configuration() {
    let shipped = include_str!("../../../../monitoring/prometheus.yml");
    let (name, value) = EXTERNAL_LABEL;
    assert!(shipped.contains(&format!("{name}: {value}")));
    for exporter in Exporter::ALL {
        assert!(shipped.contains(&format!("job_name: {}\n", exporter.job())));
    }
}
