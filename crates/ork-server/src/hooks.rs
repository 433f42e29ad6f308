//! Who calls a webhook: signatures and tokens.
//!
//! A signature is HMAC-SHA256, in one of two forms. *Standard Webhooks* signs the delivery's id, a
//! time and the body (`webhook-id`, `webhook-timestamp`, `webhook-signature: v1,BASE64`), by the
//! bytes that follow `whsec_` in the secret in base64. *GitHub* signs the body alone
//! (`X-Hub-Signature-256: sha256=HEX`), by the secret's text. A delivery is known by what was
//! signed, so that nobody else can repeat it under another name.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ork_api::problem::Code;
use ork_core::plan::WebhookAuth;
use ork_core::rows::HookSecret;
use ork_core::time::{Span, Wall};
use ork_core::value::Digest;

use crate::random;
use crate::refused::{Refused, Result};
use crate::token::same;

/// What every signing secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// What every token of a webhook begins with.
const TOKEN_PREFIX: &str = "orkh_";

/// How far the time of a signature may be from now, before and after.
pub(crate) const TOLERANCE: Span = Span::from_secs(5 * 60);

/// The longest id of a delivery, in bytes.
const MAX_DELIVERY: usize = 255;

/// Headers that say who the sender is: no run is told of them.
const PRIVATE: [&str; 6] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "webhook-signature",
    "x-gitlab-token",
    "x-hub-signature-256",
];

/// A new secret: as it is shown, and as it is kept.
pub(crate) fn make(auth: WebhookAuth) -> Result<(String, HookSecret)> {
    let bytes = random::bytes::<32>().map_err(Refused::internal)?;
    Ok(match auth {
        WebhookAuth::Hmac => {
            let key = format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes));
            (key.clone(), HookSecret::Hmac { key })
        }
        WebhookAuth::Token => {
            let token = format!("{TOKEN_PREFIX}{}", Digest(bytes));
            let digest = Digest::of(token.as_bytes());
            (token, HookSecret::Token { digest })
        }
    })
}

/// Lets a delivery in whose sender knows the secret, and says by what it is known again; a token's
/// sender may leave that out.
pub(crate) fn admit(
    secret: &HookSecret,
    headers: &HeaderMap,
    body: &[u8],
    now: Wall,
) -> Result<Option<String>> {
    let delivery = match secret {
        HookSecret::Token { digest } => by_token(*digest, headers)?,
        HookSecret::Hmac { key } if headers.contains_key("webhook-signature") => {
            Some(standard(key, headers, body, now)?)
        }
        HookSecret::Hmac { key } => Some(github(key, headers, body)?),
    };
    if delivery.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_DELIVERY) {
        return Err(Refused::malformed(format!(
            "a delivery's id has 1 to {MAX_DELIVERY} visible ASCII characters"
        )));
    }
    Ok(delivery)
}

/// The headers as a run is told of them: by small names, those that are there twice with commas
/// between.
pub(crate) fn told(headers: &HeaderMap) -> serde_json::Value {
    let mut told = serde_json::Map::new();
    let names = headers.keys().map(axum::http::HeaderName::as_str);
    for name in names.filter(|name| !PRIVATE.contains(name)) {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        told.insert(name.to_owned(), values.collect::<Vec<_>>().join(", ").into());
    }
    told.into()
}

fn by_token(known: Digest, headers: &HeaderMap) -> Result<Option<String>> {
    let bearer = crate::guard::bearer(headers);
    let Some(token) = bearer.or_else(|| text(headers, "x-gitlab-token")) else {
        return Err(refused("send the token as `Authorization: Bearer` or `X-Gitlab-Token`"));
    };
    if !same(&Digest::of(token.as_bytes()).0, &known.0) {
        return Err(refused("the token is not this webhook's"));
    }
    let id = text(headers, "idempotency-key").or_else(|| text(headers, "webhook-id"));
    Ok(id.map(str::to_owned))
}

