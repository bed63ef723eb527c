use proptest::prelude::*;
use rustls::server::Acceptor;

use super::*;

/// A ClientHello for `name` as rustls's own client sends it, with `padding` bytes of ALPN.
fn hello(name: &str, padding: usize) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..padding.div_ceil(256)).map(|_| vec![b'x'; 255]).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    wire
}

/// The message of a hello, without the headers of its records.
fn message(wire: &[u8]) -> Vec<u8> {
    let (mut rest, mut message) = (wire, Vec::new());
    while let [22, 3, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        message.extend_from_slice(&more[..length]);
        rest = &more[length..];
    }
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let mut record = vec![22, 3, 1];
        record.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        record.extend_from_slice(part);
        record
    };
    message.chunks(size).flat_map(record).collect()
}

fn server_name(wire: &[u8]) -> Option<String> {
    let (mut acceptor, mut rest) = (Acceptor::default(), wire);
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).unwrap();
        if let Some(accepted) = acceptor.accept().unwrap() {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
    }
    None
}

#[test]
fn a_hello_is_ready_with_its_last_byte_in_whatever_records() {
    let whole = hello("chat.example.com", 0);
    for wire in [whole.clone(), records(&message(&whole), 7), records(&message(&whole), 1)] {
        for end in 0..wire.len() {
            assert_eq!(progress(&wire[..end]), Progress::Incomplete, "{end} of {}", wire.len());
        }
        assert_eq!(progress(&wire), Progress::Ready);
        assert_eq!(server_name(&wire).as_deref(), Some("chat.example.com"));
        let followed = [&wire[..], &[23, 3, 3, 0]].concat();
        assert_eq!(progress(&followed), Progress::Ready);
    }
}

#[test]
fn a_large_hello_is_ready_and_one_beyond_the_limit_is_refused_by_what_it_says_of_its_length() {
    let large = hello("a.test", 15 * 1024);
    assert_eq!(progress(&large), Progress::Ready);
    let too_large = hello("a.test", 17 * 1024);
    for end in [9, 100, 10_000, too_large.len()] {
        assert_eq!(progress(&too_large[..end]), Progress::TooLong, "{end}");
    }
    // Its length is told in the second record.
    let cut = records(&message(&too_large), 3);
    assert_eq!(progress(&cut[..8]), Progress::Incomplete);
    assert_eq!(progress(&cut[..14]), Progress::TooLong);
}

#[test]
fn headers_of_records_count_and_what_fills_the_room_without_an_end_is_too_long() {
    let message = message(&hello("a.test", 8 * 1024));
    let wire = records(&message, 1);
    assert_eq!(progress(&wire[..MAX_HELLO - 1]), Progress::Incomplete);
    assert_eq!(progress(&wire[..MAX_HELLO]), Progress::TooLong);
    // A record that ends behind the limit, though its message is short.
    assert_eq!(progress(&[22, 3, 1, 0x40, 0, 1, 0, 0, 90]), Progress::TooLong);
}

#[test]
fn what_can_be_no_hello_is_rustls_s_to_judge_at_once() {
    for (what, bytes) in [
        ("HTTP", &b"G"[..]),
        ("SSLv2", &[0x80, 0x2e, 1]),
        ("another major version", &[22, 2, 0]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("a record beyond TLS's limit", &[22, 3, 1, 0x48, 0]),
        ("an alert", &[21, 3, 1, 0, 2, 1, 0]),
        ("early data without a hello", &[23, 3, 3, 0, 0]),
    ] {
        assert_eq!(progress(bytes), Progress::Ready, "{what}");
    }
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("a type", &[22]),
        ("half a version", &[22, 3]),
        ("half an alert", &[21, 3, 1, 0, 2, 1]),
    ] {
        assert_eq!(progress(bytes), Progress::Incomplete, "{what}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_more_of_them_never_take_a_verdict_back(
        start in prop::sample::select(vec![vec![], vec![22, 3, 1], vec![22, 3, 1, 0, 40, 1, 0]]),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = [start, bytes].concat();
        let mut last = Progress::Incomplete;
        for end in 0..=bytes.len() {
            let now = progress(&bytes[..end]);
            prop_assert!(last == Progress::Incomplete || now == last, "{last:?} became {now:?}");
            last = now;
        }
    }
}
