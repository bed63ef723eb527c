//! First steps that wait: a queue for each client, and clients take turns.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    rc::Rc,
};

use super::Waiter;
use crate::pending::client_of;

#[derive(Default)]
pub(super) struct NewSteps {
    /// None of them empty.
    queues: HashMap<IpAddr, VecDeque<Rc<Waiter>>>,
    /// Who has a queue, the next one first.
    clients: VecDeque<IpAddr>,
    count: usize,
}

impl NewSteps {
    pub(super) fn push(&mut self, address: IpAddr, waiter: Rc<Waiter>) {
        let client = client_of(address);
        let queue = self.queues.entry(client).or_default();
        if queue.is_empty() {
            self.clients.push_back(client);
        }
        queue.push_back(waiter);
        self.count += 1;
    }

    /// The first one of the client whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Rc<Waiter>> {
        let client = self.clients.pop_front()?;
        let queue = self.queues.get_mut(&client)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&client);
        } else {
            self.clients.push_back(client);
        }
        self.count -= 1;
        next
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }
}
