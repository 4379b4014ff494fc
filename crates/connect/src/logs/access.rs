//! The status in a line of an access log, where each server has it in a place of its own.

const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "PROPFIND"];
/// Words of a line that are looked at.
const WORDS_MAX: usize = 40;

/// The status in a line of an access log, whichever server wrote it.
pub(super) fn status_of(text: &str) -> Option<u16> {
    let text = text.lines().next()?;
    beside_request(text)
        .or_else(|| of_proxy(text))
        .or_else(|| after_path(text))
        .or_else(|| of_framework(text))
}

/// `"GET / HTTP/1.1" 502` of the common log format, and `502 502 34 366 "GET https://x:443/ HTTP/1.1"` of load balancers at AWS.
fn beside_request(text: &str) -> Option<u16> {
    let protocol = text.find(" HTTP/")?;
    let (line, rest) = (text.get(..protocol)?, text.get(protocol..)?);
    // The request ends with its version: what is quoted after other text is not this line's own request.
    let (version, rest) = rest.split_once('"')?;
    (version.len() <= " HTTP/1.1".len()).then_some(())?;
    if let Some(status) = rest.split_ascii_whitespace().next().and_then(status) {
        return Some(status);
    }
    let (before, _request) = line.rsplit_once('"')?;
    let mut words = before.split_ascii_whitespace().rev();
    let (sent, received, target, balancer) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_of_target = target == "-" || status(target).is_some();
    (is_number(sent) && is_number(received) && is_of_target).then(|| status(balancer)).flatten()
}

/// `0/-1/-1/-1/0 503` of HAProxy and `TCP_MISS/502` of Squid.
fn of_proxy(text: &str) -> Option<u16> {
    let mut words = text.split_ascii_whitespace().take(24).peekable();
    while let Some(word) = words.next() {
        let timers = word.trim_start_matches('+');
        let is_timer = |part: &str| is_number(part.strip_prefix(['-', '+']).unwrap_or(part));
        if timers.matches('/').count() == 4 && timers.split('/').all(is_timer) {
            return status(words.peek()?);
        }
        if let Some((result, code)) = word.split_once('/')
            && result.starts_with("TCP_")
        {
            return status(code);
        }
    }
    None
}

/// A method and a path without quotes. The status follows at once (`GET /x 500 12.3 ms`, as frameworks write it, and `GET host /x 502`
/// of CloudFront), or it is the first of the numbers behind everything (`GET /x - 443 - 10.1.2.3 agent - 500 0 0 1234` of IIS).
fn after_path(text: &str) -> Option<u16> {
    let words: Vec<&str> = text.split_ascii_whitespace().take(WORDS_MAX).collect();
    let method = words.iter().position(|word| METHODS.contains(word))?;
    let is_path =
        |word: &&str| word.starts_with('/') || word.starts_with("http://") || word.starts_with("https://");
    let path = method + 1 + words.get(method + 1..)?.iter().take(2).position(is_path)?;
    let after = words.get(path + 1..)?;
    if let Some(status) = after.first().and_then(|word| status(word)) {
        return Some(status);
    }
    // The port, the user and the client's address stand before.
    let after = after.get(3..)?;
    let numbers =
        |from: usize| after.get(from..).into_iter().flatten().take_while(|word| is_number(word)).count();
    let begins =
        |from: &usize| numbers(*from) >= 3 && after.get(*from).is_some_and(|word| status(word).is_some());
    after.get((0..after.len()).find(begins)?).and_then(|word| status(word))
}

/// `[GIN] 2026/11/30 - 14:00:00 | 500 |` and `Completed 500 Internal Server Error in 12ms` of Rails.
fn of_framework(text: &str) -> Option<u16> {
    if text.starts_with("[GIN]") {
        return status(text.split('|').nth(1)?.trim());
    }
    let (_, rest) = text.split_once("Completed ")?;
    let (code, rest) = rest.split_once(' ')?;
    rest.contains(" in ").then(|| status(code)).flatten()
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn status(word: &str) -> Option<u16> {
    let status: u16 = (word.len() == 3 && is_number(word)).then(|| word.parse().ok()).flatten()?;
    (100..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_the_status_in_its_own_place() {
        for (text, status) in [
            ("10.1.2.3 - - \"GET /info?debug=error HTTP/1.1\" 502 157 \"-\" \"curl/8\"", Some(502)),
            ("10.1.2.3 - u \"POST /x HTTP/3\" 500 1 \"-\" \"c\"", Some(500)),
            ("INFO:     10.1.2.3:5 - \"GET /x HTTP/1.1\" 500 Internal Server Error", Some(500)),
            (
                "10.1.2.3:5 fe be/<NOSRV> 0/-1/-1/-1/0 503 213 - - SC-- 1/1/0/0/3 0/0 \"GET / HTTP/1.1\"",
                Some(503),
            ),
            ("57 10.1.2.3 TCP_MISS/502 4412 GET http://x", Some(502)),
            (
                "https app/lb/1 10.0.0.1:1 10.0.0.2:80 0.1 0.2 0.3 502 502 34 366 \"GET https://a:443/ HTTP/1.1\" \"c\"",
                Some(502),
            ),
            (
                "h2 app/lb/1 10.0.0.1:1 - -1 -1 -1 503 - 34 366 \"GET https://a:443/ HTTP/2.0\" \"c\"",
                Some(503),
            ),
            (
                "lb 10.0.0.1:1 10.0.0.2:80 0.1 0.2 0.3 200 200 34 366 \"GET http://a:80/500 HTTP/1.1\"",
                Some(200),
            ),
            ("10.0.0.5 GET /shop/cart - 443 - 10.1.2.3 Mozilla/5.0+(Windows) - 500 0 0 1234", Some(500)),
            ("10.0.0.5 GET /shop/cart q=1 443 u 10.1.2.3 Mozilla/5.0 http://r/ 200 0 0 500", Some(200)),
            (
                "W3SVC1 web1 10.0.0.5 POST /x - 80 - 10.1.2.3 HTTP/1.1 M - - a.example 503 0 64 1 2 3",
                Some(503),
            ),
            ("FRA2\t1045\t10.0.0.1\tGET\td1.cloudfront.net\t/x\t502\t-\tMozilla", Some(502)),
            ("GET /x 500 12.3 ms - 34", Some(500)),
            ("[GIN] | 502 |  1.2ms | 10.0.0.1 | GET \"/x\"", Some(502)),
            ("Completed 500 Internal Server Error in 12ms", Some(500)),
            ("Completed 500 orders", None),
            ("cannot GET /x", None),
            ("GET the 500 orders", None),
            ("pool exhausted", None),
        ] {
            assert_eq!(status_of(text), status, "{text}");
        }
    }
}
