//! What shippers and loggers call the parts of a line, the usual names first, and how names are compared.
//!
//! A name stands here once, in one of its spellings: case, dots, underlines and signs make no difference ([`alike`]), and neither does
//! what it stands in, as long as that is one of the [`ENVELOPES`].

pub(super) const TIME: &[&str] = &[
    "@timestamp",
    "time",
    "ts",
    "date",
    "datetime",
    "_time",
    "@t",
    "timeUnixNano",
    "t",
    "asctime",
    "instant",
    "timeMillis",
    "time_iso8601",
    "time_local",
    "timeLocal",
    "__REALTIME_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
    "event_time",
    "eventTimestamp",
    "log_time",
    "logTimestamp",
    "log_timestamp",
    "lastTimestamp",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "syslog_timestamp",
    "syslog5424_ts",
    "TimeGenerated",
    "TimeCreated",
    "StartUTC",
    "start_time",
    "written_at",
    "logged_at",
    "created_at",
    "observedTimeUnixNano",
    "observedTimestamp",
    "receiveTimestamp",
    "ingestionTime",
    "deprecatedLastTimestamp",
    "metadata.creationTimestamp",
    "EventReceivedTime",
    "msec",
    "epoch",
];
pub(super) const MESSAGE: &[&str] = &[
    "message",
    "msg",
    "log",
    "text",
    "event",
    "body",
    "@m",
    "renderedMessage",
    "formatted_message",
    "log_processed",
    "log_processed.message",
    "log_processed.msg",
    "json.message",
    "json.msg",
    "fields.message",
    "properties.message",
    "jsonPayload.message",
    "body.text",
    "log_message",
    "logEntry",
    "short_message",
    "textPayload",
    "jsonPayload",
    "protoPayload.status.message",
    "event.original",
    "error.log.message",
    "error.message",
    "error.exception.message",
    "exception.message",
    "full_message",
    "eventMessage",
    "resultDescription",
    "msg_s",
    "log_s",
    "note",
    "output",
    "_raw",
    "raw_message",
    "original",
    "content",
    "description",
    "@mt",
    "messageTemplate",
];
pub(super) const LEVEL: &[&str] = &[
    "level_name",
    "level",
    "severity",
    "lvl",
    "log.level",
    "severity_text",
    "severity_label",
    "severity_name",
    "error_severity",
    "level_text",
    "level_str",
    "level_label",
    "log_severity",
    "LevelDisplayName",
    "EventLevelName",
    "EntryType",
    "sev",
    "@l",
    "s",
    "levelno",
    "level_no",
    "level_num",
    "level_value",
    "severityLevel",
    "log.syslog.severity.name",
    "log.syslog.severity.code",
    "log.syslog.priority",
    "syslog.severity",
    "syslog_severity_code",
    "severity_code",
    "syslog.priority",
    "syslog.pri",
    "syslog5424_pri",
    "syslog5424_sev",
    "syslog5424_severity",
    "pri",
    "severity_number",
    "detected_level",
    "error.log.level",
];
/// Names under which a level stands as well as many other things: only what is a word for a level, or a number of syslog, is one.
pub(super) const PERHAPS_LEVEL: &[&str] =
    &["priority", "prio", "status", "type", "event_type", "log_type", "message_type", "at"];
pub(super) const SERVICE: &[&str] = &[
    "service",
    "service.name",
    "resource.attributes.service.name",
    "resource.service.name",
    "attributes.service.name",
    "contextMap.service",
    "fields.service",
    "json.service",
    "dd.service",
    "app",
    "application",
    "application_name",
    "app_name",
    "fields.app",
    "fields.Application",
    "kubernetes.labels.app",
    "kubernetes.labels.app.kubernetes.io/name",
    "com.docker.compose.service",
    "compose_service",
    "swarm_service",
    "container.name",
    "kubernetes.container.name",
    "resource.attributes.k8s.container.name",
    "k8s.container.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "kubernetes.deployment.name",
    "kubernetes.statefulset.name",
    "kubernetes.daemonset.name",
    "container",
    "systemd.unit",
    "_SYSTEMD_UNIT",
    "log.syslog.appname",
    "syslog.appname",
    "syslog5424_app",
    "syslog5424_appname",
    "syslog_app",
    "syslog_program",
    "appname",
    "process.name",
    "program",
    "programname",
    "ident",
    "SYSLOG_IDENTIFIER",
    "syslogtag",
    "faas.name",
    "service.type",
    "event.provider",
    "provider_name",
    "SourceName",
    "logger",
    "name",
];
pub(super) const INSTANCE: &[&str] = &[
    "instance",
    "pod",
    "pod.name",
    "k8s.pod.name",
    "kubernetes.pod.name",
    "involvedObject.name",
    "regarding.name",
    "service.instance.id",
    "service.node.name",
    "dyno",
    "host",
    "hostname",
    "host.name",
    "host.hostname",
    "node",
    "node_name",
    "k8s.node.name",
    "pod_node_name",
    "machineName",
    "computer_name",
    "winlog.computer_name",
    "computer",
    "_HOSTNAME",
    "log.syslog.hostname",
    "syslog.hostname",
    "syslog5424_host",
    "syslog5424_hostname",
    "syslog_host",
    "logsource",
    "source_host",
    "fromhost",
    "agent.name",
    "agent.hostname",
    "beat.hostname",
    "beat.name",
    "cloud.instance.name",
    "instance_id",
    "source",
];
/// What a message leaves out: why it failed.
pub(super) const CAUSE: &[&str] = &[
    "err",
    "error",
    "error.message",
    "error.exception",
    "exception",
    "exception.message",
    "@x",
    "error.type",
    "exc_info",
    "cause",
    "thrown",
    "throwable",
    "error_message",
    "exception_message",
    "stack_trace",
];
/// The status of an answer over HTTP, and the question, where a record is an access log's.
pub(super) const STATUS: &[&str] = &[
    "status",
    "status_code",
    "http.response.status_code",
    "http.status_code",
    "response_code",
    "response_status",
    "http_status",
    "sc-status",
    "elb_status_code",
    "DownstreamStatus",
    "EdgeResponseStatus",
    "httpRequest.status",
    "response.status",
    "responseStatus.code",
    "response.statusCode",
    "res.statusCode",
    "res.status",
];
pub(super) const METHOD: &[&str] = &[
    "method",
    "request_method",
    "http.request.method",
    "http.method",
    "httpRequest.requestMethod",
    "ClientRequestMethod",
    "req.method",
    "cs-method",
    "verb",
];
pub(super) const PATH: &[&str] = &[
    "path",
    "url.path",
    "url.original",
    "url.full",
    "uri",
    "request_uri",
    "request_path",
    "request_url",
    "request.uri",
    "request.url",
    "httpRequest.requestUrl",
    "http.target",
    "http.url",
    "ClientRequestURI",
    "req.url",
    "cs-uri-stem",
    "url",
    "request",
];