fn standard(key: &str, headers: &HeaderMap, body: &[u8], now: Wall) -> Result<String> {
    let part = |name: &str| {
        text(headers, name).ok_or_else(|| refused(format!("the signature needs `{name}`")))
    };
    let (id, time, signatures) =
        (part("webhook-id")?, part("webhook-timestamp")?, part("webhook-signature")?);
    let seconds: i64 = time
        .parse()
        .map_err(|_| refused("`webhook-timestamp` has to be the time in seconds since 1970"))?;
    let off = now.0.saturating_sub(seconds.saturating_mul(1_000_000)).saturating_abs();
    let encoded = key.strip_prefix(SECRET_PREFIX).unwrap_or(key);
    let key = STANDARD.decode(encoded).map_err(Refused::internal)?;
    let expected = hmac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", body].concat());
    let given = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let mut given = given.filter_map(|one| STANDARD.decode(one).ok());
    if !given.any(|one| same(&one, &expected)) {
        return Err(refused("the signature is not one of this delivery by this webhook's secret"));
    }
    if off > TOLERANCE.0 {
        return Err(refused(format!(
            "the delivery was signed more than {TOLERANCE} from now; look at the sender's clock"
        )));
    }
    Ok(format!("id {id}"))
}

fn github(key: &str, headers: &HeaderMap, body: &[u8]) -> Result<String> {
    let Some(signature) = text(headers, "x-hub-signature-256") else {
        return Err(refused(
            "sign the delivery: `webhook-signature` (Standard Webhooks), or `X-Hub-Signature-256`",
        ));
    };
    let expected = hmac(key.as_bytes(), body);
    let given = signature.strip_prefix("sha256=").and_then(|hex| hex.parse::<Digest>().ok());
    if !given.is_some_and(|given| same(&given.0, &expected)) {
        return Err(refused("the signature is not one of this body by this webhook's secret"));
    }
    Ok(format!("body {}", Digest(expected)))
}

fn refused(detail: impl Into<String>) -> Refused {
    Refused::new(Code::Unauthenticated, detail)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// HMAC-SHA256, after RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Digest::of(key).0);
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = Digest::of(&[&padded.map(|byte| byte ^ 0x36)[..], message].concat());
    Digest::of(&[&padded.map(|byte| byte ^ 0x5c)[..], &inner.0].concat()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4231, as far as they are whole.
    #[test]
    fn hmac_is_that_of_the_standard() {
        for (key, message, expected) in [
            (
                vec![0x0b; 20],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(Digest(hmac(&key, message)).to_string(), expected);
        }
    }

    /// The example of GitHub's documentation.
    #[test]
    fn a_signature_of_github() {
        let mut headers = HeaderMap::new();
        let digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        headers.insert("x-hub-signature-256", format!("sha256={digest}").parse().unwrap());
        let secret = HookSecret::Hmac { key: "It's a Secret to Everybody".into() };
        let admitted =
            |body: &[u8]| admit(&secret, &headers, body, Wall(0)).map_err(|e| e.0.detail);
        assert_eq!(admitted(b"Hello, World!").unwrap(), Some(format!("body {digest}")));
        assert!(admitted(b"Hello, World?").unwrap_err().contains("not one of this body"));
    }

    /// The example of the Standard Webhooks specification's libraries.
    #[test]
    fn a_signature_of_standard_webhooks() {
        let secret = HookSecret::Hmac { key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into() };
        let body = br#"{"test": 2432232314}"#;
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap());
        headers.insert("webhook-timestamp", "1614265330".parse().unwrap());
        let signature = "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        headers.insert("webhook-signature", signature.parse().unwrap());
        let at = |seconds: i64| {
            let now = Wall(seconds * 1_000_000);
            admit(&secret, &headers, body, now).map_err(|error| error.0.detail)
        };
        assert_eq!(at(1_614_265_330).unwrap().unwrap(), "id msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert!(at(1_614_265_030).is_ok() && at(1_614_265_630).is_ok());
        for late in [1_614_265_029, 1_614_265_631, i64::MAX / 1_000_000] {
            assert!(at(late).unwrap_err().contains("more than 5m from now"), "{late}");
        }
        headers.insert("webhook-timestamp", i64::MIN.to_string().parse().unwrap());
        assert!(admit(&secret, &headers, body, Wall(0)).is_err());
    }

    #[test]
    fn runs_are_told_no_secret() {
        let mut headers = HeaderMap::new();
        for name in PRIVATE {
            headers.insert(name, "secret".parse().unwrap());
        }
        headers.append("x-part", "a".parse().unwrap());
        headers.append("X-Part", "b".parse().unwrap());
        assert_eq!(told(&headers), serde_json::json!({ "x-part": "a, b" }));
    }
}
