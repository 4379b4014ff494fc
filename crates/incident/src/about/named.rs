//! Things that a label of their own names, and things that a system calls by a name that means anything elsewhere.

use super::Kind;
use super::choose::{Chooser, Chosen};

/// A label that names the same kind of thing whoever writes it, whatever target told of it.
struct Own {
    kind: Kind,
    names: &'static [&'static str],
    /// Labels that say which part of it.
    parts: &'static [&'static str],
}

const OWN: &[Own] = &[
    // An objective is of a service, whatever the series are from by which it is measured.
    Own { kind: Kind::Service, names: &["sloth_service"], parts: &["sloth_slo"] },
    Own { kind: Kind::Service, names: &["sloth_slo"], parts: &[] },
    // A proxy tells of those that it calls.
    Own {
        kind: Kind::Backend,
        names: &["envoy_cluster_name", "envoy.cluster.name", "envoy_cluster"],
        parts: &[],
    },
    // A device on a power supply's exporter.
    Own { kind: Kind::Host, names: &["ups", "upsname"], parts: &[] },
    // What runs by a plan.
    Own { kind: Kind::Job, names: &["dag_id", "dag"], parts: &["task_id"] },
    Own { kind: Kind::Job, names: &["jenkins_job", "jenkins_job_name"], parts: &[] },
    Own { kind: Kind::Job, names: &["connector"], parts: &["task"] },
    Own { kind: Kind::Job, names: &["pipelinerun", "cron_workflow", "cronworkflow"], parts: &[] },
    Own {
        kind: Kind::Object,
        names: &["nodepool", "node_pool", "node_group", "machine_config_pool"],
        parts: &[],
    },
    Own { kind: Kind::Cluster, names: &["strimzi_io_cluster", "strimzi.io/cluster"], parts: &[] },
    Own { kind: Kind::Host, names: &["printer", "printer_name"], parts: &[] },
];

/// A system that calls its things by labels that mean anything elsewhere.
struct System {
    /// Words in a job's, an exporter's or an alert's name.
    words: &'static [&'static str],
    /// Labels by which it is known as well: all of one of these groups are there.
    with: &'static [&'static [&'static str]],
    kind: Kind,
    names: &'static [&'static str],
    parts: &'static [&'static str],
}

const SYSTEMS: &[System] = &[
    // Devices of a network, by their site.
    System {
        words: &["unifi", "unpoller"],
        with: &[&["site_name", "name"], &["site_name", "mac"]],
        kind: Kind::Host,
        names: &["name", "device_name", "ap_name", "mac", "site_name"],
        parts: &["port_name", "port_num", "ssid", "radio"],
    },
    System {
        words: &["home-assistant", "homeassistant", "hass"],
        with: &[&["friendly_name", "entity"], &["friendly_name", "domain"]],
        kind: Kind::Host,
        names: &["entity", "entity_id", "friendly_name"],
        parts: &["friendly_name"],
    },
    System {
        words: &["wireguard"],
        with: &[],
        kind: Kind::Host,
        names: &["friendly_name", "public_key"],
        parts: &["interface"],
    },
    // Operators of a cluster belong to no namespace: the one that is there is that of whoever looks after them.
    System {
        words: &["clusteroperator", "cluster-version-operator"],
        with: &[],
        kind: Kind::Object,
        names: &["name"],
        parts: &[],
    },
    System {
        words: &["libvirt"],
        with: &[],
        kind: Kind::Host,
        names: &["domain", "vm", "name"],
        parts: &["target_device"],
    },
    // Checks of what is elsewhere, by the names that people gave them.
    System {
        words: &["gatus", "healthchecks", "statuscake", "pingdom", "updown", "cronitor", "uptimerobot"],
        with: &[&["unique_key", "name"], &["group", "key", "name"]],
        kind: Kind::Address,
        names: &["name", "check_name", "check", "key"],
        parts: &[],
    },
    System {
        words: &["cloudflare"],
        with: &[],
        kind: Kind::Address,
        names: &["zone", "zone_name"],
        parts: &[],
    },
    // Services and jobs of a scheduler: its own job was renamed by the scrape.
    System {
        words: &["consul"],
        with: &[],
        kind: Kind::Service,
        names: &["exported_service", "service_name", "service_id"],
        parts: &["node"],
    },
    System {
        words: &["nomad"],
        with: &[],
        kind: Kind::Job,
        names: &["exported_job", "nomad_job", "job_id", "task_group", "alloc_id"],
        parts: &["task_group", "task"],
    },
    // Copies, by whose they are.
    System {
        words: &["restic", "borg", "kopia", "duplicati", "backup"],
        with: &[],
        kind: Kind::Job,
        names: &["client_hostname", "backup_name", "backup", "repository", "repo", "stanza", "archive"],
        parts: &[],
    },
    System { words: &["pgbackrest"], with: &[], kind: Kind::Database, names: &["stanza"], parts: &[] },
    System { words: &["patroni"], with: &[], kind: Kind::Cluster, names: &["scope"], parts: &[] },
    System { words: &[], with: &[&["pool_id", "name"]], kind: Kind::Volume, names: &["name"], parts: &[] },
    System {
        words: &["ceph"],
        with: &[],
        kind: Kind::Volume,
        names: &["ceph_daemon", "pool_name", "pool"],
        parts: &[],
    },
    System {
        words: &["github", "gitlab", "gitea"],
        with: &[],
        kind: Kind::Object,
        names: &["project_path", "repository", "repo", "project", "runner"],
        parts: &["ref", "branch", "workflow"],
    },
    System { words: &["logstash"], with: &[], kind: Kind::Job, names: &["pipeline"], parts: &[] },
    System { words: &["keycloak"], with: &[], kind: Kind::Service, names: &["realm"], parts: &["client_id"] },
    // Certificates in files and secrets.
    System {
        words: &["x509", "ssl-certificate", "certificate-exporter", "cert-exporter"],
        with: &[&["secret_name", "secret_namespace"]],
        kind: Kind::Object,
        names: &["secret_name", "subject_CN", "cn", "filename", "filepath"],
        parts: &["secret_key"],
    },
];

