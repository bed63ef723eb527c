//! Which addresses are no endpoints: those that lead into this machine, into its network's own services, or back to the gateway.
//!
//! Whoever may write an EndpointSlice chooses what the gateway dials, from where the gateway stands. A pod's loopback, the
//! metadata of the cloud, and our own ports are not theirs to reach.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tidegate_table::ObjectRef;

/// Where clouds tell a machine who it is, and with which keys, outside of the link-local block.
const METADATA: [IpAddr; 5] = [
    // Google Cloud, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Oracle Cloud, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle Cloud's classic.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];
/// The same within the link-local block: nearly all clouds.
const METADATA_LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Whether AWS serves something to its machines there, by IPv6: metadata, time, names, the identity of pods.
fn is_of_aws(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments()[..2] == [0xfd00, 0xec2])
}

/// What may be dialled.
#[derive(Clone, Debug, Default)]
pub struct EndpointPolicy {
    /// Whether loopback addresses may be endpoints, at other ports than our own.
    pub allow_loopback: bool,
    /// Where we listen, data and admin ports. An unspecified address stands for every one of this machine's.
    pub listeners: Vec<SocketAddr>,
    /// The addresses of this machine, or of this pod, beside loopback.
    pub interfaces: Vec<IpAddr>,
    /// The namespace that we run in: there, the Service with an endpoint that is ours is ours, and so are its other endpoints.
    pub namespace: Option<String>,
}

