//! A client's transport while hyper has it: a client that does not take its answers does not hold them, and what they hold, for
//! ever.

use std::{
    error::Error as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pace::Pace;

/// A transport whose peer has to take what is sent to it.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    transport: T,
    pace: Pace,
}

impl<T> Guarded<T> {
    /// One whose peer may take next to nothing for so long.
    pub(super) const fn new(transport: T, limit: Duration) -> Self {
        Self { transport, pace: Pace::new(Some(limit)) }
    }

    /// The transport alone.
    pub(super) fn into_inner(self) -> T {
        self.transport
    }

    /// Waits for the peer, which takes nothing now.
    fn poll_late<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        ready!(self.pace.poll_wait(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Late)))
    }
}

/// The client took next to nothing for too long.
#[derive(Debug, Error)]
#[error("the client did not take its answer in time")]
struct Late;

/// Whether that is what lies under an error.
pub(super) fn is_late(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<Late>())
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.transport).poll_write(cx, buf) {
            Poll::Pending => self.poll_late(cx),
            Poll::Ready(sent) => {
                self.pace.progress(*sent.as_ref().unwrap_or(&0));
                Poll::Ready(sent)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.transport).poll_flush(cx) {
            Poll::Pending => self.poll_late(cx),
            Poll::Ready(sent) => {
                // It has taken all there was.
                self.pace.renew();
                Poll::Ready(sent)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.transport).poll_shutdown(cx) {
            Poll::Pending => self.poll_late(cx),
            ready => ready,
        }
    }
}
