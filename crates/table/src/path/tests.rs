use proptest::prelude::*;

use super::*;

fn normal(raw: &str) -> String {
    RequestPath::of(raw).unwrap().as_str().to_owned()
}

fn readings_of(raw: &str) -> Vec<String> {
    let mut readings = Vec::new();
    assert!(RequestPath::of(raw).unwrap().all_readings(|reading| {
        readings.push(reading.to_owned());
        true
    }));
    readings
}

fn found(raw: &str) -> Vec<PathAmbiguity> {
    let found = RequestPath::of(raw).unwrap().ambiguities();
    PathAmbiguity::ALL.into_iter().filter(|what| found.contains(*what)).collect()
}

#[test]
fn what_means_the_same_has_one_form() {
    for (raw, expected) in [
        ("/api/%61dmin", "/api/admin"),
        ("/api/admi%6E", "/api/admin"),
        ("/api/admi%6e", "/api/admin"),
        ("/%7Euser/%2dx%5F%2E", "/~user/-x_."),
        ("/a%20b/%c3%bc", "/a%20b/%C3%BC"),
        ("/a b|\u{fc}\"", "/a%20b%7C%C3%BC%22"),
        ("/%40me:%2B", "/%40me:%2B"),
        ("/100%/x", "/100%25/x"),
        ("/", "/"),
    ] {
        assert_eq!(normal(raw), expected, "{raw}");
    }
    assert!(RequestPath::of("/ws/rooms/17").unwrap().is_as_sent());
    assert!(RequestPath::of("/.well-known/%20").unwrap().is_as_sent());
}

#[test]
fn what_servers_read_differently_is_named() {
    use PathAmbiguity::*;
    for (raw, expected) in [
        ("/api/admin", &[][..]),
        ("/.well-known/a..b/...", &[]),
        ("/api%2fadmin", &[EncodedSlash]),
        ("/api%5cadmin", &[Backslash]),
        ("/api\\admin", &[Backslash]),
        ("/api%00", &[EncodedControl]),
        ("/api%0d%0a", &[EncodedControl]),
        ("/api%7f", &[EncodedControl]),
        ("/api%", &[BadPercent]),
        ("/api%zz", &[BadPercent]),
        ("/api%2", &[BadPercent]),
        ("/api/%2561dmin", &[DoubleEncoding]),
        ("/api/%25%36%31dmin", &[DoubleEncoding]),
        ("/api/%%36%31dmin", &[BadPercent, DoubleEncoding]),
        ("/100%25", &[]),
        ("/api//admin", &[DoubleSlash]),
        ("//", &[DoubleSlash]),
        ("/api/../b", &[DotSegments]),
        ("/api/.", &[DotSegments]),
        ("/api/%2e%2E", &[DotSegments]),
        ("/api/.%2e/b", &[DotSegments]),
        ("/api/..%2fb", &[EncodedSlash, DotSegments]),
        ("/api\\..\\b", &[Backslash, DotSegments]),
        ("/api/..;/b", &[DotSegments, PathParameters]),
        ("/api/..%3b/b", &[DotSegments, PathParameters]),
        ("/api;x/admin", &[PathParameters]),
        ("/api/;/admin", &[PathParameters]),
        ("/api/a%3Bx", &[PathParameters]),
        ("/api;.", &[PathParameters]),
    ] {
        assert_eq!(found(raw), expected, "{raw}");
    }
    assert_eq!(RequestPath::of("*"), Err(PathFault::NotAbsolute));
    assert_eq!(RequestPath::of(""), Err(PathFault::NotAbsolute));
}

#[test]
fn the_first_that_is_not_allowed_is_named_with_its_position() {
    use PathAmbiguity::*;
    let check = |raw: &str, allowed: &[PathAmbiguity]| {
        RequestPath::of(raw).unwrap().check(allowed.iter().copied().collect())
    };
    assert_eq!(
        check("/api%2Fadmin//x", &[]),
        Err(PathFault::Ambiguous { what: EncodedSlash, at: 5 })
    );
    assert_eq!(
        check("/api%2Fadmin//x", &[EncodedSlash]),
        Err(PathFault::Ambiguous { what: DoubleSlash, at: 14 })
    );
    assert_eq!(check("/a/..", &[]), Err(PathFault::Ambiguous { what: DotSegments, at: 4 }));
    assert_eq!(check("/api%2Fadmin//x", &[EncodedSlash, DoubleSlash]), Ok(()));
    let long = format!("/{}//", "a".repeat(MAX_AMBIGUOUS));
    let length = long.len();
    assert_eq!(check(&long, &[DoubleSlash]), Err(PathFault::TooLong { what: DoubleSlash, length }));
    assert_eq!(
        check(&long, &[]).unwrap_err().to_string(),
        "The path has an empty element (//) at position 515, which servers read in different ways: send it without."
    );
}

