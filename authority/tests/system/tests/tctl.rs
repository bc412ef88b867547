//! Command lines as they are written for tctl, by the program.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use super::command::Place;
use super::harness::run;

const HASH: &str = "6c5aada1c5abee6d869369a0cae3b3b9e9a9f0a1b2c3d4e5f60718293a4b5c6d";
const OTHER_HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

impl Place {
    /// The words of a command line that succeeds, and what it says.
    fn says(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (code, said, error) = self.run(&words);
        assert_eq!(code, 0, "{line}: {error}");
        said
    }

    /// The message and the advice of a command line that fails with this code.
    fn fails(&self, code: i32, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (found, said, error) = self.run(&words);
        assert_eq!((found, said.as_str()), (code, ""), "{line}: {error}");
        error
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.says(line)).unwrap()
    }
}

#[test]
fn bots_are_added_changed_locked_and_removed() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let said =
        place.says("bots add web --roles=access,dev --logins root,web --max-session-ttl 24h");
    assert!(said.starts_with("bot \"web\" has been created\n"), "{said}");
    assert!(said.contains("authority tokens add --type bot --bot web"), "{said}");
    let spec = || place.json("get bot/web --format json")["spec"].clone();
    let logins = json!([{"name": "logins", "values": ["root", "web"]}]);
    let expected =
        json!({"roles": ["access", "dev"], "traits": logins, "max_session_ttl": "24h0m0s"});
    assert_eq!(spec(), expected);
    let exists = place.fails(1, "bots add web");
    assert!(exists.contains("authority edit bot/web"), "{exists}");

    place.says("bots update web --add-roles dev,ops --add-logins web,www --set-max-session-ttl 1h");
    let changed = spec();
    assert_eq!(changed["roles"], json!(["access", "dev", "ops"]));
    assert_eq!(changed["traits"][0]["values"], json!(["root", "web", "www"]));
    assert_eq!(changed["max_session_ttl"], "1h0m0s");
    place.says("bots update web --set-roles= --set-logins=");
    assert_eq!(spec(), json!({"roles": [], "max_session_ttl": "1h0m0s"}));
    assert!(place.says("bots update web --set-roles=").contains("is like that already"));
    assert!(place.fails(64, "bots update web").contains("no change given"));
    assert!(place.fails(64, "bots update web --set-roles a --add-roles b").contains("cannot be"));
    assert!(place.fails(1, "bots update absent --add-roles a").contains("not found"));

    assert!(place.says("bots lock web --ttl 12h --message x").contains("the bot \"web\""));
    place.says("lock --user=bot-web --expires 2100-01-01T00:00:00Z");
    let locks = place.json("get locks --format json");
    assert_eq!(locks.as_array().map(Vec::len), Some(2));
    assert!(place.fails(64, "lock").contains("no target given"));
    assert!(place.fails(64, "lock --user web").contains("bot-example"));
    for target in ["role", "login", "node", "mfa-device", "device", "windows-desktop"] {
        let refused = place.fails(64, &format!("lock --{target}=x"));
        assert!(refused.contains("is not supported\nuse --bot, --instance"), "{refused}");
    }

    assert_eq!(place.says("bots rm web"), "Bot \"web\" deleted successfully.\n");
    assert_eq!(place.says("bots ls"), "No bots found.\n");
    assert_eq!(place.says("bots instances list"), "No bot instances found.\n");
    assert_eq!(place.says("bots instances ls web"), "No bot instances found.\n");
    let path = "web/6f9619ff-8b86-d011-b42d-00c04fc964ff";
    for verb in ["show", "get", "describe"] {
        assert!(place.fails(1, &format!("bots instances {verb} {path}")).contains("not found"));
    }
    place.fails(64, "bots instances show web");
}

