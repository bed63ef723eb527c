use http::Request;

use super::*;

type Outcome = Result<(String, Option<String>), RefusalReason>;

fn target(uri: &str, hosts: &[&str]) -> Outcome {
    let mut request = Request::get(uri);
    for host in hosts {
        request = request.header("host", *host);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let target = Target::of(&parts.method, &parts.uri, &parts.headers);
    let target = target.map_err(|refusal| refusal.reason)?;
    let rewritten = target.rewritten().map(|uri| uri.to_string());
    Ok((target.authority.as_str().to_owned(), rewritten))
}

fn ok(authority: &str, rewritten: Option<&str>) -> Outcome {
    Ok((authority.to_owned(), rewritten.map(str::to_owned)))
}

#[test]
fn what_comes_in_its_one_form_is_not_written_anew() {
    assert_eq!(
        target("/ws?room=a%20b&x=%ff", &["Chat.Example.com:8443"]),
        ok("chat.example.com:8443", None)
    );
    assert_eq!(target("/%C3%BC", &["[::1]:80"]), ok("[::1]:80", None));
}

#[test]
fn an_absolute_target_decides_and_goes_on_as_a_path() {
    let hosts = &["other.example"];
    assert_eq!(target("http://Real.example:80/x?y", hosts), ok("real.example:80", Some("/x?y")));
    assert_eq!(target("ws://real.example", hosts), ok("real.example", Some("/")));
    assert_eq!(target("http://real.example?x=1", hosts), ok("real.example", Some("/?x=1")));
}

#[test]
fn paths_and_queries_go_on_in_one_form() {
    let hosts = &["a.test"];
    assert_eq!(
        target("/api/%61dmin?a=%61//..;", hosts),
        ok("a.test", Some("/api/admin?a=%61//..;"))
    );
    assert_eq!(target("/a?x=\u{e9}%zz", hosts), ok("a.test", Some("/a?x=%C3%A9%zz")));
    assert_eq!(target("/a?", hosts), ok("a.test", None));
    assert_eq!(target("/%61?", hosts), ok("a.test", Some("/a?")));
}

#[test]
fn requests_without_exactly_one_sound_host_are_refused() {
    let long = "a".repeat(10_000);
    for hosts in [&[][..], &["a.example", "a.example"], &["a b"], &["u@a.example"], &[""], &[&long]]
    {
        assert_eq!(target("/", hosts), Err(RefusalReason::BadHandshake), "{hosts:?}");
    }
    // Also where it does not decide.
    assert_eq!(target("http://a.test/", &["a,b"]), Err(RefusalReason::BadHandshake));
    assert_eq!(target("http://u@a.test/", &["a.test"]), Err(RefusalReason::BadHandshake));
}

#[test]
fn other_forms_of_targets_are_refused() {
    assert_eq!(target("a.test:443", &["a.test"]), Err(RefusalReason::BadHandshake));
    assert_eq!(target("ftp://a.test/x", &["a.test"]), Err(RefusalReason::BadHandshake));
    assert_eq!(target("*", &["a.test"]), Err(RefusalReason::BadPath));
}
