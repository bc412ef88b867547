//! Which resources a command is about: `KIND`, `KIND/NAME` or `all`.

use std::str::FromStr;

use crate::resource::{InstanceId, Kind, Name};

/// A kind, or some of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// The kind.
    pub kind: Kind,
    /// Which of it.
    pub some: Selection,
}

/// What `authority get` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All bots, tokens, locks and workload identities.
    All,
    /// A kind, or some of it.
    Some(Which),
}

/// Which resources of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// All bot instances of a bot.
    OfBot(Name),
    /// One, by its name or its path.
    One(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once('/') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let kind = Kind::from_word(kind)
            .ok_or_else(|| format!("unknown kind {kind:?}; use {}", Kind::NAMES))?;
        let name = |word: &str| word.parse::<Name>().map_err(|cause| cause.0);
        let some = match (kind, rest.map(|rest| (rest, rest.split_once('/')))) {
            (_, None) => Selection::All,
            (Kind::BotInstance, Some((bot, None))) => Selection::OfBot(name(bot)?),
            (Kind::BotInstance, Some((path, Some((bot, id))))) => {
                name(bot)?;
                id.parse::<InstanceId>().map_err(|cause| cause.0)?;
                Selection::One(path.to_owned())
            }
            (_, Some((word, _))) => Selection::One(name(word)?.to_string()),
        };
        Ok(Self { kind, some })
    }
}

impl Selection {
    /// As a request has it.
    pub fn words(&self) -> &str {
        match self {
            Self::All => "",
            Self::OfBot(bot) => bot.as_str(),
            Self::One(name) => name,
        }
    }
}

/// For `authority get`.
pub(super) fn asked(text: &str) -> Result<Asked, String> {
    match text {
        "all" => Ok(Asked::All),
        text => text.parse().map(Asked::Some),
    }
}

/// One that an operator may change.
pub(super) fn editable(text: &str) -> Result<Which, String> {
    let which = one(text)?;
    match which.kind {
        Kind::BotInstance => Err("a bot instance cannot be changed, only removed".into()),
        Kind::Bot | Kind::Token | Kind::Lock | Kind::WorkloadIdentity => Ok(which),
    }
}

/// One of any kind.
pub(super) fn one(text: &str) -> Result<Which, String> {
    let which: Which = text.parse()?;
    match which.some {
        Selection::One(_) => Ok(which),
        _ if which.kind == Kind::BotInstance => Err("which one? bot_instance/BOT/UUID".into()),
        _ => Err(format!("which {0}? {0}/NAME", which.kind)),
    }
}

/// A bot instance by its path.
pub(super) fn one_instance(text: &str) -> Result<Which, String> {
    one(&format!("{}/{text}", Kind::BotInstance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_names_are_parsed_or_refused() {
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("bots").unwrap().some, Selection::All);
        let id = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
        let path = format!("web/{id}");
        let instance = which(&format!("bot_instance/{path}")).unwrap();
        assert_eq!((instance.kind, instance.some), (Kind::BotInstance, Selection::One(path)));
        let of_bot = which("bot_instances/web").unwrap().some;
        assert_eq!(of_bot, Selection::OfBot("web".parse().unwrap()));
        assert_eq!(which("token/x").unwrap().kind, Kind::Token);
        let identities = which("workload_identities").unwrap();
        assert_eq!((identities.kind, identities.some), (Kind::WorkloadIdentity, Selection::All));
        editable("workload_identity/web").unwrap();
        for wrong in
            ["", "user", "bot/", "bot/a/b", "/x", "BOT", "bot_instance/a/b", "bot_instance//"]
        {
            which(wrong).unwrap_err();
        }
        assert_eq!(asked("all"), Ok(Asked::All));
        assert_eq!(asked("bots"), Ok(Asked::Some(which("bots").unwrap())));
        editable("bot/web").unwrap();
        editable(&format!("bot_instance/web/{id}")).unwrap_err();
        one("bot").unwrap_err();
        one("bot_instance/web").unwrap_err();
    }
}
