//! The program before it serves: what it takes from its environment and its files, and what it refuses.

use std::fs;

use super::command::Place;

const CLUSTER: &str = "one.example";

#[test]
fn log_level_that_does_not_exist_is_refused_by_name() {
    let place = Place::new();
    let file = place.0.path().join("authority.yaml");
    fs::write(&file, "listen: 127.0.0.1:0\nlog:\n  level: verbose\n").unwrap();
    for verb in ["check", "start"] {
        let (code, _, error) = place.run(&[verb, "-c", file.to_str().unwrap()]);
        assert_eq!(code, 78, "{error}");
        assert!(error.contains("line 3: level: \"verbose\" is not a log level"), "{error}");
    }
    for arguments in [&["start"][..], &["status"]] {
        let output = place.command(arguments).env("AUTHORITY_LOG", "verbose").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains("AUTHORITY_LOG: \"verbose\" is not a log level"), "{error}");
    }
    assert!(!place.data().exists());
}

#[test]
fn empty_and_other_spellings_of_a_log_level_do_not_silence_the_log() {
    let log = |yaml: &str, variable: &str| {
        let place = Place::new();
        let file = place.0.path().join("authority.yaml");
        fs::write(&file, yaml).unwrap();
        let flags = ["--cluster-name", CLUSTER, "-c", file.to_str().unwrap()];
        let authority = place.start_with(&flags, &[("AUTHORITY_LOG", variable)], 3);
        assert_eq!(authority.terminate(), Some(0));
        fs::read_to_string(place.0.path().join("log")).unwrap()
    };
    for (yaml, variable) in [("", ""), ("log: {level: \"\"}\n", ""), ("", "h2=warning")] {
        assert!(log(yaml, variable).contains("authority started"), "{yaml:?} {variable:?}");
    }
    let (quiet, loud) = (log("log: {level: debug}\n", "warning"), log("log: {level: debug}\n", ""));
    assert!(!quiet.contains("authority started") && loud.contains("authority started"));
}

#[test]
fn environment_variables_that_are_empty_are_unset() {
    const VARIABLES: [&str; 9] = [
        "AUTHORITY_CONFIG",
        "AUTHORITY_LISTEN",
        "AUTHORITY_CLUSTER_NAME",
        "AUTHORITY_JOIN_TIMEOUT",
        "AUTHORITY_DIAG_ADDR",
        "AUTHORITY_EK_EXPIRED",
        "AUTHORITY_EK_SHA1",
        "AUTHORITY_LOG_FORMAT",
        "AUTHORITY_LOG",
    ];
    let place = Place::new();
    let flags = ["--cluster-name", CLUSTER];
    let authority = place.start_with(&flags, &VARIABLES.map(|name| (name, "")), 3);
    let mut status = place.command(&["status", "--data-dir", place.data().to_str().unwrap()]);
    let output = status.env("AUTHORITY_DATA_DIR", "").env("AUTHORITY_LOG_FORMAT", "").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(authority.terminate(), Some(0));
}
