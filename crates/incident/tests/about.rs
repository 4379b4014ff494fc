//! What alerts are about, and how urgent they are, by the labels that public rule sets give them.
#![allow(clippy::unwrap_used, reason = "a test ends by it; the exemption does not reach its helpers")]

use quell_incident::about::{About, Kind, SiteLabels};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::ids::SourceName;
use quell_incident::mapping::{Head, Mapping};
use serde_json::Value;

fn alert(labels: Labels) -> Alert {
    Alert {
        key: AlertKey { source: SourceName::declared("am").unwrap(), fingerprint: Fingerprint::of(&labels) },
        status: AlertStatus::Firing,
        labels,
        annotations: Labels::default(),
        starts_at: jiff::Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: None,
    }
}

/// Names and values, parted by spaces; a value with spaces is quoted.
fn labels(text: &str) -> Labels {
    let (mut pairs, mut quoted) = (vec![String::new()], false);
    for letter in text.trim().chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => pairs.push(String::new()),
            other => pairs.last_mut().unwrap().push(other),
        }
    }
    pairs.iter().filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap()).collect()
}

/// The rows of a table: labels, and what they mean.
fn rows(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(" => ").unwrap()).collect()
}

/// Ends with what was found where one of the rows is not right, all of them at once.
fn all_right(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows are not right:\n{}", wrong.len(), wrong.join("\n"));
}

fn head(labels: &Labels) -> Head {
    Mapping::default().head(&alert(labels.clone()))
}

#[test]
fn alerts_of_public_rule_sets_name_what_is_broken() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("field-cases/heads.json")).unwrap();
    assert_eq!(cases.len(), 37);
    for case in cases {
        let labels: Labels = serde_json::from_value(case["labels"].clone()).unwrap();
        let (about, head) = (About::of(&labels), head(&labels));
        let name = case["alertname"].as_str().unwrap();
        let right: Vec<&str> =
            case["affected"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        if right.is_empty() {
            assert_eq!((about.kind, head.title.as_str()), (Kind::Nothing, name), "{name}");
        } else {
            assert!(right.contains(&about.name.as_str()), "{name}: {about:?}");
            assert!(head.title.starts_with(&format!("{name} on {}", about.name)), "{name}: {}", head.title);
        }
        for exporter in ["kube-state-metrics", "exporter", "kubelet"] {
            assert!(!head.service.contains(exporter), "{name}: {}", head.service);
            assert!(!head.tags.iter().any(|tag| tag.contains(exporter)), "{name}: {:?}", head.tags);
        }
    }
}

#[test]
fn severity_words_of_many_systems_mean_what_they_say() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("field-cases/severities.json")).unwrap();
    assert_eq!(cases.len(), 33);
    for case in cases {
        let labels: Labels = serde_json::from_value(case["labels"].clone()).unwrap();
        let head = head(&labels);
        let want = case["want"].as_str().unwrap();
        let words: Vec<&str> = want.split([' ', '/']).collect();
        assert!(words.contains(&head.priority.as_str()), "{case}: {head:?}");
        let said = words.iter().any(|word| word.parse::<quell_incident::Severity>().is_ok());
        assert!(!said || words.contains(&head.severity.as_str()), "{case}: {head:?}");
        assert_eq!(head.unknown_severity, None, "{case}");
    }
}

#[test]
fn subjects_of_many_systems_are_found() {
    let mut wrong = Vec::new();
    for (text, subject) in rows(include_str!("field-cases/subjects.txt")) {
        let labels = labels(text);
        let (about, head) = (About::of(&labels), head(&labels));
        let name = text.split(' ').next().unwrap().trim_start_matches("alertname=");
        let is_titled = head.title.starts_with(&format!("{name} on {subject}"));
        if about.name != subject || !is_titled || !about.names(&labels).iter().any(|name| name == subject) {
            wrong.push(format!("{text}: {:?} {:?}, not {subject}", about.kind, about.name));
        }
    }
    all_right(&wrong);
}

#[test]
fn urgency_is_read_in_many_forms_and_languages() {
    let mut wrong = Vec::new();
    for (text, expected) in rows(include_str!("field-cases/severity-words.txt")) {
        let (priority, unknown) =
            expected.split_once(' ').map_or((expected, None), |(p, word)| (p, Some(word)));
        let head = head(&labels(&format!("alertname=X {text}")));
        if head.priority.as_str() != priority || head.unknown_severity.as_deref() != unknown {
            wrong.push(format!("{text}: {:?} {:?}, not {expected}", head.priority, head.unknown_severity));
        }
    }
    all_right(&wrong);
}

