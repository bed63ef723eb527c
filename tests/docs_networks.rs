//! Holds docs/networks.md to the facts of networks, and its words to those of the program; and the default pings of a
//! route to what networks cut.
//!
//! The tables of facts are made from them: `UPDATE_GOLDEN=1 cargo test --test docs_networks` writes them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, fmt::Write as _, fs, sync::Arc, time::Duration};

use serde_json::json;
use tidegate::{
    api::WebSocketRoute,
    doctor::diagnosis::Code,
    gateway::{CloseCause, RefusalReason},
    networks::{self, Enabled, Limit, Network, ProxyProtocol, Transport},
    translate::{Inputs, RouteInput, translate},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/networks.md");

fn page() -> String {
    fs::read_to_string(PAGE).unwrap()
}

/// The section of a network, with its heading.
fn section(network: &Network) -> String {
    let mut text = format!("### {}\n\n", network.title);
    let mut row = |name: &str, value: &str| writeln!(text, "| {name} | {value} |").unwrap();
    row("", "");
    row("---", "---");
    row("ports for `wss://`", &network.ports_in_words(Transport::Tls));
    row("ports for `ws://`", &network.ports_in_words(Transport::Plain));
    let enabled = match network.websockets.enabled {
        Enabled::ByItself => "pass by themselves",
        Enabled::BySetting => "have a setting",
    };
    row("WebSockets", &format!("{enabled}: {}", network.websockets.how));
    row("ends quiet sockets after", &limit(network.idle.as_ref()));
    row("ends all sockets after", &limit(network.lifetime.as_ref()));
    row("health checks", &network.health_check);
    row(
        "PROXY protocol",
        match network.proxy_protocol {
            ProxyProtocol::None => "no",
            ProxyProtocol::V2 => "version 2; Tidegate reads none",
        },
    );
    row("the client's address", &network.client_address);
    let marks: Vec<_> = network
        .marks
        .iter()
        .map(|mark| match &*mark.starts_with {
            "" => format!("`{}`", mark.header),
            start => format!("`{}: {start}…`", mark.header),
        })
        .collect();
    row("known by", &if marks.is_empty() { "nothing".to_owned() } else { marks.join(", ") });
    text.push('\n');
    for note in &network.notes {
        writeln!(text, "- {note}").unwrap();
    }
    if !network.notes.is_empty() {
        text.push('\n');
    }
    text.push_str("Sources:\n\n");
    for source in &network.sources {
        write!(text, "- <{}>: {} (read {}", source.url, source.says, source.seen).unwrap();
        if let Some(dated) = &source.dated {
            write!(text, ", dated {dated}").unwrap();
        }
        if let Some(note) = &source.note {
            write!(text, "; {note}").unwrap();
        }
        text.push_str(")\n");
    }
    text
}

/// A limit of time, in words.
fn limit(limit: Option<&Limit>) -> String {
    let Some(limit) = limit else { return "no such limit is documented".into() };
    let mut words = format!("{} s", limit.default);
    if let Some(maximum) = limit.maximum {
        match limit.minimum {
            Some(minimum) => write!(words, ", {minimum} to {maximum}").unwrap(),
            None => write!(words, ", at most {maximum}").unwrap(),
        }
    }
    if let Some(advised) = limit.advised {
        write!(words, ", no more than {advised} advised").unwrap();
    }
    format!("{words}: {}", limit.setting)
}

#[test]
fn the_sections_of_clouds_are_the_facts() {
    let mut text = page();
    for network in networks::all() {
        let begin = format!("<!-- facts: {} -->\n", network.name);
        let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, tail) = rest.split_once("<!-- end -->").unwrap();
        text = format!("{head}{begin}{}<!-- end -->{tail}", section(network));
    }
    assert_eq!(text.matches("<!-- facts: ").count(), networks::all().len());
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(PAGE, &text).unwrap();
    }
    let page = page();
    let wrong = text.lines().zip(page.lines()).find(|(made, written)| made != written);
    assert_eq!(wrong, None, "run UPDATE_GOLDEN=1 cargo test --test docs_networks");
    assert_eq!(text.len(), page.len());
}

/// The cells of a table's row.
fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_table_of_ports_is_what_the_facts_say() {
    let page = page();
    let (_, table) = page.split_once("\n## Ports\n").unwrap();
    let mut lines = table.lines().filter(|line| line.starts_with('|'));
    let head = cells(lines.next().unwrap());
    assert!(cells(lines.next().unwrap()).iter().all(|cell| *cell == "---"));
    let mut ports = Vec::new();
    let mut seen = BTreeSet::new();
    for row in lines.map(cells).take_while(|row| row[0].parse::<u16>().is_ok()) {
        let port: u16 = row[0].parse().unwrap();
        ports.push(port);
        for (names, cell) in head.iter().zip(&row).skip(1) {
            for name in names.split(", ").filter_map(|name| name.strip_prefix('`')) {
                let network = networks::named(name.trim_end_matches('`')).unwrap();
                let passes = |transport| network.passes(transport, port);
                let expected = match (passes(Transport::Tls), passes(Transport::Plain)) {
                    (true, true) => "any",
                    (true, false) => "wss",
                    (false, true) => "ws",
                    (false, false) => "no",
                };
                assert_eq!(*cell, expected, "{} at {port}", network.name);
                seen.insert(&network.name);
            }
        }
    }
    assert_eq!(ports, [443, 80, 8443, 8080, 3000, 9090]);
    // The others pass whatever is configured, as they do not read it.
    for network in networks::all().iter().filter(|network| !seen.contains(&network.name)) {
        assert_eq!(network.layer, 4);
        assert!((1..=u16::MAX).all(|port| network.passes(Transport::Tls, port)));
    }
}

