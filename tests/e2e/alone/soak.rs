//! Many changes under many live sockets. The regular run is short; `make soak` makes it 1,000 changes in ten minutes under
//! 2,000 sockets.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    App, Arrivals, Crowd, Manner, Pod, Release, eventually, expect_eq, memory_of_replica, objects,
    setting, wait_until,
};

/// What is changed all the time: routes of one application, their certificate, its pods, and the Lease.
struct Changes<'a> {
    release: &'a Release,
    app: App,
    /// The routes that there are now, the oldest first.
    routes: VecDeque<String>,
    made: u64,
    leases_lost: u64,
}

impl Changes<'_> {
    /// Makes the next one.
    #[track_caller]
    fn next(&mut self) {
        let number = self.made;
        self.made += 1;
        let namespace = &self.app.namespace;
        // A quarter of a Lease's time into each minute or so.
        if number % 60 == 14 {
            self.leases_lost += 1;
            self.take_the_lease_away();
            return;
        }
        match number % 8 {
            0 | 4 => {
                let name = format!("route-{number}");
                namespace.apply(&[&self.route(&name, "/")]);
                self.routes.push_back(name);
            }
            1 => {
                let newest = self.routes.back().expect("one was added before");
                namespace.apply(&[&self.route(newest, &format!("/{number}"))]);
            }
            2 => {
                let renewed = self.app.authority.issue(&["*.test", &self.app.client.host]);
                namespace.apply(&[&objects::tls_secret("chat-tls", &renewed)]);
            }
            // As many as are added: memory is compared at the end.
            3 | 7 => {
                let oldest = self.routes.pop_front().expect("one was added before");
                namespace.delete(&format!("wsr/{oldest}"));
            }
            5 => {
                let replicas = format!("--replicas={}", 1 + number / 8 % 4);
                namespace.kubectl(&["scale", "deployment/chat", &replicas]);
            }
            _ => {
                namespace.kubectl(&["rollout", "restart", "deployment/chat"]);
            }
        }
    }

    fn route(&self, name: &str, path: &str) -> Value {
        let mut route = objects::route(name, &self.app.namespace.host(name));
        route["spec"]["tls"]["secretName"] = "chat-tls".into();
        route["spec"]["rules"][0]["matches"] = json!([{ "path": { "value": path } }]);
        route["spec"]["rules"][0]["backendRefs"][0]["name"] = App::NAME.into();
        route
    }

    #[track_caller]
    fn take_the_lease_away(&self) {
        self.release.kubectl(&[
            "patch",
            &format!("lease/tidegate-{}", self.release.class),
            "--type=merge",
            "--patch={\"spec\":{\"holderIdentity\":\"somebody\",\"leaseDurationSeconds\":5}}",
        ]);
    }

    /// Every route that is left is served and says so.
    fn settled(&self) -> Result<(), String> {
        let text = self.app.namespace.kubectl(&["get", "wsr", "--output=json"]);
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let routes = list["items"].as_array().cloned().unwrap_or_default();
        // The application's own as well.
        expect_eq(&routes.len(), &(self.routes.len() + 1))?;
        for route in routes {
            let conditions = route["status"]["conditions"].as_array();
            let programmed = conditions.into_iter().flatten().find(|c| c["type"] == "Programmed");
            let programmed = programmed.ok_or("no condition")?;
            expect_eq(&programmed["status"], &"True")?;
            expect_eq(&programmed["observedGeneration"], &route["metadata"]["generation"])?;
        }
        Ok(())
    }
}

/// What the replicas hold, MiB.
fn memory(replicas: &[Pod]) -> f64 {
    replicas.iter().map(|pod| memory_of_replica(&pod.name)).sum::<u64>() as f64 / 1024.0 / 1024.0
}

