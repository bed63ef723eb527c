//! By what boxes can be known: headers of answers, issuers of certificates.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{super::seen::Answer, Culprit};
use crate::networks::{self, Kind, Network};

/// A box that an answer names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    /// What kind of box.
    pub(super) culprit: Culprit,
    /// Its name.
    pub(super) name: &'static str,
    /// What says so.
    pub(super) evidence: String,
    /// What is known of it, where it is a cloud's.
    pub(super) network: Option<&'static Network>,
}

/// The kind of box that a network is.
pub(super) const fn culprit_of(network: &Network) -> Culprit {
    match network.kind {
        Kind::LoadBalancer => Culprit::LoadBalancer,
        Kind::Cdn => Culprit::Cdn,
    }
}

/// Boxes besides those of `networks`: header, what its value has in it (lower case), the kind of box and its name.
const MARKS: &[(&str, &str, Culprit, &str)] = &[
    ("x-amz-cf-id", "", Culprit::Cdn, "CloudFront"),
    ("via", "cloudfront", Culprit::Cdn, "CloudFront"),
    ("x-served-by", "cache-", Culprit::Cdn, "Fastly"),
    ("server", "akamai", Culprit::Cdn, "Akamai"),
    ("x-azure-ref", "", Culprit::Cdn, "Azure Front Door"),
    ("x-squid-error", "", Culprit::TransparentProxy, "squid"),
    ("via", "squid", Culprit::TransparentProxy, "squid"),
    ("server", "squid", Culprit::TransparentProxy, "squid"),
    ("server", "mitmproxy", Culprit::TransparentProxy, "mitmproxy"),
    ("proxy-agent", "", Culprit::TransparentProxy, "a proxy"),
    ("x-bluecoat-via", "", Culprit::TransparentProxy, "Blue Coat"),
    ("server", "zscaler", Culprit::TransparentProxy, "Zscaler"),
    ("server", "nginx", Culprit::ReverseProxy, "nginx"),
    ("server", "openresty", Culprit::ReverseProxy, "nginx"),
    ("server", "envoy", Culprit::ReverseProxy, "Envoy"),
    ("server", "apache", Culprit::ReverseProxy, "Apache httpd"),
    ("server", "caddy", Culprit::ReverseProxy, "Caddy"),
    ("server", "haproxy", Culprit::ReverseProxy, "HAProxy"),
    ("server", "traefik", Culprit::ReverseProxy, "Traefik"),
];

/// The outermost known box that an answer names.
pub(super) fn middle(answer: &Answer) -> Option<Mark> {
    if let Some(network) = networks::by_marks(&header_map(answer)) {
        let (culprit, name) = (culprit_of(network), &*network.title);
        let evidence = format!("the answer has the marks of {name}");
        return Some(Mark { culprit, name, evidence, network: Some(network) });
    }
    MARKS.iter().find_map(|(header, wanted, culprit, name)| {
        let value = answer
            .headers
            .iter()
            .filter(|(known, _)| known == header)
            .find(|(_, value)| value.to_ascii_lowercase().contains(wanted))?;
        let evidence = format!("the answer has \"{header}: {}\"", value.1);
        Some(Mark { culprit: *culprit, name, evidence, network: None })
    })
}

fn header_map(answer: &Answer) -> HeaderMap {
    let pairs = answer.headers.iter().filter_map(|(name, value)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    });
    // Twice the same header is two values, which `collect` would make one of.
    pairs.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

/// The proxies that an answer passed (RFC 9110 §7.6.3).
pub(super) fn via(answer: &Answer) -> Option<&str> {
    answer.header("via")
}

