//! The encoding of records: JSON with the number of the format as an additional field.
//!
//! A version that adds a field keeps the number: older ones leave the field out, also where they
//! write the record again. The number is raised for a change that an older version must not
//! overlook; it refuses the record then. Records of version 0.1.0 have no number.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{StoreError, Table};
use crate::resource::from_value;

/// The highest number that this version reads, which it writes too.
const VERSION: u64 = 1;

/// The name of the number's field. No record has another field of this name.
const FIELD: &str = "v";

#[derive(Serialize)]
struct Versioned<'r, T> {
    v: u64,
    #[serde(flatten)]
    record: &'r T,
}

pub(crate) fn encode(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(&Versioned { v: VERSION, record })
        .map_err(|cause| StoreError::Unreadable(cause.to_string()))
}

/// Reads a record of this version, of an older one, or of a newer one as far as this one knows it.
///
/// # Errors
/// [`StoreError::Newer`] if this version must not read it, [`StoreError::Unreadable`] if it is
/// damaged.
pub(crate) fn decode<T: DeserializeOwned>(
    table: Table,
    key: &str,
    record: &[u8],
) -> Result<T, StoreError> {
    let damaged = |cause: serde_json::Error| {
        StoreError::Unreadable(format!("{} {key:?}: {cause}", table.singular()))
    };
    let record: Value = serde_json::from_slice(record).map_err(damaged)?;
    if record.get(FIELD).and_then(Value::as_u64).unwrap_or(0) > VERSION {
        return Err(StoreError::Newer(format!("{} {key:?}", table.singular())));
    }
    from_value(record).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{
        Bot, BotInstance, JoinMethod, Lock, PurposePolicy, Resource, Token, WorkloadIdentity, read,
    };

    const DOCUMENTS: &str = "\
kind: bot
version: v1
metadata: {name: b, labels: {a: b}}
spec: {roles: [dev], traits: [{name: logins, values: [root]}], max_session_ttl: 2h}
---
kind: token
version: v2
metadata: {name: t}
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: b
  tpm: {allow: [{ek_public_hash: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}]}
---
kind: lock
version: v2
metadata: {name: l}
spec: {target: {user: bot-b}, expires: 2030-01-01T00:00:00Z}
---
kind: workload_identity
version: v1
metadata: {name: w}
spec:
  bots: {names: [b], labels: {}}
  rules: {allow: [{conditions: [{attribute: workload.unix.uid, in: {values: [a1, a2]}}]}]}
  spiffe: {id: '/{{ user.bot_name }}', hint: h, x509: {dns_sans: [a.b], maximum_ttl: 1h}}
  ssh: {host: {principals: [a]}}
";

    /// The same value with an unknown field in each object.
    fn with_more(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, with_more(value)));
                let more = ("of_a_newer_version".to_owned(), Value::from(vec![1, 2]));
                fields.chain([more]).collect()
            }
            Value::Array(all) => all.into_iter().map(with_more).collect(),
            scalar => scalar,
        }
    }

    fn stored(resource: &Resource) -> Value {
        serde_json::from_slice(&encode(resource).unwrap()).unwrap()
    }

    fn read_again<T: DeserializeOwned>(record: &Value) -> Result<T, StoreError> {
        decode(Table::Bots, "k", &serde_json::to_vec(record).unwrap())
    }

    fn assert_same(resource: &Resource, record: &Value) {
        let again = match resource {
            Resource::Bot(_) => Resource::Bot(read_again::<Bot>(record).unwrap()),
            Resource::Token(_) => Resource::Token(read_again::<Token>(record).unwrap()),
            Resource::Lock(_) => Resource::Lock(read_again::<Lock>(record).unwrap()),
            Resource::WorkloadIdentity(_) => {
                Resource::WorkloadIdentity(read_again::<Box<WorkloadIdentity>>(record).unwrap())
            }
            Resource::BotInstance(_) => {
                Resource::BotInstance(read_again::<Box<BotInstance>>(record).unwrap())
            }
        };
        assert_eq!(again, *resource);
    }

    #[test]
    fn record_of_this_an_older_or_a_newer_version_is_read() {
        for resource in read(DOCUMENTS).unwrap() {
            let mut record = stored(&resource);
            assert_eq!(record[FIELD], VERSION);
            assert_same(&resource, &record);
            // Labels and traits are maps: whatever is in them is known.
            record["metadata"]["labels"].take();
            let Value::Object(fields) = &mut record else { panic!("{record}") };
            fields.remove(FIELD);
            let mut plain = resource.clone();
            if let Resource::Bot(bot) = &mut plain {
                bot.metadata.labels.clear();
            }
            assert_same(&plain, &record);
            assert_same(&plain, &with_more(record));
        }
    }

    #[test]
    fn unknown_value_of_an_enumeration_is_kept_or_means_the_stricter_one() {
        let resources = read(DOCUMENTS).unwrap();
        let mut record = stored(&resources[1]);
        record["spec"]["join_method"] = "by_magic".into();
        record["spec"]["roles"] = vec!["Bot", "Sorcerer"].into();
        record["spec"]["tpm"]["ekcert_without_purpose"] = "sometimes".into();
        let token: Token = read_again(&record).unwrap();
        assert_eq!(token.spec.join_method, JoinMethod::Other("by_magic".into()));
        assert_eq!(token.spec.tpm.unwrap().ekcert_without_purpose, PurposePolicy::Refused);
        assert_eq!(String::from(token.spec.roles[1].clone()), "Sorcerer");
    }

    #[test]
    fn record_of_a_newer_version_is_distinguished_from_a_damaged_one() {
        let mut record = stored(&read(DOCUMENTS).unwrap()[0]);
        record[FIELD] = (VERSION + 1).into();
        let newer = read_again::<Bot>(&record).unwrap_err();
        let text = "bot \"k\" was written by a newer authority: upgrade this one";
        assert_eq!(newer.to_string(), text);
        record[FIELD] = VERSION.into();
        record["spec"].take();
        let damaged = read_again::<Bot>(&record).unwrap_err();
        assert!(matches!(damaged, StoreError::Unreadable(_)), "{damaged}");
        let cut = decode::<Bot>(Table::Bots, "k", br#"{"v":1,"kind":"bo"#).unwrap_err();
        assert!(matches!(cut, StoreError::Unreadable(_)), "{cut}");
    }
}
