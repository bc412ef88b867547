//! authority tokens

use host::clock::Clock;
use host::exit::Failure;
use host::output::{warn, write};
use uuid::Uuid;

use super::client::connect;
use super::get::{Answers, document, json};
use super::instances::HowToJoin;
use super::table::table;
use super::{create, resources};
use crate::cli::tokens::{Add, Format, Ls, Rm, Role, Tokens};
use crate::cli::{self, ListFormat};
use crate::resource::{
    JoinMethod, Kind, Metadata, Name, PurposePolicy, Resource, Rule, SystemRole, Timestamp, Token,
    TokenSpec, TpmSpec,
};

pub(super) async fn run(tokens: Tokens) -> Result<(), Failure> {
    match tokens {
        Tokens::Ls(ls) => list(ls).await,
        Tokens::Add(add) => create_token(*add).await,
        Tokens::Rm(rm) => remove(rm).await,
    }
}

async fn list(ls: Ls) -> Result<(), Failure> {
    let mut authority = connect(&ls.data).await?;
    let tokens = Answers::new(&mut authority, Kind::Token, "").all().await?;
    write(match (ls.format, tokens.as_slice()) {
        (ListFormat::Json, all) => json(&all)?,
        (ListFormat::Text, []) => "No tokens found.\n".into(),
        (ListFormat::Text, all) => {
            let rows: Vec<_> = all.iter().filter_map(token).map(row).collect();
            table(["Token", "Type", "Join Method", "Bot", "Rules", "Expires"], &rows)
        }
    })
}

async fn create_token(add: Add) -> Result<(), Failure> {
    let cas = add.ekcert_allowed_cas.iter().map(|path| create::read(path));
    let cas = cas.collect::<Result<Vec<_>, _>>()?;
    let mut authority = connect(&add.data).await?;
    let name: Name = match add.name {
        Some(name) => name,
        None => Uuid::new_v4().simple().to_string().parse().map_err(Failure::bug)?,
    };
    let role = match add.role {
        Role::Bot => SystemRole::Bot,
    };
    let rule = Rule {
        description: add.description,
        ek_public_hash: add.ek_public_hash,
        ek_certificate_serial: add.ek_certificate_serial,
        ek_certificate_issuer: None,
    };
    let tpm = TpmSpec {
        ekcert_allowed_cas: cas,
        ekcert_without_purpose: PurposePolicy::default(),
        allow: vec![rule],
    };
    let spec = TokenSpec {
        roles: vec![role],
        join_method: JoinMethod::Tpm,
        bot_name: Some(add.bot.clone()),
        tpm: Some(tpm),
    };
    let metadata = Metadata {
        labels: add.labels.into_iter().collect(),
        expires: add.ttl.map(|ttl| Timestamp(Clock::system().now() + ttl)),
        ..Metadata::named(name.clone())
    };
    let token = Token::new(metadata, spec);
    let how = HowToJoin::new(&add.bot, Some(&token));
    let resource = Resource::Token(token);
    let warnings = resources::create(&mut authority, &resource).await?;
    write(match add.format {
        Format::Json => document(&resource, cli::Format::Json)?,
        Format::Yaml => document(&resource, cli::Format::Yaml)?,
        Format::Text => {
            format!("token \"{name}\" has been created\n{}", how.text(&mut authority).await?)
        }
    })?;
    warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}

async fn remove(rm: Rm) -> Result<(), Failure> {
    let mut authority = connect(&rm.data).await?;
    resources::remove(&mut authority, Kind::Token, rm.name.as_str()).await?;
    write(format!("token \"{}\" has been removed\n", rm.name))
}

fn token(resource: &Resource) -> Option<&Token> {
    if let Resource::Token(token) = resource { Some(token) } else { None }
}

fn row(token: &Token) -> [String; 6] {
    let spec = &token.spec;
    let roles: Vec<_> = spec.roles.iter().cloned().map(String::from).collect();
    let rules = spec.tpm.as_ref().map_or(0, |tpm| tpm.allow.len());
    [
        token.metadata.name.to_string(),
        roles.join(","),
        spec.join_method.to_string(),
        spec.bot_name.as_ref().map(ToString::to_string).unwrap_or_default(),
        rules.to_string(),
        token.metadata.expires.map_or_else(|| "never".to_owned(), |end| end.to_string()),
    ]
}
