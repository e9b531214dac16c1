//! A judge is asked about answers: any server that speaks OpenAI's chat completions.

use std::{path::Path, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use univi::{Error, Result};
use univi_eval::{
    Benchmark, JudgeRequest, Judgement, JudgementJournal, REPLY_TOKENS, Record, requests, verdict,
};

use super::on_error::OnError;
use crate::{
    interrupt::Listener,
    out,
    progress::{Progress, Unit},
};

/// Who judges answers that can't be counted.
#[derive(Debug, Args)]
pub struct JudgeOptions {
    /// The judge: the address of a server that speaks OpenAI's chat completions, as
    /// http://127.0.0.1:8000/v1.
    #[arg(long, value_name = "URL", requires = "judge_model", value_parser = address)]
    pub judge: Option<String>,
    /// The judge's model.
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_model: Option<String>,
    /// The environment variable that holds the judge's API key [default: UNIVI_JUDGE_KEY, where it
    /// is set].
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_key: Option<String>,
    /// What a million tokens cost, to and from the judge, so that the cost is said before.
    #[arg(long, value_name = "IN,OUT", value_parser = price)]
    pub judge_price: Option<(f64, f64)>,
    /// Seconds to wait for a reply.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub judge_timeout: u32,
}

impl JudgeOptions {
    /// Checks that the key is there that is asked for.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), String> {
        match &self.judge_key {
            Some(name) if self.key().is_none() => Err(format!(
                "--judge-key {name}: the environment has no variable {name}; set it to the key, or \
                 leave --judge-key out"
            )),
            _ => Ok(()),
        }
    }

    fn key(&self) -> Option<String> {
        let name = self.judge_key.as_deref().unwrap_or("UNIVI_JUDGE_KEY");
        std::env::var(name).ok().filter(|key| !key.is_empty())
    }
}

/// Reads the address of a server.
fn address(text: &str) -> Result<String, String> {
    let uri: Option<ureq::http::Uri> = text.parse().ok();
    let is_server = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_server {
        true => Ok(text.to_owned()),
        false => Err("expected an address, as http://127.0.0.1:8000/v1".into()),
    }
}

/// Reads `0.15,0.60`.
fn price(text: &str) -> Result<(f64, f64), String> {
    let prices = text.split_once(',').and_then(|(to, from)| {
        let read = |text: &str| {
            let price: f64 = text.trim().parse().ok()?;
            (price.is_finite() && price >= 0.).then_some(price)
        };
        Some((read(to)?, read(from)?))
    });
    prices.ok_or("expected two prices, as 0.15,0.60".into())
}

/// Times that a request is sent where the server fails or does not answer.
const ATTEMPTS: u32 = 3;

/// The most bytes of a reply.
const MAX_REPLY_BYTES: u64 = 1 << 20;

/// Has the judge rate all answers that it has not rated yet. Every reply is kept in `folder` as it
/// comes.
///
/// # Errors
/// `Io` where the folder can't be written; where `on_error` says stop, what is wrong with a reply,
/// named with the sample; `Aborted`.
pub fn judge(
    folder: &Path,
    benchmark: &Benchmark,
    records: &[Record],
    options: &JudgeOptions,
    on_error: OnError,
) -> Result<()> {
    if !benchmark.metric.is_judged() {
        if options.judge.is_some() {
            let name = benchmark.name;
            out::note(&format!(
                "the answers of {name} are counted: no judge is asked"
            ));
        }
        return Ok(());
    }
    let (Some(address), Some(model)) = (&options.judge, &options.judge_model) else {
        let reason = "these answers are for a judge to rate: --judge URL --judge-model NAME, with \
                      univi eval report also later";
        out::note(reason);
        return Ok(());
    };
    let mut journal = JudgementJournal::open(folder)?;
    let asked = records
        .iter()
        .flat_map(|record| requests(benchmark, record));
    let asked: Vec<JudgeRequest> = asked
        .filter(|request| !journal.has(model, request))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    out::note(&cost(model, &asked, options.judge_price));
    let client = Client::new(address, model, options);
    let listener = Listener::new();
    let mut progress = Progress::new("judging", Unit::Items, asked.len() as u64);
    for request in &asked {
        if listener.pressed() {
            progress.aside(|| out::note("stopped; univi eval report goes on from here"));
            return Err(Error::Aborted);
        }
        let (reply, verdict) = match client.ask(request) {
            Ok(reply) => {
                let verdict = verdict(benchmark.metric, &reply);
                let verdict = verdict.map_err(|reason| format!("the judge's reply {reason}"));
                (reply, verdict)
            }
            Err(reason) => (String::new(), Err(reason)),
        };
        let error = verdict.as_ref().err().cloned();
        journal.add(Judgement {
            id: request.id.clone(),
            aspect: request.aspect.to_owned(),
            request: request.identity(model),
            judge: model.to_owned(),
            reply,
            verdict: verdict.ok(),
            error: error.clone(),
        })?;
        if let Some(reason) = error {
            let error = Error::BadRequest { reason }.in_file(&*request.id);
            match on_error {
                OnError::Stop => return Err(error),
                OnError::Skip => progress.aside(|| out::note(&error.to_string())),
            }
        }
        progress.advance(1);
    }
    journal.finish()?;
    Ok(())
}

