//! Upstreams, and hosts that `proxy_pass` names by itself: Services with addresses, or references to Services by their names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use tidegate_api::{Duration, HashSource, LoadBalancingPolicy};

use super::{
    judge,
    parse::{Directive, Place},
    targets::{Target, host_and_port},
};
use crate::{
    ir::{Backend, BackendTls, MOST, Policy, Service, label, note, unique},
    notes::{Note, NoteKind},
    policy::{HashKey, nginx_time},
};

/// The greatest weight that a backendRef may have.
const MOST_WEIGHT: u32 = 1_000_000;

/// What an upstream or a host has become.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    /// Without `tls`, which is the location's to say.
    pub(super) backends: Vec<Backend>,
    pub(super) balancing: Option<LoadBalancingPolicy>,
    pub(super) hash_on: Option<(HashSource, Option<String>)>,
    pub(super) slow_start: Option<Duration>,
    /// What concerns no Service that is made.
    pub(super) notes: Vec<Note>,
}

/// All of a configuration.
pub(super) struct Upstreams<'d> {
    namespace: &'d str,
    blocks: BTreeMap<String, &'d Directive>,
    made: HashMap<(String, Option<u16>, bool), Made>,
    names: BTreeSet<String>,
    pub(super) services: Vec<Service>,
}

/// One endpoint, as `server` or `proxy_pass` names it.
struct Member {
    host: String,
    port: u16,
    weight: u32,
    place: Place,
    text: String,
}

impl<'d> Upstreams<'d> {
    /// `taken` are the names of Services that earlier configurations have made.
    pub(super) fn new(http: &'d [Directive], namespace: &'d str, taken: &[Service]) -> Self {
        let blocks = http.iter().filter(|directive| directive.name == "upstream");
        let blocks = blocks.map(|block| (block.arg(0).to_ascii_lowercase(), block)).collect();
        let names = taken.iter().map(|service| service.name.clone()).collect();
        Self { namespace, blocks, made: HashMap::new(), names, services: Vec::new() }
    }

    /// The backends of a target; none where nothing of it can be reached.
    pub(super) fn resolve(&mut self, target: &Target, place: &Place, text: &str) -> Made {
        let key = (target.host.clone(), target.port, target.https);
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let made = match self.blocks.get(&target.host).copied() {
            Some(block) => self.upstream(block, target.https),
            None => {
                let member = Member {
                    host: target.host.clone(),
                    port: target.port.unwrap_or(if target.https { 443 } else { 80 }),
                    weight: 1,
                    place: place.clone(),
                    text: text.to_owned(),
                };
                let mut made = Made::default();
                let name = match member.host.parse::<IpAddr>() {
                    Ok(address) if address.is_loopback() => format!("local-{}", member.port),
                    Ok(address) => format!("backend-{address}-{}", member.port),
                    Err(_) => format!("local-{}", member.port),
                };
                self.members(&name, target.https, vec![member], place, &mut made);
                made
            }
        };
        // What is told once need not be told by each location.
        let told = Made { notes: Vec::new(), ..made.clone() };
        self.made.insert(key, told);
        made
    }

    fn upstream(&mut self, block: &Directive, https: bool) -> Made {
        let mut made = Made::default();
        let mut members = Vec::new();
        let noted = |directive: &Directive, kind, reason: &str| {
            note(kind, &directive.place, &directive.words(), reason)
        };
        for directive in block.block() {
            match directive.name.as_str() {
                "server" => members.extend(member(directive, https, &mut made)),
                // Of several methods nginx takes the last.
                "least_conn" => least(&mut made),
                "random" => {
                    least(&mut made);
                    if directive.args.is_empty() {
                        made.notes.push(noted(
                            directive,
                            NoteKind::Differs,
                            "Tidegate takes the endpoint with the fewest connections (of two drawn at random, where there are many)",
                        ));
                    }
                }
                "ip_hash" => {
                    hash(&mut made, HashKey::CLIENT_IP);
                    made.notes.push(noted(
                        directive,
                        NoteKind::Differs,
                        "Tidegate hashes the client's whole address, nginx the first three numbers of an IPv4 one",
                    ));
                }
                "hash" => match HashKey::of_variable(directive.arg(0)) {
                    Some(key) => hash(&mut made, key),
                    None => made.notes.push(noted(
                        directive,
                        NoteKind::NoCounterpart,
                        "Tidegate hashes by the client's address, a header, a cookie or a query parameter alone (loadBalancing.hashOn)",
                    )),
                },
                "sticky" => {
                    hash(&mut made, HashKey::CLIENT_IP);
                    made.notes.extend(judge(directive));
                }
                _ => made.notes.extend(judge(directive)),
            }
        }
        let name = label(block.arg(0), "upstream");
        self.members(&name, https, members, &block.place, &mut made);
        made
    }

