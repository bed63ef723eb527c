//! From manifests to echoed frames.

use std::collections::BTreeSet;

use tokio_tungstenite::tungstenite::Message;

use crate::support::{App, Release, eventually, expect_eq};

/// From `helm install` and `kubectl apply` to a route that says it is served.
#[test]
fn an_applied_route_becomes_programmed() {
    let release = Release::shared();
    let app = App::start(&release, "programmed", 1);
    for condition in ["Accepted", "ResolvedRefs", "Programmed"] {
        app.namespace.wait_for(condition, "wsr/chat");
        let found = app.namespace.condition("chat", condition).expect("it was waited for");
        assert_eq!(found.reason, condition);
        assert_eq!(found.observed_generation, 1);
    }

    let table = app.namespace.kubectl(&["get", "wsr"]);
    let columns: Vec<Vec<_>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(columns[0], ["NAME", "HOSTNAMES", "ACCEPTED", "PROGRAMMED", "ADDRESS", "AGE"]);
    let hostnames = format!("[\"{}\"]", app.client.host);
    assert_eq!(columns[1][..4], ["chat", hostnames.as_str(), "True", "True"], "{table}");
}

#[test]
fn text_binary_fragments_and_a_mebibyte_come_back_through_the_load_balancer() {
    let release = Release::shared();
    let app = App::start(&release, "echo", 2);
    echo_everything(&mut app.open(release.load_balancer()));
}

#[test]
fn text_binary_fragments_and_a_mebibyte_come_back_through_the_cluster_address() {
    let release = Release::shared();
    let app = App::start(&release, "echo-inside", 2);
    echo_everything(&mut app.open((release.cluster_ip("tidegate"), 443).into()));
}

/// The same twice on one socket: nothing of one message may be left over for the next.
fn echo_everything(socket: &mut crate::support::Socket) {
    for _ in 0..2 {
        socket.echo("hello");
        socket.echo("");
        socket.echo("Grüße, 世界 🌊");
        socket.echo_message(&Message::binary((0..=255).collect::<Vec<u8>>()));
        socket.echo_fragments(&["a message ", "", "in three ", "or four parts"]);
        let mebibyte: Vec<u8> = (0..1 << 20).map(|index: u32| (index * 31 % 251) as u8).collect();
        socket.echo_message(&Message::binary(mebibyte));
        socket.echo(&"tide ".repeat((1 << 20) / 5));
    }
}

/// Both replicas take connections, and both reach all pods, on both nodes.
#[test]
fn every_replica_reaches_every_pod() {
    let release = Release::shared();
    let app = App::start(&release, "spread", 2);
    let pods: BTreeSet<_> = app.namespace.pods("chat").into_iter().collect();
    for replica in release.pods() {
        // Least connections: as long as those at one pod are held, others go to the other one. The first few need not, if that
        // was ready a moment later: it gets fewer at first.
        let mut held = Vec::new();
        eventually(&format!("{} reaches every pod", replica.name), 20, || {
            let mut socket = app.client.open(replica.https())?;
            socket.echo("hello");
            held.push(socket);
            let reached: BTreeSet<_> = held.iter().map(|socket| socket.backend.clone()).collect();
            expect_eq(&reached, &pods)
        });
    }
    let nodes: BTreeSet<_> = release.pods().into_iter().map(|pod| pod.node).collect();
    assert_eq!(nodes.len(), 2, "the replicas are spread over the nodes");
}
