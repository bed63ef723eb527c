//! What translation yields beside the table.

use std::{collections::BTreeMap, fmt};

use tidegate_api::{ConditionType, Reason, RouteAddress};
use tidegate_table::{ObjectRef, RoutingTable};

/// The result of one translation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// What to serve.
    pub table: RoutingTable,
    /// What to tell each route of our class.
    pub statuses: BTreeMap<ObjectRef, RouteStatus>,
    /// What is wrong, for the log: one line each, in the order of the objects.
    pub problems: Vec<Problem>,
    /// When the same inputs would next give other statuses, because a certificate begins or ceases to
    /// be valid: seconds since 1970, above [`Inputs::now`](super::Inputs::now).
    pub next_change: Option<i64>,
}

/// The conditions of one route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStatus {
    /// The generation of the spec that was translated; absent for files.
    pub observed_generation: Option<i64>,
    /// Those under which the route serves something, in the order of the spec.
    pub hostnames: Vec<String>,
    /// Where clients reach them; `None` where that is not known, so that what is stored stays.
    pub addresses: Option<Vec<RouteAddress>>,
    /// In the order Accepted, ResolvedRefs, Programmed, PartiallyInvalid.
    pub conditions: Vec<ConditionOutput>,
}

/// One condition, without its time: when it changed is the status writer's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionOutput {
    /// Its type.
    pub kind: ConditionType,
    /// `True` or `False`.
    pub status: bool,
    /// Why.
    pub reason: Reason,
    /// What is wrong, where, and what to do about it; one or more sentences.
    pub message: String,
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of the object that it concerns: a WebSocketRoute, or a Service that no route leads to.
    pub kind: &'static str,
    /// The object.
    pub object: ObjectRef,
    /// Why.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind, self.object, self.reason, self.message)
    }
}
