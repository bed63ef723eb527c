//! Drafts as YAML documents, in the order in which people write fields, with the notes as comments above what they concern.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use tidegate_api::{APP_PROTOCOL_WSS, GROUP, Plaintext, VERSION};
use tidegate_core::escape;

use super::{
    ir::{Backend, BackendTls, Imported, Policy, Route, Rule, Secret, Service},
    notes::Note,
};

/// The comment of a note is broken at so many characters.
const WIDTH: usize = 120;
/// The name of the port of a Service that is made.
const PORT_NAME: &str = "ws";

/// The WebSocketRoutes, behind what concerns no object alone.
pub fn routes(imported: &Imported) -> String {
    let mut text = String::new();
    let mut general: Vec<_> = imported.notes.iter().collect();
    general.sort_by(|a, b| a.place.cmp(&b.place));
    notes(&mut text, "", general);
    let documents: Vec<_> = imported.routes.iter().map(route).collect();
    if !text.is_empty() && !documents.is_empty() {
        text.push_str("---\n");
    }
    text + &documents.join("---\n")
}

/// The Services with their EndpointSlices.
pub fn services(imported: &Imported) -> String {
    let documents: Vec<_> = imported.services.iter().flat_map(service).collect();
    documents.join("---\n")
}

/// The Secrets. They hold private keys.
pub fn secrets(imported: &Imported) -> String {
    let documents: Vec<_> = imported.secrets.iter().map(secret).collect();
    documents.join("---\n")
}

/// Everything in one stream.
pub fn all(imported: &Imported) -> String {
    let parts = [routes(imported), services(imported), secrets(imported)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("---\n")
}

fn route(route: &Route) -> String {
    let mut text = String::new();
    let origin: Vec<_> = route.origin.iter().map(ToString::to_string).collect();
    if !origin.is_empty() {
        let _ = writeln!(text, "# from {}", origin.join(", "));
    }
    notes(&mut text, "", &route.notes);
    let _ = write!(
        text,
        "apiVersion: {GROUP}/{VERSION}\nkind: WebSocketRoute\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n",
        scalar(&route.name),
        scalar(&route.namespace),
    );
    if let Some(class) = &route.class {
        let _ = writeln!(text, "  className: {}", scalar(class));
    }
    let hostnames: Vec<_> = route.hostnames.iter().map(|name| scalar(name)).collect();
    let _ = writeln!(text, "  hostnames: [{}]", hostnames.join(", "));
    if let Some(tls) = &route.tls {
        let _ = writeln!(text, "  tls:\n    secretName: {}", scalar(&tls.secret));
        if tls.only_1_3 {
            text.push_str("    minVersion: \"1.3\"\n");
        }
        if let Some(hsts) = &tls.hsts {
            let mut parts = vec![format!("maxAge: {}", hsts.max_age)];
            parts.extend(hsts.include_subdomains.then(|| "includeSubdomains: true".to_owned()));
            parts.extend(hsts.preload.then(|| "preload: true".to_owned()));
            let _ = writeln!(text, "    hsts: {{{}}}", parts.join(", "));
        }
    }
    match route.plaintext {
        Plaintext::Refuse => {}
        Plaintext::Redirect => text.push_str("  plaintext: Redirect\n"),
        Plaintext::Allow => text.push_str("  plaintext: Allow\n"),
    }
    text.push_str("  rules:\n");
    for rule in &route.rules {
        write_rule(&mut text, rule);
    }
    text
}

fn write_rule(text: &mut String, rule: &Rule) {
    notes(text, "  ", &rule.notes);
    let origin = rule.origin.as_ref().map(|place| format!("    # {place}")).unwrap_or_default();
    let _ = writeln!(text, "  - name: {}{origin}", scalar(&rule.name));
    text.push_str("    matches:\n");
    for wanted in &rule.matches {
        let kind = if wanted.path.exact { "Exact" } else { "Prefix" };
        let value = scalar(&wanted.path.value);
        let _ = writeln!(text, "    - path: {{type: {kind}, value: {value}}}");
    }
    text.push_str("    backendRefs:\n");
    for backend in &rule.backends {
        write_backend(text, backend);
    }
    write_policy(text, &rule.policy);
    if rule.forward {
        text.push_str("    http: Forward\n");
    }
}

fn write_backend(text: &mut String, backend: &Backend) {
    let Backend { service, port, weight, tls } = backend;
    let _ = write!(text, "    - {{name: {}, port: {port}", scalar(service));
    if *weight != 1 {
        let _ = write!(text, ", weight: {weight}");
    }
    if let Some(BackendTls { authority, hostname }) = tls {
        text.push_str(", tls: {");
        match authority {
            Some((kind, name)) => {
                let _ = write!(text, "caCertificateRef: {{kind: {kind}, name: {}}}", scalar(name));
            }
            None => text.push_str("insecureSkipVerify: true"),
        }
        if let Some(hostname) = hostname {
            let _ = write!(text, ", hostname: {}", scalar(hostname));
        }
        text.push('}');
    }
    text.push_str("}\n");
}

fn write_policy(text: &mut String, policy: &Policy) {
    let Policy { connect, upgrade, idle, write_stall, balancing, hash_on, slow_start } = policy;
    let times =
        [("connect", connect), ("upgrade", upgrade), ("idle", idle), ("writeStall", write_stall)];
    let times: Vec<_> = times
        .into_iter()
        .filter_map(|(name, time)| Some(format!("{name}: {}", (*time)?)))
        .collect();
    if !times.is_empty() {
        let _ = writeln!(text, "    timeouts: {{{}}}", times.join(", "));
    }
    let mut parts = Vec::new();
    parts.extend(balancing.map(|policy| format!("policy: {}", word(&policy))));
    parts.extend(hash_on.as_ref().map(|(source, name)| {
        let name = name.as_ref().map(|name| format!(", name: {}", scalar(name)));
        format!("hashOn: {{source: {}{}}}", word(source), name.unwrap_or_default())
    }));
    parts.extend(slow_start.map(|time| format!("slowStart: {time}")));
    if !parts.is_empty() {
        let _ = writeln!(text, "    loadBalancing: {{{}}}", parts.join(", "));
    }
}

/// A word of the resource, as it is written there.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("words of the resource are plain text");
    value.as_str().unwrap_or_default().to_owned()
}