#[test]
fn an_alert_without_a_name_is_titled_by_its_rule_or_its_summary() {
    for (text, annotations, title) in [
        ("instance=db-1:9100", "summary=\"The disk fills up\"", "The disk fills up on db-1"),
        ("instance=db-1:9100", "summary=\"The disk of db-1 fills up.\"", "The disk of db-1 fills up"),
        (
            "instance=db-1:9100",
            "description=\"\nIt is full\nof logs\" title=\"Disk full\"",
            "Disk full on db-1",
        ),
        ("instance=db-1:9100", "description=\"\nIt is full\nof logs\"", "It is full on db-1"),
        ("severity=critical", "message=Gone", "Gone"),
        ("rulename=DiskFull instance=db-1:9100", "summary=Text", "DiskFull on db-1"),
        ("instance=db-1:9100", "runbook_url=x", "unnamed on db-1"),
        ("instance=db-1:9100", "summary=\" \"", "unnamed on db-1"),
        ("alertname=A instance=db-1:9100", "summary=Text", "A on db-1"),
    ] {
        let annotations = labels(annotations);
        let head = Mapping::default().head(&Alert { annotations, ..alert(labels(text)) });
        assert_eq!(head.title, title, "{text}");
    }
}

/// By kind: labels of an alert, what it is about, and the service that it names.
#[test]
fn kinds_of_labels() {
    for (text, name, service) in [
        // kube-state-metrics, honoured, renamed, and by an old chart.
        (
            "alertname=KubePodNotReady job=kube-state-metrics namespace=shop pod=cart-1 service=x-kube-state-metrics",
            "shop/cart-1",
            "",
        ),
        (
            "alertname=A job=kube-state-metrics exported_namespace=shop deployment=cart namespace=monitoring pod=x-kube-state-metrics-1",
            "shop/cart",
            "",
        ),
        ("alertname=A job=kube-state-metrics namespace=shop horizontalpodautoscaler=cart", "shop/cart", ""),
        ("alertname=A job=kube-state-metrics namespace=shop poddisruptionbudget=cart", "shop/cart", ""),
        ("alertname=A job=kube-state-metrics persistentvolume=pvc-17 phase=Failed", "pvc-17", ""),
        ("alertname=KubeNodeNotReady component=kube-state-metrics kubernetes_node=n1 node=n2", "n2", ""),
        (
            "alertname=KubePodCrashLooping job=kube-state-metrics namespace=monitoring pod=x-kube-state-metrics-6c9f-x2x4z container=kube-state-metrics",
            "monitoring/x-kube-state-metrics-6c9f-x2x4z",
            "",
        ),
        (
            "alertname=KubeJobFailed job=kube-state-metrics namespace=batch job_name=nightly-28374650",
            "batch/nightly-28374650",
            "",
        ),
        // Kubelet and cAdvisor.
        (
            "alertname=CPUThrottlingHigh job=kubelet metrics_path=/metrics/cadvisor namespace=shop pod=cart-1 container=kube-state-metrics instance=10.0.0.4:10250 node=w1",
            "shop/cart-1",
            "",
        ),
        (
            "alertname=KubeletPlegDurationHigh job=kubelet node=w1 instance=10.0.0.4:10250 namespace=kube-system service=x-kubelet",
            "w1",
            "",
        ),
        (
            "alertname=ContainerHighMemory job=cadvisor instance=docker-1:8080 container_label_com_docker_compose_service=cart name=shop_cart_1",
            "cart",
            "",
        ),
        // Hosts.
        ("alertname=A job=node instance=10.0.0.1:9100 nodename=db-1", "db-1", ""),
        ("alertname=A job=windows-exporter instance=win-1:9182 volume=C:", "win-1", ""),
        ("alertname=A job=vmware vm_name=vm-7 host_name=esx-1 instance=vmware-exporter:9272", "vm-7", ""),
        ("alertname=A job=snmp instance=switch-1 ifName=Gi0/1", "switch-1", ""),
        ("alertname=A job=ipmi instance=bmc-1 sensor=fan", "bmc-1", ""),
        // OpenTelemetry's names, with dots and with underscores.
        ("alertname=A service.name=cart host.name=vm-7", "vm-7", "cart"),
        ("alertname=A service_name=cart k8s_pod_name=cart-1 k8s_namespace_name=shop", "shop/cart-1", "cart"),
        ("alertname=A k8s.deployment.name=cart k8s.namespace.name=shop", "shop/cart", ""),
        ("alertname=A service.name=cart", "cart", "cart"),
        // Databases, brokers, proxies.
        (
            "alertname=A job=postgres-exporter instance=10.0.0.7:9187 server=pg-1:5432 datname=shop",
            "pg-1",
            "",
        ),
        ("alertname=A instance=redis://cache-1:6379 job=redis-exporter", "cache-1", ""),
        ("alertname=A instance=redis://:secret@cache-1:6379/0 job=redis-exporter", "cache-1", ""),
        // redis_exporter says by `addr` which server it asked; that it asked its own machine names nothing.
        (
            "alertname=RedisDown job=redis_exporter instance=redis-exporter:9121 addr=redis://cache-1:6379",
            "cache-1",
            "",
        ),
        (
            "alertname=RedisDown job=redis_exporter instance=10.0.0.3:9121 addr=rediss://u:pw@cache-1:6380/0",
            "cache-1",
            "",
        ),
        (
            "alertname=RedisDown job=redis_exporter instance=redis-exporter:9121 addr=cache-1:6379",
            "cache-1",
            "",
        ),
        ("alertname=RedisDown job=redis_exporter instance=redis-exporter:9121 addr=cache-1", "cache-1", ""),
        ("alertname=RedisDown job=redis instance=10.0.0.3:9121 addr=redis://cache-1:6379", "cache-1", ""),
        ("alertname=RedisDown job=redis instance=10.0.0.3:9121 addr=redis://localhost:6379", "10.0.0.3", ""),
        (
            "alertname=RedisDown job=redis_exporter instance=cache-2:9121 addr=redis://127.0.0.1:6379",
            "cache-2",
            "",
        ),
        (
            "alertname=RedisDown job=redis_exporter instance=cache-2:9121 addr=unix:///run/redis.sock",
            "cache-2",
            "",
        ),
        ("alertname=A job=shop instance=app-1:9090 addr=:8080", "app-1", ""),
        ("alertname=A job=shop instance=app-1:9090 addr=10.0.0.9:8080", "app-1", ""),
        (
            "alertname=A job=mysql-metrics namespace=db pod=mysql-0 container=mysqld-exporter service=mysql-metrics",
            "db/mysql-0",
            "",
        ),
        (
            "alertname=A namespace=monitoring job=mysql-exporter pod=mysql-exporter-6c9f-x2x4z instance=10.1.1.1:9104",
            "",
            "",
        ),
        ("alertname=RabbitmqMemoryHigh node=rabbit@mq-1 instance=mq-1:15692", "mq-1", ""),
        ("alertname=A queue=orders vhost=/ instance=mq-1:15692", "orders", ""),
        ("alertname=KafkaLag group=billing topic=orders instance=kafka-exporter:9308", "billing", ""),
        (
            "alertname=KafkaTopicsReplicas topic=orders instance=kafka-exporter:9308 job=kafka-exporter",
            "orders",
            "",
        ),
        (
            "alertname=ElasticsearchHeapHigh instance=es-exporter:9114 cluster=es name=es-data-0",
            "es-data-0",
            "",
        ),
        (
            "alertname=HeapTooHigh job=elasticsearch-exporter instance=10.0.0.5:9114 cluster=es name=es-data-0",
            "es-data-0",
            "",
        ),
        ("alertname=ClusterRed job=elasticsearch-exporter instance=10.0.0.5:9114 cluster=es", "es", ""),
        ("alertname=NoPrimary job=mongodb-exporter instance=mongodb-exporter:9216 rs_nm=rs1", "rs1", ""),
        ("alertname=HaproxyBackendDown proxy=be instance=lb-1:8404", "be", ""),
        ("alertname=A upstream=shop server=10.0.0.1:80", "shop/10.0.0.1:80", ""),
        (
            "alertname=Traefik service=cart@kubernetes instance=traefik:8080",
            "cart@kubernetes",
            "cart@kubernetes",
        ),
        // Probes.
        (
            "alertname=SiteDown job=blackbox instance=https://shop.example.org:8443/health",
            "https://shop.example.org:8443/health",
            "",
        ),
        ("alertname=SiteDown job=blackbox-exporter instance=shop.example.org:443", "shop.example.org", ""),
        (
            "alertname=CertExpires job=blackbox target=https://shop.example.org instance=blackbox-exporter:9115",
            "https://shop.example.org",
            "",
        ),
        // What was pushed.
        ("alertname=BackupOld job=pushgateway exported_job=backup instance=pushgateway:9091", "backup", ""),
        ("alertname=BackupOld job=backup instance=pushgateway:9091", "backup", ""),
        (
            "alertname=A job=federate exported_job=node exported_instance=db-1:9100 instance=prom:9090",
            "db-1",
            "",
        ),
        // Controllers.
        (
            "alertname=CertManagerCertExpirySoon job=cert-manager namespace=cert-manager exported_namespace=shop name=shop-tls pod=cert-manager-6c9f-x2x4z",
            "shop/shop-tls",
            "",
        ),
        (
            "alertname=ArgoAppNotSynced job=argocd-metrics namespace=argocd name=cart dest_namespace=shop pod=argocd-application-controller-0",
            "cart",
            "",
        ),
        (
            "alertname=VeleroBackupFailed job=velero namespace=velero schedule=daily pod=velero-6c9f-x2x4z",
            "daily",
            "",
        ),
        (
            "alertname=FluxReconciliationFailed customresource_kind=Kustomization exported_namespace=flux-system name=apps",
            "flux-system/apps",
            "",
        ),
        // Clouds.
        (
            "alertname=A job=yace instance=yace:5000 dimension_DBInstanceIdentifier=shop-db name=arn:aws:rds:eu:0:db:shop-db",
            "shop-db",
            "",
        ),
        (
            "alertname=A job=cloudwatch-exporter instance=cloudwatch-exporter:9106 dbinstance_identifier=shop-db",
            "shop-db",
            "",
        ),
        (
            "alertname=A job=stackdriver-exporter instance=stackdriver-exporter:9255 database_id=p:shop",
            "p:shop",
            "",
        ),
        // Applications, and what says less.
        (
            "alertname=A job=cart namespace=shop pod=cart-6c9f-x2x4z instance=10.0.0.9:8080 service=cart container=cart",
            "shop/cart-6c9f-x2x4z",
            "cart",
        ),
        ("alertname=A instance=app-1:9090 service=cart component=disk", "app-1", "cart"),
        (
            "alertname=TargetDown job=kube-state-metrics namespace=monitoring service=x-kube-state-metrics",
            "x-kube-state-metrics",
            "x-kube-state-metrics",
        ),
        (
            "alertname=PrometheusTargetMissing job=postgres-exporter instance=pg-exporter:9187",
            "pg-exporter",
            "",
        ),
        ("alertname=A namespace=shop", "shop", ""),
        ("alertname=A cluster=eu", "eu", ""),
        ("alertname=A severity=critical", "", ""),
        ("alertname=KubeSchedulerDown job=kube-scheduler", "", ""),
    ] {
        let labels = labels(text);
        let about = About::of(&labels);
        assert_eq!(about.name, name, "{text}: {about:?}");
        if !service.is_empty() || text.contains("exporter") || text.contains("metrics") {
            assert_eq!(about.service, service, "{text}: {about:?}");
        }
    }
}

