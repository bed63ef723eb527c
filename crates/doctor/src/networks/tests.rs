use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn name(network: Option<&Network>) -> Option<&str> {
    network.map(|network| network.name.as_str())
}

#[test]
fn the_file_is_sound() {
    parse(FACTS).unwrap();
    assert!(all().len() >= 7);
}

#[test]
fn ports_are_passed_or_not() {
    use Transport::{Plain, Tls};
    for (network, transport, passed, stopped) in [
        ("cloudflare", Tls, &[443, 8443][..], &[80, 3000, 8080, 9090][..]),
        ("cloudflare", Plain, &[80, 8080], &[443, 3000, 8443, 9090]),
        ("gcp", Tls, &[443], &[80, 3000, 8443]),
        ("gcp", Plain, &[80], &[443, 8080]),
        ("azure", Tls, &[443, 64999], &[0, 65000]),
        ("aws-alb", Tls, &[1, 443, 3000, 65535], &[0]),
        ("aws-nlb", Plain, &[1, 80, 3000, 65535], &[0]),
    ] {
        let network = named(network).unwrap();
        for port in passed {
            assert!(network.passes(transport, *port), "{} {transport:?} {port}", network.name);
        }
        for port in stopped {
            assert!(!network.passes(transport, *port), "{} {transport:?} {port}", network.name);
        }
    }
    assert_eq!(
        named("cloudflare").unwrap().ports_in_words(Tls),
        "443, 2053, 2083, 2087, 2096, 8443"
    );
    assert_eq!(named("azure").unwrap().ports_in_words(Plain), "1-64999");
}

#[test]
fn networks_are_known_by_the_headers_of_answers() {
    for (lines, expected) in [
        (&[("cf-ray", "8a1b2c3d4e5f-FRA")][..], Some("cloudflare")),
        (&[("server", "cloudflare")], Some("cloudflare")),
        (&[("server", "awselb/2.0")], Some("aws-alb")),
        (&[("set-cookie", "id=1"), ("set-cookie", "AWSALBCORS=x; Path=/")], Some("aws-alb")),
        (&[("via", "1.1 google")], Some("gcp")),
        (&[("server", "microsoft-azure-application-gateway/v2")], Some("azure")),
        (&[("set-cookie", "AWSALB=x"), ("cf-ray", "8a1b-FRA")], Some("cloudflare")),
        (&[("via", "1.1 squid")], None),
        (&[("server", "nginx"), ("x-cf-ray", "1")], None),
        (&[("via", "1.1")], None),
        (&[], None),
    ] {
        assert_eq!(name(by_marks(&headers(lines))), expected, "{lines:?}");
    }
}

#[test]
fn networks_are_known_by_addresses_that_clients_reach() {
    for (address, expected) in [
        ("104.16.0.1", Some("cloudflare")),
        ("2606:4700::1111", Some("cloudflare")),
        // It connects from there, but nobody connects to it there.
        ("35.191.0.1", None),
        ("203.0.113.7", None),
    ] {
        assert_eq!(name(by_address(address.parse().unwrap())), expected, "{address}");
    }
}

#[test]
fn faults_of_a_file_are_told() {
    let whole = r#"
networks:
- name: a
  title: A
  layer: 7
  box: cdn
  tls_ports: [443]
  plain_ports: [80]
  websockets: {enabled: by_itself, how: so}
  idle: {default: 60, minimum: 1, maximum: 4000, setting: that}
  health_check: none
  proxy_protocol: none
  client_address: X-Forwarded-For
  marks: [{header: a}]
  sources: [{url: "https://a.example/", says: all, seen: "2026-11-23"}]
"#;
    assert_eq!(parse(whole).unwrap()[0].tls_ports, [Ports { from: 443, to: 443 }]);
    for (is, was, fault) in [
        ("layer: 5", "layer: 7", "layer is 4 or 7"),
        ("layer: 4", "layer: 7", "no mark"),
        ("tls_ports: []", "tls_ports: [443]", "no ports"),
        ("tls_ports: [0]", "tls_ports: [443]", "0 is no port"),
        ("tls_ports: [9-1]", "tls_ports: [443]", "expected a port"),
        ("tls_ports: [a]", "tls_ports: [443]", "expected a port"),
        ("default: 0", "default: 60", "make no sense"),
        ("default: 4001", "default: 60", "make no sense"),
        ("minimum: 61", "minimum: 1", "make no sense"),
        ("advised: 4000, setting", "setting", "make no sense"),
        ("{header: A}", "{header: a}", "lower case"),
        ("http://", "https://", "no address of a page"),
        ("2026-13-01", "2026-11-23", "no day"),
        ("colour: red", "health_check: none", "colour"),
        ("proxies_face_clients: true\n  marks", "marks", "without proxies"),
    ] {
        assert!(whole.contains(was), "{was}");
        let text = whole.replacen(was, is, 1);
        let told = parse(&text).expect_err(is);
        assert!(told.contains(fault), "{is}: {told}");
    }
    let twice = format!("{whole}{}", whole.replace("networks:\n", ""));
    assert_eq!(parse(&twice).unwrap_err(), "a: twice");
}
