//! From EndpointSlices to the endpoints of a Service's port: addresses, conditions, zones.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use tidegate_table::{Endpoint, EndpointState, Endpoints};

use super::{
    addresses::{Judge, NoEndpoint},
    backends::transport,
    status::MAX_SENTENCES,
};

/// What slices say of one address.
#[derive(Clone, Copy)]
struct Found {
    state: EndpointState,
    /// The zones that it has hints for: none (`None`), or our own among them.
    hint: Option<bool>,
}

/// The addresses of a Service's port.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) endpoints: Endpoints,
    /// What stands among them and is no address, and how many are left out because they are too many.
    pub(super) ignored: Arc<[String]>,
    /// What may not be dialled, a sentence each.
    pub(super) refused: Arc<[String]>,
}

/// Addresses of one slice that may not be dialled, for one reason.
#[derive(Default)]
struct Refused {
    /// The first of them.
    named: BTreeSet<SocketAddr>,
    count: usize,
}

/// Addresses that a sentence names.
const NAMED: usize = 3;

/// All addresses of a Service's port that may be dialled, `most` of them: the lowest. `zone` is our own.
pub(super) fn endpoints(
    service: &Service,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    (zone, judge, most): (Option<&str>, &Judge<'_>, usize),
) -> Resolved {
    let mut found = BTreeMap::<SocketAddr, Found>::new();
    let mut ignored = BTreeSet::new();
    let mut refused = BTreeMap::<(&str, &str, NoEndpoint), Refused>::new();
    let mut too_many = false;
    for slice in slices {
        // FQDN: names are not looked up.
        let (family, is_family): (_, fn(&IpAddr) -> bool) = match slice.address_type.as_str() {
            "IPv4" => ("IPv4", IpAddr::is_ipv4),
            "IPv6" => ("IPv6", IpAddr::is_ipv6),
            _ => continue,
        };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        for endpoint in &slice.endpoints {
            let here = Found { state: state(endpoint), hint: hint(endpoint, zone) };
            for address in &endpoint.addresses {
                match address.parse::<IpAddr>().ok().filter(is_family) {
                    Some(address) => {
                        for port in ports(slice, port) {
                            let address = SocketAddr::new(address, port);
                            if let Some(why) = judge.refuse(address) {
                                refused.entry((namespace, name, why)).or_default().add(address);
                                continue;
                            }
                            note(found.entry(address), here);
                            // Whatever the order of the slices: the lowest stay.
                            if found.len() > most {
                                found.pop_last();
                                too_many = true;
                            }
                        }
                    }
                    None => {
                        ignored.insert(format!(
                            "EndpointSlice {namespace}/{name} has {address:?}, which is no {family} address, and is \
                             left out."
                        ));
                        if ignored.len() > MAX_SENTENCES {
                            ignored.pop_last();
                        }
                    }
                }
            }
        }
    }
    // A pod of a dual-stack Service has an address of each family; it is taken once, by the Service's first.
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref());
    if let Some([first, _, ..]) = families {
        let of_first = |address: &SocketAddr| address.is_ipv6() == (first == "IPv6");
        let ready = |(address, found): (&SocketAddr, &Found)| {
            found.state == EndpointState::Ready && of_first(address)
        };
        let any_ready = found.values().any(|found| found.state == EndpointState::Ready);
        if found.iter().any(ready) || (!any_ready && found.keys().any(of_first)) {
            found.retain(|address, _| of_first(address));
        }
    }
    let zoned = hints_count(found.values());
    let endpoints = found.into_iter().map(|(address, Found { state, hint })| {
        let local = !zoned || hint == Some(true);
        Endpoint { address, state, local }
    });
    if too_many {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        ignored.insert(format!(
            "Service {name} has more than {most} endpoints at port {}; the lowest {most} addresses are used. Split the \
             Service, and name both as backendRefs.",
            port.port
        ));
    }
    let refused = refused.iter().take(MAX_SENTENCES).map(|((namespace, name, why), refused)| {
        format!(
            "EndpointSlice {namespace}/{name} has {}, which is {why}. It is left out; write the addresses of pods.",
            refused.list()
        )
    });
    Resolved {
        endpoints: endpoints.collect(),
        ignored: ignored.into_iter().collect(),
        refused: refused.collect(),
    }
}

impl Refused {
    /// One more; the lowest are named, whatever the order.
    fn add(&mut self, address: SocketAddr) {
        self.count += 1;
        self.named.insert(address);
        if self.named.len() > NAMED {
            self.named.pop_last();
        }
    }

    fn list(&self) -> String {
        let named: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        let mut text = named.join(", ");
        if self.count > self.named.len() {
            let _ = write!(text, " and {} more", self.count - self.named.len());
        }
        text
    }
}

/// Enters what a slice says. While an endpoint moves from one slice to another it is in both: the better word counts.
fn note(entry: Entry<'_, SocketAddr, Found>, here: Found) {
    let order = |found: &Found| (goodness(found.state), found.hint);
    entry
        .and_modify(|found| {
            if order(found) < order(&here) {
                *found = here;
            }
        })
        .or_insert(here);
}

const fn goodness(state: EndpointState) -> u8 {
    match state {
        EndpointState::Ready => 3,
        EndpointState::Terminating { serving: true } => 2,
        EndpointState::NotReady => 1,
        EndpointState::Terminating { serving: false } => 0,
    }
}

/// The conditions, each with what it is where it is not written. An endpoint that terminates takes no new connections even
/// where its Service publishes addresses that are not ready.
fn state(endpoint: &SliceEndpoint) -> EndpointState {
    let Some(conditions) = &endpoint.conditions else { return EndpointState::Ready };
    let ready = conditions.ready.unwrap_or(true);
    if conditions.terminating.unwrap_or(false) {
        EndpointState::Terminating { serving: conditions.serving.unwrap_or(ready) }
    } else if ready {
        EndpointState::Ready
    } else {
        EndpointState::NotReady
    }
}

/// Whether the endpoint's hints have our zone among them, if it has any.
fn hint(endpoint: &SliceEndpoint, zone: Option<&str>) -> Option<bool> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_deref()?;
    if zones.is_empty() {
        return None;
    }
    Some(zones.iter().any(|hinted| Some(hinted.name.as_str()) == zone))
}

/// Whether hints are followed, by kube-proxy's rule: every ready endpoint has some, and one has our zone.
fn hints_count<'f>(found: impl Iterator<Item = &'f Found> + Clone) -> bool {
    let mut ready = found.filter(|found| found.state == EndpointState::Ready);
    ready.clone().all(|found| found.hint.is_some()) && ready.any(|found| found.hint == Some(true))
}

/// The port numbers of a slice that stand for the Service's port. They carry its name, which is how a targetPort can
/// be another number in every pod.
fn ports<'s>(slice: &'s EndpointSlice, port: &'s ServicePort) -> impl Iterator<Item = u16> + 's {
    let wanted = port.name.as_deref().unwrap_or_default();
    slice
        .ports
        .iter()
        .flatten()
        .filter(move |port| {
            port.name.as_deref().unwrap_or_default() == wanted
                && transport(port.protocol.as_deref()) == "TCP"
        })
        .filter_map(|port| u16::try_from(port.port?).ok().filter(|port| *port != 0))
}