#[test]
fn parts_are_said_in_the_title() {
    for (text, title) in [
        ("alertname=KafkaLag consumergroup=billing topic=orders", "KafkaLag on billing (orders)"),
        ("alertname=Disk instance=db-1:9100 mountpoint=/var device=/dev/sda1", "Disk on db-1 (/var)"),
        ("alertname=Locks server=10.0.0.9:5432 datname=shop", "Locks on 10.0.0.9 (shop)"),
        ("alertname=DatasourceNoData rulename=Latency", "Latency: no data"),
        (
            "alertname=DatasourceError rulename=Latency service=cart",
            "Latency: its data source failed on cart",
        ),
    ] {
        assert_eq!(head(&labels(text)).title, title);
    }
}

#[test]
fn one_crash_of_one_workload_is_known_by_its_alerts() {
    let workload = |text: &str| About::of(&labels(text)).workload;
    let cart = workload("alertname=KubePodCrashLooping namespace=shop pod=cart-6c9f-x2x4z");
    assert_eq!(cart.as_deref(), Some("/shop/cart"));
    for same in [
        "alertname=KubePodNotReady namespace=shop pod=cart-6c9f-aaaa2",
        "alertname=KubeDeploymentReplicasMismatch namespace=shop deployment=cart job=kube-state-metrics container=kube-state-metrics",
        "alertname=KubeContainerWaiting exported_namespace=shop exported_pod=cart-6c9f-x2x4z namespace=monitoring pod=ksm-0",
        "alertname=A k8s.namespace.name=shop k8s.pod.name=cart-6c9f-x2x4z",
    ] {
        assert_eq!(workload(same), cart, "{same}");
    }
    for other in [
        "alertname=KubePodCrashLooping namespace=shop pod=mail-6c9f-x2x4z",
        "alertname=KubePodCrashLooping namespace=test pod=cart-6c9f-x2x4z",
        "alertname=KubePodCrashLooping namespace=shop pod=cart-6c9f-x2x4z cluster=eu",
        "alertname=A pod=cart-6c9f-x2x4z",
        "alertname=A namespace=shop",
    ] {
        assert_ne!(workload(other), cart, "{other}");
    }
}

