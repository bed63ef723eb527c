//! Pods come and go; sockets stay where they are.

use std::time::Duration;

use crate::support::{App, Release, eventually, expect_eq};

#[test]
fn a_new_pod_gets_new_connections_while_old_sockets_live_on() {
    let release = Release::shared();
    let app = App::start(&release, "scale-up", 2);
    let before = app.namespace.pods("chat");
    let address = release.load_balancer();
    let mut old: Vec<_> = (0..6).map(|_| app.open(address)).collect();

    app.namespace.kubectl(&["scale", "deployment/chat", "--replicas=3"]);
    app.namespace.wait_for_rollout("chat");
    let after = app.namespace.pods("chat");
    let new = after.iter().find(|pod| !before.contains(pod)).expect("there is a third pod");

    for replica in release.pods() {
        let mut socket = eventually(&format!("{} opens one to {new}", replica.name), 20, || {
            let socket = app.client.open(replica.https())?;
            expect_eq(&socket.backend, new).map(|()| socket)
        });
        socket.echo("from the new pod");
    }
    for socket in &mut old {
        socket.echo("still here");
    }
}

#[test]
fn a_removed_pod_gets_no_new_connections_and_others_keep_their_sockets() {
    let release = Release::shared();
    let app = App::start(&release, "scale-down", 3);
    let pods = app.namespace.pods("chat");
    let stays = &pods[0];
    // The ReplicaSet removes the pods of the lowest cost first.
    app.namespace.kubectl(&[
        "annotate",
        &format!("pod/{stays}"),
        "controller.kubernetes.io/pod-deletion-cost=100",
    ]);
    let replicas = release.pods();
    // Pods that were ready a moment later than others get fewer at first: open until both kinds are there.
    let (mut staying, mut leaving) = (Vec::new(), Vec::new());
    for replica in &replicas {
        let enough = staying.len() + 1;
        eventually(&format!("{} has sockets to {stays} and to others", replica.name), 20, || {
            let socket = app.client.open(replica.https())?;
            let kind = if socket.backend == *stays { &mut staying } else { &mut leaving };
            kind.push(socket);
            let missing = staying.len() < enough || leaving.len() < 2 * enough;
            if missing { Err(format!("{} and {}", staying.len(), leaving.len())) } else { Ok(()) }
        });
    }

    app.namespace.kubectl(&["scale", "deployment/chat", "--replicas=1"]);
    for replica in &replicas {
        eventually(&format!("{} knows of one pod only", replica.name), 20, || {
            // With these held, any other endpoint would be chosen within four tries.
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push(app.client.open(replica.https())?);
            }
            held.iter().try_for_each(|socket| expect_eq(&socket.backend, stays))
        });
    }
    for socket in &mut staying {
        socket.echo("still here");
    }
    for mut socket in leaving {
        // The pod is gone, and its client gets to know it.
        socket.read_to_end(Duration::from_secs(20)).expect("it ends with its pod");
    }
    for socket in &mut staying {
        socket.echo("and here");
    }
}
