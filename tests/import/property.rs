//! Whatever a configuration says: the import ends, what comes of it can be read as manifests, and only what it wrote is in them.

use proptest::prelude::*;
use tidegate::{
    import::{Files, Options, Source, import, yaml},
    source::files::Manifests,
    translate::translate,
};

/// No file is there but the one that was named.
struct Nothing;

impl Files for Nothing {
    fn read(&self, _: &str) -> Result<String, String> {
        Err("there is none".to_owned())
    }

    fn list(&self, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// Words that stand in configurations, and some that should not.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "$http_upgrade",
            "$connection_upgrade",
            "$host",
            "upgrade",
            "Upgrade",
            "Connection",
            "Host",
            "1.1",
            "http://a",
            "http://a/",
            "https://b:8443",
            "http://10.0.0.1:80",
            "http://[::1]:9000/x",
            "http://c.d.svc:1",
            "$up",
            "/",
            "/ws",
            "/ws/",
            "/a b",
            "=",
            "~",
            "^~",
            "^/(ws|live)/",
            "\\.php$",
            "@x",
            "443",
            "80",
            "ssl",
            "chat.example.com",
            "*.example.com",
            ".example.org",
            "_",
            "10.0.0.1",
            "localhost:1",
            "weight=3",
            "weight=99999999",
            "backup",
            "60s",
            "9999y",
            "0",
            "on",
            "off",
            "301",
            "https://$host$request_uri",
            "$arg_room",
            "TLSv1.3",
            "nginx.conf",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9./*:$-]{1,12}",
        "\\PC{1,4}",
    ]
    .prop_map(|word| format!("'{}'", word.replace(['\'', '\\'], "")))
}

/// A directive of any of the known names, with words of any sort.
fn directive() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "listen",
        "server_name",
        "proxy_pass",
        "proxy_set_header",
        "proxy_http_version",
        "proxy_read_timeout",
        "proxy_send_timeout",
        "proxy_connect_timeout",
        "proxy_ssl_verify",
        "proxy_ssl_name",
        "proxy_ssl_trusted_certificate",
        "ssl_certificate",
        "ssl_certificate_key",
        "ssl_protocols",
        "return",
        "rewrite",
        "set",
        "include",
        "allow",
        "internal",
        "ip_hash",
        "least_conn",
        "hash",
        "server",
        "unheard_of",
    ]);
    (name, prop::collection::vec(word(), 0..4))
        .prop_map(|(name, words)| format!("{name} {};\n", words.join(" ")))
}

fn block(
    name: &'static str,
    inner: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    (prop::collection::vec(word(), 0..3), prop::collection::vec(inner, 0..6)).prop_map(
        move |(words, inner)| format!("{name} {} {{\n{}}}\n", words.join(" "), inner.concat()),
    )
}

/// What stands behind `location`: few paths, so that they come into each other's way.
fn path() -> impl Strategy<Value = String> {
    let paths = prop::sample::select(vec![
        "/",
        "/ws",
        "/ws/",
        "/live",
        "/live/a",
        "= /ws",
        "= /live/",
        "^~ /ws/",
        "~ ^/(ws|live)/",
        "~ ^/ws/?$",
        "~* ^/live",
        "~ ^/live(/|$)",
        "~ \\.php$",
        "@named",
    ]);
    prop_oneof![4 => paths.prop_map(str::to_owned), 1 => word()]
}

/// A location that passes upgrades on, whatever else it has.
fn location() -> impl Strategy<Value = String> {
    let classic = "proxy_pass http://a; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                   proxy_set_header Connection upgrade;\n";
    let open = (path(), prop::collection::vec(directive(), 0..5)).prop_map(move |(path, inner)| {
        format!("location {path} {{\n{classic}{}}}\n", inner.concat())
    });
    prop_oneof![4 => open, 1 => block("location", directive()), 1 => block("if", directive())]
}

fn configuration() -> impl Strategy<Value = String> {
    let server = block("server", prop_oneof![location(), directive()]);
    let named = (word(), prop::collection::vec(location(), 1..5)).prop_map(|(name, inner)| {
        format!(
            "server {{ listen 443 ssl; server_name {name} x.example.com;\n{}}}\n",
            inner.concat()
        )
    });
    let upstream = prop::collection::vec(directive(), 0..4)
        .prop_map(|inner| format!("upstream a {{ server 10.0.0.9:1;\n{}}}\n", inner.concat()));
    let part = prop_oneof![server, named, upstream, block("map", directive()), directive()];
    prop::collection::vec(part, 1..6).prop_map(|parts| format!("http {{\n{}}}\n", parts.concat()))
}

fn options() -> Options {
    Options {
        namespace: "default".to_owned(),
        hostnames: vec!["here.example.com".to_owned()],
        ..Options::default()
    }
}

fn check(name: &str, text: String) -> Result<(), TestCaseError> {
    let sources = [Source { name: name.to_owned(), text }];
    let imported = import(&sources, &Nothing, &options());
    let written = yaml::all(&imported);
    let mut manifests = Manifests::default();
    manifests.add_text("out.yaml", &written);
    prop_assert!(
        manifests.problems.is_empty(),
        "{:?}\n{}\n{}",
        manifests.problems,
        sources[0].text,
        written
    );
    prop_assert!(manifests.unknown.is_empty(), "{:?}\n{}", manifests.unknown, written);
    prop_assert_eq!(
        manifests.routes.len(),
        imported.routes.len(),
        "{}\n{}",
        sources[0].text,
        written
    );
    // Nothing of it is refused, nor taken from one route by another.
    for status in translate(&manifests.inputs(), "tidegate").statuses.values() {
        for condition in &status.conditions {
            let partial = condition.kind.as_str() == "PartiallyInvalid";
            let accepted = condition.kind.as_str() != "Accepted" || condition.status;
            prop_assert!(
                !partial && accepted,
                "{}\n{}\n{}",
                condition.message,
                sources[0].text,
                written
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_a_configuration_says_sound_manifests_come_of_it(text in configuration()) {
        check("nginx.conf", text)?;
    }

    #[test]
    fn whatever_an_ingress_says_sound_manifests_come_of_it(
        host in word(),
        paths in prop::collection::vec((word(), prop::sample::select(vec!["Prefix", "Exact", "ImplementationSpecific"])), 0..20),
        annotations in prop::collection::vec((annotation(), word()), 0..5),
    ) {
        let quoted = |text: &str| serde_json::Value::from(text.trim_matches('\'')).to_string();
        let paths: String = paths
            .iter()
            .map(|(path, kind)| format!(
                "      - {{path: {}, pathType: {kind}, backend: {{service: {{name: a, port: {{number: 80}}}}}}}}\n",
                quoted(path)
            ))
            .collect();
        let annotations: std::collections::BTreeMap<_, _> = annotations.into_iter().collect();
        let annotations: String =
            annotations.iter().map(|(name, value)| format!("    {name}: {}\n", quoted(value))).collect();
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations:\n    a: b\n{annotations}\
             spec:\n  tls:\n  - {{hosts: [{0}], secretName: a-tls}}\n  rules:\n  - host: {0}\n    http:\n      paths:\n      \
             - {{path: /sound, pathType: Prefix, backend: {{service: {{name: a, port: {{number: 80}}}}}}}}\n{paths}",
            quoted(&host)
        );
        check("ingress.yaml", text)?;
    }

    #[test]
    fn whatever_a_file_holds_it_does_not_panic(name in "nginx.conf|a.yaml|-", text in "\\PC{0,80}") {
        check(&name, text)?;
    }
}

fn annotation() -> impl Strategy<Value = String> {
    let known: Vec<_> = tidegate::import::ingress::annotations::Controller::ALL
        .into_iter()
        .flat_map(|controller| {
            let names = controller.annotations().iter();
            names.map(move |(name, _)| format!("{}{name}", controller.prefix()))
        })
        .collect();
    prop::sample::select(known)
}
