//! HTTP-01 challenges of ACME: Services and pods that are labelled as cert-manager labels those of its solvers answer them at port 80
//! of the load balancer. The pods echo, so that an answer tells what was asked of them.

use serde_json::{Value, json};
use tidegate::table::SolverKey;

use crate::support::{App, Namespace, Release, eventually, expect_eq, get, get_from, objects};

pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA";
const NAME: &str = "cm-acme-http-solver-x7k2p";

/// A solver's pods and Service for a hostname.
fn solver(host: &str) -> [Value; 2] {
    let key = SolverKey::new(host, TOKEN);
    let labels = json!({
        "acme.cert-manager.io/http01-solver": "true",
        "acme.cert-manager.io/http-domain": key.domain.to_string(),
        "acme.cert-manager.io/http-token": key.token.to_string(),
    });
    let mut pods = objects::deployment(NAME, 1);
    pods["spec"]["selector"]["matchLabels"] = labels.clone();
    pods["spec"]["template"]["metadata"]["labels"] = labels.clone();
    let container = &mut pods["spec"]["template"]["spec"]["containers"][0];
    container["args"] = json!(["echo-backend", "--listen=[::]:8089"]);
    container["ports"][0]["containerPort"] = 8089.into();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": NAME, "labels": labels },
        "spec": {
            "type": "NodePort",
            "selector": labels,
            "ports": [{ "name": "http", "port": 8089, "targetPort": 8089 }],
        },
    });
    [pods, service]
}

/// Starts a solver in a namespace and waits until both replicas know of it.
#[track_caller]
pub(crate) fn start_solver(release: &Release, namespace: &Namespace, host: &str) {
    let [pods, service] = solver(host);
    namespace.apply(&[&pods, &service]);
    namespace.wait_for_rollout(NAME);
    let wanted = format!("{}/{NAME}", namespace.name);
    for pod in release.pods() {
        eventually(&format!("{} knows the solver's pod", pod.name), 20, || {
            let (_, table) = get(pod.admin(), "/debug/table")?;
            let table: Value = serde_json::from_str(&table).map_err(|error| error.to_string())?;
            let solvers = table["acmeSolvers"].as_array().ok_or("no list of solvers")?;
            let ours = solvers.iter().find(|solver| solver["service"] == wanted.as_str());
            let state = ours.map(|solver| solver["endpoints"][0]["state"].as_str());
            expect_eq(&state, &Some(Some("Ready")))
        });
    }
}

/// Asks for the challenge as a validator does: at port 80, by name.
fn ask(release: &Release, host: &str) -> Result<(u16, String), String> {
    let mut address = release.load_balancer();
    address.set_port(80);
    get_from(address, host, &format!("/.well-known/acme-challenge/{TOKEN}"))
}

#[track_caller]
fn assert_solved(release: &Release, host: &str) {
    let (status, body) = ask(release, host).expect("port 80 answers");
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with(&format!("GET /.well-known/acme-challenge/{TOKEN}\n")), "{body}");
    assert!(body.contains(&format!("host: {host}\n")), "{body}");
}

#[test]
fn a_challenge_reaches_the_solver_though_the_route_refuses_clear_text_until_it_is_gone() {
    let release = Release::shared();
    let app = App::start(&release, "acme", 1);
    let host = &app.client.host;
    let (status, body) = ask(&release, host).expect("port 80 answers");
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("https://") && body.contains("plaintext: Allow"), "{body}");

    start_solver(&release, &app.namespace, host);
    assert_solved(&release, host);
    // The route goes on as it was.
    app.open(release.load_balancer()).echo("beside the challenge");

    app.namespace.delete(&format!("service/{NAME}"));
    eventually("the challenge is refused again", 20, || {
        let (status, body) = ask(&release, host)?;
        expect_eq(&status, &403).map_err(|_| body)
    });
}

/// The order in which people do it: first the Certificate, then the route.
#[test]
fn a_challenge_is_answered_before_there_is_a_route() {
    let release = Release::shared();
    let namespace = Namespace::new("acme-first");
    let host = namespace.host("chat");
    start_solver(&release, &namespace, &host);
    assert_solved(&release, &host);
}

/// Who may create Services in one namespace gets no certificate for the hostname of another one's route.
#[test]
fn a_solver_of_another_namespace_has_no_say_for_a_hostname_that_is_served() {
    let release = Release::shared();
    let app = App::start(&release, "acme-victim", 1);
    let other = Namespace::new("acme-attacker");
    start_solver(&release, &other, &app.client.host);
    let (status, body) = ask(&release, &app.client.host).expect("port 80 answers");
    assert_eq!(status, 403, "{body}");
}
