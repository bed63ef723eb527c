//! `tidegate check`: what the API server and the controller would say of files, without either of them.

mod report;
mod stand_ins;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use jiff::Timestamp;

use self::report::{Report, RouteReport};
use tidegate_core::escape;

use super::{
    args::{CheckArgs, OutputArg},
    print, print_error,
};
use crate::{
    api::{HostnamePolicy, WebSocketRoute},
    source::{files::Manifests, hostname_policy},
    table::ObjectRef,
    translate::{EndpointPolicy, Inputs, RouteInput, RouteStatus, Translator},
};

/// The exit code where a file or folder could not be read, as for arguments that make no sense.
const UNREADABLE: u8 = 2;

/// Runs `tidegate check`. The exit code is 0 if all is well, 1 if something is wrong with what was read, 2 if something could
/// not be read.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let mut manifests = Manifests::default();
    for path in &args.files {
        if path == Path::new("-") {
            manifests.add_stream("-", std::io::stdin().lock());
        } else {
            manifests.add_path(path);
        }
    }
    let policy = match args.hostname_policy.as_deref().map(hostname_policy::read).transpose() {
        Ok(policy) => policy.map(Arc::new),
        Err(error) => {
            print_error(&format!("tidegate: {error}\n"));
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let report = judge(manifests, policy, args.class.as_deref(), args.strict)?;
    print(&match args.output {
        OutputArg::Text => escape::lines(&report.text()).into_owned(),
        OutputArg::Json => escape::json(&report.json()).into_owned(),
    })?;
    Ok(if !report.unreadable.is_empty() {
        ExitCode::from(UNREADABLE)
    } else if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Judges what was read: the routes of `class`, or each by the class that it names.
fn judge(
    manifests: Manifests,
    policy: Option<Arc<HostnamePolicy>>,
    class: Option<&str>,
    strict: bool,
) -> Result<Report> {
    let mut inputs = manifests.inputs();
    inputs.hostname_policy = policy;
    inputs.now = Some(Timestamp::now().as_second());
    stand_ins::endpoints(&mut inputs);
    let mut notes = match strict {
        true => BTreeMap::new(),
        false => stand_ins::references(&mut inputs, &manifests.empty_config_maps)?,
    };
    let mut statuses = conditions(&inputs, class);
    let (mut routes, mut general) = (Vec::new(), unlabelled(&inputs));
    for (reference, place) in manifests.routes {
        let class_name = class_of(&inputs, &reference).unwrap_or_default().to_owned();
        let notes = notes.remove(&reference).unwrap_or_default();
        match statuses.remove(&reference) {
            Some(RouteStatus { conditions, .. }) => routes.push(RouteReport {
                reference,
                class_name,
                place,
                conditions,
                notes,
            }),
            None => general.push(report::Note {
                place: Some(place),
                message: format!(
                    "WebSocketRoute {reference}: was not judged, as its spec.className is {class_name:?}"
                ),
            }),
        }
    }
    if routes.is_empty() {
        let of_class = class.map(|class| format!(" of class {class:?}")).unwrap_or_default();
        let message = format!("no WebSocketRoute{of_class} was judged");
        general.push(report::Note { place: None, message });
    }
    Ok(Report::new(
        routes,
        manifests.problems,
        manifests.unreadable,
        manifests.unknown,
        general,
        strict,
    ))
}

/// A note for each namespace of a route whose labels the policy asks for, and the files do not tell.
fn unlabelled(inputs: &Inputs) -> Vec<report::Note> {
    if !inputs.hostname_policy.as_ref().is_some_and(|policy| policy.asks_for_labels()) {
        return Vec::new();
    }
    let namespaces: BTreeSet<_> =
        routes(inputs).filter_map(|route| route.metadata.namespace.as_deref()).collect();
    let unknown = namespaces.into_iter().filter(|it| !inputs.namespace_labels.contains_key(*it));
    let note = |namespace| report::Note {
        place: None,
        message: format!(
            "Namespace {namespace} is not among the files; no namespaceSelector of the hostname policy selects it"
        ),
    };
    unknown.map(note).collect()
}

/// What the controllers of each class would write.
fn conditions(inputs: &Inputs, class: Option<&str>) -> BTreeMap<ObjectRef, RouteStatus> {
    let classes: BTreeSet<&str> = match class {
        Some(class) => [class].into(),
        None => routes(inputs).map(|route| route.spec.class_name.as_str()).collect(),
    };
    // A folder may be served as it is, where loopback is permitted; in a cluster the API server refuses it.
    let endpoints = EndpointPolicy { allow_loopback: true, ..EndpointPolicy::default() };
    let mut translator = Translator::default().with_endpoints(endpoints);
    classes.into_iter().flat_map(|class| translator.translate(inputs, class).statuses).collect()
}

fn class_of<'i>(inputs: &'i Inputs, wanted: &ObjectRef) -> Option<&'i str> {
    let found = routes(inputs).find(|route| reference(route) == *wanted);
    found.map(|route| route.spec.class_name.as_str())
}

/// The routes; those from files are all readable, for the others are problems.
fn routes(inputs: &Inputs) -> impl Iterator<Item = &WebSocketRoute> {
    inputs.routes.iter().filter_map(|route| match route {
        RouteInput::Valid(route) => Some(route.as_ref()),
        RouteInput::Unreadable { .. } => None,
    })
}

fn reference(route: &WebSocketRoute) -> ObjectRef {
    ObjectRef {
        namespace: route.metadata.namespace.clone().unwrap_or_default(),
        name: route.metadata.name.clone().unwrap_or_default(),
    }
}