#[test]
fn changes_harm_no_socket_of_an_untouched_route() {
    let changes = setting("TIDEGATE_E2E_CHANGES", 60);
    let duration = Duration::from_secs(setting("TIDEGATE_E2E_CHANGES_SECONDS", 40));
    let members = setting("TIDEGATE_E2E_MEMBERS", 200) as usize;
    let release = Release::shared();
    let replicas = release.pods();
    let bystander = App::start(&release, "untouched", 2);
    let to: Vec<_> = replicas.iter().map(Pod::https).collect();
    let mut changing = Changes {
        release: &release,
        app: App::start_lingering(&release, "changing", 2),
        routes: VecDeque::new(),
        made: 0,
        leases_lost: 0,
    };
    // Their pods are told to end all the time. They stay while their pod serves, which tells them itself when it goes.
    let guests = Crowd::gather(&changing.app.client, &to, members.div_ceil(40), Manner::RETURNS);
    // 400 bursts a second at most: the changes want some processor time as well.
    let manner = Manner {
        pause: Duration::from_secs((members as u64).div_ceil(400)),
        patience: Duration::from_secs(30),
        ..Manner::STAYS
    };
    let crowd = Crowd::gather(&bystander.client, &to, members, manner);
    let arrivals = Arrivals::begin(&bystander.client, &to);
    let generation = || release.metric("tidegate_table_generation", &[]);
    let first_generation = generation();
    eventually("the crowd is in full swing", 90, || {
        let back = crowd.chronicle().back;
        if back > 5 * members as u64 { Ok(()) } else { Err(format!("{back}")) }
    });

    let before = memory(&replicas);
    let mut most = before;
    let begin = Instant::now();
    for number in 0..changes {
        wait_until(begin + duration.mul_f64(number as f64 / changes as f64));
        changing.next();
        let now = memory(&replicas);
        most = now.max(most);
        if changing.made.is_multiple_of((changes / 10).max(1)) {
            eprintln!("soak: {} changes, {now:.2} MiB", changing.made);
        }
        assert!(crowd.chronicle().ended.is_empty(), "{}", crowd.chronicle().summary());
    }
    let took = begin.elapsed();
    let tables = generation() - first_generation;

    eventually("every status is right", 60, || changing.settled());
    let after = eventually("memory is back within 5 % of the baseline", 60, || {
        let after = memory(&replicas);
        if after <= before * 1.05 { Ok(after) } else { Err(format!("{before:.1}, {after:.1} MiB")) }
    });
    let guests = guests.disperse();
    let arrivals = arrivals.end();
    let open = crowd.open();
    let chronicle = crowd.disperse();
    let moved: Vec<_> = guests.ended.iter().filter(|ended| ended.code == Some(1001)).collect();
    println!(
        "soak: {changes} changes in {:.0} s ({} tables published, the Lease lost {} times) under {members} sockets\n\
         soak: {} sockets lost, {} of {} messages lost or out of turn, {} of {} new upgrades failed\n\
         soak: memory of both replicas {before:.1} MiB before, {most:.1} MiB at most, {after:.1} MiB after",
        took.as_secs_f64(),
        tables,
        changing.leases_lost,
        chronicle.ended.len(),
        chronicle.disorder.len(),
        chronicle.sent,
        arrivals.iter().filter(|arrival| arrival.result.is_err()).count(),
        arrivals.len(),
    );
    println!(
        "soak: {} times a pod that ended told one of {} guests goodbye, {} of {} other ends, {} upgrades failed",
        moved.len(),
        members.div_ceil(40),
        guests.ended.len() - moved.len(),
        guests.ended.len(),
        guests.failed.len(),
    );
    chronicle.expect_unharmed();
    // Close 1001 is the backend's word; the gateway's own would be another.
    assert!(!moved.is_empty() && moved.len() == guests.ended.len(), "{}", guests.summary());
    assert!(guests.failed.is_empty() && guests.disorder.is_empty(), "{}", guests.summary());
    assert_eq!((open, chronicle.back), (members, chronicle.sent));
    let refused = arrivals.iter().find(|arrival| arrival.result.is_err());
    assert!(refused.is_none(), "{refused:?}");
    assert!(tables >= changes as f64 / 4.0, "only {tables} tables were published");
    release.expect_not_restarted(&replicas);
    let untouched = bystander.namespace.condition("chat", "Programmed").expect("it was written");
    assert_eq!((untouched.status.as_str(), untouched.observed_generation), ("True", 1));
}