/// Why an address is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoEndpoint {
    /// The gateway listens there, or another replica of it.
    Own,
    /// `0.0.0.0/8`, `::`: this machine.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// Where the cloud's metadata are.
    Metadata,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4`, with the broadcast address.
    Broadcast,
}

impl fmt::Display for NoEndpoint {
    /// What it is, and what would happen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "where this gateway listens itself: requests would come back to it",
            Self::Unspecified => "unspecified: it leads to the gateway's own machine",
            Self::Loopback => {
                "loopback: it leads to the gateway's own machine (the operator may permit it with \
                 --allow-loopback-endpoints)"
            }
            Self::Metadata => "where clouds serve the metadata and credentials of machines",
            Self::LinkLocal => "link-local: no pod has such an address",
            Self::Multicast => "multicast: no pod has such an address",
            Self::Broadcast => "broadcast or reserved: no pod has such an address",
        })
    }
}

/// The policy, with what is ours in these inputs.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    policy: &'a EndpointPolicy,
    /// Other replicas, and the addresses of our Services.
    ours: HashSet<SocketAddr>,
}

impl EndpointPolicy {
    /// Whether one of our own listeners answers there.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        let ip = innermost(address.ip());
        let local = || ip.is_loopback() || self.interfaces.iter().any(|own| innermost(*own) == ip);
        self.listeners.iter().filter(|listener| listener.port() == address.port()).any(|listener| {
            let listens = innermost(listener.ip());
            listens == ip || (listens.is_unspecified() && local())
        })
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(policy: &'a EndpointPolicy) -> Self {
        Self { policy, ours: HashSet::new() }
    }

    /// Whether a Service of this name may be ours.
    pub(super) fn may_be_ours(&self, service: &ObjectRef) -> bool {
        self.policy.namespace.as_deref() == Some(service.namespace.as_str())
    }

    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        self.policy.is_own(address)
    }

    /// Another way to the gateway.
    pub(super) fn add(&mut self, address: SocketAddr) {
        self.ours.insert(canonical(address));
    }

    /// Why it is no endpoint, if it is none.
    pub(super) fn refuse(&self, address: SocketAddr) -> Option<NoEndpoint> {
        if self.policy.is_own(address) || self.ours.contains(&canonical(address)) {
            return Some(NoEndpoint::Own);
        }
        // An address within an address counts as both.
        let (outer, inner) = (address.ip(), innermost(address.ip()));
        let why = kind(inner).or_else(|| kind(outer))?;
        (why != NoEndpoint::Loopback || !self.policy.allow_loopback).then_some(why)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(innermost(address.ip()), address.port())
}

/// What is special about an address, by the registries of IANA (RFC 6890).
fn kind(ip: IpAddr) -> Option<NoEndpoint> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let reserved = match ip {
        IpAddr::V4(ip) => ip.octets()[0] >= 240,
        IpAddr::V6(_) => false,
    };
    let this_network = match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    if this_network {
        Some(NoEndpoint::Unspecified)
    } else if ip.is_loopback() {
        Some(NoEndpoint::Loopback)
    } else if METADATA.contains(&ip) || ip == METADATA_LINK_LOCAL || is_of_aws(ip) {
        Some(NoEndpoint::Metadata)
    } else if link_local {
        Some(NoEndpoint::LinkLocal)
    } else if ip.is_multicast() {
        Some(NoEndpoint::Multicast)
    } else if reserved {
        Some(NoEndpoint::Broadcast)
    } else {
        None
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped and compatible ones (RFC 4291 §2.5.5), translated ones (RFC 2765 §2.1,
/// RFC 6052, RFC 8215) and 6to4 (RFC 3056). Any other address is what it is.
fn innermost(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(outer) = ip else { return ip };
    let [a, b, c, d, e, f, g, h] = outer.segments();
    let v4 = |high: u16, low: u16| {
        let [w, x] = high.to_be_bytes();
        let [y, z] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b, c, d, e, f) {
        // `::` and `::1` are of IPv6 itself.
        (0, 0, 0, 0, 0, 0) if (g, h) == (0, 0) || (g, h) == (0, 1) => ip,
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => v4(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) | (0x64, 0xff9b, 1, ..) => v4(g, h),
        (0x2002, high, low, ..) => v4(high, low),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(policy: &EndpointPolicy, address: &str) -> Option<NoEndpoint> {
        Judge::new(policy).refuse(address.parse().unwrap())
    }

    #[test]
    fn what_leads_elsewhere_than_to_pods_is_no_endpoint_in_whatever_form() {
        let policy = EndpointPolicy::default();
        for (address, why) in [
            ("0.0.0.0:80", Some(NoEndpoint::Unspecified)),
            ("0.1.2.3:80", Some(NoEndpoint::Unspecified)),
            ("[::]:80", Some(NoEndpoint::Unspecified)),
            ("[::ffff:0.0.0.0]:80", Some(NoEndpoint::Unspecified)),
            ("127.0.0.1:80", Some(NoEndpoint::Loopback)),
            ("127.255.255.254:80", Some(NoEndpoint::Loopback)),
            ("[::1]:80", Some(NoEndpoint::Loopback)),
            ("[::ffff:127.0.0.1]:80", Some(NoEndpoint::Loopback)),
            ("[::127.0.0.1]:80", Some(NoEndpoint::Loopback)),
            ("[::ffff:0:127.0.0.1]:80", Some(NoEndpoint::Loopback)),
            ("[64:ff9b::127.0.0.1]:80", Some(NoEndpoint::Loopback)),
            ("[64:ff9b:1::127.0.0.1]:80", Some(NoEndpoint::Loopback)),
            ("[2002:7f00:1::]:80", Some(NoEndpoint::Loopback)),
            ("169.254.169.254:80", Some(NoEndpoint::Metadata)),
            ("[::ffff:169.254.169.254]:80", Some(NoEndpoint::Metadata)),
            ("[64:ff9b::a9fe:a9fe]:80", Some(NoEndpoint::Metadata)),
            ("[2002:a9fe:a9fe::1]:80", Some(NoEndpoint::Metadata)),
            ("[fd00:ec2::254]:80", Some(NoEndpoint::Metadata)),
            ("[fd20:ce::254]:80", Some(NoEndpoint::Metadata)),
            ("[fd00:c1::a9fe:a9fe]:80", Some(NoEndpoint::Metadata)),
            ("100.100.100.200:80", Some(NoEndpoint::Metadata)),
            ("168.63.129.16:80", Some(NoEndpoint::Metadata)),
            ("192.0.0.192:80", Some(NoEndpoint::Metadata)),
            ("169.254.170.2:80", Some(NoEndpoint::LinkLocal)),
            ("[fe80::1]:80", Some(NoEndpoint::LinkLocal)),
            ("[febf::1]:80", Some(NoEndpoint::LinkLocal)),
            ("224.0.0.1:80", Some(NoEndpoint::Multicast)),
            ("239.255.255.255:80", Some(NoEndpoint::Multicast)),
            ("[ff02::1]:80", Some(NoEndpoint::Multicast)),
            ("240.0.0.1:80", Some(NoEndpoint::Broadcast)),
            ("255.255.255.255:80", Some(NoEndpoint::Broadcast)),
            ("[::ffff:255.255.255.255]:80", Some(NoEndpoint::Broadcast)),
            // What pods and nodes do have.
            ("10.0.0.1:80", None),
            ("172.16.0.1:80", None),
            ("192.168.0.1:80", None),
            ("100.64.0.1:80", None),
            ("203.0.113.1:80", None),
            ("[fd00::1]:80", None),
            ("[2001:db8::1]:80", None),
            ("[::ffff:10.0.0.1]:80", None),
            ("[64:ff9b::10.0.0.1]:80", None),
        ] {
            assert_eq!(refuse(&policy, address), why, "{address}");
        }
    }

    #[test]
    fn loopback_may_be_permitted_and_nothing_else_with_it() {
        let policy = EndpointPolicy { allow_loopback: true, ..EndpointPolicy::default() };
        for address in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(refuse(&policy, address), None, "{address}");
        }
        for address in ["0.0.0.0:80", "[::]:80", "169.254.169.254:80", "224.0.0.1:80"] {
            assert!(refuse(&policy, address).is_some(), "{address}");
        }
    }

    #[test]
    fn our_own_ports_are_ours_at_each_of_our_addresses_and_others_are_not() {
        let policy = EndpointPolicy {
            allow_loopback: true,
            listeners: vec!["[::]:8443".parse().unwrap(), "127.0.0.1:9090".parse().unwrap()],
            interfaces: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
            namespace: None,
        };
        for address in [
            "127.0.0.1:8443",
            "127.8.8.8:8443",
            "[::1]:8443",
            "[::ffff:127.0.0.1]:8443",
            "10.1.2.3:8443",
            "[::ffff:10.1.2.3]:8443",
            "[64:ff9b::10.1.2.3]:8443",
            "[fd00::3]:8443",
            "127.0.0.1:9090",
            "[::ffff:127.0.0.1]:9090",
        ] {
            assert_eq!(refuse(&policy, address), Some(NoEndpoint::Own), "{address}");
        }
        for address in [
            // A pod of the node's network, beside a gateway there.
            "10.1.2.3:8080",
            "10.1.2.4:8443",
            // Somebody else's: the admin port is at one address.
            "127.0.0.2:9090",
            "10.1.2.3:9090",
        ] {
            assert_eq!(refuse(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn other_ways_to_the_gateway_are_its_own_too() {
        let policy = EndpointPolicy::default();
        let mut judge = Judge::new(&policy);
        judge.add("10.96.0.9:443".parse().unwrap());
        let refuse = |address: &str| judge.refuse(address.parse().unwrap());
        assert_eq!(refuse("[::ffff:10.96.0.9]:443"), Some(NoEndpoint::Own));
        assert_eq!(refuse("10.96.0.9:80"), None);
    }
}
