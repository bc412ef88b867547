use super::super::*;
use super::{LEAST, path, refused};

fn first(findings: &Findings) -> &str {
    &findings.iter().next().unwrap().message
}

#[test]
fn nesting_ends() {
    for nest in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        let findings = read(&nest, path()).unwrap_err();
        assert_eq!(first(&findings), "values are nested too deeply");
    }
    let blocks: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(first(&read(&blocks, path()).unwrap_err()), "values are nested too deeply");
}

#[test]
fn aliases_do_not_explode() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    let last = refused(&bomb);
    assert!(last.to_string().contains("expand to too many values"), "{last}");

    // One long text, often.
    let text = "y".repeat(500_000);
    let bomb = format!("a: &a {text}\nb: [{}]", vec!["*a"; 1000].join(", "));
    assert!(refused(&bomb).to_string().contains("expand to too many values"));
    assert!(refused("a: &a [*a]").to_string().contains("contains itself"));
    assert!(refused("a: *absent").to_string().contains("an alias without an anchor"));
}

#[test]
fn document_that_is_too_large_is_refused() {
    let findings = read(&format!("{LEAST}\n#{}", "x".repeat(10 << 20)), path()).unwrap_err();
    assert_eq!(first(&findings), "the file is larger than 1 MiB");
    let fine = format!("{LEAST}\n#{}", "x".repeat((1 << 20) - LEAST.len() - 2));
    assert!(read(&fine, path()).is_ok());
    let findings = read(&"[],".repeat(300_000).replacen("[", "a: [[", 1), path()).unwrap_err();
    assert!(first(&findings).contains("too many values"), "{findings}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'#'; 10 << 20]).unwrap();
    let asked = ConfigFile { config: Some(file.path().into()), ..ConfigFile::default() };
    let Err(LoadError::Unusable(findings)) = asked.load(&Overrides::default()) else { panic!() };
    assert_eq!(first(&findings), "the file is larger than 1 MiB");
}

#[test]
fn a_thousand_faults_are_a_hundred_lines_to_read() {
    let many: String = (0..1000).map(|n| format!("zzz{n}: 1\n")).collect();
    let findings = refused(&many);
    assert_eq!(findings.iter().count(), 100);
    assert!(findings.to_string().ends_with("... and 900 more\n"));
    // Long names are cut, long lines too.
    let findings = refused(&format!("? {}\n: 1", "k".repeat(9000)));
    assert!(findings.to_string().lines().all(|line| line.chars().count() < 450), "{findings}");
}

#[test]
fn control_characters_neither_pass_nor_reach_the_terminal() {
    for c in ['\0', '\u{1b}', '\u{7}', '\u{7f}', '\u{9b}'] {
        let findings = refused(&format!("debug: {c}[31mtrue"));
        assert!(first(&findings).starts_with("the control character"), "{findings}");
        assert!(!findings.to_string().contains(c));
        assert_eq!(findings.iter().next().unwrap().location.as_ref().map(|at| at.line), Some(5));
    }
    for text in
        ["storage: \"/a\\0b\"", "storage: \"/a\\e[2J\"", "\"zz\\e[2J\": 1", "debug: \u{202e}x"]
    {
        let shown = refused(text).to_string();
        assert!(!shown.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{shown}");
    }
}

#[test]
fn tabs_are_named() {
    let findings = refused("storage:\n\ttype: memory");
    assert_eq!(first(&findings), "a tab where YAML requires spaces", "{findings}");
}

#[test]
fn no_change_of_a_good_file_makes_a_panic() {
    let base = include_str!("configured.yaml").as_bytes();
    let rich = include_str!("faults.yaml").as_bytes();
    // A linear congruential generator: the same changes in every run.
    let mut state: u64 = 0x2026;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let tokens: [&[u8]; 20] = [
        b"\n",
        b": ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
        b"!!str ",
        b"|",
        b">",
        b"\"",
        b"'",
        b"#",
        b"---\n",
        b"\t",
        b"\r",
        "\u{feff}".as_bytes(),
        "é".as_bytes(),
    ];
    let mut outcomes = [0; 2];
    for round in 0..4000 {
        let mut bytes = if round % 2 == 0 { base } else { rich }.to_vec();
        for _ in 0..=next(3) {
            if bytes.is_empty() {
                bytes.push(b'x');
            }
            let at = next(bytes.len());
            match next(5) {
                0 => bytes.truncate(at),
                1 => bytes[at] = u8::try_from(next(256)).unwrap(),
                2 => drop(bytes.drain(at..(at + 1 + next(20)).min(bytes.len()))),
                3 => drop(bytes.splice(at..at, tokens[next(tokens.len())].iter().copied())),
                _ => {
                    let piece = bytes[at..(at + next(40)).min(bytes.len())].to_vec();
                    let to = next(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        match read(&String::from_utf8_lossy(&bytes), path()) {
            Ok(_) => outcomes[0] += 1,
            Err(findings) => {
                outcomes[1] += 1;
                assert_ne!(findings.count(Severity::Error), 0, "refused for a reason");
                assert!(!findings.to_string().is_empty());
            }
        }
    }
    assert!(outcomes.into_iter().all(|count| count > 100), "{outcomes:?}");
}
