//! Servers that mean harm to whoever examines them: by what they say, and by how much.

use std::{fs, io::Write, process::Stdio};

use crate::{
    doctor,
    program::{run, tidegate},
    server::{grant, head, plain},
};

/// More than the program takes by itself, and far less than the 240 MiB that a flood of pings took.
const MOST_KIB: u64 = 120 << 10;

/// An unmasked frame with a payload of up to 125 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, u8::try_from(payload.len()).unwrap()];
    frame.extend(payload);
    frame
}

/// Whether a terminal would do something with it, or show something else than it is.
fn acts(character: char) -> bool {
    (character.is_control() && character != '\n')
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Headers with C1, and a Close whose reason has ESC, BEL and a mark of direction.
fn talkative() -> u16 {
    plain(|stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "Server: \u{9b}31mred\r\nVia: 1.1 \u{85}next\u{202e}\r\n");
        let mut close = 1000_u16.to_be_bytes().to_vec();
        close.extend("\x1b]0;owned\x07\u{202e}gniht".as_bytes());
        stream.write_all(&frame(0x8, &close)).unwrap();
    })
}

#[test]
fn what_a_server_says_is_escaped_in_text_and_in_json() {
    let url = format!("ws://127.0.0.1:{}/", talkative());
    let (_, text, error) = run(tidegate().args(["doctor", &url]));
    assert!(text.contains(r"\x1b]0;owned\x07\u{202e}gniht"), "{text}");
    assert!(text.contains(r"server: \u{9b}31mred"), "{text}");
    let (_, json, _) = run(&mut doctor(&url, &[]));
    assert!(json.contains(r"\u001b]0;owned\u0007\u202egniht"), "{json}");
    assert!(json.contains(r"\u009b31mred"), "{json}");
    for said in [&text, &json, &error] {
        assert!(!said.contains(acts), "{said:?}");
    }
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        document["steps"].to_string().contains('\u{202e}'),
        "the values are those of the server"
    );
}

#[test]
fn what_a_refusal_says_is_escaped() {
    let port = plain(|stream| {
        if head(stream).is_empty() {
            return;
        }
        let answer = "HTTP/1.1 403 No\r\nServer: a\u{9b}2Jb\r\nTidegate-Reason: \u{202e}x\r\n\r\n\x1b[2J\u{9b}gone\u{2066}";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let url = format!("ws://127.0.0.1:{port}/");
    let (_, text, _) = run(tidegate().args(["doctor", &url]));
    let (_, json, _) = run(&mut doctor(&url, &[]));
    assert!(text.contains(r"a\u{9b}2Jb"), "{text}");
    assert!(!text.contains(acts) && !json.contains(acts), "{text:?}{json:?}");
}

/// The server pings as fast as it can, reads nothing, and so never takes a pong.
#[test]
fn a_flood_of_pings_takes_no_memory_and_comes_to_an_end() {
    let port = plain(|stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "");
        let pings = frame(0x9, &[b'p'; 125]).repeat(1_000);
        while stream.write_all(&pings).is_ok() {}
    });
    let url = format!("ws://127.0.0.1:{port}/");
    let mut command = doctor(&url, &["--timeout", "3s"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let line = fs::read_to_string(&status).unwrap_or_default();
        let line = line.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(peak > 0 && peak < MOST_KIB, "{peak} KiB: {said}");
    assert!(said.contains("\"step\": \"messages\""), "{said}");
}

/// 102s without end are no answer.
#[test]
fn interim_answers_without_end_are_given_up() {
    let port = plain(|stream| {
        if head(stream).is_empty() {
            return;
        }
        while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let (_, json, _) = run(&mut doctor(&format!("ws://127.0.0.1:{port}/"), &[]));
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let steps = document["steps"].as_array().unwrap();
    let upgrade = steps.iter().find(|step| step["step"] == "upgrade").unwrap();
    assert_eq!(upgrade["seen"]["outcome"], "garbled", "{json}");
}
