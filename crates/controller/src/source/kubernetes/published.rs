//! Where clients reach the gateway: given addresses, or those of a Service.

use k8s_openapi::api::core::v1::Service;
use tidegate_api::RouteAddress;
use tidegate_table::ObjectRef;

use super::store::Stored;
use crate::source::Change;

/// What routes are to name as their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublishedAddresses {
    /// None.
    #[default]
    Nothing,
    /// These.
    Addresses(Vec<RouteAddress>),
    /// Those of this Service, also when they change.
    Service(ObjectRef),
}

/// The addresses of a Service: what its load balancer says, else its external IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceAddresses(pub(super) Vec<RouteAddress>);

impl From<Service> for ServiceAddresses {
    fn from(service: Service) -> Self {
        let ingress = service.status.and_then(|status| status.load_balancer?.ingress);
        // An entry has the one or the other; a name stands where the address changes.
        let balanced =
            ingress.into_iter().flatten().filter_map(|entry| entry.hostname.or(entry.ip));
        let mut values: Vec<_> = balanced.filter(|value| !value.is_empty()).collect();
        if values.is_empty() {
            values = service.spec.and_then(|spec| spec.external_ips).unwrap_or_default();
        }
        Self(values.iter().map(|value| RouteAddress::new(value)).collect())
    }
}

impl Stored for ServiceAddresses {
    fn replace(&self, new: Self) -> (Self, Option<Change>) {
        let change = (*self != new).then_some(Change::Inputs);
        (new, change)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_api::AddressType;

    use super::*;

    fn addresses(spec: &Value, ingress: &Value) -> Vec<(AddressType, String)> {
        let service = json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
        let ServiceAddresses(list) = serde_json::from_value::<Service>(service).unwrap().into();
        list.into_iter().map(|address| (address.kind, address.value)).collect()
    }

    #[test]
    fn the_load_balancer_counts_before_external_ips() {
        let spec = json!({"externalIPs": ["198.51.100.1", "2001:db8::1"]});
        let ip = |value: &str| (AddressType::IpAddress, value.to_owned());
        assert_eq!(
            addresses(&spec, &json!([{"ip": "203.0.113.7"}, {"ip": "2001:db8::7"}])),
            [ip("203.0.113.7"), ip("2001:db8::7")]
        );
        assert_eq!(
            addresses(&spec, &json!([{"hostname": "lb.example.net"}])),
            [(AddressType::Hostname, "lb.example.net".to_owned())]
        );
        assert_eq!(addresses(&spec, &json!([])), [ip("198.51.100.1"), ip("2001:db8::1")]);
        assert_eq!(addresses(&spec, &json!([{}])), [ip("198.51.100.1"), ip("2001:db8::1")]);
    }

    #[test]
    fn a_service_that_nobody_reaches_from_outside_has_none() {
        assert_eq!(addresses(&json!({"clusterIP": "10.96.0.9"}), &Value::Null), []);
    }
}
