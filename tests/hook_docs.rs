//! docs/hooks.md says what there is: every hook, and the example as it is
//! compiled.

use karuta::hook::HookKind;

const DOCUMENT: &str = include_str!("../docs/hooks.md");
const EXAMPLE: &str = include_str!("../src/hook/port_approval.rs");
const LIST: &str = include_str!("../src/hook/mod.rs");

#[test]
fn every_hook_has_its_section() {
    for hook in HookKind::ALL {
        let heading = format!("\n### {}\n", hook.name());
        assert!(DOCUMENT.contains(&heading), "{} is missing", hook.name());
    }
}

#[test]
fn the_worked_example_is_the_compiled_file_and_line() {
    let (code, _) = EXAMPLE.split_once("\n#[cfg(test)]").expect("tests");
    assert!(
        DOCUMENT.contains(&format!("```rust\n{code}```")),
        "docs/hooks.md shows another file than src/hook/port_approval.rs"
    );
    let (_, line) = DOCUMENT
        .split_once("The line:\n\n```rust\n")
        .expect("a line");
    let (line, _) = line.split_once("```").expect("an end");
    assert_eq!(line.lines().count(), 1);
    assert!(LIST.contains(line), "src/hook/mod.rs has another line");
}

/// The options in the tables are those that the hooks take: an unknown key is
/// answered with those that are known.
#[test]
fn every_option_is_in_its_table() {
    for hook in HookKind::ALL {
        let name = hook.name();
        let lists = ["prehooks", "posthooks"];
        let known = lists.iter().find_map(|list| {
            let text = format!("udp: {{}}\n{list}: [{{name: {name}, options: {{zzzzzzzz: 1}}}}]");
            let error = karuta::config::Config::parse(&text, "f").err()?.to_string();
            let (_, known) = error.split_once("options; known here: ")?;
            Some(known.lines().next().unwrap_or_default().to_owned())
        });
        let known = known.unwrap_or_else(|| panic!("{name} takes no options"));
        let (_, section) = DOCUMENT
            .split_once(&format!("\n### {name}\n"))
            .expect("a section");
        let section = section.split("\n### ").next().unwrap_or_default();
        for option in known.split(", ") {
            assert!(section.contains(&format!("`{option}`")), "{name}: {option}");
        }
    }
}