/// What collectors and loggers put around a record, or around what they know of where it comes from: `json.msg` of Filebeat,
/// `fields.message` of Rust's tracing, `resource.attributes.host.name` of OpenTelemetry. A field in one of these means what it would mean
/// without it.
pub(super) const ENVELOPES: &[&str] = &[
    "appinfo",
    "attributes",
    "attrs",
    "body",
    "context",
    "contextmap",
    "ctx",
    "data",
    "docker",
    "event",
    "eventdata",
    "extra",
    "fields",
    "json",
    "jsonpayload",
    "k8s",
    "kubernetes",
    "kvlistvalue",
    "label",
    "labels",
    "log",
    "logattributes",
    "logprocessed",
    "mdc",
    "message",
    "metadata",
    "object",
    "parsed",
    "payload",
    "podlabels",
    "properties",
    "record",
    "resource",
    "resourceattributes",
    "structured",
    "structuredmetadata",
    "tags",
    "values",
    "winlog",
];
/// What means something else where it stands in an envelope: the logger of a line, the name of whatever it is about.
pub(super) const NOT_IN_ENVELOPES: &[&str] = &[
    "name",
    "source",
    "logger",
    "ident",
    "id",
    "original",
    "description",
    "content",
    "output",
    "t",
    "s",
    "epoch",
];
/// Envelopes that exporters write as the beginning of a name, since what they write to knows no names with dots.
pub(super) const FLAT_ENVELOPES: &[&str] =
    &["resourceattributes", "resourcelabels", "resource", "logattributes", "attributes"];
/// The shortest name that is believed behind a flat envelope: `resource_name` is a name of its own.
pub(super) const FLAT_NAME_BYTES_MIN: usize = 7;

/// The segments of a name: what stands between dots, or at signs other than the first.
pub(super) fn segments(name: &str) -> impl Iterator<Item = String> {
    let (first, rest) = match name.strip_prefix('@') {
        // `@message` and `message` are the same; `@m` would not be told from anything without its sign.
        Some(rest) if rest.len() <= 2 => (Some(name), ""),
        Some(rest) => (None, rest),
        None => (None, name),
    };
    let sign = first.map(str::to_lowercase);
    let plain = rest.split(['.', '@']).map(|segment| {
        let kept = segment.chars().filter(|c| c.is_alphanumeric());
        kept.flat_map(char::to_lowercase).collect::<String>()
    });
    sign.into_iter().chain(plain.filter(|segment| !segment.is_empty()))
}

/// A name without what shippers change in it: dots, underlines, signs and capitals.
pub(super) fn alike(name: &str) -> String {
    segments(name).collect()
}

/// The spellings of a name that are in use, itself first, for servers that compare names sign by sign: `service.name`, `service_name`,
/// `serviceName`, `ServiceName`, `Service.Name`.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split(['.', '_']).filter(|word| !word.is_empty()).collect();
    let mut all = vec![name.to_owned()];
    if words.is_empty() || name.contains(['/', '@', '-']) || name.starts_with('_') {
        return all;
    }
    let capital = |word: &str| {
        let mut signs = word.chars();
        signs.next().into_iter().flat_map(char::to_uppercase).chain(signs).collect::<String>()
    };
    let capitals: Vec<String> = words.iter().map(|word| capital(word)).collect();
    let mut camel = capitals.concat();
    if let (Some(first), Some(rest)) = (words.first(), camel.get(capitals.first().map_or(0, String::len)..)) {
        camel = format!("{first}{rest}");
    }
    for spelling in [words.join("."), words.join("_"), camel, capitals.concat(), capitals.join(".")] {
        if !all.contains(&spelling) {
            all.push(spelling);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_every_spelling() {
        for spelling in
            ["service.name", "service_name", "serviceName", "ServiceName", "@service_name", "service-name"]
        {
            assert_eq!(alike(spelling), "servicename", "{spelling}");
        }
        assert_eq!(alike("@timestamp"), "timestamp");
        assert_eq!((alike("@mt"), alike("@L")), ("@mt".to_owned(), "@l".to_owned()));
        assert_eq!(alike("resource.attributes.host@name"), "resourceattributeshostname");
        let wanted = ["service.name", "service_name", "serviceName", "ServiceName", "Service.Name"];
        assert_eq!(spellings("service.name"), wanted);
        assert_eq!(spellings("appName"), ["appName", "AppName"]);
        assert_eq!(spellings("@timestamp"), ["@timestamp"]);
    }
}
