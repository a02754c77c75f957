//! docs/replacing-chihaya.md names keys that there are.

use karuta::config::Config;

const CHIHAYA: &str = include_str!("../docs/replacing-chihaya.md");

/// The words in backticks of a text.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a file that has this key, without a value.
fn complaint(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let mut text = String::from("chihaya:\n  announce_interval: 30m\n");
    if steps[0] != "udp" {
        text += "  udp: {}\n";
    }
    for (depth, step) in steps.iter().enumerate() {
        text += &format!("{:1$}{step}:\n", "", 2 * depth + 2);
    }
    let error = Config::parse(&text, "f").err();
    error.map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn every_key_in_the_table_is_accepted() {
    let (_, table) = CHIHAYA.split_once("\n## Key by key\n").expect("a section");
    let (table, _) = table.split_once("\n## ").expect("another one");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut keys = 0;
    for row in rows {
        let cell = row.split('|').nth(1).expect("a cell");
        for key in quoted(cell) {
            keys += 1;
            let complaint = complaint(key);
            assert!(!complaint.contains("unknown key"), "{key}: {complaint}");
        }
    }
    assert!(keys > 30, "{keys}");
    assert!(complaint("http.adr").contains("unknown key"));
}

/// And it names all of the file that Chihaya comes with.
#[test]
fn every_key_of_chihayas_file_is_in_the_table() {
    let file: serde_yaml::Value =
        serde_yaml::from_str(include_str!("data/chihaya.yaml")).expect("YAML");
    let mut open = vec![(String::new(), &file["chihaya"])];
    while let Some((path, value)) = open.pop() {
        let Some(entries) = value.as_mapping() else {
            assert!(CHIHAYA.contains(&format!("`{path}`")), "{path}");
            continue;
        };
        for (key, value) in entries {
            let key = key.as_str().expect("text");
            let path = match path.as_str() {
                "" => key.to_owned(),
                path => format!("{path}.{key}"),
            };
            open.push((path, value));
        }
    }
}
