//! Golden files: what a user writes (`cases/NAME.in.yaml`), and all that comes of it
//! (`cases/NAME.out.yaml`): the table, every condition, every line of the log.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the answers anew; read the diff before you
//! commit it. README.md beside this file says how a case is written.

mod objects;
mod render;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tidegate::{
    api::{ConditionType, DEFAULT_CLASS, Reason},
    table::ObjectRef,
    translate::{Budgets, EndpointPolicy, Inputs, Output, RouteInput, Translator, translate},
};

/// When it is in every case, so that certificates are judged alike for ever: 2026-06-01T00:00:00Z.
const NOW: i64 = 1_780_272_000;

#[test]
fn every_case_gives_its_answer() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = render::render(&case.translate());
        let expected = fs::read_to_string(&case.answer).unwrap_or_default();
        if answer == expected {
            continue;
        }
        if update {
            fs::write(&case.answer, &answer).expect("the folder of the cases is writable");
        } else {
            wrong.push(format!("{}\n{}", case.name, difference(&expected, &answer)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the cases give another answer. If that is meant: UPDATE_GOLDEN=1 cargo test --test golden\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_case_says_what_it_shows() {
    for case in cases() {
        let first = case.text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# "),
            "{}: begin with a comment that says what it shows",
            case.name
        );
    }
}

#[test]
fn no_answer_is_without_its_case() {
    let known: BTreeSet<_> = cases().into_iter().map(|case| case.answer).collect();
    for file in files(".out.yaml") {
        assert!(known.contains(&file), "{} has no .in.yaml: delete it", file.display());
    }
}

#[test]
fn every_reason_of_every_condition_is_shown_and_no_other() {
    let outputs: Vec<_> = cases().iter().map(Case::translate).collect();
    let shown: BTreeSet<_> = outputs
        .iter()
        .flat_map(|output| output.statuses.values())
        .flat_map(|status| &status.conditions)
        .map(|condition| (condition.kind, condition.reason))
        .collect();
    let known: BTreeSet<_> = ConditionType::ALL
        .iter()
        .flat_map(|kind| kind.reasons().iter().map(|reason| (*kind, *reason)))
        .collect();
    assert_eq!(shown, known, "left: what the cases show; right: what conditions can have");
    let reasons: BTreeSet<_> = known.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, BTreeSet::from(Reason::ALL));
}

/// Every sentence about a conflict, by a part of it: each must name who wins, unless that is of another namespace.
#[test]
fn every_rule_of_conflicts_is_shown_and_names_the_winner_of_its_own_namespace() {
    let answers: Vec<_> =
        cases().iter().map(|case| translate(&case.inputs(), DEFAULT_CLASS)).collect();
    let conflicts: Vec<_> = answers
        .iter()
        .flat_map(|answer| &answer.problems)
        .filter(|problem| problem.reason == Reason::Conflicted)
        .collect();
    let rules = [
        ("is never reached: spec.rules[", "a rule repeats another of its route"),
        ("belongs to route ", "a match is another route's"),
        ("the certificate is chosen by route ", "a hostname's certificate is another route's"),
        ("Strict-Transport-Security is chosen by route ", "a hostname's HSTS is another route's"),
        ("belongs to a route of another namespace", "a match is another namespace's"),
        ("certificate is chosen by a route of another namespace", "so is the certificate"),
        ("Security is chosen by a route of another namespace", "so is the HSTS"),
    ];
    for (part, rule) in rules {
        assert!(
            conflicts.iter().any(|problem| problem.message.contains(part)),
            "no case shows: {rule}"
        );
    }
    for problem in conflicts {
        assert!(rules.iter().any(|(part, _)| problem.message.contains(part)), "{problem}");
    }
}

/// Whoever reads a condition may read the objects of its namespace, and those that its route names.
#[test]
fn no_condition_names_an_object_of_another_namespace() {
    for case in cases() {
        let inputs = case.inputs();
        let objects: BTreeSet<_> =
            inputs.secrets.keys().chain(inputs.services.keys()).cloned().collect();
        let output = translate(&inputs, DEFAULT_CLASS);
        let objects: BTreeSet<_> =
            objects.into_iter().chain(output.statuses.keys().cloned()).collect();
        for (route, status) in &output.statuses {
            let named = |object: &&ObjectRef| {
                let name = object.to_string();
                status.conditions.iter().any(|condition| condition.message.contains(&name))
            };
            let foreign =
                objects.iter().filter(|object| object.namespace != route.namespace).find(named);
            let referred = |object: &ObjectRef| {
                inputs.routes.iter().any(|input| match input {
                    RouteInput::Valid(input) => {
                        let reference =
                            input.spec.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref());
                        input.metadata.name.as_deref() == Some(&route.name)
                            && input.metadata.namespace.as_deref() == Some(&route.namespace)
                            && reference.is_some_and(|it| {
                                it.name == object.name
                                    && it.namespace.as_deref() == Some(&object.namespace)
                            })
                    }
                    RouteInput::Unreadable { .. } => false,
                })
            };
            assert!(foreign.is_none_or(referred), "{}: {route} is told of {foreign:?}", case.name);
        }
    }
}