    /// Makes Services of addresses, one for each weight, and references of names.
    fn members(
        &mut self,
        name: &str,
        https: bool,
        members: Vec<Member>,
        place: &Place,
        made: &mut Made,
    ) {
        let mut addresses = BTreeMap::<u32, Vec<(IpAddr, u16)>>::new();
        let mut loopback = None;
        for member in members {
            match address(&member.host) {
                Some(address) => {
                    loopback =
                        loopback.or_else(|| address.is_loopback().then(|| member.text.clone()));
                    addresses.entry(member.weight).or_default().push((address, member.port));
                }
                None => match self.service_of(&member) {
                    Ok((service, said)) => {
                        made.notes.push(said);
                        made.backends.push(Backend {
                            service,
                            port: member.port,
                            weight: member.weight,
                            tls: None,
                        });
                    }
                    Err(said) => made.notes.push(said),
                },
            }
        }
        let single = addresses.len() == 1;
        for (weight, addresses) in addresses.into_iter().rev() {
            let wanted = if single {
                label(name, "upstream")
            } else {
                label(&format!("{name}-weight-{weight}"), "upstream")
            };
            let names = &mut self.names;
            let service = unique(&wanted, |name| names.insert(name.to_owned()));
            let ports: BTreeSet<_> = addresses.iter().map(|(_, port)| *port).collect();
            // Where the numbers differ the slices have them, and the Service has one of its own.
            let port = match ports.first() {
                Some(port) if ports.len() == 1 => *port,
                _ => {
                    if https {
                        443
                    } else {
                        80
                    }
                }
            };
            let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
            let weight = if single && made.backends.is_empty() {
                1
            } else {
                weight.saturating_mul(count).min(MOST_WEIGHT)
            };
            made.backends.push(Backend { service: service.clone(), port, weight, tls: None });
            let mut draft = Service {
                name: service,
                namespace: self.namespace.to_owned(),
                port,
                tls: https,
                addresses: addresses.into_iter().collect(),
                origin: Some(place.clone()),
                notes: Vec::new(),
            };
            if let Some(text) = &loopback
                && draft.addresses.iter().any(|(address, _)| address.is_loopback())
            {
                draft.notes.push(note(
                    NoteKind::ToDo,
                    place,
                    text,
                    "leads to the gateway's own machine, as `tidegate serve --source DIR` serves it; Kubernetes takes no \
                     loopback address: there name the Service of the pods instead",
                ));
            }
            self.services.push(draft);
        }
        if made.backends.len() > MOST {
            made.notes.push(note(
                NoteKind::NoCounterpart,
                place,
                name,
                format!("a rule has {MOST} backendRefs at most; the others are left out"),
            ));
            made.backends.truncate(MOST);
        }
    }

