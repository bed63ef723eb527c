//! Inner rules cannot be stepped around: what was matched is what the backend sees.

use tidegate::table::{HttpMode, PathAmbiguity, Rule, VirtualHost};

use crate::support::{Backend, Harness, Head, prefix, rule};

/// A site with a public part and a guarded one within it, each with a backend of its own.
struct Site {
    public: Backend,
    guarded: Backend,
    gateway: Harness,
}

impl Site {
    fn allowing(allow: &[PathAmbiguity]) -> Self {
        let (public, guarded) = (Backend::bind(), Backend::bind());
        let of = |backend: &Backend| Rule {
            http: HttpMode::Forward,
            path_allow: allow.iter().copied().collect(),
            ..rule(&[backend.address()])
        };
        let public_rules = ["", "/api"].map(|path| prefix(path, of(&public)));
        let entries = public_rules.into_iter().chain([prefix("/api/admin", of(&guarded))]);
        let gateway = Harness::start(vec![VirtualHost::new("a.test", None, entries)]);
        Self { public, guarded, gateway }
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
    }

    #[track_caller]
    fn refused(&self, path: &str) -> (Head, String) {
        let (head, body) = self.gateway.ask(Self::get(path));
        let found = (head.status(), head.get("tidegate-reason"));
        assert_eq!(found, (400, Some("bad_path")), "{path}: {body}");
        self.public.assert_untouched();
        self.guarded.assert_untouched();
        (head, body)
    }

    /// What a backend gets of a request for this path.
    #[track_caller]
    fn reaches(&self, backend: &Backend, path: &str) -> String {
        let mut client = self.gateway.client();
        client.send(Self::get(path));
        let (_server, asked) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.answer().0.status(), 200, "{path}");
        asked.start.split(' ').nth(1).unwrap().to_owned()
    }
}

#[test]
fn a_path_is_matched_and_forwarded_in_one_form() {
    let site = Site::allowing(&[]);
    for path in ["/api/admin", "/api/%61dmin", "/api/admi%6E", "/api/%61%64%6D%69%6e"] {
        assert_eq!(site.reaches(&site.guarded, path), "/api/admin", "{path}");
    }
    assert_eq!(site.reaches(&site.public, "/api/%7Eus%65r?a=%61"), "/api/~user?a=%61");
    assert_eq!(site.reaches(&site.public, "/api/a%20b%c3%bc"), "/api/a%20b%C3%BC");
    assert_eq!(site.reaches(&site.public, "http://a.test/api/%78"), "/api/x");
}

#[test]
fn what_servers_read_in_different_ways_is_refused() {
    let site = Site::allowing(&[]);
    for path in [
        "/api//admin",
        "/api;/admin",
        "/api/;/admin",
        "/api/admin;x",
        "/api%2fadmin",
        "/api%2Fadmin",
        "/api%5cadmin",
        "/api\\admin",
        "/api/x/..%3b/admin",
        "/api/x/..;/admin",
        "/api/x/../admin",
        "/api/x/%2e%2e/admin",
        "/api/x/.%2E/admin",
        "/api/./admin",
        "/api/x%00",
        "/api/x%0d%0aX:%20y",
        "/api/x%",
        "/api/x%zz",
        "/api/%2561dmin",
        "//api/admin",
    ] {
        site.refused(path);
    }
}

#[test]
fn the_refusal_says_what_where_and_how_to_allow_it_and_quotes_nothing() {
    let site = Site::allowing(&[]);
    let (_, body) = site.refused("/api/evil//admin");
    assert_eq!(
        body,
        "The path has an empty element (//) at position 11, which servers read in different ways: send it without.\nWhoever runs the route can allow it, where the backend reads such a path as it stands: \"path: {allow: [DoubleSlash]}\" in its rule.\n"
    );
    let labels = [("reason", "bad_path"), ("route", "route")];
    site.gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

#[test]
fn what_a_rule_allows_passes_as_it_was_sent() {
    let site = Site::allowing(&PathAmbiguity::ALL);
    for path in [
        "/api/group%2Fproject",
        "/api//x",
        "/api/x;v=1/y",
        "/api/a%5Cb",
        "/api/x/../y",
        "/api/x%00",
        "/api/100%2541",
    ] {
        assert_eq!(site.reaches(&site.public, path), path);
    }
    assert_eq!(site.reaches(&site.public, "/api/100%"), "/api/100%25");
    assert_eq!(site.reaches(&site.guarded, "/api/admin//x"), "/api/admin//x");
}

#[test]
fn what_a_rule_allows_steps_around_no_other_rule() {
    let site = Site::allowing(&PathAmbiguity::ALL);
    for path in [
        "/api//admin",
        "/api;x/admin",
        "/api/;/admin",
        "/api/admin;x",
        "/api%2fadmin",
        "/api%5cadmin",
        "/api/x/../admin",
        "/api/x/..;/admin",
        "/api/x/..%3b/admin",
        "/api/x/%2e%2e%2fadmin",
        "/api/%2561dmin",
        "/api/admin%00.png",
        "/api/../other",
        "/api/admin/..%2f..%2fx",
    ] {
        let (_, body) = site.refused(path);
        assert!(body.contains("one of another rule"), "{path}: {body}");
    }
}