#[test]
fn the_order_of_objects_and_what_was_translated_before_change_no_answer() {
    let mut used = Translator::default();
    for case in cases() {
        let inputs = case.inputs();
        let answer = translate(&inputs, DEFAULT_CLASS);
        assert_eq!(used.translate(&reversed(&inputs), DEFAULT_CLASS), answer, "{}", case.name);
        assert_eq!(used.translate(&Inputs::default(), DEFAULT_CLASS), Output::default());
    }
}

fn reversed(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    inputs.routes.reverse();
    inputs.endpoint_slices.reverse();
    if let Some(grants) = &mut inputs.reference_grants {
        grants.reverse();
    }
    inputs
}

struct Case {
    name: String,
    text: String,
    answer: PathBuf,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let mut inputs = objects::parse(&self.text)
            .unwrap_or_else(|error| panic!("cases/{}.in.yaml: {error}", self.name));
        inputs.now = Some(NOW);
        inputs
    }

    /// The answer of a gateway in the zone that a line `# zone: NAME` gives, with the budgets of lines
    /// `# budget: NAME NUMBER`, that listens where `# listens at ADDRESS` says and runs in `# runs in NAMESPACE`.
    fn translate(&self) -> Output {
        let words = |prefix: &'static str| {
            self.text.lines().filter_map(move |line| line.strip_prefix(prefix))
        };
        let mut budgets = Budgets::default();
        for budget in words("# budget: ") {
            let (name, number) = budget.split_once(' ').expect("a name and a number");
            let number = number.parse().expect("a number");
            *match name {
                "matches_per_namespace" => &mut budgets.matches_per_namespace,
                "matches_per_host" => &mut budgets.matches_per_host,
                "matches_per_path" => &mut budgets.matches_per_path,
                "endpoints_per_service" => &mut budgets.endpoints_per_service,
                "endpoints_per_namespace" => &mut budgets.endpoints_per_namespace,
                "certificate_bytes_per_namespace" => &mut budgets.certificate_bytes_per_namespace,
                "ca_bytes_per_namespace" => &mut budgets.ca_bytes_per_namespace,
                "solvers_per_namespace" => &mut budgets.solvers_per_namespace,
                "grants_per_namespace" => &mut budgets.grants_per_namespace,
                other => panic!("{}: there is no budget {other} here", self.name),
            } = number;
        }
        let listeners: Vec<std::net::SocketAddr> =
            words("# listens at ").map(|at| at.parse().expect("an address")).collect();
        let endpoints = EndpointPolicy {
            interfaces: listeners.iter().map(|at| at.ip()).collect(),
            listeners,
            namespace: words("# runs in ").next().map(str::to_owned),
            ..EndpointPolicy::default()
        };
        Translator::in_zone(words("# zone: ").next().map(str::to_owned))
            .with_budgets(budgets)
            .with_endpoints(endpoints)
            .translate(&self.inputs(), DEFAULT_CLASS)
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<_> = files(".in.yaml")
        .into_iter()
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            let name = name.trim_end_matches(".in.yaml").to_owned();
            let text = fs::read_to_string(&path).expect("the case is readable");
            let answer = path.with_file_name(format!("{name}.out.yaml"));
            Case { name, text, answer }
        })
        .collect();
    assert!(!cases.is_empty(), "no cases found");
    cases
}

fn files(suffix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the cases is there")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

/// The lines between the common beginning and the common end.
fn difference(expected: &str, answer: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), answer.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let removed = old_rest[..old_rest.len() - end].iter().map(|line| format!("  - {line}\n"));
    let added = new_rest[..new_rest.len() - end].iter().map(|line| format!("  + {line}\n"));
    format!(
        "  from line {}:\n{}{}",
        start + 1,
        removed.collect::<String>(),
        added.collect::<String>()
    )
}
