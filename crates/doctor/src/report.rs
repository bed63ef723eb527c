//! How the doctor says what it found: for people while it goes on, and as JSON for tickets.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use tidegate_core::escape;

use super::{
    Settings,
    diagnosis::{Diagnosis, Severity, Verdict},
    seen::{
        Anchor, Answer, Attempt, IdleEnd, IdleSeen, Outcome, PortOutcome, Seen, Step, TlsSeen,
        UpgradeSeen, Way,
    },
};

/// The version of the JSON document.
const VERSION: u8 = 1;
/// Where lines of the verdict are broken, columns.
const WIDTH: usize = 100;
/// Most bytes of one step's line, and of one paragraph of the verdict: peers choose the words in them.
const LONGEST: usize = 2_000;
/// A certificate that has less than this left is worth a mark, days.
const SOON: i64 = 14;

/// How a step went, by itself: what it means is the diagnosis' to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Well.
    Ok,
    /// Not as it should be, or of no consequence.
    Note,
    /// Not well.
    Failed,
}

impl Mark {
    /// The word in `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "failed",
        }
    }
}

/// The name of a step, how it went, and what was seen in one line.
pub fn line(settings: &Settings, step: &Step) -> (&'static str, Mark, String) {
    let (name, mark, text) = match &step.seen {
        Seen::Resolve(seen) => {
            let list: Vec<_> = seen.addresses.iter().map(ToString::to_string).collect();
            // The name may be the proxy's to resolve.
            let failed = if settings.proxy.is_some() { Mark::Note } else { Mark::Failed };
            match &seen.error {
                Some(error) => ("resolve", failed, format!("{}: {error}", seen.host)),
                None => ("resolve", Mark::Ok, format!("{}: {}", seen.host, list.join(", "))),
            }
        }
        Seen::Connect(seen) => {
            let first = seen.address.port() == settings.target.port;
            let compared = !first || settings.proxy.is_some();
            let text = match seen.outcome {
                PortOutcome::Connected => "connected".to_owned(),
                PortOutcome::Refused => "refused".to_owned(),
                PortOutcome::Reset => "reset".to_owned(),
                PortOutcome::Silent => "silent".to_owned(),
                PortOutcome::Unreachable => "unreachable".to_owned(),
                PortOutcome::Failed => "failed".to_owned(),
            };
            let why = match (seen.outcome, &seen.error) {
                (PortOutcome::Connected | PortOutcome::Refused, _) | (_, None) => String::new(),
                (_, Some(error)) => format!(" ({error})"),
            };
            let note = if compared { ", for comparison" } else { "" };
            let mark = match seen.outcome {
                PortOutcome::Connected => Mark::Ok,
                _ if compared => Mark::Note,
                _ => Mark::Failed,
            };
            ("connect", mark, format!("{}: {text}{why}{note}", seen.address))
        }
        Seen::Proxy(seen) => {
            let (mark, text) = match (&seen.error, seen.status) {
                (Some(error), _) => (Mark::Failed, error.clone()),
                (None, Some(status @ 200..=299)) => (Mark::Ok, format!("tunnel made ({status})")),
                (None, Some(status)) => (Mark::Failed, format!("CONNECT answered with {status}")),
                (None, None) => (Mark::Failed, "no answer".to_owned()),
            };
            ("proxy", mark, format!("{}: {text}", seen.proxy))
        }
        Seen::Tls(seen) => {
            let (mark, text) = tls(seen);
            ("tls", mark, text)
        }
        Seen::Upgrade(seen) => {
            let (mark, text) = upgrade(seen);
            ("upgrade", mark, text)
        }
        Seen::Get(seen) => {
            let text = match &seen.answer {
                Some(answer) => {
                    let told: Vec<_> = told(answer).collect();
                    let status = format!("a plain GET is answered with {}", answer.status);
                    std::iter::once(status).chain(told).collect::<Vec<_>>().join(", ")
                }
                None => format!("a plain GET is not answered either: {}", outcome(seen.outcome)),
            };
            ("get", Mark::Note, text)
        }
        Seen::Http2(seen) => {
            let (mark, text) = match (seen.spoken, seen.announced, seen.status, seen.pong_ms) {
                (false, ..) => (Mark::Note, "not spoken; HTTP/1.1 serves".to_owned()),
                (_, _, _, Some(ms)) => {
                    (Mark::Ok, format!("extended CONNECT granted, pong after {ms} ms"))
                }
                (_, true, Some(status), _) => {
                    (Mark::Failed, format!("extended CONNECT answered with {status}"))
                }
                (_, true, None, _) => (Mark::Failed, "extended CONNECT not answered".to_owned()),
                (_, false, ..) => {
                    (Mark::Note, "spoken, without WebSockets over it (RFC 8441)".to_owned())
                }
            };
            let error = seen.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            ("http2", mark, format!("{text}{error}"))
        }
        Seen::Messages(seen) => {
            let mut said = Vec::new();
            said.extend(seen.pong_ms.map(|ms| format!("pong after {ms} ms")));
            said.extend(seen.echoed.map(|echoed| match echoed {
                true => "the message came back".to_owned(),
                false => "the message did not come back".to_owned(),
            }));
            said.extend(seen.close.as_ref().map(|close| match close.code {
                Some(code) => format!("Close {code} {}", close.reason).trim_end().to_owned(),
                None => "Close".to_owned(),
            }));
            said.extend(seen.error.clone());
            let mark = if seen.is_sound() { Mark::Ok } else { Mark::Failed };
            ("messages", mark, said.join(", "))
        }
        Seen::Idle(seen) => {
            let (mark, text) = idle(seen);
            ("idle", mark, text)
        }
    };
    let compared = step.attempt.filter(|attempt| *attempt != first(settings));
    match compared {
        Some(attempt) => {
            let mark = if mark == Mark::Failed { Mark::Note } else { mark };
            (name, mark, format!("{} ({})", text, way(settings, attempt)))
        }
        None => (name, mark, text),
    }
}