#[test]
fn tokens_are_added_listed_and_removed() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    assert_eq!(place.says("tokens ls"), "No tokens found.\n");
    place.says("bots add web");
    place.says("bots add db");
    let said =
        place.says(&format!("tokens add --type=bot --value t --bot web --ek-public-hash {HASH}"));
    let command =
        format!("agent start --authority HOST:PORT --token t --ca-pin {}\n", authority.pin);
    assert!(
        said.starts_with("token \"t\" has been created\n") && said.ends_with(&command),
        "{said}"
    );
    let line = format!(
        "tokens add --type Bot --bot-name db --ek-public-hash {HASH} --ek-certificate-serial 11:22 \
         --description rack-7 --labels env=prod,team=a --ttl 12h --format json"
    );
    let token = place.json(&line);
    let rule =
        json!({"description": "rack-7", "ek_public_hash": HASH, "ek_certificate_serial": "11:22"});
    assert_eq!(token["spec"]["tpm"]["allow"], json!([rule]));
    assert_eq!(token["spec"]["bot_name"], "db");
    assert_eq!(token["metadata"]["labels"], json!({"env": "prod", "team": "a"}));
    let name = token["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(place.json(&format!("get token/{name} --format json")), token);

    let listed = place.says("tokens ls");
    assert!(listed.starts_with("Token "), "{listed}");
    let row = listed.lines().find(|line| line.starts_with("t ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["t", "Bot", "tpm", "web", "1", "never"], "{listed}");

    // What a host needs, in Teleport's JSON.
    let how = place.json("bots instances add web --format json");
    let expected =
        json!({"user_name": "bot-web", "role_name": "bot-web", "token_id": "t", "token_ttl": 0});
    assert_eq!(how, expected);
    let how = place.json("bots instances join db --format json");
    assert!(how["token_ttl"].as_u64().is_some_and(|left| left > 3600 * 1_000_000_000), "{how}");
    let other = place.fails(1, "bots add mail --token t");
    assert!(
        other.contains("token \"t\" is valid for bot with name \"web\", not \"mail\""),
        "{other}"
    );
    let (_, yaml, _) = place.run(&["get", "token/t"]);
    let node = yaml.replace("- Bot", "- Node").replace("  bot_name: web\n", "");
    place.pipe(&["create", "-f", "-"], &node);
    let refused = place.fails(1, "bots instances add web --token t");
    assert!(refused.contains("token \"t\" is not valid for role \"Bot\""), "{refused}");
    assert!(place.fails(1, "bots instances add web").contains("has no token"));
    for value in ["a", "b"] {
        place.says(&format!("tokens add --bot web --value {value} --ek-public-hash {OTHER_HASH}"));
    }
    assert!(place.fails(64, "bots instances add web").contains("several tokens"));

    assert!(place.fails(65, "tokens add --bot web").contains("at least one of ['ek_public_hash'"));
    place.fails(64, &format!("tokens add --type node --bot web --ek-public-hash {HASH}"));
    let unchecked = place.fails(65, "tokens add --bot web --ek-certificate-serial 11:22");
    assert!(
        unchecked.contains("accompanied by ek_public_hash or by ekcert_allowed_cas"),
        "{unchecked}"
    );
    assert_eq!(place.says("tokens rm t"), "token \"t\" has been removed\n");
    assert_eq!(place.says("tokens del a"), "token \"a\" has been removed\n");
    assert!(place.fails(1, "tokens rm t").contains("not found"));
}

/// Sets an editor that replaces one text by another.
fn editor(place: &Place, script: &str) -> String {
    let path = place.0.path().join("my editor");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("'{}' --wait", path.display())
}

#[test]
fn edit_writes_what_was_changed_if_nobody_else_has() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    place.says("bots add web --roles dev");
    let edit = |script: &str| {
        let editor = editor(&place, &format!("[ \"$1\" = --wait ] || exit 9\nshift\n{script}"));
        let mut command = place.command(&["edit", "bot/web"]);
        command.env("TELEPORT_EDITOR", editor).env("EDITOR", "false");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let roles = || place.json("get bot/web --format json")["spec"]["roles"].clone();

    assert_eq!(
        edit("sed -i s/dev/ops/ \"$1\""),
        (0, "bot \"web\" has been updated\n".into(), String::new())
    );
    assert_eq!(roles(), json!(["ops"]));
    assert_eq!(edit("true"), (0, "bot \"web\" was not changed\n".into(), String::new()));

    let other = env!("CARGO_BIN_EXE_authority");
    let meanwhile = format!(
        "'{other}' bots update web --add-roles other >/dev/null && sed -i s/ops/mine/ \"$1\""
    );
    let (code, _, error) = edit(&meanwhile);
    assert!(code == 1 && error.contains("bot \"web\" was changed at the same time"), "{error}");
    assert_eq!(roles(), json!(["ops", "other"]));
    // The work is not lost.
    let kept = error.trim_end().rsplit(' ').next().unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("mine"));
    fs::remove_file(kept).unwrap();

    for (script, code, what) in [
        ("sed -i 's/name: web/name: db/' \"$1\"", 65, "the file must hold bot \"web\" alone"),
        ("echo 'x: y' >> \"$1\"", 65, "line"),
        ("exit 3", 74, "the editor"),
    ] {
        let (found, _, error) = edit(script);
        assert!(found == code && error.contains(what), "{script}: {error}");
        let kept = error.trim_end().rsplit(' ').next().unwrap();
        fs::remove_file(kept).unwrap();
    }
    place.fails(64, "edit bot");
    place.fails(64, "edit bot_instance/web/6f9619ff-8b86-d011-b42d-00c04fc964ff");
}

/// Documents with what only Teleport has in them.
const PRINTED: &str = r#"kind: bot
metadata:
  name: my-bot
  revision: 5f3bb5f5-6b04-4f0f-8f10-0f3f1d7d4c6a
  id: 1714559330154000000
spec:
  roles:
  - access
  traits:
  - name: logins
    values:
    - root
  max_session_ttl: 43200s
status:
  role_name: bot-my-bot
  user_name: bot-my-bot
version: v1
---
kind: token
sub_kind: ""
version: v2
metadata:
  description: from another cluster
  expires: "2100-01-01T00:00:00Z"
  id: 1714559330154000000
  labels:
    env: prod
  name: my-bot-token
  namespace: default
  revision: 5f3bb5f5-6b04-4f0f-8f10-0f3f1d7d4c6a
spec:
  bot_name: my-bot
  join_method: tpm
  roles:
  - Bot
  github: null
  suggested_labels: {}
  tpm:
    allow:
    - description: rack 7
      ek_public_hash: 6c5aada1c5abee6d869369a0cae3b3b9e9a9f0a1b2c3d4e5f60718293a4b5c6d
      ek_certificate_serial: "01:23:45"
status: {}
---
kind: lock
metadata:
  id: 1714559330154000000
  name: 2a1c2b8e-5a5e-4b7c-9d57-0d6d5d0b9f11
  revision: 5f3bb5f5-6b04-4f0f-8f10-0f3f1d7d4c6a
spec:
  created_at: "2026-01-01T00:00:00Z"
  created_by: admin
  message: suspicious
  target:
    user: bot-my-bot
version: v2
"#;

#[test]
fn what_teleport_and_this_authority_print_is_accepted_back() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let (code, _, error) = place.pipe(&["create", "-f", "-"], PRINTED);
    assert_eq!(code, 0, "{error}");
    let all = place.says("get all");
    for part in ["name: my-bot\n", "my-bot-token", "\"01:23:45\"", "bot-my-bot", "12h0m0s"] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert_eq!(all.matches("---\n").count(), 2, "{all}");
    let (code, _, error) = place.pipe(&["create", "-f", "-"], &all);
    assert_eq!(code, 0, "{error}");
    assert_eq!(place.says("get all"), all);
    let json = place.says("get all --format json");
    assert_eq!(serde_json::from_str::<Vec<Value>>(&json).unwrap().len(), 3);
    let (code, _, error) = place.pipe(&["create", "-f", "-"], &json);
    assert_eq!(code, 0, "{error}");
    assert_eq!(place.says("get all"), all);

    let two = place.json("get bots,token/my-bot-token --format json");
    let kinds: Vec<_> = two.as_array().unwrap().iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(kinds, ["bot", "token"]);
    let name = "2a1c2b8e-5a5e-4b7c-9d57-0d6d5d0b9f11";
    assert!(place.says(&format!("rm lock/{name}")).contains("has been removed"));
    assert_eq!(place.says("rm bots/my-bot"), "bot \"my-bot\" has been removed\n");
    assert_eq!(place.says("get bots"), "");
}

