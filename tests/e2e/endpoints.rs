//! A tenant that may write objects in its own namespace alone makes EndpointSlices that lead to the gateway and to the cloud's
//! metadata: each is refused, by the API server or with a condition, and nothing is dialled.

use serde_json::{Value, json};

use crate::support::{Client, Namespace, Release, eventually, try_kubectl};

/// Lets a ServiceAccount write what a tenant writes, in its own namespace. Its name for `--as`.
fn tenant(namespace: &Namespace) -> String {
    let name = &namespace.name;
    namespace.kubectl(&["create", "serviceaccount", "tenant"]);
    let kinds = "websocketroutes.tidegate.io,services,endpointslices.discovery.k8s.io";
    let resources = format!("--resource={kinds}");
    namespace.kubectl(&["create", "role", "tenant", "--verb=*", &resources]);
    // The API server lets nobody write slices of addresses without this one (CVE-2021-25740).
    namespace.kubectl(&[
        "create",
        "role",
        "slices",
        "--verb=create",
        "--resource=endpoints/restricted,endpointslices.discovery.k8s.io/restricted",
    ]);
    for role in ["tenant", "slices"] {
        let account = format!("--serviceaccount={name}:tenant");
        namespace.kubectl(&["create", "rolebinding", role, &format!("--role={role}"), &account]);
    }
    format!("--as=system:serviceaccount:{name}:tenant")
}

#[test]
fn a_tenants_endpoints_lead_neither_back_to_the_gateway_nor_to_metadata() {
    let release = Release::shared();
    let namespace = Namespace::new("loops");
    let tenant = tenant(&namespace);
    let create = |objects: &[Value]| {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments = [&tenant, "--namespace", &namespace.name, "create", "--filename=-"];
        try_kubectl(&arguments.map(|text: &str| text), Some(&list.to_string()))
    };
    assert!(
        try_kubectl(&[&tenant, "--namespace", "default", "get", "services"], None).is_err(),
        "the tenant may look into other namespaces"
    );
    let replicas = release.pods();
    let own = replicas[0].address.to_string();
    let other = replicas[1].address.to_string();
    let attempts = [
        ("data", "IPv4", own.as_str(), 8443),
        ("plain", "IPv4", own.as_str(), 8080),
        ("admin", "IPv4", own.as_str(), 9090),
        ("replica", "IPv4", other.as_str(), 9090),
        ("loopback", "IPv4", "127.0.0.1", 9090),
        ("mapped", "IPv6", "::ffff:127.0.0.1", 9090),
        ("translated", "IPv6", "64:ff9b::7f00:1", 9090),
        ("unspecified", "IPv4", "0.0.0.0", 9090),
        ("metadata", "IPv4", "169.254.169.254", 80),
        ("metadata-6", "IPv6", "fd00:ec2::254", 80),
        ("metadata-c", "IPv4", "100.100.100.200", 80),
        ("multicast", "IPv4", "239.1.1.1", 80),
    ];
    let mut served = Vec::new();
    for (name, family, address, port) in attempts {
        let host = namespace.host(name);
        let route = json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute", "metadata": { "name": name },
            "spec": {
                "hostnames": [host],
                "rules": [{ "http": "Forward", "backendRefs": [{ "name": name, "port": 80 }] }],
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "clusterIP": "None", "ports": [{ "name": "ws", "port": 80 }] },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
            "addressType": family, "ports": [{ "name": "ws", "port": port }],
            "endpoints": [{ "addresses": [address] }],
        });
        if let Err(error) = create(&[route, service]) {
            panic!("{name}: {error}");
        }
        match create(&[slice]) {
            Ok(_) => served.push((name, address, host)),
            // The API server knows some such addresses itself.
            Err(error) => assert!(error.contains("Invalid value"), "{error}"),
        }
    }
    // Those that it does not know are ours to refuse.
    for must in ["data", "plain", "admin", "replica", "translated", "metadata-6", "metadata-c"] {
        assert!(
            served.iter().any(|(name, ..)| *name == must),
            "{must} was refused by the API server"
        );
    }
    for (name, address, host) in &served {
        let message = namespace.eventually(name, "ResolvedRefs", "False", "EndpointNotPermitted");
        assert!(
            message.contains(address) || message.contains(&format!("[{address}]")),
            "{message}"
        );
        let client = Client::trusting_anyone(host).at("/debug/table");
        for replica in &replicas {
            eventually(&format!("{name} is answered by {}", replica.name), 20, || {
                let (status, body) = client.get(replica.https())?;
                match status {
                    503 if !body.contains("hostname") => Ok(()),
                    _ => Err(format!("{status} {body}")),
                }
            });
        }
    }
    // Nobody was restarted by it.
    release.expect_not_restarted(&replicas);
}