fn service(service: &Service) -> Vec<String> {
    let mut text = String::new();
    if let Some(place) = &service.origin {
        let _ = writeln!(text, "# from {place}");
    }
    notes(&mut text, "", &service.notes);
    let (name, namespace) = (scalar(&service.name), scalar(&service.namespace));
    let protocol = match service.tls {
        true => format!(", appProtocol: {APP_PROTOCOL_WSS}"),
        false => String::new(),
    };
    let _ = write!(
        text,
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  ports:\n  \
         - {{name: {PORT_NAME}, port: {}{protocol}}}\n",
        service.port
    );
    let mut documents = vec![text];
    // A slice has one family and one number for the port.
    let mut slices = BTreeMap::<(bool, u16), Vec<IpAddr>>::new();
    for (address, port) in &service.addresses {
        slices.entry((address.is_ipv6(), *port)).or_default().push(*address);
    }
    for (index, ((ipv6, port), addresses)) in slices.into_iter().enumerate() {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        let name = scalar(&format!("{}-{}", service.name, index + 1));
        let mut text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels: {{kubernetes.io/service-name: {}}}\naddressType: {family}\nports:\n- {{name: {PORT_NAME}, port: {port}}}\n\
             endpoints:\n",
            scalar(&service.name),
        );
        for address in addresses {
            let _ = writeln!(text, "- addresses: [{}]", scalar(&address.to_string()));
        }
        documents.push(text);
    }
    documents
}

fn secret(secret: &Secret) -> String {
    let Secret { name, namespace, certificate, key } = secret;
    let block = |pem: &str| {
        pem.lines().fold(String::new(), |text, line| format!("{text}    {}\n", line.trim()))
    };
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {}\n  namespace: {}\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}",
        scalar(name),
        scalar(namespace),
        block(certificate),
        block(key)
    )
}

/// Notes as comments.
fn notes<'n>(text: &mut String, indent: &str, notes: impl IntoIterator<Item = &'n Note>) {
    for note in notes {
        comment(text, indent, &note.to_string());
    }
}

/// A comment, in lines that are not too long.
fn comment(text: &mut String, indent: &str, words: &str) {
    let mut line = format!("{indent}#");
    let mut used = 0;
    // Words of the source may hold anything; what breaks lines in YAML must not.
    for word in words.split(|next: char| next.is_whitespace() || escape::is_escaped(next)) {
        if used > 0 && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}#  ");
        }
        if !word.is_empty() {
            line.push(' ');
            line.push_str(word);
            used += 1;
        }
    }
    let _ = writeln!(text, "{line}");
}

/// A text as a scalar of YAML, in quotes unless it can be nothing else.
fn scalar(text: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'/' | b'_' | b'~' | b'+' | b'@')
    };
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|first| {
        first.is_ascii_alphabetic() || (first == b'/' && text.len() > 1) || text == "/"
    });
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins && bytes.all(plain) && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    // JSON's strings are YAML's in double quotes; what a terminal would act on has escapes in both.
    let mut quoted = String::with_capacity(text.len() + 2);
    for next in serde_json::Value::from(text).to_string().chars() {
        let _ = match u32::from(next) {
            _ if !escape::is_escaped(next) => quoted.write_char(next),
            number @ ..=0xffff => write!(quoted, "\\u{number:04x}"),
            number => write!(quoted, "\\U{number:08x}"),
        };
    }
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scalars_have_quotes_only_where_they_must() {
        for plain in ["chat", "/ws", "/", "a.b-c_d", "/a~b"] {
            assert_eq!(scalar(plain), plain);
        }
        for (text, quoted) in
            [("*.x", "\"*.x\""), ("no", "\"no\""), ("1.3", "\"1.3\""), ("", "\"\"")]
        {
            assert_eq!(scalar(text), quoted);
        }
    }

    proptest! {
        #[test]
        fn a_scalar_is_read_back_as_it_was(text: String) {
            prop_assert!(!scalar(&text).contains(escape::is_escaped));
            let read: String = serde_saphyr::from_str(&format!("a: [{}]", scalar(&text)))
                .map(|map: std::collections::BTreeMap<String, Vec<String>>| map["a"][0].clone())
                .unwrap();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn a_comment_hides_no_line(words in any::<String>()) {
            let mut text = String::new();
            comment(&mut text, "  ", &words);
            for line in text.lines() {
                prop_assert!(line.starts_with("  #"), "{:?}", text);
            }
        }
    }
}
