//! Idle connections.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{App, Metrics, Release, eventually, get, objects};

/// The client gets a Close frame with 1001, not before the time is over, and the metrics tell the cause.
#[test]
fn an_idle_connection_ends_at_the_routes_timeout_with_its_cause_in_the_metrics() {
    const IDLE: Duration = Duration::from_secs(2);
    let release = Release::shared();
    let app = App::prepare("idle", 1);
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["rules"][0]["timeouts"] = json!({ "idle": "2s" });
    app.namespace.apply(&[&route]);
    app.wait_until_served(&release);

    let labels = [("namespace", app.namespace.name.as_str()), ("route", "chat"), ("cause", "idle")];
    let closed = || release.metric("tidegate_connections_closed_total", &labels);
    let before = closed();
    let mut socket = app.open(release.load_balancer());
    socket.echo("the last for a while");
    let begin = Instant::now();
    let close = socket.read_to_end(IDLE * 4).expect("it ends by itself").expect("a Close frame");
    let lasted = begin.elapsed();
    assert_eq!(close.code, CloseCode::Away, "{close:?}");
    assert!(lasted > IDLE - Duration::from_millis(200), "it ended after {lasted:?} already");
    eventually("the metrics tell the cause", 10, || {
        let grown = closed() - before;
        if grown == 1.0 { Ok(()) } else { Err(format!("{grown} more closed as idle")) }
    });

    // What a scrape of the Service sees is one of the replicas.
    let admin = (release.cluster_ip("tidegate-admin"), 9090).into();
    let (status, text) = get(admin, "/metrics").expect("the admin Service answers");
    assert_eq!(status, 200);
    let build = Metrics::new(text).sum("tidegate_build_info", &[]);
    assert_eq!(build, Some(1.0));
}