#[test]
fn readings_are_what_servers_make_of_a_path() {
    let reads = |raw: &str, reading: &str| {
        let readings = readings_of(raw);
        assert!(readings.iter().any(|other| other == reading), "{raw} as {reading}: {readings:?}");
    };
    for raw in [
        "/api//admin",
        "/api/;/admin",
        "/api;x/admin",
        "/api/admin;x",
        "/api/admin;/x/y",
        "/api%2fadmin",
        "/api%5cadmin",
        "/api\\admin",
        "/api/x/../admin",
        "/api/x/..;/admin",
        "/api/x/..%3b/admin",
        "/api/x/..%2fadmin",
        "/api/x/%252e%252e%252fadmin",
        "/api/admin%00.png",
        "/x//..//api/./admin",
        "/api/%2561dmin",
    ] {
        reads(raw, "/api/admin");
    }
    reads("/%40me", "/@me");
    // Of servers one behind the other each goes on with what the one before it has made of the path.
    reads("/../a%2F.%2F..", "/a/./..");
    reads("/x/..;y/a%252f;z", "/a/");
    reads("/a;x/%2e%2e%2fb%3by", "/b");
    assert_eq!(readings_of("/a%20b/%C3%BC/x"), Vec::<String>::new());
    assert_eq!(readings_of("/a@b:c"), Vec::<String>::new());
}

#[test]
fn the_work_that_a_path_may_cause_is_bounded() {
    let piece = r"/..;x\..//%00%25%32%66%252e%255c%FF%FF%FF";
    let mut raw = format!("/{}", piece.repeat(MAX_AMBIGUOUS));
    raw.truncate(MAX_AMBIGUOUS);
    raw.truncate(raw.rfind('/').unwrap());
    let path = RequestPath::of(&raw).unwrap();
    path.check(PathAmbiguity::ALL.into_iter().collect()).unwrap();
    let readings = readings_of(&raw);
    assert!((10..=readings::MOST_VIEWS).contains(&readings.len()), "{}", readings.len());
    assert!(readings.iter().all(|reading| reading.len() <= 3 * MAX_AMBIGUOUS));
    let once: std::collections::HashSet<&String> = readings.iter().collect();
    assert_eq!(once.len(), readings.len());
    // The first that is of another rule is the last.
    let mut asked = 0;
    assert!(!path.all_readings(|_| {
        asked += 1;
        asked < 3
    }));
    assert_eq!(asked, 3);
    // What has more readings than are looked at is not taken, wherever they lead.
    let many = "/%252e%00./..%3b%255c%5c..%5c/a;%2f%253b%252e%253b%2500%255c.a//%252e%2f..;..%2500xa%5c%252e/%2f%25%25x;x";
    let (path, mut asked) = (RequestPath::of(many).unwrap(), 0);
    assert!(!path.all_readings(|_| {
        asked += 1;
        true
    }));
    assert!(asked <= readings::MOST_VIEWS, "{asked}");
    let longer = format!("{raw}{}", "x".repeat(MAX_AMBIGUOUS));
    let fault = RequestPath::of(&longer).unwrap().check(PathAmbiguity::ALL.into_iter().collect());
    assert!(matches!(fault, Err(PathFault::TooLong { .. })));
}

#[test]
fn a_rules_path_has_one_form_and_nothing_ambiguous() {
    assert_eq!(of_rule("/a%62/%40x").unwrap(), "/ab/@x");
    assert_eq!(of_rule("/a b").unwrap(), "/a%20b");
    assert!(of_rule("/a%2Fb").is_err() && of_rule("/a;b").is_err() && of_rule("a").is_err());
}

/// Paths of what matters, each of which may be escaped.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", ".", "..", ";", "%", "%2f", "%5C", "\\", "%00", "%61", "a", "admin", "%25",
        "2e", "%3B", "@", "%40", "\u{e9}", "%C3", " ", "|",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn the_one_form_is_a_path_of_its_own_and_its_own_form(raw in paths()) {
        let path = RequestPath::of(&raw).unwrap();
        prop_assert!(path.as_str().starts_with('/'));
        prop_assert!(path.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        let uri: http::Uri = path.as_str().parse().unwrap();
        prop_assert_eq!(uri.path(), path.as_str());
        let again = RequestPath::of(path.as_str()).unwrap();
        prop_assert_eq!(again.as_str(), path.as_str());
        // A bare '%' is an escaped one now; nothing else is lost.
        let mut left = path.ambiguities();
        left = PathAmbiguity::ALL.into_iter().filter(|what| {
            left.contains(*what) && *what != PathAmbiguity::BadPercent
        }).collect();
        prop_assert_eq!(again.ambiguities(), left);
    }

    #[test]
    fn a_path_with_nothing_ambiguous_is_the_same_however_a_server_reads_it(raw in paths()) {
        let path = RequestPath::of(&raw).unwrap();
        if path.ambiguities().is_empty() {
            let decoded = readings::decoded(path.as_str());
            prop_assert!(readings::all(path.as_str(), |reading| reading == decoded));
        }
    }
}