/// The way of clients on this machine.
fn first(settings: &Settings) -> Attempt {
    let way = if settings.proxy.is_some() { Way::Proxy } else { Way::Direct };
    Attempt { way, secure: settings.target.secure, port: settings.target.port }
}

/// A way that is gone for comparison.
fn way(settings: &Settings, attempt: Attempt) -> String {
    let url = settings.target.url(attempt.secure, attempt.port);
    match (attempt.way, settings.proxy.is_some()) {
        (Way::Direct, true) => format!("{url} without the proxy, for comparison"),
        _ => format!("{url}, for comparison"),
    }
}

fn tls(seen: &TlsSeen) -> (Mark, String) {
    if seen.outcome != Outcome::Done {
        let error = seen.error.as_deref().unwrap_or("no handshake");
        return (Mark::Failed, format!("{}: {error}", outcome(seen.outcome)));
    }
    let mut said = vec![seen.version.as_deref().unwrap_or("TLS").replace("TLSv1_", "TLS 1.")];
    if let Some(leaf) = seen.chain.first() {
        let vouched = match seen.anchor {
            Anchor::Public => "public authority",
            Anchor::System => "authority of this machine only",
            Anchor::Given => "as given",
            Anchor::Nobody => "UNKNOWN authority",
        };
        said.push(format!("issued by {} ({vouched})", common_name(&leaf.issuer)));
        match &seen.out_of_date {
            Some(why) => said.push(why.clone()),
            None => said.push(format!("valid until {}", day(leaf.not_after))),
        }
    }
    if !seen.name_fits {
        said.push(format!("for other names: {}", seen.names.join(", ")));
    }
    if seen.issuer_expected == Some(false) {
        said.push("not the expected issuer".to_owned());
    }
    if seen.pinned == Some(false) {
        said.push("not the pinned certificate".to_owned());
    }
    let mark = match (seen.is_verified(), seen.anchor) {
        (false, _) => Mark::Failed,
        (true, Anchor::System) => Mark::Note,
        (true, _) if expires_soon(seen) => Mark::Note,
        (true, _) => Mark::Ok,
    };
    (mark, said.join(", "))
}

fn expires_soon(seen: &TlsSeen) -> bool {
    let now = jiff::Timestamp::now().as_second();
    seen.chain.first().is_some_and(|leaf| leaf.not_after - now < SOON * 86_400)
}

/// The CN of a name, or all of it.
fn common_name(name: &str) -> &str {
    name.split(", ").find_map(|part| part.strip_prefix("CN=")).unwrap_or(name)
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Closed => "closed",
        Outcome::Reset => "reset",
        Outcome::Silent => "silent",
        Outcome::Garbled => "not this protocol",
        Outcome::Failed => "failed",
    }
}

fn upgrade(seen: &UpgradeSeen) -> (Mark, String) {
    let Some(answer) = &seen.answer else {
        let error = seen.error.as_deref().unwrap_or("no answer to the upgrade");
        return (Mark::Failed, format!("{}: {error}", outcome(seen.outcome)));
    };
    let mut said = vec![format!("HTTP/1.{} {}", answer.minor, answer.status)];
    if !answer.body.is_empty() {
        said.push(answer.body.clone());
    }
    if answer.status == 101 {
        said.push(match seen.faults.is_empty() {
            true => "as it should be".to_owned(),
            false => seen.faults.join("; "),
        });
        match (&seen.chosen, seen.offered.is_empty()) {
            (Some(chosen), _) => said.push(format!("subprotocol {chosen}")),
            (None, false) => said.push("no subprotocol".to_owned()),
            (None, true) => {}
        }
    }
    said.extend(told(answer));
    if seen.retry {
        said.push("asked again without subprotocols".to_owned());
    }
    let mark = match (seen.is_sound(), seen.retry) {
        (true, _) if seen.chosen.is_none() && !seen.offered.is_empty() => Mark::Failed,
        (true, _) => Mark::Ok,
        (false, true) => Mark::Note,
        (false, false) => Mark::Failed,
    };
    (mark, said.join(", "))
}

