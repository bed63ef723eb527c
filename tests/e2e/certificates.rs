//! Secrets that are wrong, come late, or are renewed.

use crate::support::{App, Release, certificate_shown, eventually, expect_eq, objects};

/// A Secret that is missing shows in the conditions, and so does one whose key is another's; both heal by themselves.
#[test]
fn a_wrong_secret_shows_in_the_conditions_and_heals() {
    let release = Release::shared();
    let app = App::prepare("wrong-secret", 1);
    let namespace = &app.namespace;
    let good = app.authority.issue(&[&app.client.host]);
    let secret = format!("{}/chat-tls", namespace.name);

    namespace.delete("secret/chat-tls");
    namespace.apply(&[&objects::route("chat", &app.client.host)]);
    let message = namespace.eventually("chat", "ResolvedRefs", "False", "InvalidCertificateRef");
    assert!(message.contains(&format!("there is no Secret {secret}")), "{message}");
    namespace.eventually("chat", "Programmed", "False", "NotProgrammed");

    // The API server looks at each of the two, but not whether they belong together.
    let mut mismatched = app.authority.issue(&[&app.client.host]);
    mismatched.key = app.authority.issue(&[&app.client.host]).key;
    namespace.apply(&[&objects::tls_secret("chat-tls", &mismatched)]);
    let message = eventually("the message tells of the mismatch", 20, || {
        let found = namespace.condition("chat", "ResolvedRefs").unwrap_or_default();
        let tells = found.message.contains(&format!("in Secret {secret}"));
        tells.then(|| found.message.clone()).ok_or(found.message)
    });
    assert!(message.contains("key"), "{message}");
    namespace.eventually("chat", "ResolvedRefs", "False", "InvalidCertificateRef");
    namespace.eventually("chat", "Programmed", "False", "NotProgrammed");
    // Clients that verify do not talk to it meanwhile.
    let failure = app.client.open(release.load_balancer()).err().map(String::from);
    assert!(failure.as_ref().is_some_and(|why| why.contains("certificate")), "{failure:?}");

    namespace.apply(&[&objects::tls_secret("chat-tls", &good)]);
    namespace.eventually("chat", "ResolvedRefs", "True", "ResolvedRefs");
    app.wait_until_served(&release);
    let mut socket = app.open(release.load_balancer());
    assert_eq!(socket.certificate, good.der);
    socket.echo("healed");
}

#[test]
fn a_renewed_certificate_is_shown_to_new_clients_while_an_open_socket_lives_on() {
    let release = Release::shared();
    let app = App::start(&release, "renewal", 1);
    let mut old = app.open(release.load_balancer());

    let renewed = app.authority.issue(&[&app.client.host]);
    assert_ne!(old.certificate, renewed.der);
    app.namespace.apply(&[&objects::tls_secret("chat-tls", &renewed)]);
    for replica in release.pods() {
        eventually(&format!("{} shows the new certificate", replica.name), 20, || {
            let shown = certificate_shown(&app.client.host, replica.https())?;
            expect_eq(&(shown == renewed.der), &true)
        });
    }
    let mut new = app.open(release.load_balancer());
    assert_eq!(new.certificate, renewed.der);
    new.echo("new");
    old.echo("old");
    app.namespace.eventually("chat", "Programmed", "True", "Programmed");
}
