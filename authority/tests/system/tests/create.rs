//! `authority create` with several files.

use std::fs;

use testkit::forge::Ca;

use super::command::Place;
use super::harness::token;

fn bot(place: &Place, file: &str, text: &str) -> String {
    let path = place.0.path().join(file);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn create_of_several_files_is_all_or_nothing() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let yaml = |name: &str| {
        format!("kind: bot\nversion: v1\nmetadata:\n  name: {name}\nspec:\n  roles: []\n")
    };
    let one = bot(&place, "one.yaml", &yaml("one"));
    let two = bot(&place, "two.yaml", &format!("\u{feff}---\n{}", yaml("two").trim_end()));
    let three = bot(&place, "three.yaml", &yaml("three"));
    let wrong = bot(&place, "wrong.yaml", &yaml("wrong").replace("name:", "nam:"));
    let absent = place.0.path().join("absent.yaml").to_str().unwrap().to_owned();
    let bots = || place.run(&["get", "bot", "--format", "json"]).1.matches("\"name\"").count();

    for (files, code, says) in [
        ([&one, &wrong], 65, "wrong.yaml: line 4: "),
        ([&one, &absent], 74, "absent.yaml"),
        ([&one, &one], 65, "one.yaml: bot \"one\" is already in "),
    ] {
        let (is, said, error) = place.run(&["create", files[0], files[1], &three]);
        assert_eq!((is, said.as_str(), bots()), (code, "", 0), "{error}");
        assert!(error.contains(says) && error.contains("; nothing was changed"), "{error}");
    }
    let (code, said, error) = place.run(&["create", &one, &two]);
    assert_eq!((code, bots()), (0, 2), "{error}");
    assert_eq!(said, "bot \"one\" has been created\nbot \"two\" has been created\n");
    let (code, said, error) = place.run(&["create", &three, &one]);
    assert_eq!((code, said.as_str(), bots()), (1, "", 2), "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
    let (code, said, _) = place.run(&["create", "-f", &three, &one]);
    assert_eq!((code, bots()), (0, 3));
    assert_eq!(said, "bot \"three\" has been created\nbot \"one\" has been replaced\n");
}

#[test]
fn create_with_an_unreadable_ca_names_it_and_skips_it_on_request() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let good = Ca::new("Some TPM CA").root().pem();
    let bad = Ca::new("Odd CA").root().pem().replacen("MII", "MIJ", 1);
    let bundle = [good.as_str(), &bad].concat();
    let yaml = token("t", "- ek_certificate_serial: \"01\"", &[&bundle]);
    let file = bot(&place, "token.yaml", &yaml);
    let (code, _, error) = place.run(&["create", &file]);
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("ekcert_allowed_cas[0]: parsing certificate: block 2"), "{error}");

    let (code, said, error) = place.run(&["create", "--skip-unreadable", &file]);
    assert_eq!((code, said.as_str()), (0, "token \"t\" has been created\n"), "{error}");
    assert!(error.starts_with("warning: "), "{error}");
    assert!(error.contains("token \"t\": ekcert_allowed_cas[0]: block 2"), "{error}");
    let (_, stored, _) = place.run(&["get", "token/t"]);
    assert_eq!(stored.matches("BEGIN CERTIFICATE").count(), 1, "{stored}");
}
