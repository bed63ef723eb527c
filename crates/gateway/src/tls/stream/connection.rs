//! What a stream asks of rustls, of either side alike.

use rustls::{
    CommonState, ProtocolVersion,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::UnbufferedStatus,
};

/// Either side's connection of rustls.
pub trait Connection: Unpin {
    /// What rustls keeps for this side.
    type Data;

    /// Most bytes that the peer's part of a handshake may take between two answers of ours.
    const MAX_FLIGHT: usize;

    /// Processes received records up to the next state.
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both sides have in common.
    fn common(&self) -> &CommonState;

    /// Whether the peer can do without what is left to be sent at the end of the handshake: it is nothing but tickets.
    fn only_tickets_left(&self) -> bool;
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    /// Clients are anybody.
    const MAX_FLIGHT: usize = 16 * 1024;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn only_tickets_left(&self) -> bool {
        // In TLS 1.2 it ends with our Finished, unless a session was resumed.
        self.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    /// A chain of certificates.
    const MAX_FLIGHT: usize = 64 * 1024;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn only_tickets_left(&self) -> bool {
        // It ends with our Finished.
        false
    }
}
