//! A language model behind an endpoint as OpenAI's chat completions have it, which vLLM, Ollama, llama.cpp and others offer as well.

use quell_tool::CallContext;
use serde::Deserialize;
use serde_json::json;

use crate::http::Endpoint;
use crate::source::SourceError;

/// An answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A model at an endpoint.
#[derive(Clone)]
pub struct LanguageModel {
    endpoint: Endpoint,
    model: String,
    answer_tokens_max: u32,
}

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its words.
    pub text: String,
    /// Tokens that it read and wrote, if it says.
    pub tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

impl LanguageModel {
    /// A model by its name, at a base address such as `https://host/v1`. Its guard should not ask twice: each answer costs.
    pub fn new(endpoint: Endpoint, model: &str, answer_tokens_max: u32) -> Self {
        Self { endpoint, model: model.to_owned(), answer_tokens_max }
    }

    /// What it answers in JSON to these instructions and this document.
    ///
    /// # Errors
    /// [`SourceError`], also for an answer that was cut at the most tokens.
    pub async fn complete(
        &self,
        instructions: &str,
        document: &str,
        context: &CallContext,
    ) -> Result<Completion, SourceError> {
        let access = &self.endpoint.access;
        let body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": document},
            ],
            "temperature": 0,
            "max_tokens": self.answer_tokens_max,
            "response_format": {"type": "json_object"},
        });
        let request = access.post(access.url("chat/completions")?).json(&body);
        let answer: Answer = self.endpoint.ask_json(request, BODY_BYTES_MAX, context).await?;
        let malformed = |why: &str| SourceError::Malformed { why: why.to_owned() };
        let choice = answer.choices.into_iter().next().ok_or_else(|| malformed("it has no choice"))?;
        if choice.finish_reason.as_deref() == Some("length") {
            return Err(malformed("it was cut at the most tokens that it may have"));
        }
        let text = choice.message.content.ok_or_else(|| malformed("its message has no content"))?;
        Ok(Completion { text, tokens: answer.usage.map(|usage| usage.total_tokens) })
    }
}
