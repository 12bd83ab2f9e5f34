//! What a store's refusals mean, in words that name the object and the next step: pure.

use object_store::Error;

use super::keys::Place;
use crate::io::error::IoError;

/// Whether there is no point in trying again.
pub(super) fn is_final(error: &Error) -> bool {
    !matches!(error, Error::Generic { .. }) || next_step(&text_of(error)) != UNKNOWN
}

/// An error with the place, what the store said, and the next step.
pub(super) fn failed(place: &Place, verb: &'static str, key: &str, error: &Error) -> IoError {
    let text = text_of(error);
    let next = match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => CREDENTIALS,
        _ => next_step(&text),
    };
    IoError::Store { verb, at: place.uri(key), reason: shown(&text), next }
}

/// Whether there is no bucket of that name.
pub(super) fn is_no_bucket(error: &Error) -> bool {
    text_of(error).contains("NoSuchBucket")
}

fn text_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The code and message of a store's answer where the text has them, else all of it, on one line.
fn shown(text: &str) -> String {
    let between = |tag: &str| {
        let rest = text.split_once(&format!("<{tag}>"))?.1;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code} ({message})"),
        (Some(code), None) => code,
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

const CREDENTIALS: &str = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and that they may read, write, list and abort uploads there";
const UNKNOWN: &str = "what is finished is kept: run the same again once the store is well";

/// What to do about an answer.
fn next_step(text: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["NoSuchBucket"]) {
        "make the bucket, or correct its name"
    } else if has(&["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]) {
        CREDENTIALS
    } else if has(&["169.254.169.254", "Credential"]) {
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    } else if has(&["without LOCATION", "PermanentRedirect", "AuthorizationHeaderMalformed"]) {
        "the bucket is in another region: set AWS_REGION"
    } else if has(&["URL scheme is not allowed"]) {
        "the endpoint has no TLS: set AWS_ALLOW_HTTP=true, or use https"
    } else if has(&["error trying to connect", "dns error", "Connection refused", "tcp connect error"]) {
        "check AWS_ENDPOINT_URL and the network"
    } else if has(&["NotImplemented", "MethodNotAllowed"]) {
        "the store lacks what an output needs; write to a folder, or to another store"
    } else {
        UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, reason: &str, next: &str) {
        let place = Place { bucket: "b".into(), prefix: "p".into() };
        let error = Error::Generic { store: "S3", source: text.into() };
        let shown = failed(&place, "write", "p/x", &error).to_string();
        assert!(shown.starts_with("cannot write s3://b/p/x: ") && shown.contains(reason), "{shown}");
        assert!(shown.contains(next), "{shown}");
    }

    #[test]
    fn what_a_store_refuses_names_the_next_step() {
        let body = "<Error><Code>NoSuchBucket</Code><Message>none such</Message></Error>";
        check(body, "NoSuchBucket (none such);", "make the bucket");
        check("<Code>SignatureDoesNotMatch</Code>", "SignatureDoesNotMatch;", "AWS_SECRET_ACCESS_KEY");
        check("error trying to connect: Connection refused", "Connection refused", "AWS_ENDPOINT_URL");
        check("500\n  oh", "500 oh", "run the same again");
    }
}