/// Headers that say who answered.
fn told(answer: &Answer) -> impl Iterator<Item = String> {
    ["server", "via", "tidegate-reason", "tidegate-seen", "x-request-id", "location"]
        .into_iter()
        .filter_map(|name| {
            let value = answer.header(name)?;
            // A query may hold a token.
            let value = if name == "location" { value.split('?').next()? } else { value };
            Some(format!("{name}: {value}"))
        })
}

fn idle(seen: &IdleSeen) -> (Mark, String) {
    let after = seconds(seen.after_ms);
    let text = match seen.end {
        IdleEnd::Held => format!("a quiet socket was held for {after}"),
        IdleEnd::Closed => format!("a quiet socket was ended after {after}"),
        IdleEnd::Reset => format!("a quiet socket was reset after {after}"),
        IdleEnd::CloseFrame => {
            let code = seen.close.as_ref().and_then(|close| close.code);
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            format!("a quiet socket was closed{code} after {after}")
        }
        IdleEnd::Dead => format!("a quiet socket was dead after {after}"),
        IdleEnd::Flooded => format!("the server sends without end; given up after {after}"),
    };
    let pinged = seen.pinged.as_ref().map(|pinged| {
        let every = seconds(pinged.every_ms);
        match pinged.held {
            true => format!("; with a ping every {every} it is held"),
            false => {
                format!("; with a ping every {every} it ended after {}", seconds(pinged.after_ms))
            }
        }
    });
    let mark = match seen.end {
        IdleEnd::Held => Mark::Ok,
        IdleEnd::Flooded => Mark::Note,
        _ => Mark::Failed,
    };
    (mark, text + pinged.as_deref().unwrap_or_default())
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100)
}

/// The first line for people.
pub fn head(settings: &Settings) -> String {
    let mut text = format!("tidegate doctor {}\n", settings.target);
    if let Some(proxy) = &settings.proxy {
        let _ = writeln!(text, "through the HTTP proxy {proxy}");
    }
    text.push('\n');
    text
}

/// One step for people.
pub fn step(settings: &Settings, step: &Step) -> String {
    let (name, mark, text) = line(settings, step);
    let mark = match mark {
        Mark::Ok => "ok",
        Mark::Note => "--",
        Mark::Failed => "FAIL",
    };
    let text = escape::shortened(&text, LONGEST);
    format!("  {mark:<4}  {name:<8}  {text}  [{} ms]\n", step.ms)
}

/// The progress of a long step.
pub fn waiting(name: &str, so_far: Duration, most: Duration) -> String {
    format!("  ...   {name}: {} s of at most {} s", so_far.as_secs(), most.as_secs())
}

/// What it all means, for people.
pub fn verdict(verdict: &Verdict) -> String {
    let mut text = String::new();
    for found in &verdict.diagnoses {
        text.push('\n');
        let kind = match found.severity {
            Severity::Fault => "",
            Severity::Warning => "warning: ",
        };
        wrap(&mut text, "", &format!("{kind}{} [{}]", found.summary, found.code.as_str()));
        for evidence in &found.evidence {
            wrap(&mut text, "  seen  ", evidence);
        }
        wrap(&mut text, "  box   ", found.culprit.as_str());
        wrap(&mut text, "  who   ", &found.who);
        wrap(&mut text, "  how   ", &found.how);
    }
    if !verdict.notes.is_empty() {
        text.push('\n');
    }
    for note in &verdict.notes {
        wrap(&mut text, "note: ", note);
    }
    let faults = verdict.diagnoses.iter().filter(|found| found.severity == Severity::Fault).count();
    let end = match faults {
        0 => "ok: WebSockets work on this way".to_owned(),
        1 => "failed: 1 fault".to_owned(),
        more => format!("failed: {more} faults, the first one first"),
    };
    let _ = writeln!(text, "\n{end} (exit code {})", verdict.exit_code());
    text
}

/// Appends a paragraph whose lines are broken between words, behind a heading.
fn wrap(text: &mut String, heading: &str, paragraph: &str) {
    let indent = " ".repeat(heading.len());
    let mut line = heading.to_owned();
    let mut empty = true;
    let paragraph = escape::shortened(paragraph, LONGEST);
    for word in paragraph.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clone_from(&indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// The document of `--json`.
pub fn json(settings: &Settings, steps: &[Step], verdict: &Verdict) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| {
            let (_, mark, text) = line(settings, step);
            let mut value = json!(step);
            value["result"] = json!(mark.as_str());
            value["text"] = json!(text);
            value
        })
        .collect();
    let diagnoses: Vec<Value> = verdict.diagnoses.iter().map(diagnosis).collect();
    json!({
        "version": VERSION,
        "url": settings.target.to_string(),
        "proxy": settings.proxy.as_ref().map(ToString::to_string),
        "steps": steps,
        "diagnoses": diagnoses,
        "notes": verdict.notes,
        "exit_code": verdict.exit_code(),
    })
}

fn diagnosis(found: &Diagnosis) -> Value {
    json!(found)
}