#[test]
fn the_table_of_times_has_each_default_with_its_network() {
    let page = page();
    for network in networks::all() {
        let link = format!("](#{})", anchor(&network.title));
        for limit in network.idle.iter().chain(&network.lifetime) {
            let row = page.lines().find(|line| {
                line.starts_with(&format!("| {} s", limit.default)) && line.contains(&link)
            });
            assert!(row.is_some(), "{}: no row for {} s", network.name, limit.default);
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_to_headings() {
    let page = page();
    let headings: BTreeSet<_> = page
        .lines()
        .filter_map(|line| {
            line.split_once("# ").filter(|(hashes, _)| hashes.trim_matches('#').is_empty())
        })
        .map(|(_, heading)| anchor(heading))
        .collect();
    let mut links = 0;
    for rest in page.split("](").skip(1) {
        let target = rest.split_once(')').unwrap().0;
        links += 1;
        if let Some(place) = target.strip_prefix('#') {
            assert!(headings.contains(place), "no heading for #{place}");
        } else if !target.starts_with("https://") {
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let file = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            let there =
                text.lines().any(|line| anchor(line.trim_start_matches(['#', ' '])) == place);
            assert!(place.is_empty() || there, "{file} has no heading #{place}");
        }
    }
    assert!(links > 15);
}

/// The words that stand behind each of `starts`, up to a quotation mark.
fn words<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn metrics_reasons_and_causes_are_those_of_the_program() {
    let page = page();
    let metrics = fs::read_to_string(PAGE.replace("docs/networks.md", "docs/metrics.md")).unwrap();
    let used: BTreeSet<_> = page
        .split('`')
        .filter_map(|word| word.split('{').next())
        .filter(|word| word.starts_with("tidegate_"))
        .collect();
    assert!(used.len() >= 4);
    for name in used {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
    let causes: BTreeSet<_> = CloseCause::ALL.iter().map(|cause| cause.as_str()).collect();
    let used = words(&page, "{cause=\"");
    assert!(used.len() >= 3);
    assert!(used.is_subset(&causes), "{used:?}");
    let reasons: BTreeSet<_> = RefusalReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let (_, table) = page.split_once("| Status | `tidegate-reason` |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|')).map(cells);
    let mut used: BTreeSet<_> = rows.map(|row| row[1].trim_matches('`')).collect();
    used.extend(words(&page, "upgrade_failures_total{reason=\""));
    assert!(used.len() >= 6);
    assert_eq!(used.difference(&reasons).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// What a diagnosis calls itself is found on the page, and nothing else is said to be one.
#[test]
fn every_code_of_the_doctor_is_on_the_page() {
    let page = page();
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let rows = page.lines().filter(|line| line.starts_with("| doctor |"));
    let told: BTreeSet<_> = rows.flat_map(|row| row.split('`')).collect();
    for code in &codes {
        assert!(page.contains(&format!("`{code}`")), "{code} is nowhere on the page");
    }
    let like_codes = told.iter().filter(|word| {
        let families = ["port_", "tls_", "upgrade_", "subprotocol_", "proxy_"];
        families.iter().any(|family| word.starts_with(family)) && !word.contains(' ')
    });
    for word in like_codes {
        assert!(codes.contains(word), "{word} is no code of the doctor");
    }
}

/// A quiet connection of a route that says nothing of pings outlives the defaults of all networks but those that the
/// chart raises: tests/chart looks at what it sets.
#[test]
fn default_pings_are_sent_before_a_quiet_socket_is_cut() {
    let ping = default_client_ping().as_secs();
    let too_short = |network: &&Network| {
        network.idle.as_ref().is_some_and(|idle| idle.default <= ping + ping / 2)
    };
    let short: Vec<_> =
        networks::all().iter().filter(too_short).map(|network| &*network.name).collect();
    assert_eq!(short, ["azure"]);
    let can_be_raised = networks::named("azure").unwrap().idle.as_ref().unwrap().maximum.unwrap();
    assert!(can_be_raised > 2 * ping);
}

/// What a route gets that does not speak of it.
fn default_client_ping() -> Duration {
    let route: WebSocketRoute = serde_json::from_value(json!({
        "metadata": {"name": "chat", "namespace": "chat"},
        "spec": {
            "hostnames": ["chat.example.com"],
            "plaintext": "Allow",
            "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}],
        },
    }))
    .unwrap();
    let routes = vec![RouteInput::Valid(Arc::new(route))];
    let table = translate(&Inputs { routes, ..Inputs::default() }, "tidegate").table;
    let host = table.host("chat.example.com").expect("served");
    let entry = host.entries().next().expect("one rule");
    entry.rule.keepalive.client_ping.expect("pings are sent")
}
