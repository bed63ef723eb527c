//! Certificates of every kind, and what is sent to whom.

use std::sync::{Arc, Mutex};

use rcgen::date_time_ymd;
use sha2::{Digest, Sha256};

use crate::{
    Finding, doctor, examine, finds,
    server::{Shown, Wire, grant, head, plain, speak, tls},
};

fn serve(wire: &mut dyn Wire) {
    let head = head(wire);
    if !head.is_empty() {
        grant(wire, &head, "");
        speak(wire);
    }
}

/// The verdict on a server that shows this, whose authority is given.
#[track_caller]
fn given(shown: &Shown, exit_code: i32) -> Finding {
    let port = tls(shown, serve);
    let ca = shown.file();
    let ca = ca.path().to_str().unwrap();
    examine(&format!("wss://127.0.0.1:{port}/"), &["--ca", ca], exit_code)
}

#[test]
fn a_given_authority_is_no_interception_whatever_its_name() {
    let found = given(&Shown::by("Our SSL Inspection"), 0);
    assert_eq!(found.says(), []);
    assert_eq!(found.seen("tls")["anchor"], "given");
    assert_eq!(found.seen("tls")["version"], "TLSv1_3");
}

#[test]
fn each_fault_of_a_certificate_has_its_name() {
    let over = Shown::with("Our CA", |leaf| {
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(2021, 1, 1);
    });
    let found = given(&over, 12);
    assert_eq!(found.says(), [("tls_expired", "server")]);
    assert!(found.evidence().contains("2021-01-01"), "{}", found.text);
    let early = Shown::with("Our CA", |leaf| leaf.not_before = date_time_ymd(2090, 1, 1));
    assert_eq!(given(&early, 12).says(), [("tls_expired", "server")]);
    let other = Shown::with("Our CA", |leaf| {
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let found = given(&other, 12);
    assert_eq!(found.says(), [("tls_wrong_name", "server")]);
    assert!(found.evidence().contains("other.example"), "{}", found.text);
    let unknown = tls(&Shown::by("Our CA"), serve);
    let found = examine(&format!("wss://127.0.0.1:{unknown}/"), &[], 12);
    assert_eq!(found.says(), [("tls_untrusted", "unknown")]);
    // Not to be trusted, and yet the steps went on.
    assert!(found.seen("messages")["pong_ms"].is_number());
}

#[test]
fn all_faults_at_once_are_all_told() {
    let shown = Shown::with("Our CA", |leaf| {
        leaf.not_after = date_time_ymd(2021, 1, 1);
        leaf.subject_alt_names = Vec::new();
    });
    let port = tls(&shown, serve);
    let found = examine(&format!("wss://127.0.0.1:{port}/"), &[], 12);
    let all =
        [("tls_expired", "server"), ("tls_wrong_name", "server"), ("tls_untrusted", "unknown")];
    assert_eq!(found.says(), all);
    let found = examine(&format!("wss://127.0.0.1:{port}/"), &["--insecure"], 0);
    assert_eq!(found.says(), all);
}

#[test]
fn an_authority_that_only_this_machine_trusts_is_a_warning() {
    let shown = Shown::by("Example Corp Network Inspection Root");
    let port = tls(&shown, serve);
    let url = format!("wss://127.0.0.1:{port}/");
    let roots = shown.file();
    let company = |arguments: &[&str]| {
        let mut command = doctor(&url, arguments);
        command.env("SSL_CERT_FILE", roots.path());
        command
    };
    let intercepted = [("tls_intercepted", "tls_inspection")];
    let found = finds(&mut company(&[]), 0);
    assert_eq!(
        (found.says(), &found.seen("tls")["anchor"]),
        (intercepted.to_vec(), &"system".into())
    );
    assert_eq!(found.document["diagnoses"][0]["severity"], "warning");
    let found = finds(&mut company(&["--expect-issuer", "Let's Encrypt"]), 13);
    assert_eq!(found.says(), intercepted);
    assert_eq!(found.document["diagnoses"][0]["severity"], "fault");
    finds(&mut company(&["--expect-issuer", "corp network"]), 0);
    let fingerprint: Vec<String> =
        Sha256::digest(&shown.chain[0]).iter().map(|byte| format!("{byte:02X}")).collect();
    finds(&mut company(&["--pin", &fingerprint.join(":")]), 0);
    let found = finds(&mut company(&["--pin", &"ab".repeat(32)]), 13);
    assert_eq!(found.says(), intercepted);
}

#[test]
fn the_signature_of_an_inspecting_box_is_known() {
    let port = tls(&Shown::by("Zscaler Root CA"), serve);
    let found = examine(&format!("wss://127.0.0.1:{port}/"), &[], 13);
    assert_eq!(found.says(), [("tls_intercepted", "tls_inspection")]);
    assert!(found.evidence().contains("how Zscaler signs"), "{}", found.text);
}

#[test]
fn clear_text_behind_wss_is_no_tls() {
    let port = plain(|stream| {
        head(stream);
    });
    let found = examine(&format!("wss://127.0.0.1:{port}/"), &[], 12);
    assert_eq!(found.says(), [("tls_failed", "unknown")]);
    let port = plain(|stream| {
        let _ = std::io::Write::write_all(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        head(stream);
    });
    let found = examine(&format!("wss://127.0.0.1:{port}/"), &[], 12);
    assert_eq!(found.says(), [("tls_failed", "server")]);
}

#[test]
fn what_may_be_secret_is_for_a_verified_server_alone() {
    let shown = Shown::by("Our CA");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heads);
    let port = tls(&shown, move |wire| {
        let head = head(wire);
        if !head.is_empty() {
            noted.lock().unwrap().push(head.clone());
            grant(wire, &head, "");
            speak(wire);
        }
    });
    let ca = shown.file();
    let ca = ca.path().to_str().unwrap();
    let sent = |more: &[&str], exit_code| {
        heads.lock().unwrap().clear();
        let url = format!("wss://127.0.0.1:{port}/ws?token=hush");
        let secret = ["--header", "Cookie: sid=hush", "--send", "hush"];
        let found = examine(&url, &[&secret, more].concat(), exit_code);
        assert!(!found.text.contains("hush"), "{}", found.text);
        let heads = heads.lock().unwrap();
        let all = heads.iter().all(|head| head.contains("token=hush") && head.contains("sid=hush"));
        let none = heads.iter().all(|head| !head.contains("hush"));
        assert!(!heads.is_empty() && (all || none), "{heads:?}");
        (all, found.seen("messages")["echoed"].clone(), found.document["notes"].to_string())
    };
    let (all, echoed, notes) = sent(&[], 12);
    assert!(!all && echoed.is_null() && notes.contains("were not sent"), "{notes}");
    assert!(sent(&["--ca", ca], 0).0);
    assert!(sent(&["--insecure"], 0).0);
    // The right certificate, and yet not the one that was expected.
    assert!(!sent(&["--ca", ca, "--expect-issuer", "another"], 13).0);
}
