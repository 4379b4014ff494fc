//! Elasticsearch and OpenSearch: `_search`, newest first, page by page.
//!
//! The question is a JSON document, so text stays text whatever is in it; words of the query language are not used. Times are absolute:
//! servers with the same interface exist that reject date math.
//!
//! Documents are asked for whole. A filter of fields (`_source`) compares names sign by sign, while the same field is called `Message`,
//! `message` or `json.msg` by one shipper and the next; a list of all of that would lose what nobody thought of, and what it saves is
//! bounded anyway: a page that is too large is asked for in smaller ones, and one document that is too large is left out and counted.

use async_trait::async_trait;
use quell_incident::evidence::{LogLines, LogQuery};
use quell_tool::CallContext;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::FieldMap;
use super::gathered::{Gathered, Lacking};
use super::names::spellings;
use super::parse::Reader;
use super::{LogSource, check};
use crate::http::Endpoint;
use crate::source::SourceError;

/// One page at the most unless it is set, in bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Lines of a page. Together pages stay within the 10,000 that a server pages through.
const PAGE_LINES_MAX: usize = 1_000;
/// Documents that are passed over since one alone is too large, before the server is given up.
const PASSED_OVER_MAX: usize = 3;
/// By how much a page is made smaller when it was too large.
const PAGE_SHRINKS_BY: usize = 10;
const PATTERN_BYTES_MAX: usize = 512;
/// What servers say of an index that has no document with the field that is sorted by.
const NO_MAPPING: &str = "No mapping found for";

/// Where the lines are.
#[derive(Clone, Debug)]
pub struct ElasticsearchOptions {
    /// The indices that are searched, such as `logs-*`.
    pub index_pattern: String,
    /// Where the parts of a line stand; the first name of the time is the one that is searched and sorted by.
    pub fields: FieldMap,
    /// One page at the most, in bytes; pages are made smaller where lines are long.
    pub page_bytes_max: usize,
}

impl ElasticsearchOptions {
    /// Those indices, with the usual fields.
    pub fn new(index_pattern: &str) -> Self {
        Self {
            index_pattern: index_pattern.to_owned(),
            fields: FieldMap::default(),
            page_bytes_max: PAGE_BYTES_MAX,
        }
    }
}

/// An Elasticsearch, an OpenSearch, or anything else with their `_search`.
pub struct ElasticsearchLogs {
    endpoint: Endpoint,
    options: ElasticsearchOptions,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    timed_out: bool,
    #[serde(default, rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Default, Deserialize)]
struct Shards {
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    successful: Option<u64>,
    /// Why they failed, whatever form that has.
    #[serde(default)]
    failures: Value,
}

impl Shards {
    /// Whether an index has no document with the field that is sorted by.
    fn lack_the_field(&self) -> bool {
        self.failed > 0 && self.failures.to_string().contains(NO_MAPPING)
    }
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
    /// How many there are: a number, or an object with one.
    #[serde(default)]
    total: Value,
}

impl Hits {
    fn total(&self) -> u64 {
        let said = self.total.as_u64().or_else(|| self.total.get("value")?.as_u64());
        said.unwrap_or(0).max(self.hits.len() as u64)
    }
}

#[derive(Deserialize)]
struct Hit {
    #[serde(default, rename = "_index")]
    index: String,
    #[serde(default, rename = "_id")]
    id: Option<String>,
    #[serde(default, rename = "_source")]
    source: Map<String, Value>,
}

impl ElasticsearchLogs {
    /// The server at that address.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a pattern that names no indices.
    pub fn new(endpoint: impl Into<Endpoint>, options: ElasticsearchOptions) -> Result<Self, SourceError> {
        let pattern = &options.index_pattern;
        // A pattern is part of the path: nothing in it may lead elsewhere.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*,:<>{}+".contains(&byte);
        let leads_elsewhere =
            pattern.split(',').any(|name| name.is_empty() || name.starts_with(['_', '.', '+']));
        if pattern.len() > PATTERN_BYTES_MAX || leads_elsewhere || !pattern.bytes().all(fits) {
            let why = format!(
                "`{}` is not a pattern of index names such as `logs-*` or `logs-*,app-*`",
                pattern.escape_debug()
            );
            return Err(SourceError::Invalid { why });
        }
        if options.fields.time.is_empty() || options.fields.message.is_empty() {
            return Err(SourceError::Invalid {
                why: "no field is named for the time or the message".to_owned(),
            });
        }
        Ok(Self { endpoint: endpoint.into(), options })
    }

    fn time_field(&self) -> &str {
        self.options.fields.time.first().map_or("@timestamp", String::as_str)
    }

    /// What every line has to be.
    fn filter(&self, query: &LogQuery) -> Value {
        let any = |fields: &[String], text: &str| {
            // Of a field in another spelling a server knows nothing.
            let spelt = fields.iter().flat_map(|field| spellings(field));
            let phrases: Vec<Value> = spelt.map(|field| json!({"match_phrase": {field: text}})).collect();
            json!({"bool": {"should": phrases, "minimum_should_match": 1}})
        };
        let range = json!({"gte": query.from.to_string(), "lte": query.to.to_string()});
        let mut filter = vec![json!({"range": {self.time_field(): range}})];
        filter.extend(query.service.as_ref().map(|service| any(&self.options.fields.service, service)));
        filter.extend(query.contains.as_ref().map(|text| any(&self.options.fields.message, text)));
        json!({"bool": {"filter": filter}})
    }

