//! A transport of which something was read before it was handed on: that is read again first. Nothing of HTTP is known here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives what was read before first, then what else comes.
#[derive(Debug)]
pub(super) struct Rewind<T> {
    transport: T,
    read: Bytes,
}

impl<T> Rewind<T> {
    /// A transport from which `read` has been taken.
    pub(super) const fn new(transport: T, read: Bytes) -> Self {
        Self { transport, read }
    }

    /// The transport, and what was taken from it and was not read again.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.transport, self.read)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewind<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.transport).poll_read(cx, buf);
        }
        let count = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..count]);
        self.read.advance(count);
        if self.read.is_empty() {
            // Not only none left, but nothing held.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewind<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_first_and_what_is_not_read_again_is_given_back() {
        let mut whole = Rewind::new(&b"frames"[..], Bytes::from_static(b"head and "));
        let mut text = String::new();
        whole.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "head and frames");
        let mut part = Rewind::new(&b"frames"[..], Bytes::from_static(b"head and "));
        part.read_exact(&mut [0; 4]).await.unwrap();
        let (transport, rest) = part.into_parts();
        assert_eq!((transport, &rest[..]), (&b"frames"[..], &b" and "[..]));
    }
}
