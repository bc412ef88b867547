//! What services are issued of a workload identity: one credential of one identity.

use host::exit::{Exit, Failure};

use super::{Worker, call};
use crate::ceremony::authenticated::Denied;
use crate::ceremony::workloads::Wanted;
use crate::config::{Service, WorkloadIdentity};
use crate::credential::cache::Certificates;
use crate::credential::identity::Identity;
use crate::credential::svid::{JwtSvid, X509Svid};
use crate::keys::Key;

/// What a failure says of identities by name.
const MAX_NAMED: usize = 8;

impl Worker {
    /// The X.509-SVID of a service for this key.
    pub(super) async fn request_svid(
        &mut self,
        identity: &Identity,
        service: &Service,
        whose: &WorkloadIdentity,
        key: &dyn Key,
    ) -> Result<Certificates, Denied> {
        let (stop, log) = (self.stop.clone(), self.log);
        let connection = self.connection(identity).await?;
        let wanted = wanted(service, whose);
        let issued = connection.x509_svids_for(&wanted, key);
        let (svids, bundle) = call(log, "issue_x509_svids", stop.limit(issued)).await?;
        let svid = only(svids, whose, |svid: &X509Svid| (&svid.spiffe_id, &svid.hint))?;
        Ok(Certificates::Workload(svid, bundle))
    }

    /// The JWT-SVID of a service.
    pub(super) async fn request_jwt(
        &mut self,
        identity: &Identity,
        service: &Service,
        whose: &WorkloadIdentity,
        audiences: &[String],
    ) -> Result<JwtSvid, Denied> {
        let (stop, log) = (self.stop.clone(), self.log);
        let connection = self.connection(identity).await?;
        // A JWT is verified as its receivers will: with the keys that they are given now.
        let bundle = call(log, "get_trust_bundle", stop.limit(connection.trust_bundle())).await?;
        let wanted = wanted(service, whose);
        let issued = connection.jwt_svids(&wanted, audiences, None, &bundle);
        let svids = call(log, "issue_jwt_svids", stop.limit(issued)).await?;
        Ok(only(svids, whose, |svid: &JwtSvid| (&svid.spiffe_id, &svid.hint))?)
    }
}

fn wanted(service: &Service, whose: &WorkloadIdentity) -> Wanted {
    Wanted {
        selector: whose.selector.clone(),
        // Whoever may read the files has the identity.
        workload: None,
        service: service.name.to_string(),
        ttl: service.lifetime.ttl,
    }
}

/// The one that the service is to have. Files have room for one, and to choose is up to the operator.
fn only<T>(
    all: Vec<T>,
    whose: &WorkloadIdentity,
    named: impl Fn(&T) -> (&str, &str),
) -> Result<T, Failure> {
    let is_meant = |one: &T| whose.hint.as_deref().is_none_or(|hint| named(one).1 == hint);
    let (mut meant, others): (Vec<T>, Vec<T>) = all.into_iter().partition(is_meant);
    let names = |all: &[T]| {
        let names: Vec<String> = all.iter().take(MAX_NAMED).map(|one| shown(named(one))).collect();
        names.join(", ")
    };
    match (meant.pop(), meant.len()) {
        (Some(one), 0) => Ok(one),
        (Some(one), others) => {
            meant.push(one);
            Err(Failure::new(
                Exit::Config,
                format!("{} workload identities match: {}", others + 1, names(&meant)),
                "write the `name` of one of them in `selector`, or its `hint`",
            ))
        }
        (None, _) => Err(Failure::new(
            Exit::Config,
            format!("no workload identity with this hint matches, only {}", names(&others)),
            "compare `hint` with `spec.spiffe.hint` of the workload identity",
        )),
    }
}

fn shown((spiffe_id, hint): (&str, &str)) -> String {
    match hint {
        "" => spiffe_id.to_owned(),
        hint => format!("{spiffe_id} (hint {hint:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (&'static str, &'static str);

    fn chosen(all: &[Pair], hint: Option<&str>) -> Result<Pair, String> {
        let whose =
            WorkloadIdentity { hint: hint.map(ToOwned::to_owned), ..WorkloadIdentity::default() };
        only(all.to_vec(), &whose, |one| *one).map_err(|failure| failure.message)
    }

    #[test]
    fn service_has_exactly_one_identity() {
        let (a, b, c) = (("spiffe://td/a", "x"), ("spiffe://td/b", "y"), ("spiffe://td/c", "y"));
        assert_eq!(chosen(&[a], None), Ok(a));
        assert_eq!(chosen(&[a, b], Some("y")), Ok(b));
        let several = chosen(&[a, b], None).unwrap_err();
        let named = "spiffe://td/a (hint \"x\"), spiffe://td/b (hint \"y\")";
        assert_eq!(several, format!("2 workload identities match: {named}"));
        let equal = chosen(&[a, b, c], Some("y")).unwrap_err();
        let named_y = "spiffe://td/b (hint \"y\"), spiffe://td/c (hint \"y\")";
        assert_eq!(equal, format!("2 workload identities match: {named_y}"));
        let none = chosen(&[a, b], Some("z")).unwrap_err();
        assert_eq!(none, format!("no workload identity with this hint matches, only {named}"));
    }
}
