//! What stands between clients and the gateway at the usual clouds: the ports that it passes, what ends a socket there, by
//! what it is known, and where that is documented.
//!
//! The facts are one file, `facts.yaml`, which is part of the program; the chart has a copy, and docs/networks.md tells the
//! same (tests hold them together). A value that changes at a provider is changed there, with the page and the day.
//!
//! No judgement of a connection enters here, no I/O, and no name of the chart's values: who asks brings what was seen.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr, sync::LazyLock};

use http::HeaderMap;
use ipnet::IpNet;
use serde::Deserialize;

/// The file of facts as it stands in the repository.
pub const FACTS: &str = include_str!("facts.yaml");

static NETWORKS: LazyLock<Vec<Network>> = LazyLock::new(|| {
    parse(FACTS).expect("the file is part of the program, and a test holds it to be sound")
});

/// All networks of the file, those that are nearer to clients first.
pub fn all() -> &'static [Network] {
    &NETWORKS
}

/// The network of a name, such as `aws-alb`.
pub fn named(name: &str) -> Option<&'static Network> {
    all().iter().find(|network| network.name == name)
}

/// The network whose marks an answer carries; of several the one that is nearest to the client. What it says is a hint: a header can be anybody's.
pub fn by_marks(headers: &HeaderMap) -> Option<&'static Network> {
    all().iter().find(|network| network.is_marked(headers))
}

/// The network that clients reach at an address. Known of those alone that publish where they listen.
pub fn by_address(address: IpAddr) -> Option<&'static Network> {
    all().iter().find(|network| network.listens_at(address))
}

/// One way from clients to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// How this program and the chart call it.
    pub name: String,
    /// Its provider's name for it.
    pub title: String,
    /// 4: it passes TCP. 7: it reads HTTP, and ends TLS.
    pub layer: u8,
    /// What it is, in the words of a diagnosis.
    #[serde(rename = "box")]
    pub kind: Kind,
    /// Ports at which it takes TLS from clients.
    pub tls_ports: Vec<Ports>,
    /// Ports at which it takes plain HTTP from clients.
    pub plain_ports: Vec<Ports>,
    /// Whether WebSockets pass.
    pub websockets: WebSockets,
    /// After how much silence it ends a socket. `None`: it does not, as far as is documented.
    #[serde(default)]
    pub idle: Option<Limit>,
    /// After how long it ends a socket whatever passes. `None`: it does not.
    #[serde(default)]
    pub lifetime: Option<Limit>,
    /// How it can ask whether a gateway is well.
    pub health_check: String,
    /// Which version of the PROXY protocol it can send.
    pub proxy_protocol: ProxyProtocol,
    /// Where the gateway finds the client's address.
    pub client_address: String,
    /// Addresses that it connects to the gateway from. Empty: those of the installation's own network.
    #[serde(default)]
    pub proxies: Vec<IpNet>,
    /// Whether clients connect to addresses of `proxies` as well.
    #[serde(default)]
    pub proxies_face_clients: bool,
    /// What its answers are known by; any of them will do.
    pub marks: Vec<Mark>,
    /// What else to know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where all this stands.
    pub sources: Vec<Source>,
}

/// What a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In front of the installation, of the same cloud.
    LoadBalancer,
    /// In front of any installation, all over the world.
    Cdn,
}

/// How a client speaks at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `wss://`, `https://`.
    Tls,
    /// `ws://`, `http://`.
    Plain,
}

/// Whether WebSockets pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSockets {
    /// What it takes.
    pub enabled: Enabled,
    /// The same in words, with the setting where there is one.
    pub how: String,
}

/// What it takes for WebSockets to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enabled {
    /// Nothing.
    ByItself,
    /// A setting, which someone may have turned off.
    BySetting,
}

/// A time after which sockets are ended, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Where nobody has set it.
    pub default: u64,
    /// The least that can be set.
    #[serde(default)]
    pub minimum: Option<u64>,
    /// The most that can be set. `None`: it cannot be set.
    #[serde(default)]
    pub maximum: Option<u64>,
    /// The most that the provider advises, where that is less.
    #[serde(default)]
    pub advised: Option<u64>,
    /// What to set.
    pub setting: String,
}

/// The PROXY protocol (haproxy.org/download/3.2/doc/proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// It cannot send it.
    None,
    /// Version 2, which is binary.
    V2,
}

/// A header of answers, by which a network is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its name, in lower case.
    pub header: String,
    /// What its value starts with, in any case. Empty: it may say anything.
    #[serde(default)]
    pub starts_with: String,
}