    fn body(&self, query: &LogQuery, from: usize, size: usize, unmapped: bool) -> Value {
        // Servers with the same interface exist that know no such option, so it is said only where it is needed.
        let order = match unmapped {
            true => json!({"order": "desc", "unmapped_type": "date"}),
            false => json!({"order": "desc"}),
        };
        json!({
            "query": self.filter(query),
            "sort": [{self.time_field(): order}],
            "from": from,
            "size": size,
        })
    }

    /// Documents that no range of time finds, since they lack the field that is searched by, with one of them. An answer without lines
    /// would otherwise look like silence.
    async fn without_time(&self, context: &CallContext) -> Result<Option<(u64, String)>, SourceError> {
        let exists = json!({"exists": {"field": self.time_field()}});
        let body = json!({"query": {"bool": {"must_not": [exists]}}, "size": 1});
        let found = self.page(&body, context).await?;
        let total = found.hits.total();
        let Some(first) = found.hits.hits.into_iter().next() else { return Ok(None) };
        // A server that takes no notice of the question answers with any document.
        let lacks_it = !first.source.contains_key(self.time_field());
        Ok(lacks_it.then(|| (total, Value::Object(first.source).to_string())))
    }

    async fn page(&self, body: &Value, context: &CallContext) -> Result<Found, SourceError> {
        let access = &self.endpoint.access;
        let url = access.url(&format!("{}/_search", self.options.index_pattern))?;
        // No index of that pattern is an answer without lines, also where a part of it names one in full.
        let request = access.post(url).query(&[("ignore_unavailable", "true"), ("allow_no_indices", "true")]);
        let found: Found =
            self.endpoint.ask_json(request.json(body), self.options.page_bytes_max, context).await?;
        match &found.shards {
            Shards { failed: 1.., successful: Some(0), .. } if !found.shards.lack_the_field() => {
                Err(SourceError::Malformed {
                    why: format!("all {} shards that were asked failed", found.shards.failed),
                })
            }
            _ => Ok(found),
        }
    }
}

#[async_trait]
impl LogSource for ElasticsearchLogs {
    fn name(&self) -> &str {
        "elasticsearch"
    }

    fn words(&self, query: &LogQuery) -> String {
        format!(
            "POST {}/{}/_search {}",
            self.endpoint.access.shown(),
            self.options.index_pattern,
            json!({"query": self.filter(query)})
        )
    }

    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError> {
        check(query)?;
        let lines_max = query.lines_max as usize;
        let reader = Reader::new(&self.options.fields, query.to);
        let mut gathered = Gathered::new(query);
        // Documents that are written meanwhile move the pages, and one may come twice.
        let mut seen = std::collections::BTreeSet::new();
        let (mut from, mut page_lines, mut unmapped) = (0, PAGE_LINES_MAX, false);
        let (mut hits, mut without_message, mut passed_over) = (0_usize, 0_usize, 0_usize);
        while from < lines_max {
            let size = page_lines.min(lines_max - from);
            let found = match self.page(&self.body(query, from, size, unmapped), context).await {
                // One of the indices is empty, or of something else: the others are asked for all the same.
                Ok(found) if !unmapped && found.shards.lack_the_field() => {
                    unmapped = true;
                    continue;
                }
                Err(SourceError::Answered { status: 400, body })
                    if !unmapped && body.contains(NO_MAPPING) =>
                {
                    unmapped = true;
                    continue;
                }
                Ok(found) => found,
                Err(SourceError::TooLarge { .. }) if size > 1 => {
                    page_lines = size.div_ceil(PAGE_SHRINKS_BY);
                    continue;
                }
                Err(SourceError::TooLarge { .. }) if passed_over < PASSED_OVER_MAX => {
                    passed_over += 1;
                    gathered.leave_out(Lacking::Size, "");
                    from += 1;
                    page_lines = PAGE_LINES_MAX;
                    continue;
                }
                // The newest lines are better than none.
                Err(_) if gathered.len() > 0 => {
                    gathered.truncated = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            gathered.truncated |= found.timed_out || found.shards.failed > 0;
            let full = found.hits.hits.len() >= size;
            for hit in found.hits.hits.into_iter().take(size) {
                if hit.id.is_some_and(|id| !seen.insert((hit.index, id))) {
                    continue;
                }
                hits += 1;
                let parsed = reader.record(&hit.source, "");
                let whole = Value::Object(hit.source).to_string();
                if parsed.line.message.is_empty() {
                    without_message += 1;
                    gathered.leave_out(Lacking::Message, &whole);
                    continue;
                }
                gathered.take(parsed.at, parsed.line, &whole);
            }
            from += size;
            if !full {
                break;
            }
            gathered.truncated |= from >= lines_max;
        }
        if hits > 0 && without_message == hits {
            let why = format!(
                "none of {hits} documents has one of the fields {}; name the one with the message",
                self.options.fields.message.join(", ")
            );
            return Err(SourceError::Malformed { why });
        }
        // Where a service or a text is asked for it is no wonder that nothing is found.
        if hits == 0 && query.service.is_none() && query.contains.is_none() {
            match self.without_time(context).await {
                Ok(Some((count, sample))) => gathered.leave_out_many(Lacking::TimeField, count, &sample),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "cannot ask for documents without a time"),
            }
        }
        Ok(gathered.answer(self.name(), self.words(query)))
    }
}
