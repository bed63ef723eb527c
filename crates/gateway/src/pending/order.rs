//! Who goes first when there are too many connections without a request: pure counting by client.
//!
//! A client is an address, with IPv6 a /64. Of each the connections that wait for it stand in a list, the one that has waited longest
//! first; clients stand in lists by how many of theirs wait. So whoever has most waiting gives one, in constant time, however
//! many there are. Connections that wait for us, in a queue for the CPU, are counted but give no place: they would be the honest ones.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use slab::Slab;

/// A trusted proxy counts as so many clients.
const PROXY_WEIGHT: usize = 16;

/// Who is counted as one client: the address, and with IPv6 its /64, which is what one customer has at least (RFC 6177).
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

/// One of a slab, or none, in four bytes: of these there are several for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

impl Link {
    const NONE: Self = Self(u32::MAX);

    /// There are fewer of anything than a process may have files, and those are counted in 31 bits.
    fn to(id: usize) -> Self {
        Self(u32::try_from(id).expect("each takes a file of the process"))
    }

    const fn get(self) -> Option<usize> {
        match self {
            Self::NONE => None,
            Self(id) => Some(id as usize),
        }
    }
}

/// Both neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    previous: Link,
    next: Link,
}

impl Default for Links {
    fn default() -> Self {
        Self { previous: Link::NONE, next: Link::NONE }
    }
}

trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// A list through the items of a slab: added to at the end, taken from anywhere.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<usize>,
    last: Option<usize>,
}

impl List {
    fn push<T: Linked>(&mut self, items: &mut Slab<T>, id: usize) {
        let previous = self.last.map_or(Link::NONE, Link::to);
        *items[id].links() = Links { previous, next: Link::NONE };
        match self.last {
            Some(last) => items[last].links().next = Link::to(id),
            None => self.first = Some(id),
        }
        self.last = Some(id);
    }

    fn remove<T: Linked>(&mut self, items: &mut Slab<T>, id: usize) {
        let Links { previous, next } = *items[id].links();
        match previous.get() {
            Some(previous) => items[previous].links().next = next,
            None => self.first = next.get(),
        }
        match next.get() {
            Some(next) => items[next].links().previous = previous,
            None => self.last = previous.get(),
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For a worker to take it.
    Arriving,
    /// For the client to send something.
    Waiting,
    /// For us.
    Working,
    /// For nothing of this: it has a request that is answered, or has been told to end.
    Out,
}

#[derive(Debug)]
struct Entry<T> {
    links: Links,
    client: Link,
    phase: Phase,
    held: usize,
    item: T,
}

impl<T> Entry<T> {
    const fn client(&self) -> usize {
        self.client.0 as usize
    }
}

impl<T> Linked for Entry<T> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[derive(Debug)]
struct Client {
    links: Links,
    address: IpAddr,
    weight: usize,
    waiting: List,
    /// How many wait, and how many there are that are not [`Phase::Out`].
    waits: usize,
    count: usize,
    /// Those of them that no worker has taken yet.
    arriving: usize,
    held: usize,
    /// Entries of any phase: the client is forgotten with the last of them.
    entries: usize,
}

impl Linked for Client {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Client {
    fn load(&self) -> usize {
        self.waits.div_ceil(self.weight)
    }
}

/// All connections without a request, each with something of the caller's.
#[derive(Debug)]
pub(super) struct Order<T> {
    entries: Slab<Entry<T>>,
    clients: Slab<Client>,
    by_address: HashMap<IpAddr, usize>,
    /// Clients by their load, from 1 on.
    by_load: Vec<List>,
    /// No list beyond this one has anybody.
    heaviest: usize,
    count: usize,
    held: usize,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            clients: Slab::new(),
            by_address: HashMap::new(),
            by_load: Vec::new(),
            heaviest: 0,
            count: 0,
            held: 0,
        }
    }
}

impl<T> Order<T> {
    /// A new connection, which waits for a worker.
    pub(super) fn enter(&mut self, address: IpAddr, proxy: bool, item: T) -> usize {
        let address = client_of(address);
        let clients = &mut self.clients;
        let client = *self.by_address.entry(address).or_insert_with(|| {
            clients.insert(Client {
                links: Links::default(),
                address,
                weight: if proxy { PROXY_WEIGHT } else { 1 },
                waiting: List::default(),
                waits: 0,
                count: 0,
                arriving: 0,
                held: 0,
                entries: 0,
            })
        });
        self.clients[client].entries += 1;
        let links = Links::default();
        let entry = Entry { links, client: Link::to(client), phase: Phase::Out, held: 0, item };
        let id = self.entries.insert(entry);
        self.set_phase(id, Phase::Arriving);
        id
    }

