//! What a store's error says: which operation on what, why, and what to do.

use std::error::Error;
use std::fmt;

use object_store::client::{HttpError, HttpErrorKind};

use super::address::Service;
use crate::error::SinewError;

/// Characters of a server's answer that a message shows.
const SHOWN: usize = 300;

/// Why a request failed, read out of the client's error and the server's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Status of the answer, such as 403.
    pub status: Option<u16>,
    /// The service's own name of the error, such as `AccessDenied`.
    pub code: String,
    /// Words.
    text: String,
    /// Attempts after the first.
    retries: Option<String>,
    /// How the connection failed, where there was no answer.
    kind: Option<HttpErrorKind>,
}

impl Cause {
    /// The cause of a client's error.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Self::default();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if let Some((_, rest)) = text.split_once(", after ").filter(|_| cause.retries.is_none()) {
                cause.retries = rest.split_once(" retries").map(|(n, _)| n.to_string());
            }
            if let Some(rest) = text.strip_prefix("Server returned non-2xx status code: ") {
                cause.answer(rest);
                return cause;
            }
            if let Some(body) = text.strip_prefix("Server returned error response: ") {
                cause.body(body);
                return cause;
            }
            if let Some(http) = error.downcast_ref::<HttpError>() {
                cause.kind = Some(http.kind());
            }
            cause.text = text;
            next = error.source();
        }
        cause
    }

    /// Reads `403 Forbidden: <Error>..</Error>`.
    fn answer(&mut self, text: &str) {
        let (status, body) = text.split_once(':').unwrap_or((text, ""));
        self.status = status.get(..3).and_then(|digits| digits.parse().ok());
        self.body(body);
        if self.text.is_empty() && self.code.is_empty() {
            self.text = status.trim().into();
        }
    }

    fn body(&mut self, body: &str) {
        let xml = |tag: &str| {
            let rest = body.split_once(&format!("<{tag}>"))?.1;
            Some(rest.split_once("</")?.0.trim().to_string())
        };
        let json = |key: &str| {
            let rest = body.split_once(&format!("\"{key}\""))?.1.trim_start_matches([':', ' ']).strip_prefix('"')?;
            Some(rest.split_once('"')?.0.to_string())
        };
        self.code = xml("Code").or_else(|| json("code")).unwrap_or_default();
        let text = xml("Message").or_else(|| json("message")).or_else(|| json("error_description"));
        let text = text.unwrap_or_else(|| if self.code.is_empty() { body.to_string() } else { String::new() });
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.text = words.chars().take(SHOWN).collect();
    }

    /// Whether the whole bucket is missing, not one object.
    pub fn no_bucket(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchBucket" | "ContainerNotFound")
            || self.text.contains("specified bucket does not exist")
            || self.text.contains("specified container does not exist")
    }

    /// Whether the request may have been carried out, although no answer came.
    pub fn unknown_outcome(&self) -> bool {
        matches!(self.kind, Some(HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Unknown))
    }

    /// What the reader can do.
    pub fn hint(&self, service: Service) -> String {
        let holder = service.holder();
        let code = self.code.to_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| code.contains(word));
        let credentials = service.credentials();
        match (self.status, self.kind) {
            _ if any(&["expired", "tokenrefresh"]) => {
                format!("the credentials have expired: get new ones and set {credentials}")
            }
            _ if any(&["invalidaccesskey", "signature", "authenticationfailed", "invalidtoken", "invalid_grant"]) => {
                format!("the service does not know these credentials: check {credentials}")
            }
            (Some(401), _) => format!("the service does not know these credentials: check {credentials}"),
            (Some(403), _) => format!(
                "the credentials are not allowed to do this, or are wrong: allow reading, writing and listing in this \
                 {holder}, or check {credentials}"
            ),
            _ if self.no_bucket() => format!("create the {holder}, or check its name and {}", service.endpoint()),
            (Some(301 | 307 | 308), _) => {
                format!("the {holder} is in another region: check {}", service.endpoint())
            }
            (Some(400), _) if any(&["region", "authorizationheadermalformed"]) => {
                format!("the {holder} is in another region: check {}", service.endpoint())
            }
            (Some(404), _) => format!("check the path, the {holder}'s name and {}", service.endpoint()),
            (Some(408 | 429 | 500..), _) => {
                "the service is in trouble or overloaded: try again later, or raise sinew.storage_retry_timeout".into()
            }
            (None, Some(HttpErrorKind::Timeout)) => {
                "no answer came in time: check the network, or raise sinew.storage_timeout and \
                 sinew.storage_retry_timeout"
                    .into()
            }
            (None, Some(_)) => format!("no connection: check the network and {}", service.endpoint()),
            _ if self.text.contains("redirect") => {
                format!("the {holder} is in another region: check {}", service.endpoint())
            }
            _ => format!("check {} and the credentials", service.endpoint()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map(|status| status.to_string()).filter(|status| !self.text.starts_with(status));
        let code = Some(self.code.clone()).filter(|code| !code.is_empty());
        let text = Some(self.text.trim_end_matches('.').to_string()).filter(|text| !text.is_empty());
        let parts: Vec<String> = [status, code, text].into_iter().flatten().collect();
        f.write_str(&parts.join(": "))?;
        match &self.retries {
            Some(retries) => write!(f, " (after {retries} retries)"),
            None => Ok(()),
        }
    }
}

/// Takes an error of ours back out of a store's error, where it is one.
pub fn ours(error: object_store::Error) -> Result<SinewError, object_store::Error> {
    match error {
        object_store::Error::Generic { store, source } => match source.downcast::<SinewError>() {
            Ok(ours) => Ok(*ours),
            Err(source) => Err(object_store::Error::Generic { store, source }),
        },
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Cause {
        let mut cause = Cause::default();
        cause.answer(answer);
        cause
    }

    #[test]
    fn the_words_of_the_service_are_found() {
        let cause = read("403 Forbidden: <?xml?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>");
        assert_eq!((cause.to_string().as_str(), cause.status), ("403: AccessDenied: No", Some(403)));
        let cause = read("401 Unauthorized: {\"error\": {\"code\": 401, \"message\": \"Anonymous caller\"}}");
        assert_eq!(cause.to_string(), "401: Anonymous caller");
        assert_eq!(read("503 X: <Error><Code>SlowDown</Code></Error>").to_string(), "503: SlowDown");
        assert_eq!(read("503 Service Unavailable: ").to_string(), "503 Service Unavailable");
    }

    #[test]
    fn every_cause_has_its_own_next_step() {
        let hint = |answer| read(answer).hint(Service::S3);
        assert!(hint("403 Forbidden: ").contains("not allowed"));
        assert!(hint("400 Bad Request: <Code>ExpiredToken</Code>").contains("expired"));
        assert!(hint("403 Forbidden: <Code>InvalidAccessKeyId</Code>").contains("AWS_ACCESS_KEY_ID"));
        assert!(hint("404 Not Found: <Code>NoSuchBucket</Code>").contains("create the bucket"));
        assert!(hint("301 Moved Permanently: ").contains("AWS_REGION"));
        assert!(hint("503 Slow Down: ").contains("storage_retry_timeout"));
    }
}
