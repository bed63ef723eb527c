//! A TLS stream that holds no buffer while it is idle, over rustls's unbuffered API.
//!
//! Records are read into, and written from, scratch buffers of the thread. A stream owns bytes only where something
//! is missing: the rest of a record, a reader with a larger buffer, a socket that takes more. All cryptography and every
//! decision of the protocol is rustls's; nothing here looks into a record.

mod backlog;
mod connection;

use std::{
    cell::RefCell,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use self::{backlog::Backlog, connection::Connection};

/// Most plaintext bytes of a record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;

/// Most bytes of a record as sent: a header of 5, and what TLS 1.2 allows ciphers to add (RFC 5246 §6.2.3).
const WIRE_RECORD: usize = 5 + RECORD + 2048;

/// What a record of TLS 1.3 adds to its plaintext with the ciphers in use: header, content type and tag. Those of
/// TLS 1.2 add no less.
const OVERHEAD: usize = 5 + 1 + 16;

/// Records that one write makes at most: what a slow receiver can pin.
const RECORDS_PER_WRITE: usize = 4;

/// Records that wait for the first write are sent together with it up to this size.
const CORK: usize = 4 * 1024;

/// Size of the scratch buffer for reading: four records, and the begin of another one.
const WIRE_IN: usize = 4 * RECORD + WIRE_RECORD;

/// Size of the scratch buffer for writing. The last KiB is for what rustls adds by itself, as a key update.
const WIRE_OUT: usize = CORK + RECORDS_PER_WRITE * (RECORD + 2 * OVERHEAD) + 1024;

thread_local! {
    static INBOUND: RefCell<Box<[u8]>> = RefCell::new(vec![0; WIRE_IN].into_boxed_slice());
    static OUTBOUND: RefCell<Box<[u8]>> = RefCell::new(vec![0; WIRE_OUT].into_boxed_slice());
}

/// TLS over a TCP socket, its handshake done.
///
/// A write encrypts at most four records and takes their plaintext whole; what the socket does not take of them is
/// written by the next write, flush or shutdown, before anything else. The end of the peer without its close_notify reads as
/// [`io::ErrorKind::UnexpectedEof`]; a failure of TLS is an error with the [`rustls::Error`] inside, and its alert is sent
/// as far as the socket takes it at once.
pub struct TlsStream<C> {
    tcp: TcpStream,
    tls: C,
    /// A record, or a message of several, of which the rest has not come yet, as rustls has left it.
    received: Vec<u8>,
    /// Plaintext that the reader had no room for.
    plain: Backlog,
    /// Records that the socket did not take yet.
    unsent: Backlog,
    /// `unsent` is tickets, which wait for the first write, to be sent together with it; a flush leaves them alone.
    corked: bool,
    /// Our close_notify is sent, or waits in `unsent`.
    closed: bool,
    input: Input,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The peer is to go on.
    Open,
    /// All is said but for tickets.
    Done,
}

/// How it stands with what the peer sends.
enum Input {
    Open,
    /// The peer has said close_notify.
    Closed,
    /// The peer has ended without it.
    Truncated,
    Failed(Box<rustls::Error>),
}

/// An error of rustls as one of a stream.
pub(super) fn tls_error(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<C: Connection> TlsStream<C> {
    /// Does the handshake. `received` is what was read from the socket already. A server's tickets are sent together with
    /// the first write.
    ///
    /// An error of TLS has the [`rustls::Error`] inside; the alert for it is sent before.
    pub(super) async fn handshake(
        tcp: TcpStream,
        tls: C,
        mut received: Vec<u8>,
    ) -> io::Result<Self> {
        let mut stream = Self::begin(tcp, tls);
        stream.advance(&mut received)?;
        while stream.send_flight().await? == Handshake::Open {
            stream.tcp.readable().await?;
            stream.step()?;
        }
        Ok(stream)
    }

    /// A stream whose handshake is to be done.
    pub(super) fn begin(tcp: TcpStream, tls: C) -> Self {
        Self {
            tcp,
            tls,
            received: Vec::new(),
            plain: Backlog::default(),
            unsent: Backlog::default(),
            corked: false,
            closed: false,
            input: Input::Open,
        }
    }

    /// A step of the handshake: processes what has come in, and leaves the answer to be [sent](Self::send_flight). All of what it
    /// costs in cryptography is done here.
    pub(super) fn advance(&mut self, wire: &mut [u8]) -> io::Result<()> {
        self.process(wire, &mut ReadBuf::new(&mut []));
        match &self.input {
            Input::Open => Ok(()),
            Input::Failed(error) => {
                let error = tls_error(rustls::Error::clone(error));
                // The alert is a courtesy: it is the failure that counts.
                let _ = self.tcp.try_write(self.unsent.rest());
                Err(error)
            }
            Input::Closed | Input::Truncated => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The same with what the socket has. Does nothing where that is nothing.
    pub(super) fn step(&mut self) -> io::Result<()> {
        INBOUND.with_borrow_mut(|wire| {
            let kept = self.received.len();
            if kept >= C::MAX_FLIGHT {
                let error = "the handshake is too long";
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            let end = (kept + WIRE_RECORD).min(C::MAX_FLIGHT);
            let count = match self.tcp.try_read(&mut wire[kept..end]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            wire[..kept].copy_from_slice(&self.received);
            self.received = Vec::new();
            self.advance(&mut wire[..kept + count])
        })
    }

    /// Sends our part of the handshake as far as it has come.
    pub(super) async fn send_flight(&mut self) -> io::Result<Handshake> {
        let done = !self.tls.common().is_handshaking();
        if done && self.tls.only_tickets_left() {
            self.corked = true;
            return Ok(Handshake::Done);
        }
        if !self.unsent.is_empty() {
            self.flush().await?;
        }
        Ok(if done { Handshake::Done } else { Handshake::Open })
    }

    /// Has the kernel acknowledge at once what the peer has sent. Where that was the end of the handshake, our tickets wait for our
    /// first write, or there are none, and nothing else would acknowledge it. A peer whose kernel holds back a small segment until
    /// the one before it is acknowledged (RFC 9293 §3.7.4, Nagle) would send its request only after our kernel's delay, 40 ms.
    pub(crate) fn acknowledge(&self) {
        if let Err(error) = SockRef::from(&self.tcp).set_tcp_quickack(true) {
            tracing::debug!(%error, "a socket could not be told to acknowledge at once");
        }
    }

    /// Sends the tickets that wait for our first write, where it is not to come soon: nothing is held for it then.
    pub(crate) fn send_tickets(&mut self) {
        if !std::mem::take(&mut self.corked) {
            return;
        }
        // What cannot be written now is written by the next write, and an error is for that to tell.
        if let Ok(count) = self.tcp.try_write(self.unsent.rest()) {
            self.unsent.advance(count);
        }
    }

    /// Bytes that were received and are not processed.
    pub(super) fn kept(&self) -> usize {
        self.received.len() + self.plain.rest().len()
    }

    /// Bytes of records that the socket did not take yet.
    pub fn unsent(&self) -> usize {
        self.unsent.rest().len()
    }

    /// The socket beneath. What is written to it past the stream breaks TLS.
    pub fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Processes what is in `wire`: plaintext goes to `buf`, and to `plain` where that is full, answers to `unsent`, and what
    /// is not whole yet to `received`. `input` tells whether more may follow.
    fn process(&mut self, wire: &mut [u8], buf: &mut ReadBuf<'_>) {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process(&mut wire[at..]);
            let mut ended = false;
            let mut data = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    data = true;
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                self.plain.give(record.payload, buf);
                            }
                            Err(error) => {
                                self.input = Input::Failed(error.into());
                                ended = true;
                                break;
                            }
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    self.unsent.encode(&mut record);
                    self.corked = false;
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.input = Input::Closed;
                    ended = true;
                }
                // More is needed: for the handshake, or for a record.
                Ok(_) => {
                    self.received = wire[at + discard..].to_vec();
                    return;
                }
                Err(error) => {
                    self.input = Input::Failed(error.into());
                    ended = true;
                }
            }
            at += discard;
            if ended {
                return self.take_queued(&mut wire[at..]);
            }
            if data && at == wire.len() && !self.tls.common().wants_write() {
                return;
            }
        }
    }

    /// Takes what rustls has queued, such as an alert, and has it look at nothing that came in: what it has failed
    /// on once it may not see again.
    fn take_queued(&mut self, wire: &mut [u8]) {
        while self.tls.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut record)) = self.tls.process(wire).state
            else {
                return;
            };
            self.unsent.encode(&mut record);
            self.corked = false;
        }
    }

    /// Reads the socket behind what is in `received`, for a reader with `room` bytes; the number of bytes in `wire`, none at
    /// the end.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut [u8],
        room: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        let kept = self.received.len();
        // No more than the reader can take, as a rule: plaintext is shorter by the overhead of its records.
        let mut end = (room + 2 * OVERHEAD).clamp(WIRE_RECORD, wire.len());
        if kept >= end {
            // A message of many records, of which only tickets of backends could become so long.
            end = wire.len();
        }
        if kept >= end {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a TLS message is too long",
            )));
        }
        let mut read = ReadBuf::new(&mut wire[kept..end]);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
        let count = read.filled().len();
        if count == 0 {
            return Poll::Ready(Ok(None));
        }
        wire[..kept].copy_from_slice(&self.received);
        self.received = Vec::new();
        Poll::Ready(Ok(Some(kept + count)))
    }

    /// Writes what the socket did not take before.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.corked = false;
        while !self.unsent.is_empty() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.unsent.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Makes records of `data`, or our close_notify where there is none, into `wire`; their length.
    fn encrypt(&mut self, data: Option<&[u8]>, wire: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        loop {
            // rustls may have marked part of a message in it, and has to find it again.
            match self.tls.process(&mut self.received).state.map_err(tls_error)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let wire = &mut wire[length..];
                    let made = match data {
                        Some(data) => traffic.encrypt(data, wire),
                        None => traffic.queue_close_notify(wire),
                    };
                    return made.map(|made| length + made).map_err(io::Error::other);
                }
                ConnectionState::EncodeTlsData(mut record) => {
                    length += record.encode(&mut wire[length..]).map_err(io::Error::other)?;
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
}

impl<C: Connection> AsyncRead for TlsStream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        INBOUND.with_borrow_mut(|wire| {
            loop {
                this.plain.take(buf);
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                match &this.input {
                    Input::Open => {}
                    Input::Closed => return Poll::Ready(Ok(())),
                    Input::Truncated => {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Input::Failed(error) => {
                        return Poll::Ready(Err(tls_error(rustls::Error::clone(error))));
                    }
                }
                match ready!(this.poll_receive(cx, wire, buf.remaining()))? {
                    Some(length) => this.process(&mut wire[..length], buf),
                    None => this.input = Input::Truncated,
                }
                if !this.corked && !this.unsent.is_empty() {
                    // An alert, or an answer that rustls gives at once. Whether it can be written is for writes to tell.
                    let _ = this.poll_send(cx);
                }
            }
        })
    }
}