/// Systems of storage: to them a volume is a thing of its own and not a drive of a host.
const STORAGE: &[&str] = &[
    "longhorn",
    "portworx",
    "openebs",
    "linstor",
    "trident",
    "netapp",
    "harvest",
    "gluster",
    "purestorage",
    "truenas",
    "topolvm",
    "mayastor",
    "juicefs",
];
const STORAGE_VOLUME: &[&str] = &["volume", "volumename", "volume_name", "vol", "pv"];
/// What a storage system writes before the name of a volume that it made for a claim.
const OF_CLAIM: &str = "pvc-";
/// Where a storage system says that a claim is.
const CLAIM_NAMESPACE: &[&str] = &["pvc_namespace", "claim_namespace", "claimNamespace", "pvcNamespace"];

impl Chooser<'_> {
    /// A thing whose label is its own.
    pub(super) fn own(&self) -> Option<Chosen> {
        OWN.iter().find_map(|own| {
            let name = self.first(own.names)?;
            let part = self.first(own.parts).unwrap_or_default();
            Some(Chosen { part, ..self.found(own.kind, name) })
        })
    }

    /// A thing of a system that is known by its words or by labels that only it has.
    pub(super) fn of_system(&self) -> Option<Chosen> {
        let scrape = self.scrape;
        let has_all = |labels: &&[&str]| labels.iter().all(|label| scrape.has(label));
        SYSTEMS.iter().find_map(|system| {
            if !system.with.iter().any(has_all) && !self.says(system.words) {
                return None;
            }
            let value = |label: &&str| scrape.get(label);
            let name = system.names.iter().find_map(value)?;
            let part = system.parts.iter().find_map(value).filter(|part| *part != name);
            Some(Chosen { part: part.unwrap_or_default(), ..self.found(system.kind, name) })
        })
    }

    /// A guest or node of Proxmox, which its exporter calls `qemu/100` beside its name.
    pub(super) fn guest(&self) -> Option<Chosen> {
        let id = self.first(&["id"])?;
        let (kind, number) = id.split_once('/')?;
        match kind {
            "qemu" | "lxc" if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                let name = self.first(&["name", "guest", "vm_name"]);
                Some(self.found(Kind::Host, name.unwrap_or(id)))
            }
            "node" => Some(self.found(Kind::Host, number)),
            "storage" => {
                let (node, part) = number.split_once('/').unwrap_or(("", number));
                let node = if node.is_empty() { self.first(&["node"])? } else { node.to_owned() };
                Some(Chosen { part: part.to_owned(), ..self.found(Kind::Host, node) })
            }
            _ => None,
        }
    }

    /// A claim of a cluster, or the volume of a storage system.
    pub(super) fn volume(&self) -> Option<Chosen> {
        let scrape = self.scrape;
        let volume = self.first(STORAGE_VOLUME).filter(|volume| {
            let is_known = || self.says(STORAGE) || scrape.has("svm");
            volume.starts_with(OF_CLAIM) || scrape.has("pvc") || is_known()
        });
        if let Some(claim) = self.first(super::names::CLAIM) {
            let namespace = self.first(CLAIM_NAMESPACE);
            // The namespace beside the name of a volume is that of the storage system which tells of it.
            let name = match (namespace, &volume) {
                (Some(namespace), _) => format!("{namespace}/{claim}"),
                (None, Some(_)) => claim,
                (None, None) => self.in_namespace(&claim),
            };
            return Some(Chosen { part: volume.unwrap_or_default(), ..self.found(Kind::Volume, name) });
        }
        let named = self.first(super::names::VOLUME).or(volume).map(|name| self.found(Kind::Volume, name));
        // Of its disks it says on which node they are, and its own pod is only where that was told.
        let of_disk = || ["Node", "Disk"].iter().any(|word| scrape.alert_name.contains(word));
        named.or_else(|| if of_disk() && self.says(STORAGE) { self.node() } else { None })
    }

    /// Whether the target's names or the alert's say one of these words.
    fn says(&self, words: &[&str]) -> bool {
        self.scrape.target_is_called(words) || self.scrape.alert_is_called(words)
    }
}