/// Says what is about to be asked, and what it costs.
fn cost(model: &str, asked: &[JudgeRequest], price: Option<(f64, f64)>) -> String {
    let tokens: usize = asked.iter().map(JudgeRequest::tokens).sum();
    let replies = asked.len() * REPLY_TOKENS;
    let money = match price {
        Some((to, from)) => {
            let cost = to * tokens as f64 + from * replies as f64;
            format!("costs at most about {}", money(cost / 1e6))
        }
        None => "--judge-price IN,OUT says what it costs".into(),
    };
    format!(
        "{model} judges {} times: about {tokens} tokens to read, at most {replies} to write; {money}",
        asked.len()
    )
}

/// Writes a price with two digits behind the point, or so many that two count.
fn money(price: f64) -> String {
    let leading = match price > 0. {
        true => -price.log10().floor(),
        false => 0.,
    };
    let digits = (leading + 1.).clamp(2., 12.) as usize;
    format!("{price:.digits$}")
}

struct Client<'a> {
    agent: ureq::Agent,
    address: String,
    model: &'a str,
    key: Option<String>,
    timeout_s: u32,
}

/// Why there is no reply.
struct Failure {
    reason: String,
    /// Whether it may be otherwise in a moment.
    passes: bool,
}

impl Client<'_> {
    fn new<'a>(address: &str, model: &'a str, options: &JudgeOptions) -> Client<'a> {
        let base = address.trim_end_matches('/');
        let address = match base {
            whole if whole.ends_with("/chat/completions") => whole.to_owned(),
            base if base.ends_with("/v1") => format!("{base}/chat/completions"),
            base => format!("{base}/v1/chat/completions"),
        };
        let timeout = Duration::from_secs(options.judge_timeout.into());
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false);
        Client {
            agent: config.build().into(),
            address,
            model,
            key: options.key(),
            timeout_s: options.judge_timeout,
        }
    }

    /// Returns the judge's reply; where it fails in passing, only after some attempts.
    fn ask(&self, request: &JudgeRequest) -> Result<String, String> {
        let mut wait = Duration::from_millis(500);
        for _ in 1..ATTEMPTS {
            match self.try_ask(request) {
                Err(failure) if failure.passes => std::thread::sleep(wait),
                asked => return asked.map_err(|failure| failure.reason),
            }
            wait *= 4;
        }
        self.try_ask(request).map_err(|failure| failure.reason)
    }

    fn try_ask(&self, request: &JudgeRequest) -> Result<String, Failure> {
        let body = json!({
            "model": self.model,
            "messages": [
                { "role": "system", "content": request.system },
                { "role": "user", "content": request.user },
            ],
            "temperature": 0,
            "max_tokens": REPLY_TOKENS,
        });
        let mut post = self.agent.post(&self.address);
        post = post.header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            post = post.header("Authorization", format!("Bearer {key}"));
        }
        let failed = |error: ureq::Error| Failure {
            reason: match error {
                ureq::Error::Timeout(_) => {
                    let timeout_s = self.timeout_s;
                    format!("the judge does not answer within {timeout_s} s (--judge-timeout)")
                }
                error => format!("the judge does not answer: {error}"),
            },
            passes: true,
        };
        let mut response = post.send(body.to_string()).map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_REPLY_BYTES);
        let text = body.read_to_string().map_err(failed)?;
        if status != 200 {
            let start: String = text.chars().take(200).collect();
            return Err(Failure {
                reason: format!("the judge answers {status}: {start}"),
                passes: status == 429 || status >= 500,
            });
        }
        let reply: Option<Value> = serde_json::from_str(&text).ok();
        let content = reply.and_then(|reply| {
            let content = reply.pointer("/choices/0/message/content")?;
            Some(content.as_str()?.to_owned())
        });
        content.ok_or(Failure {
            reason: "the judge's answer is no chat completion".into(),
            passes: false,
        })
    }
}
