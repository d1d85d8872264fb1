//! docs/reliability.md names tests and mutants, each of which must exist. Each failure that a test
//! names must be on the page.
#![cfg(not(miri))]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A file, the tests that it should contain, and the mutants that they kill.
#[derive(Debug)]
struct Claim {
    file: String,
    tests: Vec<String>,
    mutants: Vec<String>,
}

/// A claim is a list item that begins with a file, together with its indented lines.
fn claims(page: &str) -> Vec<Claim> {
    let mut items: Vec<String> = Vec::new();
    let mut in_item = false;
    for line in page.lines() {
        if line.starts_with("- `") {
            items.push(line.to_owned());
            in_item = true;
        } else if in_item && line.starts_with("  ") {
            items.last_mut().unwrap().push_str(line);
        } else {
            in_item = false;
        }
    }
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let claim = |item: &String| {
        let (tests, mutants) = item.split_once("mutants").unwrap_or((item, ""));
        let tests = quoted(tests);
        Claim {
            file: tests[0].to_owned(),
            tests: owned(&tests[1..]),
            mutants: owned(&quoted(mutants)),
        }
    };
    items.iter().map(claim).collect()
}

/// Whether the file contains a test of this name, or a type of this name with doc tests.
fn has_test(text: &str, name: &str) -> bool {
    if name.starts_with(|first: char| first.is_uppercase()) {
        return text.contains(&format!("\nstruct {name};"));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let head = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.starts_with(&head)) else {
        return false;
    };
    let before = lines[..at].iter().rev();
    before
        .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
        .any(|line| *line == "#[test]")
}

/// The false claims. The table is that of `.ci/mutants.sh`, if it exists.
fn wrong(claims: &[Claim], table: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for claim in claims {
        let text = fs::read_to_string(root().join(&claim.file)).unwrap_or_default();
        for test in &claim.tests {
            if !has_test(&text, test) {
                wrong.push(format!("{}: no test {test}", claim.file));
            }
        }
        if claim.tests.is_empty() {
            wrong.push(format!("{}: names no test", claim.file));
        }
        for mutant in &claim.mutants {
            let is_killed = |table: &str| {
                table.lines().any(|line| {
                    let by = line.strip_prefix(mutant).unwrap_or_default();
                    let by = by.strip_prefix(' ').unwrap_or_default();
                    claim
                        .tests
                        .iter()
                        .any(|test| by.ends_with(&format!("::{test}")))
                })
            };
            if table.is_some_and(|table| !is_killed(table)) {
                wrong.push(format!("{}: does not kill {mutant}", claim.file));
            }
        }
    }
    wrong
}

fn has_examples() -> bool {
    root().join("examples/Cargo.toml").exists()
}

/// Absent from the published crate.
fn table() -> Option<String> {
    fs::read_to_string(root().join(".ci/mutants.sh")).ok()
}

#[test]
fn everything_the_page_names_exists() {
    let mut claims = claims(&read("docs/reliability.md"));
    let tests: usize = claims.iter().map(|claim| claim.tests.len()).sum();
    let mutants: usize = claims.iter().map(|claim| claim.mutants.len()).sum();
    assert!(tests > 150 && mutants > 40, "{tests} {mutants}");
    // The published crate does not contain the examples.
    claims.retain(|claim| has_examples() || !claim.file.starts_with("examples/"));
    let wrong = wrong(&claims, table().as_deref());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The test above can fail.
#[test]
fn false_claims_are_found() {
    let page = "\
- `tests/reliability_page.rs`: `everything_the_page_names_exists`, one that is there
- `tests/reliability_page.rs`: `what_the_page_does_not_name`
- `tests/reliability_page.rs`: `has_test`, which is no test
- `tests/no_such_file.rs`: `everything_the_page_names_exists`
- `tests/reliability_page.rs`: `false_claims_are_found`; mutants
  `of_another`, `of_nobody`

`no_claim_at_all`
- `src/compile_fail.rs`: `JobIsSend`, `JobIsWell`
";
    let table = "of_another a::model::b\nof_another_one what::false_claims_are_found";
    let wrong = wrong(&claims(page), Some(table));
    let expected = [
        "tests/reliability_page.rs: no test what_the_page_does_not_name",
        "tests/reliability_page.rs: no test has_test",
        "tests/no_such_file.rs: no test everything_the_page_names_exists",
        "tests/reliability_page.rs: does not kill of_another",
        "tests/reliability_page.rs: does not kill of_nobody",
        "src/compile_fail.rs: no test JobIsWell",
    ];
    assert_eq!(wrong, expected);
}

/// The numbers of the failures on the page.
fn described(page: &str) -> Vec<u32> {
    let number = |line: &str| line.strip_prefix("**")?.split_once(". ")?.0.parse().ok();
    page.lines().filter_map(number).collect()
}

/// The numbers after the word in comments: `failure 13`, `Failures 19, 23 and 38`.
fn named(text: &str, numbers: &mut BTreeSet<u32>) {
    let text = text.replace("//", " ").to_lowercase();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !matches!(word.trim_start_matches('('), "failure" | "failures") {
            continue;
        }
        while let Some(word) = words.peek() {
            let digits = word.trim_matches(|c: char| !c.is_ascii_digit());
            match digits.parse() {
                Ok(number) => drop(numbers.insert(number)),
                Err(_) if *word == "and" => {}
                Err(_) => break,
            }
            words.next();
        }
    }
}

fn files(directory: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_failure_that_a_test_names_is_on_the_page() {
    let described = described(&read("docs/reliability.md"));
    assert_eq!(described, (1..=42).collect::<Vec<_>>());
    let mut sources = Vec::new();
    files(root().join("src"), &mut sources);
    files(root().join("tests"), &mut sources);
    if has_examples() {
        files(root().join("examples"), &mut sources);
    }
    let mut numbers = BTreeSet::new();
    for source in sources {
        if !source.ends_with("reliability_page.rs") {
            named(&fs::read_to_string(source).unwrap(), &mut numbers);
        }
    }
    assert!(numbers.len() > 20, "{numbers:?}");
    let unknown: Vec<_> = numbers.iter().filter(|n| !described.contains(n)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn numbers_are_read_out_of_comments() {
    let mut numbers = BTreeSet::new();
    named(
        "/// Failure 27, in the worst case\n//! memory. Failures 19, 23 and 38.\n// (failure 99)\n// failure of 7",
        &mut numbers,
    );
    assert_eq!(
        numbers.into_iter().collect::<Vec<_>>(),
        [19, 23, 27, 38, 99]
    );
}
