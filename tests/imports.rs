//! The import order: a folder of `src` imports only from folders before it, and so does a part of
//! `runtime`.
//!
//! The test resolves `use` trees, and paths that begin with `crate`, `super` or `self`, in the
//! text. `lib.rs`, which re-exports, and test-only code are exempt.
#![cfg(not(any(miri, shuttle)))]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The folders of `src`, and files beside them.
const FOLDERS: &[&str] = &[
    "error", "tuning", "sync", "protocol", "metrics", "scaling", "runtime", "api",
];

/// Files that serve only the documentation, and names of files that serve only tests.
const EXEMPT: &[&str] = &["lib.rs", "guide.rs", "compile_fail.rs"];
const TESTS: &[&str] = &["model", "tests", "simulation", "frozen", "poison"];

#[test]
fn each_folder_imports_only_from_folders_before_it() {
    let wrong = imports_out_of_order(&[], FOLDERS);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The parts of `runtime`.
const RUNTIME: &[&str] = &[
    "span",
    "turn",
    "stack",
    "foreign_stack",
    "job",
    "queue",
    "life",
    "scaler",
    "rayon_host",
    "inner",
    "wake_up",
    "context",
    "controller",
    "resident",
    "worker",
    "wait",
    "lifecycle",
];

#[test]
fn each_part_of_runtime_imports_only_from_parts_before_it() {
    let wrong = imports_out_of_order(&["runtime"], RUNTIME);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn paths_are_resolved_wherever_they_stand() {
    let code = r#"
        use crate::{api::pool::Pool, sync::{self, lock as take}};
        #[cfg(test)]
        mod tests { use crate::lost; }
        fn f(x: &super::x::Y) { pub_crate::g(); self::h(crate::api::k()) }
    "#;
    let module = ["runtime", "worker"].map(String::from);
    let found = paths(&module, &without_tests(code));
    let found: BTreeSet<_> = found.iter().map(|path| path.join("::")).collect();
    let expected = [
        "api::k",
        "api::pool::Pool",
        "runtime::worker::h",
        "runtime::x::Y",
        "sync::lock",
        "sync::self",
    ];
    assert!(found.iter().eq(&expected), "{found:?}");
}

/// Imports between children of the module `parent` from a later child or the same rank.
fn imports_out_of_order(parent: &[&str], order: &[&str]) -> BTreeSet<String> {
    let rank = |child: &str| order.iter().position(|&name| name == child);
    let mut wrong = BTreeSet::new();
    for (module, text) in modules() {
        let Some(own) = child_of(parent, &module) else {
            continue;
        };
        let Some(own_rank) = rank(own) else {
            wrong.insert(format!("{own} has no place in the order"));
            continue;
        };
        for path in paths(&module, &text) {
            let Some(other) = child_of(parent, &path) else {
                continue;
            };
            // Any other name is a re-export of one of the children by the parent.
            if rank(other).is_none_or(|rank| rank > own_rank) {
                wrong.insert(format!("{} names {}", module.join("::"), path.join("::")));
            }
        }
    }
    wrong
}

/// The child of the module `parent` on this path.
fn child_of<'a>(parent: &[&str], path: &'a [String]) -> Option<&'a str> {
    let (ancestors, rest) = path.split_at_checked(parent.len())?;
    (ancestors == parent).then_some(rest.first()?.as_str())
}

/// The modules of the crate with their text, without comments, literals and test-only items.
fn modules() -> Vec<(Vec<String>, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_files(&src, &mut files);
    let files = files.into_iter().filter_map(|file| {
        let relative = file.strip_prefix(&src).unwrap().with_extension("");
        let mut module: Vec<String> = relative
            .iter()
            .map(|name| name.to_str().unwrap().to_owned())
            .collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        let is_for_tests = module.iter().any(|name| TESTS.contains(&name.as_str()));
        (!is_for_tests).then(|| (module, without_tests(&code_of(&file))))
    });
    files.collect()
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if !EXEMPT.iter().any(|&name| path.ends_with(name)) {
            files.push(path);
        }
    }
}

/// The text of a file without comments and the contents of literals.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with('"') {
            end_of_literal(rest, '"')
        } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && next == '\'' {
            end_of_literal(rest, '\'')
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The end of the literal at the start of the text.
fn end_of_literal(text: &str, quote: char) -> usize {
    let mut escaped = true;
    for (at, next) in text.char_indices() {
        if next == quote && !escaped {
            return at + next.len_utf8();
        }
        escaped = next == '\\' && !escaped;
    }
    text.len()
}

/// Removes each item with a `cfg` that requires `test`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(") {
        let (before, attribute) = rest.split_at(at);
        kept.push_str(before);
        let end = 1 + end_of_group(&attribute[1..]);
        let condition = &attribute[..end];
        let is_for_tests = condition
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| word == "test")
            && !condition.contains("any(test");
        rest = &attribute[end..];
        if is_for_tests {
            rest = &rest[end_of_item(rest)..];
        }
    }
    kept + rest
}

/// The end of the group of brackets at the start of the text.
fn end_of_group(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, next) in text.char_indices() {
        depth += usize::from("([{".contains(next));
        depth -= usize::from(")]}".contains(next));
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// The end of the item, field or statement at the start of the text.
fn end_of_item(text: &str) -> usize {
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        match next {
            ';' | ',' => return at + 1,
            '{' => return at + end_of_group(&text[at..]),
            ')' | ']' | '}' => return at,
            '(' | '[' => at += end_of_group(&text[at..]),
            _ => at += next.len_utf8(),
        }
    }
    text.len()
}

/// The absolute paths, from the crate's root, that a module names.
fn paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate", "super", "self"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            if begins && code[at + root.len()..].starts_with("::") {
                expand(Vec::new(), &code[at..], &mut found);
            }
        }
    }
    let absolute = found.into_iter().map(|path| {
        let mut base = module.to_vec();
        let mut names = path.into_iter().peekable();
        while let Some(root) = names.next_if(|name| ["crate", "super", "self"].contains(&&**name)) {
            match root.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()),
                _ => {}
            }
        }
        base.extend(names);
        base
    });
    absolute.collect()
}

/// The paths of the `use` tree, or the one path, at the start of the text. Returns where it ends.
fn expand(mut path: Vec<String>, text: &str, found: &mut Vec<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let name_len = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if rest.starts_with('{') {
            let end = end_of_group(rest);
            let mut inner = 1;
            while inner < end - 1 {
                let branch = &rest[inner..];
                let blank = branch.len() - branch.trim_start_matches([' ', '\n', ',']).len();
                inner += blank;
                if inner < end - 1 {
                    let length = expand(path.clone(), &rest[inner..], found);
                    // The rest, as in `name as other`, is no path.
                    let next = rest[inner + length..].find([',', '}']);
                    inner += length + next.unwrap_or(0);
                }
            }
            return at + end;
        }
        if name_len == 0 {
            found.push(path);
            return at;
        }
        path.push(rest[..name_len].to_owned());
        at += name_len;
        if !text[at..].starts_with("::") {
            found.push(path);
            return at;
        }
        at += 2;
    }
}
