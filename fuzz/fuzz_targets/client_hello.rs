//! The ClientHello splitter, held to rustls's own Acceptor: whatever comes, and however it is cut, both come to the same verdict
//! and the same server name, and what the splitter has kept is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::{Error, InvalidMessage, server::Acceptor};
use tidegate_gateway::client_hello::{MAX_HELLO, Progress, progress};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    /// `bytes` is a handshake message, to be put into records of the sizes of `pieces`; else it is what comes over the wire.
    fragment: bool,
    /// How much comes at a time, in turn.
    pieces: Vec<u8>,
    bytes: &'a [u8],
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Hello(Option<String>),
    Refused(Error),
    TooLong,
    Incomplete,
}

/// What rustls says when it is given all of this now, and `None` while it waits for more.
fn ask(acceptor: &mut Acceptor, mut bytes: &[u8]) -> Option<Verdict> {
    while !bytes.is_empty() {
        if acceptor.read_tls(&mut bytes).is_err() {
            return Some(Verdict::TooLong);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Some(Verdict::Hello(name));
            }
            Ok(None) => {}
            Err((error, _)) => return Some(Verdict::Refused(error)),
        }
    }
    None
}

fn pieces<'a>(bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(rest.len(), |size| usize::from(*size) + 1);
        let (piece, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        (!piece.is_empty()).then_some(piece)
    })
}

fn theirs(bytes: &[u8], sizes: &[u8]) -> Verdict {
    let mut acceptor = Acceptor::default();
    pieces(bytes, sizes).find_map(|piece| ask(&mut acceptor, piece)).unwrap_or(Verdict::Incomplete)
}

/// As the gateway does it.
fn ours(bytes: &[u8], sizes: &[u8]) -> Verdict {
    let mut kept = Vec::new();
    for piece in pieces(bytes, sizes) {
        let room = MAX_HELLO - kept.len();
        kept.extend_from_slice(&piece[..piece.len().min(room)]);
        match progress(&kept) {
            Progress::Incomplete => {
                assert!(kept.len() < MAX_HELLO);
                // Not after each single byte, which would take the time of all else.
                if sizes != [0] || kept.len() % 64 < 8 {
                    assert_eq!(ask(&mut Acceptor::default(), &kept), None, "rustls waits as well");
                }
            }
            Progress::TooLong => return Verdict::TooLong,
            Progress::Ready => {
                let refused = Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion);
                // Old numbers of versions pass there, and are no TLS here.
                return ask(&mut Acceptor::default(), &kept).unwrap_or(Verdict::Refused(refused));
            }
        }
    }
    Verdict::Incomplete
}

/// A message in records of these sizes.
fn records(message: &[u8], sizes: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for part in pieces(message, sizes) {
        for part in part.chunks(16 * 1024) {
            wire.extend_from_slice(&[22, 3, 1]);
            wire.extend_from_slice(&(part.len() as u16).to_be_bytes());
            wire.extend_from_slice(part);
        }
    }
    wire
}

fuzz_target!(|input: Input<'_>| {
    let wire = match input.fragment {
        true => records(input.bytes, &input.pieces),
        false => input.bytes.to_vec(),
    };
    let whole = ours(&wire, &[]);
    let within = &wire[..wire.len().min(MAX_HELLO)];
    for sizes in [&input.pieces[..], &[0], &[]] {
        let ours = ours(&wire, sizes);
        match (&ours, &whole) {
            // What is wrong with it first depends on what has come.
            (Verdict::Refused(_), Verdict::Refused(_)) => {}
            _ => assert_eq!(ours, whole, "however it is cut"),
        }
        let theirs = theirs(within, sizes);
        match (&ours, &theirs) {
            (
                Verdict::TooLong,
                Verdict::Incomplete | Verdict::TooLong | Verdict::Refused(Error::InvalidMessage(_)),
            ) => {}
            (
                Verdict::Refused(Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)),
                _,
            ) => {
                assert!(wire.len() >= 3, "a version has come");
            }
            _ => assert_eq!(ours, theirs),
        }
    }
});
