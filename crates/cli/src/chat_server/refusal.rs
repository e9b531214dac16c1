//! Why a request has no answer, in OpenAI's shape.

use hyper::StatusCode;
use serde_json::{Value, json};
use univi::Error;

/// The code of a request that took or waited too long.
pub const TIMED_OUT: &str = "timed_out";

/// Why a request has no answer: a status, and an error as OpenAI's clients read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    message: String,
    code: Option<&'static str>,
    /// The field of the request that is wrong.
    param: Option<String>,
    /// When it is worth asking again.
    pub retry_after_s: Option<u64>,
    /// The methods that the address takes.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// Makes a refusal with a code for programs.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            message: message.into(),
            code: Some(code),
            param: None,
            retry_after_s: None,
            allow: None,
        }
    }

    /// Refuses a request that is wrong in itself.
    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal {
            code: None,
            ..Refusal::new(StatusCode::BAD_REQUEST, "", message)
        }
    }

    /// Names the field of the request that is wrong.
    pub fn about(mut self, param: impl Into<String>) -> Refusal {
        self.param = Some(param.into());
        self
    }

    /// Says when it is worth asking again.
    pub fn retry_after_s(mut self, seconds: u64) -> Refusal {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Returns whether the request took or waited too long.
    pub fn is_timeout(&self) -> bool {
        self.code == Some(TIMED_OUT)
    }

    /// Returns the body of the answer.
    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let message = error.to_string();
        let mut cause = &error;
        let mut place = None;
        while let Error::In { file, source } = cause {
            place = Some(file.clone());
            cause = source;
        }
        let mut refusal = match cause {
            Error::BadRequest { .. } => Refusal::bad(message),
            Error::BadImage { .. } | Error::BadVideo { .. } => {
                Refusal::new(StatusCode::BAD_REQUEST, "invalid_media", message)
            }
            Error::ContextOverflow { .. } => {
                let code = "context_length_exceeded";
                Refusal::new(StatusCode::BAD_REQUEST, code, message).about("messages")
            }
            Error::OutOfMemory { .. } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, cause.code(), message)
            }
            cause => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, cause.code(), message),
        };
        // What a request brings is named by its place in it; a fault of the server's own is not.
        if refusal.status.is_client_error() {
            refusal.param = refusal.param.or(place);
        }
        refusal
    }
}
