//! From a pod's or job's name to the workload that made it.

/// Random characters at the end of a pod's name.
const RANDOM: usize = 5;
/// A replica set's hash at the most.
const HASH_MAX: usize = 10;

/// The workload of a pod by its name: what a replica set (`checkout-6c9f-x2x4z`), a stateful set (`pg-0`), a daemon set
/// (`node-exporter-x7k2p`) or a cron job's job (`nightly-28374650-abcde`) put at its end is taken off. A name that ends otherwise is its own.
pub(super) fn workload_of_pod(pod: &str) -> &str {
    let Some((rest, last)) = split_last(pod) else { return pod };
    if last.len() <= 4 && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest;
    }
    if last.len() != RANDOM || !last.bytes().all(is_plain) {
        return pod;
    }
    match split_last(rest) {
        Some((workload, hash)) if is_hash(hash) => workload,
        // Words have vowels, random ends have none.
        _ if has_digit(last) || !last.bytes().any(|byte| b"aeiou".contains(&byte)) => workload_of_job(rest),
        _ => pod,
    }
}

/// The cron job of a job by its name: `nightly-28374650`, or its own.
pub(super) fn workload_of_job(job: &str) -> &str {
    match split_last(job) {
        Some((cron_job, minutes))
            if minutes.len() >= 8 && minutes.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            cron_job
        }
        _ => job,
    }
}

fn split_last(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('-').filter(|(rest, last)| !rest.is_empty() && !last.is_empty())
}

fn is_hash(text: &str) -> bool {
    (3..=HASH_MAX).contains(&text.len()) && text.bytes().all(is_plain) && has_digit(text)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_made_a_pod_is_read_from_its_name() {
        for (pod, workload) in [
            ("checkout-6c9f-x2x4z", "checkout"),
            ("cart-7d4-abcde", "cart"),
            ("order-service-7575857457-8p2xj", "order-service"),
            ("pg-0", "pg"),
            ("cart-1", "cart"),
            ("kafka-broker-12", "kafka-broker"),
            ("node-exporter-x7k2p", "node-exporter"),
            ("cilium-bdfgh", "cilium"),
            ("nightly-28374650-abcd2", "nightly"),
            ("kube-apiserver-worker", "kube-apiserver-worker"),
            ("kube-proxy", "kube-proxy"),
            ("my-cache", "my-cache"),
            ("checkout", "checkout"),
            ("-x", "-x"),
            ("", ""),
            ("störung-ä", "störung-ä"),
        ] {
            assert_eq!(workload_of_pod(pod), workload, "{pod}");
        }
        assert_eq!(workload_of_job("nightly-28374650"), "nightly");
        assert_eq!(workload_of_job("nightly-7"), "nightly-7");
    }
}
