//! Ports that are taken: by whom, and which one is free instead.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::gateway;

/// How many ports after a taken one are tried.
const TRIES: u16 = 100;

/// Binds exactly this address. A failure says who has the port, and which one is free.
pub(super) fn bind_exactly(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    match gateway::bind(address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner =
                owner_of(address.port()).map_or(String::new(), |owner| format!(" by {owner}"));
            let bind = |port| gateway::bind(SocketAddr::new(address.ip(), port));
            let hint = match next_free(address.port(), bind) {
                Ok(listener) => format!(
                    "; port {} is free: {flag} {}",
                    listener.local_addr()?.port(),
                    SocketAddr::new(address.ip(), listener.local_addr()?.port()),
                ),
                Err(_) => String::new(),
            };
            bail!("port {} is taken{owner}{hint}", address.port())
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "port {} may not be bound by this user: ports below 1024 need CAP_NET_BIND_SERVICE; choose another with {flag}",
            address.port(),
        ),
        Err(error) => Err(error).with_context(|| format!("{address} cannot be bound ({flag})")),
    }
}

/// A port that was asked for, or the one found in its place.
pub(super) struct Found {
    /// The listeners, one for each family that loopback has.
    pub(super) listeners: Vec<TcpListener>,
    /// Its port.
    pub(super) port: u16,
    /// What to tell where it is not the port asked for.
    pub(super) note: Option<String>,
}

/// Binds this port on loopback or, where it is taken, the next free one. `owner` tells who has a right to a port that nobody
/// listens at yet.
pub(super) fn bind_or_next(
    port: u16,
    variable: &str,
    owner: &impl Fn(u16) -> Option<String>,
) -> Result<Found> {
    let bound = |listeners: Vec<TcpListener>, note| {
        let port = listeners.first().context("a listener was bound")?.local_addr()?.port();
        Ok(Found { listeners, port, note })
    };
    let taken = match owner(port) {
        Some(owner) => format!("Port {port} is for {owner}"),
        None => match bind_loopback(port) {
            Ok(listeners) => return bound(listeners, None),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let owner = owner_of(port).map_or(String::new(), |owner| format!(" by {owner}"));
                format!("Port {port} is taken{owner}")
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "port {port} may not be bound by this user: choose one above 1023 with {variable}=",
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("port {port} cannot be bound ({variable}=)"));
            }
        },
    };
    let free = |port: u16| match owner(port) {
        Some(_) => Err(io::ErrorKind::AddrInUse.into()),
        None => bind_loopback(port),
    };
    let mut found = bound(
        next_free(port, free).with_context(|| {
            format!("{taken}, and the {TRIES} after it are no more free; choose another with {variable}=")
        })?,
        None,
    )?;
    found.note =
        Some(format!("{taken}: using {} instead ({variable}= chooses another).", found.port));
    Ok(found)
}

/// Binds a port at both addresses that "localhost" stands for: clients may take either, and who else listened at the other one
/// would be taken for us. Port 0 is one of the system's choice.
fn bind_loopback(port: u16) -> io::Result<Vec<TcpListener>> {
    let both = || {
        let first = gateway::bind((Ipv4Addr::LOCALHOST, port).into())?;
        match gateway::bind((Ipv6Addr::LOCALHOST, first.local_addr()?.port()).into()) {
            Ok(second) => Ok(vec![first, second]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            // There is no IPv6 here.
            Err(_) => Ok(vec![first]),
        }
    };
    match both() {
        Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {
            (0..TRIES).find_map(|_| both().ok()).ok_or(error)
        }
        result => result,
    }
}

/// What `bind` makes of the next free port after a taken one.
fn next_free<T>(taken: u16, bind: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    let first = taken.saturating_add(1);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in first..=first.saturating_add(TRIES - 1) {
        match bind(port) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Who listens on a TCP port of this machine, as far as /proc shows it: `nginx (pid 42)`.
fn owner_of(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).map(|entry| entry.path()).find_map(|process| {
        let pid = process.file_name()?.to_str()?.parse::<u32>().ok()?;
        let holds = fs::read_dir(process.join("fd")).ok()?.filter_map(Result::ok).any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| inodes.iter().any(|inode| target == Path::new(inode)))
        });
        let name = fs::read_to_string(process.join("comm")).ok()?;
        holds.then(|| format!("{} (pid {pid})", name.trim()))
    })
}

/// The socket's inode, if a line of /proc/net/tcp is of a socket that listens (state 0A) on `port`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16).ok()? == port;
    listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_of_this_process_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = owner_of(listener.local_addr().unwrap().port()).unwrap();
        assert!(owner.contains(&format!("(pid {})", std::process::id())), "{owner}");
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_owner_and_next_free_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind_exactly(address, "--https-listen").unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {} is taken by ", address.port())), "{error}");
        assert!(error.contains("is free: --https-listen 127.0.0.1:"), "{error}");
    }
}
