//! What others have written reaches the operator's terminal, and does nothing to it.

use std::fs;

use host::terminal::is_printable;

use super::command::Place;

/// Turns the direction of writing, has no width, clears the screen, tags a language, begins a line.
const HOSTILE: &str = "a\u{202e}b\u{200b}c\u{1b}[2J\u{e0041}\u{2028}d\n";

fn assert_printable(text: &str) {
    assert!(text.chars().all(|c| is_printable(c) || c == '\n'), "{text:?}");
}

#[test]
fn audit_log_is_shown_without_characters_that_steer_a_terminal() {
    let place = Place::new();
    fs::create_dir(place.data()).unwrap();
    let event = serde_json::json!({
        "time": "2030-01-01T00:00:00Z", "event": "bot.join", "outcome": "refused",
        "refusal": HOSTILE, "bot_name": HOSTILE, "hostname": HOSTILE, "reason": HOSTILE,
    });
    fs::write(place.data().join("audit.jsonl"), format!("{event}\n")).unwrap();
    let (code, text, _) = place.run(&["audit", "ls"]);
    assert_eq!((code, text.lines().count()), (0, 3), "{text:?}");
    assert_printable(&text);
    let (code, json, _) = place.run(&["audit", "ls", "--format", "json"]);
    assert_eq!((code, json.lines().count()), (0, 1), "{json:?}");
    assert_printable(&json);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), event);
}

#[test]
fn resources_and_errors_are_shown_without_characters_that_steer_a_terminal() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let lock = |user: &str| {
        serde_json::json!({"kind": "lock", "version": "v2", "metadata": {"name": "l"},
            "spec": {"target": {"user": user}, "message": HOSTILE.trim_end()}})
        .to_string()
    };
    let (code, _, error) = place.pipe(&["create", "-"], &lock(HOSTILE));
    assert_eq!(code, 65, "{error:?}");
    assert_printable(&error);
    let (code, said, error) = place.pipe(&["create", "-"], &lock("bot-my-bot"));
    assert_eq!(code, 0, "{error}");
    assert_printable(&(said + &error));
    for format in ["yaml", "json"] {
        let (code, shown, _) = place.run(&["get", "lock/l", "--format", format]);
        assert_printable(&shown);
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((code, read["spec"]["message"].as_str()), (0, Some(HOSTILE.trim_end())));
        let (code, _, error) = place.pipe(&["create", "-f", "-"], &shown);
        assert_eq!(code, 0, "{error}");
    }
}

#[test]
fn arguments_are_repeated_without_characters_that_steer_a_terminal() {
    let place = Place::new();
    let name = HOSTILE.trim_end();
    for arguments in [
        vec!["get".into(), format!("bot/{name}")],
        vec!["get".into(), name.into()],
        vec![name.into()],
        vec![format!("--{name}")],
        vec!["start".into(), format!("--listen={name}")],
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, said, error) = place.run(&arguments);
        assert_eq!((code, &*said), (64, ""), "{error}");
        assert!(error.starts_with("error: ") && error.contains("u{202e}b"), "{error}");
        assert_printable(&error);
    }
    let mut help = place.command(&["status", "--help"]);
    let help = help.env("AUTHORITY_DATA_DIR", HOSTILE).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert_printable(&String::from_utf8(help.stdout).unwrap());
}
