use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<String, AuthorityFault> {
    Authority::parse(text.as_bytes()).map(|authority| authority.as_str().to_owned())
}

#[test]
fn a_name_has_one_form() {
    for (text, expected) in [
        ("a.shop.test", "a.shop.test"),
        ("A.Shop.TEST:8443", "a.shop.test:8443"),
        ("a.shop.test.", "a.shop.test"),
        ("a.shop.test.:80", "a.shop.test:80"),
        ("a.shop.test:", "a.shop.test"),
        ("a.test:0", "a.test:0"),
        ("a.test:65535", "a.test:65535"),
        ("a.test:00080", "a.test:80"),
        ("my_app--x.test", "my_app--x.test"),
        ("localhost", "localhost"),
        ("10.1.2.3:80", "10.1.2.3:80"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0::0:1]", "[::1]"),
        ("[::FFFF:10.0.0.1]", "[::ffff:10.0.0.1]"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
    }
    let authority = Authority::parse(b"A.test:80").unwrap();
    assert_eq!((authority.host(), authority.port()), ("a.test", Some(80)));
    assert_eq!(Authority::parse(b"[::1]:80").unwrap().host(), "[::1]");
}

#[test]
fn what_is_no_name_is_refused_with_its_position() {
    use AuthorityFault::*;
    let long = format!("{}.test", "a".repeat(64));
    let many = ["a"; 127].join(".") + ".a";
    for (text, fault) in [
        ("", Empty),
        (":80", Empty),
        (".", Empty),
        ("a.shop.test:80,evil.example", Port { at: 13 }),
        ("a'(b);--.shop.test", Character { at: 2 }),
        ("a.test:99999", Port { at: 8 }),
        ("a.test:65536", Port { at: 8 }),
        ("a.test:port", Port { at: 8 }),
        ("a.test:+80", Port { at: 8 }),
        ("a.test:000080", Port { at: 8 }),
        ("a.test:80:80", Port { at: 8 }),
        ("u@a.test", UserInfo { at: 2 }),
        ("a.test/x", Character { at: 7 }),
        ("a.test b.test", Character { at: 7 }),
        ("a%2etest", Character { at: 2 }),
        ("\u{e4}.test", Character { at: 1 }),
        ("a..test", EmptyLabel { at: 3 }),
        (".a.test", EmptyLabel { at: 1 }),
        ("a.test..", EmptyLabel { at: 8 }),
        (&long, LongLabel { at: 64 }),
        (&many, TooLong),
        ("1.2.3", Address),
        ("1.2.3.256", Address),
        ("127.1", Address),
        ("0x7f.1", Address),
        ("2130706433", Address),
        ("[::1", Address),
        ("[::1%eth0]", Address),
        ("[a.test]", Address),
        ("[::1]x", Character { at: 6 }),
    ] {
        assert_eq!(parsed(text), Err(fault), "{text}");
    }
}

proptest! {
    #[test]
    fn the_one_form_is_its_own(text in "[-a-cA-C._0-9:\\[\\]@,]{0,20}|[a-c.]{0,12}(:[0-9]{0,6})?") {
        if let Ok(form) = parsed(&text) {
            prop_assert_eq!(parsed(&form), Ok(form.clone()));
            prop_assert!(form.parse::<http::uri::Authority>().is_ok(), "{}", form);
        }
    }
}