impl<C: Connection> AsyncWrite for TlsStream<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Input::Failed(error) = &this.input {
            return Poll::Ready(Err(tls_error(rustls::Error::clone(error))));
        }
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !this.corked || this.unsent.rest().len() > CORK {
            ready!(this.poll_send(cx))?;
        }
        let data = &data[..data.len().min(RECORDS_PER_WRITE * RECORD)];
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        OUTBOUND.with_borrow_mut(|wire| {
            let corked = this.unsent.rest().len();
            wire[..corked].copy_from_slice(this.unsent.rest());
            let length = corked + this.encrypt(Some(data), &mut wire[corked..])?;
            this.unsent.advance(corked);
            this.corked = false;
            let mut sent = 0;
            while sent < length {
                match Pin::new(&mut this.tcp).poll_write(cx, &wire[sent..length]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        this.unsent.push(&wire[sent..length]);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(data.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.corked { Poll::Ready(Ok(())) } else { this.poll_send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // After a fatal alert nothing more is said (RFC 8446 §6.2).
        if !this.closed && !matches!(this.input, Input::Failed(_)) {
            OUTBOUND.with_borrow_mut(|wire| {
                let length = this.encrypt(None, wire)?;
                this.unsent.push(&wire[..length]);
                io::Result::Ok(())
            })?;
        }
        this.closed = true;
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

impl<C> fmt::Debug for TlsStream<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