    /// The Service that a name stands for.
    fn service_of(&self, member: &Member) -> Result<(String, Note), Note> {
        let said = |kind, reason: String| note(kind, &member.place, &member.text, reason);
        let mut labels = member.host.trim_end_matches('.').split('.');
        let service = labels.next().unwrap_or_default().to_owned();
        let rest: Vec<_> = labels.collect();
        let namespace = match rest.as_slice() {
            [] => self.namespace,
            [namespace, "svc", ..] => namespace,
            // What nginx looks up, Tidegate does not.
            _ => {
                return Err(said(
                    NoteKind::NoCounterpart,
                    "Tidegate looks up no names: write a Service without a selector and an EndpointSlice with the \
                     addresses, and name it in backendRefs"
                        .to_owned(),
                ));
            }
        };
        if namespace != self.namespace {
            return Err(said(
                NoteKind::NoCounterpart,
                format!(
                    "backendRefs name Services of the route's own namespace: import with --namespace {namespace}"
                ),
            ));
        }
        let sound = service.starts_with(|first: char| first.is_ascii_lowercase())
            && service.len() <= 63
            && label(&service, "") == service;
        if !sound {
            return Err(said(
                NoteKind::NoCounterpart,
                format!("{service:?} is no name of a Service"),
            ));
        }
        let reason = format!(
            "is taken for Service {service} with port {} in namespace {namespace}, which has to be there",
            member.port
        );
        Ok((service, said(NoteKind::ToDo, reason)))
    }
}

fn least(made: &mut Made) {
    made.balancing = Some(LoadBalancingPolicy::LeastConnections);
    made.hash_on = None;
}

fn hash(made: &mut Made, key: HashKey) {
    made.balancing = Some(LoadBalancingPolicy::ConsistentHash);
    made.hash_on = Some((key.source, key.name));
}

fn address(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

/// A `server` of an upstream.
fn member(directive: &Directive, https: bool, made: &mut Made) -> Option<Member> {
    let mut noted = |kind, reason: &str| {
        made.notes.push(note(kind, &directive.place, &directive.words(), reason));
    };
    if directive.arg(0).starts_with("unix:") {
        noted(
            NoteKind::NoCounterpart,
            "Tidegate reaches backends by TCP, not by sockets of a file system",
        );
        return None;
    }
    let Some((host, port)) = host_and_port(directive.arg(0)) else {
        noted(NoteKind::NoCounterpart, "it names no host");
        return None;
    };
    let (mut weight, mut slow_start) = (1, None);
    for parameter in directive.args.iter().skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            // Written there to say that nothing is to go to it.
            "down" => return None,
            "backup" => {
                noted(
                    NoteKind::NoCounterpart,
                    "Tidegate has no backups, which take connections only where all others fail: it is left out",
                );
                return None;
            }
            "weight" => match value.parse::<u32>() {
                Ok(number) if (1..=MOST_WEIGHT).contains(&number) => weight = number,
                _ => noted(NoteKind::NoCounterpart, "it is no weight"),
            },
            "slow_start" => slow_start = nginx_time(value),
            "max_conns" => noted(
                NoteKind::NoCounterpart,
                "Tidegate does not limit the connections to an endpoint yet",
            ),
            // An endpoint that cannot be reached is passed over for a while by itself; names are Kubernetes' matter.
            "max_fails" | "fail_timeout" | "resolve" | "service" => {}
            _ => noted(NoteKind::NoCounterpart, "this import does not know the parameter"),
        }
    }
    // The resource has an hour at most.
    made.slow_start =
        made.slow_start.max(slow_start.map(|time| time.min(Duration::from_secs(3600))));
    let port = port.unwrap_or(if https { 443 } else { 80 });
    Some(Member { host, port, weight, place: directive.place.clone(), text: directive.words() })
}

impl Made {
    /// Puts balancing into a rule's policy and `tls` to its backends.
    pub(super) fn apply(self, tls: Option<&BackendTls>, policy: &mut Policy) -> Vec<Backend> {
        let Self { backends, balancing, hash_on, slow_start, .. } = self;
        (policy.balancing, policy.hash_on, policy.slow_start) = (balancing, hash_on, slow_start);
        let with_tls = |backend: Backend| Backend { tls: tls.cloned(), ..backend };
        backends.into_iter().map(with_tls).collect()
    }
}