#[test]
fn a_site_knows_its_own_labels_better() {
    let site = SiteLabels { subject_labels: vec!["cabinet".to_owned()], exporters: vec!["scada".to_owned()] };
    let of = |text: &str| About::with(&labels(text), &site);
    assert_eq!(
        (of("alertname=A cabinet=c-7 instance=a:1").name.as_str(), of("cabinet=c-7").kind),
        ("c-7", Kind::Own)
    );
    let told = of(
        "alertname=A job=scada-reader namespace=plant service=scada-reader endpoint=http instance=10.0.0.1:1",
    );
    assert_eq!((told.name.as_str(), told.service.as_str()), ("10.0.0.1", ""));
}

#[test]
fn no_labels_and_odd_ones_name_nothing_and_break_nothing() {
    assert_eq!(About::of(&Labels::default()).kind, Kind::Nothing);
    for value in ["", " ", "://", "redis://", "/", "@", ":1", "POD", "\u{1b}[2J", "ä".repeat(9_000).as_str()]
    {
        for name in [
            "pod",
            "instance",
            "node",
            "server",
            "exported_pod",
            "exported_job",
            "job",
            "namespace",
            "target",
            "addr",
        ] {
            let labels: Labels =
                [("alertname", "A"), (name, value), ("namespace", "shop")].into_iter().collect();
            let about = About::of(&labels);
            assert!(
                about.name.chars().count() <= 1_010 && !about.name.chars().any(char::is_control),
                "{about:?}"
            );
            assert!(about.names(&labels).iter().all(|name| !name.is_empty()));
        }
    }
}