/// Where a fact stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The page.
    pub url: String,
    /// What is taken from it.
    pub says: String,
    /// The day on which it was read, YYYY-MM-DD.
    pub seen: String,
    /// The page's own date, where it has one.
    #[serde(default)]
    pub dated: Option<String>,
    /// What it leaves open.
    #[serde(default)]
    pub note: Option<String>,
}

/// A port, or all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PortsText")]
pub struct Ports {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

/// Ports as the file has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum PortsText {
    One(u16),
    Range(String),
}

impl TryFrom<PortsText> for Ports {
    type Error = String;

    fn try_from(text: PortsText) -> Result<Self, String> {
        match text {
            PortsText::One(0) => Err("0 is no port".into()),
            PortsText::One(port) => Ok(Self { from: port, to: port }),
            PortsText::Range(text) => text.parse(),
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if 0 < from && from <= to => Ok(Self { from, to }),
            _ => Err(format!("expected a port, or two such as 1-65535, not {text:?}")),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { from, to } if from == to => write!(f, "{from}"),
            Self { from, to } => write!(f, "{from}-{to}"),
        }
    }
}

impl Network {
    /// Ports at which it takes clients that speak so.
    pub fn ports(&self, transport: Transport) -> &[Ports] {
        match transport {
            Transport::Tls => &self.tls_ports,
            Transport::Plain => &self.plain_ports,
        }
    }

    /// Whether it passes a port.
    pub fn passes(&self, transport: Transport, port: u16) -> bool {
        self.ports(transport).iter().any(|ports| (ports.from..=ports.to).contains(&port))
    }

    /// The ports at which it takes clients that speak so, in words: `443, 8443`, or `1-65535`.
    pub fn ports_in_words(&self, transport: Transport) -> String {
        let words: Vec<_> = self.ports(transport).iter().map(ToString::to_string).collect();
        words.join(", ")
    }

    /// Whether an answer carries one of its marks.
    pub fn is_marked(&self, headers: &HeaderMap) -> bool {
        self.marks.iter().any(|mark| {
            headers.get_all(mark.header.as_str()).iter().any(|value| {
                let start = value.as_bytes().get(..mark.starts_with.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(mark.starts_with.as_bytes()))
            })
        })
    }

    /// Whether clients reach it at an address.
    pub fn listens_at(&self, address: IpAddr) -> bool {
        self.proxies_face_clients && self.proxies.iter().any(|net| net.contains(&address))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    networks: Vec<Network>,
}

/// Reads a file of facts.
fn parse(text: &str) -> Result<Vec<Network>, String> {
    let File { networks } = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    for network in &networks {
        check(network).map_err(|fault| format!("{}: {fault}", network.name))?;
        if !names.insert(&network.name) {
            return Err(format!("{}: twice", network.name));
        }
    }
    Ok(networks)
}

/// What the types cannot say.
fn check(network: &Network) -> Result<(), String> {
    if !matches!(network.layer, 4 | 7) {
        return Err(format!("layer is 4 or 7, not {}", network.layer));
    }
    if network.tls_ports.is_empty() || network.plain_ports.is_empty() {
        return Err("no ports".into());
    }
    for limit in network.idle.iter().chain(&network.lifetime) {
        let above = limit.minimum.is_none_or(|minimum| minimum <= limit.default);
        let below = limit.maximum.is_none_or(|maximum| limit.default <= maximum);
        let advised = limit.advised.is_none_or(|advised| Some(advised) < limit.maximum);
        if limit.default == 0 || !above || !below || !advised {
            return Err(format!("these times make no sense: {limit:?}"));
        }
    }
    if network.layer == 4 && !network.marks.is_empty() {
        return Err("what passes TCP leaves no mark in HTTP".into());
    }
    if network.proxies_face_clients && network.proxies.is_empty() {
        return Err("proxies_face_clients without proxies".into());
    }
    let lower = |mark: &Mark| mark.header.bytes().all(|byte| !byte.is_ascii_uppercase());
    if !network.marks.iter().all(lower) {
        return Err("headers of marks are in lower case".into());
    }
    if network.sources.is_empty() {
        return Err("no source".into());
    }
    for source in &network.sources {
        if !source.url.starts_with("https://") {
            return Err(format!("no address of a page: {}", source.url));
        }
        for day in [Some(&source.seen), source.dated.as_ref()].into_iter().flatten() {
            day.parse::<jiff::civil::Date>().map_err(|_| format!("no day: {day}"))?;
        }
    }
    Ok(())
}