/// Whether Tidegate made this answer, or passed it on: it names each request.
pub(super) fn is_tidegate(answer: &Answer) -> bool {
    answer.header("tidegate-reason").is_some()
        || answer
            .header("x-request-id")
            .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What the gateway saw of a request that came to it without an upgrade: `tidegate-seen`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct GatewaySaw {
    /// The version of the request.
    pub(super) http: Option<String>,
    /// The headers that were missing.
    pub(super) missing: Vec<String>,
    /// The proxies that named themselves.
    pub(super) via: Option<String>,
    /// Names of headers that only proxies add.
    pub(super) proxies: Option<String>,
}

/// Reads `http=1.0; missing=upgrade,connection; via="1.1 squid"; forwarded-for=2; proxies=x-bluecoat-via`.
pub(super) fn gateway_saw(answer: &Answer) -> Option<GatewaySaw> {
    let mut saw = GatewaySaw::default();
    for part in outside_quotes(answer.header("tidegate-seen")?) {
        let Some((name, value)) = part.trim().split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "http" => saw.http = Some(value.to_owned()),
            "missing" => {
                let missing = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                saw.missing = missing.map(str::to_owned).collect();
            }
            "via" if !value.is_empty() => saw.via = Some(value.to_owned()),
            "proxies" if !value.is_empty() => saw.proxies = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(saw)
}

/// Splits at the semicolons that are not in quotes.
fn outside_quotes(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |next| {
        quoted ^= next == '"';
        next == ';' && !quoted
    })
}

/// Texts in the issuers of boxes that open TLS, in lower case, and who they are.
const INSPECTORS: &[(&str, &str)] = &[
    ("mitmproxy", "mitmproxy"),
    ("zscaler", "Zscaler"),
    ("fortinet", "FortiGate"),
    ("fortigate", "FortiGate"),
    ("palo alto", "Palo Alto Networks"),
    ("blue coat", "Blue Coat"),
    ("bluecoat", "Blue Coat"),
    ("netskope", "Netskope"),
    ("sophos", "Sophos"),
    ("cisco umbrella", "Cisco Umbrella"),
    ("cisco secure access", "Cisco Secure Access"),
    ("forcepoint", "Forcepoint"),
    ("websense", "Forcepoint"),
    ("check point", "Check Point"),
    ("watchguard", "WatchGuard"),
    ("barracuda", "Barracuda"),
    ("mcafee web gateway", "McAfee Web Gateway"),
    ("skyhigh", "Skyhigh"),
    ("sonicwall", "SonicWall"),
    ("menlo security", "Menlo Security"),
    ("iboss", "iboss"),
    ("smoothwall", "Smoothwall"),
    ("lightspeed", "Lightspeed"),
    ("untangle", "Untangle"),
    ("squid", "squid"),
    ("charles proxy", "Charles"),
    ("fiddler", "Fiddler"),
    ("portswigger", "Burp"),
    ("kaspersky", "Kaspersky"),
    ("bitdefender", "Bitdefender"),
    ("avast", "Avast"),
    ("avg web", "AVG"),
    ("eset ssl filter", "ESET"),
    ("adguard", "AdGuard"),
    ("ssl inspection", "a box that inspects TLS"),
    ("tls inspection", "a box that inspects TLS"),
    ("ssl decrypt", "a box that inspects TLS"),
    ("web gateway", "a web gateway"),
];

/// Whose signature an issuer is, if it is that of a known box.
pub(super) fn inspector(issuer: &str) -> Option<&'static str> {
    let issuer = issuer.to_lowercase();
    INSPECTORS.iter().find(|(text, _)| issuer.contains(text)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(&str, &str)]) -> Answer {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Answer { headers: headers.iter().map(own).collect(), ..Answer::default() }
    }

    #[test]
    fn what_the_gateway_saw_is_read() {
        let seen =
            "http=1.0; missing=upgrade,connection; via=\"1.1 squid; (x)\"; proxies=forwarded";
        let saw = gateway_saw(&with(&[("tidegate-seen", seen)])).unwrap();
        assert_eq!(saw.http.as_deref(), Some("1.0"));
        assert_eq!(saw.missing, ["upgrade", "connection"]);
        assert_eq!(saw.via.as_deref(), Some("1.1 squid; (x)"));
        assert_eq!(saw.proxies.as_deref(), Some("forwarded"));
        let bare = gateway_saw(&with(&[("tidegate-seen", "http=1.1; ;x; missing=")])).unwrap();
        assert_eq!((bare.missing.len(), bare.via), (0, None));
        assert_eq!(gateway_saw(&with(&[])), None);
    }

    #[test]
    fn boxes_are_known_by_their_headers() {
        for (name, value, wanted) in [
            ("server", "cloudflare", Some("Cloudflare")),
            ("cf-ray", "8a-FRA", Some("Cloudflare")),
            ("via", "1.1 abc.cloudfront.net (CloudFront)", Some("CloudFront")),
            ("server", "awselb/2.0", Some("AWS Application Load Balancer")),
            ("via", "1.1 google", Some("Google Cloud external Application Load Balancer")),
            ("via", "1.1 proxy.corp (squid/5.7)", Some("squid")),
            ("server", "nginx/1.22.1", Some("nginx")),
            ("server", "uvicorn", None),
        ] {
            assert_eq!(middle(&with(&[(name, value)])).map(|mark| mark.name), wanted, "{value}");
        }
    }

    #[test]
    fn tidegate_is_known_by_its_reason_or_the_form_of_its_ids() {
        assert!(is_tidegate(&with(&[("tidegate-reason", "no_route")])));
        assert!(is_tidegate(&with(&[("x-request-id", "0123456789abcdef0123456789ABCDEF")])));
        assert!(!is_tidegate(&with(&[("x-request-id", "0123-4567")])));
    }

    #[test]
    fn inspecting_boxes_are_known_by_their_issuers() {
        assert_eq!(inspector("CN=Zscaler Intermediate Root CA (x.net)"), Some("Zscaler"));
        assert_eq!(inspector("CN=mitmproxy, O=mitmproxy"), Some("mitmproxy"));
        assert_eq!(inspector("C=US, O=Let's Encrypt, CN=R11"), None);
    }
}
