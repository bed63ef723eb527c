//! Names, TCP, and the tunnel through an HTTP proxy.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{outcome_of, upgrade::read_head};
use crate::{
    seen::{Outcome, PortOutcome, ProxySeen},
    target::{Proxy, Target},
};

/// Headers by which proxies tell who they are, and why they refuse.
const PROXY_MARKS: [&str; 5] =
    ["server", "via", "proxy-authenticate", "x-squid-error", "proxy-status"];

/// Most addresses of a host that are tried: each is knocked at on three ports at once.
const MOST_ADDRESSES: usize = 16;

/// The addresses of a host, each once.
pub(super) async fn resolve(host: &str, patience: Duration) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    match timeout(patience, lookup_host((host, 0))).await {
        Err(_) => Err(format!("the resolver did not answer within {patience:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let mut addresses = Vec::new();
            for address in found.map(|found| found.ip()) {
                if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err("the name has no address".into()) } else { Ok(addresses) }
        }
    }
}

/// A TCP connection, or what came of it.
pub(super) async fn connect(
    address: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, (PortOutcome, String)> {
    match timeout(patience, TcpStream::connect(address)).await {
        Err(_) => Err((PortOutcome::Silent, format!("no answer within {patience:?}"))),
        Ok(Ok(stream)) => {
            // Small messages are measured.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => {
            let outcome = match error.kind() {
                ErrorKind::ConnectionRefused => PortOutcome::Refused,
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => PortOutcome::Reset,
                ErrorKind::TimedOut => PortOutcome::Silent,
                ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
                | ErrorKind::PermissionDenied => PortOutcome::Unreachable,
                _ => PortOutcome::Failed,
            };
            Err((outcome, error.to_string()))
        }
    }
}

/// Asks a proxy for a tunnel (RFC 9110 §9.3.6) to a port of the target.
pub(super) async fn tunnel(
    proxy: &Proxy,
    target: &Target,
    port: u16,
    patience: Duration,
) -> (ProxySeen, Option<TcpStream>) {
    let mut seen =
        ProxySeen { proxy: proxy.to_string(), error: None, status: None, marks: Vec::new() };
    let mut stream = match reach(proxy, patience).await {
        Ok(stream) => stream,
        Err(error) => {
            seen.error = Some(error);
            return (seen, None);
        }
    };
    let authority = format!("{}:{port}", target.bracketed());
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    request += "\r\n";
    let exchange = async {
        stream.write_all(request.as_bytes()).await.map_err(|error| outcome_of(&error))?;
        read_head(&mut stream).await
    };
    match timeout(patience, exchange).await {
        Err(_) => seen.error = Some(format!("no answer to CONNECT within {patience:?}")),
        Ok(Err(outcome)) => {
            seen.error = Some(
                match outcome {
                    Outcome::Closed => "it closed the connection instead of answering CONNECT",
                    Outcome::Reset => "it reset the connection instead of answering CONNECT",
                    _ => "its answer to CONNECT is not HTTP",
                }
                .to_owned(),
            );
        }
        Ok(Ok((head, rest))) => {
            seen.status = Some(head.status);
            let marks = head.headers.into_iter();
            seen.marks = marks.filter(|(name, _)| PROXY_MARKS.contains(&&**name)).collect();
            if (200..300).contains(&head.status) {
                if rest.is_empty() {
                    return (seen, Some(stream));
                }
                // Neither in TLS nor in HTTP does a server speak first.
                seen.error = Some("it sent bytes of its own into the tunnel".to_owned());
            }
        }
    }
    (seen, None)
}

/// A connection to the first address of the proxy that takes one.
async fn reach(proxy: &Proxy, patience: Duration) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in resolve(&proxy.host, patience).await? {
        match connect(SocketAddr::new(address, proxy.port), patience).await {
            Ok(stream) => return Ok(stream),
            Err((_, error)) => last = error,
        }
    }
    Err(last)
}