    /// Forgets a connection.
    pub(super) fn leave(&mut self, id: usize) -> T {
        self.set_phase(id, Phase::Out);
        let entry = self.entries.remove(id);
        let client = &mut self.clients[entry.client()];
        client.entries -= 1;
        if client.entries == 0 {
            let client = self.clients.remove(entry.client());
            self.by_address.remove(&client.address);
        }
        entry.item
    }

    /// Says what it waits for now. Who waits anew waits behind the client's others.
    pub(super) fn set_phase(&mut self, id: usize, phase: Phase) {
        let entry = &mut self.entries[id];
        let (client, before) = (entry.client(), std::mem::replace(&mut entry.phase, phase));
        let load = self.clients[client].load();
        if before == Phase::Waiting {
            let mut waiting = self.clients[client].waiting;
            waiting.remove(&mut self.entries, id);
            self.clients[client].waiting = waiting;
            self.clients[client].waits -= 1;
        }
        if phase == Phase::Waiting {
            let mut waiting = self.clients[client].waiting;
            waiting.push(&mut self.entries, id);
            self.clients[client].waiting = waiting;
            self.clients[client].waits += 1;
        }
        self.place(client, load);
        self.clients[client].arriving -= usize::from(before == Phase::Arriving);
        self.clients[client].arriving += usize::from(phase == Phase::Arriving);
        match (before == Phase::Out, phase == Phase::Out) {
            (true, false) => {
                self.clients[client].count += 1;
                self.count += 1;
            }
            (false, true) => {
                self.hold(id, 0);
                self.clients[client].count -= 1;
                self.count -= 1;
            }
            _ => {}
        }
    }

    /// Moves a client whose load was another one to the list of its load now.
    fn place(&mut self, client: usize, before: usize) {
        let load = self.clients[client].load();
        if load == before {
            return;
        }
        if before > 0 {
            self.by_load[before].remove(&mut self.clients, client);
        }
        if load > 0 {
            if self.by_load.len() <= load {
                self.by_load.resize(load + 1, List::default());
            }
            self.by_load[load].push(&mut self.clients, client);
        }
        self.heaviest = self.heaviest.max(load);
        while self.heaviest > 0 && self.by_load[self.heaviest].first.is_none() {
            self.heaviest -= 1;
        }
    }

    /// Says how many bytes it holds now.
    pub(super) fn hold(&mut self, id: usize, bytes: usize) {
        let entry = &mut self.entries[id];
        let before = std::mem::replace(&mut entry.held, bytes);
        let client = &mut self.clients[entry.client()];
        client.held = client.held - before + bytes;
        self.held = self.held - before + bytes;
    }

    /// The connection that has waited longest for the client that has most of them.
    pub(super) fn of_heaviest(&self) -> Option<usize> {
        let client = self.by_load.get(self.heaviest)?.first?;
        self.clients[client].waiting.first
    }

    /// The connection that has waited longest for this client.
    pub(super) fn of_client(&self, address: IpAddr) -> Option<usize> {
        let client = self.by_address.get(&client_of(address))?;
        self.clients[*client].waiting.first
    }

    /// Connections that wait, of those clients first that hold most bytes, until no more than `most` bytes would be held.
    pub(super) fn of_holders(&self, most: usize) -> Vec<usize> {
        let mut clients: Vec<_> = self.clients.iter().map(|(_, client)| client).collect();
        clients.sort_unstable_by_key(|client| std::cmp::Reverse(client.held / client.weight));
        let mut held = self.held;
        let mut chosen = Vec::new();
        for client in clients {
            let mut next = client.waiting.first;
            while let Some(id) = next.filter(|_| held > most) {
                let entry = &self.entries[id];
                if entry.held > 0 {
                    held -= entry.held;
                    chosen.push(id);
                }
                next = entry.links.next.get();
            }
        }
        chosen
    }

    /// How many there are of this client.
    pub(super) fn count_of(&self, address: IpAddr) -> usize {
        let client = self.by_address.get(&client_of(address));
        client.map_or(0, |client| self.clients[*client].count)
    }

    /// How many of this client a worker has taken.
    pub(super) fn taken_of(&self, address: IpAddr) -> usize {
        let client = self.by_address.get(&client_of(address));
        client.map_or(0, |client| self.clients[*client].count - self.clients[*client].arriving)
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many bytes they hold.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) fn phase(&self, id: usize) -> Phase {
        self.entries[id].phase
    }

    pub(super) fn item(&mut self, id: usize) -> &mut T {
        &mut self.entries[id].item
    }
}

#[cfg(test)]
mod tests;
