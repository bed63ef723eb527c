//! Tests that take the shared installation away, or the API server: they run alone (.config/nextest.toml).

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{App, Release, eventually, kubectl};

/// `helm uninstall` says goodbye to every connection, and leaves the kind and the routes; a new installation
/// serves them again.
#[test]
fn uninstalling_leaves_the_routes_for_the_next_installation() {
    let release = Release::shared();
    let app = App::start(&release, "uninstall", 1);
    let mut socket = app.open(release.load_balancer());
    socket.echo("hello");
    let before = app.namespace.get("wsr/chat");

    release.uninstall();
    let close = socket.read_to_end(Duration::from_secs(10)).expect("its replica is gone");
    assert_eq!(close.expect("a Close frame").code, CloseCode::Away);
    kubectl(&["get", "crd/websocketroutes.tidegate.io"]);
    assert_eq!(app.namespace.get("wsr/chat"), before);
    assert!(release.pods().is_empty());

    release.install(&[]);
    for replica in release.pods() {
        eventually("the route is served again", 20, || {
            Ok(app.client.open(replica.https()).map(|_| ())?)
        });
    }
    app.open(release.load_balancer()).echo("hello again");
    // Nothing about the route has changed, so nothing is written.
    assert_eq!(app.namespace.get("wsr/chat")["status"], before["status"]);
}