/// Which names open no incident while they fire, and which of those say that all is well.
#[test]
fn what_is_of_the_alerting_itself() {
    use AlertStatus::{Firing, Resolved};
    for (text, status, opens_nothing, is_beat) in [
        ("alertname=Watchdog severity=none", Firing, true, true),
        ("alertname=Watchdog", Firing, true, true),
        ("alertname=Watchdog severity=info", Firing, true, true),
        ("alertname=Watchdog severity=gold", Firing, true, true),
        ("alertname=Watchdog severity=none", Resolved, true, false),
        ("alertname=Watchdog severity=critical", Firing, false, false),
        ("alertname=Heartbeat severity=page", Firing, false, false),
        ("alertname=Heartbeat priority=P1", Firing, false, false),
        ("alertname=Heartbeat severity=warning", Firing, false, false),
        // A public rule set ships this one with that severity, and it always fires.
        ("alertname=PrometheusAlertmanagerE2eDeadManSwitch severity=critical", Firing, true, true),
        ("alertname=InfoInhibitor severity=none", Firing, true, false),
        ("alertname=InfoInhibitor severity=critical", Firing, true, false),
        ("alertname=WatchdogMissing severity=none", Firing, false, false),
        ("alertname=PrometheusAlertmanagerE2EDeadManSwitch", Firing, true, true),
        ("alertname=NamespaceInhibitor severity=none", Firing, true, false),
        ("alertname=MaintenanceInhibitor namespace=shop", Firing, true, false),
        ("alertname=MyWatchdog severity=none", Firing, true, true),
        ("alertname=MyWatchdog severity=critical", Firing, false, false),
        ("alertname=DeadMansSwitch severity=critical", Firing, true, true),
        ("alertname=AlwaysFiring severity=info", Firing, true, true),
        ("alertname=Heartbeat", Firing, true, true),
        ("alertname=PipelineAlive severity=heartbeat", Firing, true, true),
        ("alertname=PipelineAlive severity=heartbeat", Resolved, true, false),
        ("alertname=PipelineAlive severity=DeadMansSwitch", Firing, true, true),
        ("alertname=PipelineMissing severity=heartbeat", Firing, false, false),
        ("alertname=KubeletWatchdogFailed severity=none", Firing, false, false),
        ("alertname=HeartbeatMissing", Firing, false, false),
        ("alertname=DeadMansSwitchFailed severity=critical", Firing, false, false),
        ("alertname=InhibitorFailed severity=none", Firing, false, false),
    ] {
        let (mapping, alert) = (Mapping::default(), Alert { status, ..alert(labels(text)) });
        let found = (mapping.is_heartbeat(&alert), mapping.is_beat(&alert));
        assert_eq!(found, (opens_nothing, is_beat), "{text} {status:?}");
    }
}
