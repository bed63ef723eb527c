//! Bodies of answers: whole ones, and those that are written while they are read.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use super::connections::Large;

/// How many parts wait for a reader.
const PARTS: usize = 4;

/// A body.
pub(super) enum AdminBody {
    /// All there is; with the right to it, where it is large.
    Whole(Option<Bytes>, Option<Large>),
    /// Part by part, as it is asked for.
    Parts {
        /// Where they come from.
        parts: mpsc::Receiver<Bytes>,
        /// Held for as long as the body lives.
        _right: Large,
    },
}

impl AdminBody {
    /// A body in parts, and where these go. Who writes them waits for the reader, and fails once that has left.
    pub(super) fn in_parts(right: Large) -> (mpsc::Sender<Bytes>, Self) {
        let (parts, taken) = mpsc::channel(PARTS);
        (parts, Self::Parts { parts: taken, _right: right })
    }
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(body, _) => Poll::Ready(body.take()),
            Self::Parts { parts, .. } => parts.poll_recv(context),
        };
        next.map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None, _))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(body, _) => {
                let length = body.as_ref().map_or(0, Bytes::len);
                hyper::body::SizeHint::with_exact(length as u64)
            }
            Self::Parts { .. } => hyper::body::SizeHint::default(),
        }
    }
}
