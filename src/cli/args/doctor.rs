//! Arguments of `doctor`.

use std::path::PathBuf;

use clap::Args;
use http::{HeaderName, HeaderValue, header};

use crate::{api::Duration, doctor::Target};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 WebSockets work; 2 the arguments are not valid; otherwise the class of the first fault: \
10 name resolution, 11 port, 12 TLS, 13 TLS interception, 14 upgrade refused, 15 upgrade removed, blocked or altered, \
16 subprotocol, 17 no messages, 18 idle connection cut, 19 HTTP proxy. docs/doctor.md explains every diagnosis.

Environment: HTTPS_PROXY (for wss://), HTTP_PROXY (for ws://), ALL_PROXY and NO_PROXY set the HTTP proxy, as in other \
programs; SSL_CERT_FILE and SSL_CERT_DIR set the certificate authorities that this machine trusts.")]
pub struct DoctorArgs {
    /// URL that clients connect to, such as wss://chat.example.com/ws
    #[arg(value_name = "URL")]
    pub url: Target,

    /// Offer this subprotocol, such as graphql-transport-ws or mqtt; repeatable
    #[arg(long, env = "TIDEGATE_DOCTOR_SUBPROTOCOL", value_delimiter = ',', value_name = "NAME", value_parser = parse_subprotocol)]
    pub subprotocol: Vec<String>,

    /// Send this header, as "Name: value"; repeatable. Over TLS, only a server with a valid certificate receives it
    #[arg(long, env = "TIDEGATE_DOCTOR_HEADER", value_delimiter = '\n', hide_env_values = true, value_name = "HEADER", value_parser = parse_header)]
    pub header: Vec<(String, String)>,

    /// Send this Origin header, as a browser does for a page of https://app.example.com
    #[arg(long, env = "TIDEGATE_DOCTOR_ORIGIN", value_name = "ORIGIN", value_parser = parse_value)]
    pub origin: Option<String>,

    /// Send this text message and wait for its echo (by default, only a ping is sent)
    #[arg(long, env = "TIDEGATE_DOCTOR_SEND", value_name = "TEXT")]
    pub send: Option<String>,

    /// Hold an idle connection for this long; if it is cut, test whether pings prevent the cut
    #[arg(long, env = "TIDEGATE_DOCTOR_IDLE", value_name = "DURATION", value_parser = parse_time)]
    pub idle: Option<Duration>,

    /// HTTP proxy to connect through, as http://[USER:PASSWORD@]HOST:PORT, or "none" [default: from the environment]
    #[arg(long, env = "TIDEGATE_DOCTOR_PROXY", hide_env_values = true, value_name = "URL|none")]
    pub proxy: Option<String>,

    /// Also trust the certificate authorities, or the certificate itself, in this PEM file
    #[arg(long, env = "TIDEGATE_DOCTOR_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Require that one of the certificate's issuers contains this text; if none does, report TLS interception
    #[arg(long, env = "TIDEGATE_DOCTOR_EXPECT_ISSUER", value_name = "TEXT")]
    pub expect_issuer: Option<String>,

    /// Require that one of the certificates has this SHA-256 fingerprint, hexadecimal, with or without colons
    #[arg(long, env = "TIDEGATE_DOCTOR_PIN", value_name = "SHA256", value_parser = parse_pin)]
    pub pin: Option<Pin>,

    /// Treat certificate faults as warnings, and send everything anyway
    #[arg(long, env = "TIDEGATE_DOCTOR_INSECURE")]
    pub insecure: bool,

    /// Limit each wait in a step; a step with several waits can take longer (exceptions: docs/doctor.md)
    #[arg(long, env = "TIDEGATE_DOCTOR_TIMEOUT", default_value = "5s", value_name = "DURATION", value_parser = parse_time)]
    pub timeout: Duration,

    /// Print one JSON document at the end, instead of text
    #[arg(long, env = "TIDEGATE_DOCTOR_JSON")]
    pub json: bool,
}

/// A fingerprint.
#[derive(Clone, Copy, Debug)]
pub struct Pin(pub [u8; 32]);

fn parse_subprotocol(text: &str) -> Result<String, String> {
    // RFC 6455 §4.1: a token of RFC 9110 §5.6.2.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(token) {
        true => Ok(text.to_owned()),
        false => Err("expected a token, such as graphql-transport-ws".to_owned()),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected \"Name: value\"")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "the header name is not valid")?;
    let of_handshake = [
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::ORIGIN,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ];
    if of_handshake.contains(&name) || name.as_str().starts_with("sec-websocket-") {
        return Err(format!(
            "{name} belongs to the handshake, so you cannot set it; see --origin and --subprotocol"
        ));
    }
    Ok((name.to_string(), parse_value(value.trim())?))
}

fn parse_value(text: &str) -> Result<String, String> {
    HeaderValue::from_str(text).map_err(|_| "the header value is not valid".to_owned())?;
    Ok(text.to_owned())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time: Duration =
        text.parse().map_err(|error: crate::api::DurationError| error.to_string())?;
    match time.limit() {
        Some(_) => Ok(time),
        None => Err("expected more than zero, such as 5s or 5m".to_owned()),
    }
}

fn parse_pin(text: &str) -> Result<Pin, String> {
    const FORM: &str =
        "expected 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them";
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut pin = [0; 32];
    if digits.len() != 64 {
        return Err(FORM.to_owned());
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| FORM)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| FORM)?;
    }
    Ok(Pin(pin))
}