#[test]
fn program_has_the_name_of_the_link_it_is_run_by() {
    let place = Place::new();
    let link = place.0.path().join("tctl");
    symlink(env!("CARGO_BIN_EXE_authority"), &link).unwrap();
    let help =
        String::from_utf8(run(Command::new(&link).args(["tokens", "add", "--help"]))).unwrap();
    assert!(help.contains("Usage: tctl tokens add"), "{help}");
    let version = String::from_utf8(run(Command::new(&link).arg("version"))).unwrap();
    assert_eq!(version, concat!("authority ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_tctl_has_and_the_authority_has_not_is_refused_with_advice() {
    let place = Place::new();
    for line in [
        "users ls",
        "users add joe --roles=access --logins=root",
        "nodes ls --format=json",
        "auth sign --format=file --out=x",
        "auth export --type=tls",
        "sso configure github",
        "devices add --os=linux --asset-tag=x",
        "top http://127.0.0.1:3000",
        "--auth-server=example.com:3025 get bots",
        "get bots --auth-server example.com:3025",
        "get -i identity bots",
        "--insecure status",
        "bots add web --ttl 1h",
        "tokens ls --labels env=prod",
    ] {
        let refused = place.fails(64, line);
        assert!(refused.contains(" is not supported\n"), "{line}: {refused}");
        assert_eq!(refused.trim_end().lines().count(), 2, "{line}: {refused}");
    }
}
