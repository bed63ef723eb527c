//! The addresses of this machine, or of the pod's network namespace, as the kernel lists them (proc(5)). Where it does not,
//! none is known.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// All of them, without loopback.
pub(super) fn addresses() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let v4 = ipv4(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = ipv6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6);
    let all: BTreeSet<_> = v4.chain(v6).filter(|ip| !ip.is_loopback()).collect();
    all.into_iter().collect()
}

/// Of the routing tables, what is delivered here.
fn ipv4(trie: &str) -> Vec<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

/// One line for each, the address as 32 hexadecimal digits first.
fn ipv6(list: &str) -> Vec<Ipv6Addr> {
    let digits = list.lines().filter_map(|line| line.split_whitespace().next());
    digits
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(Ipv6Addr::from_bits)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lists_is_read() {
        let trie = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.244.1.0/24 2 0 2
        |-- 10.244.1.0
           /24 link UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
        |-- 10.244.1.7
           /32 host LOCAL
        |-- 10.244.1.255
           /32 link BROADCAST
        |-- 127.0.0.1
           /32 host LOCAL
";
        assert_eq!(ipv4(trie), [Ipv4Addr::new(10, 244, 1, 7), Ipv4Addr::LOCALHOST]);
        let list = "00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000985b57fffe1a2b3c 02 40 20 80     eth0
fd000010024400010000000000000007 02 40 00 80     eth0
";
        let expected = ["::1", "fe80::985b:57ff:fe1a:2b3c", "fd00:10:244:1::7"];
        assert_eq!(ipv6(list), expected.map(|ip| ip.parse::<Ipv6Addr>().unwrap()));
        assert_eq!((ipv4(""), ipv6("")), (vec![], vec![]));
    }

    #[test]
    fn loopback_is_not_among_them() {
        assert!(addresses().iter().all(|ip| !ip.is_loopback()));
    }
}
