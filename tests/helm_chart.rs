//! The Helm chart: renders to YAML that says what it should, with the defaults
//! and with everything set otherwise. Helm itself is not needed; where it is
//! installed, its `template` and `lint` are asked too.

#[path = "helm_chart/render.rs"]
mod render;

use karuta::config::Config;
use render::Templates;
use serde::Deserialize;
use serde_yaml::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/helm/karuta")
}

fn read(name: &str) -> String {
    let path = chart().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn templates() -> Vec<String> {
    let entries = fs::read_dir(chart().join("templates")).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Renders the chart with changes to its values: every document, and the notes.
fn render(changes: &[(&str, &str)]) -> (Vec<Value>, String) {
    let mut values = yaml(&read("values.yaml"));
    for (path, value) in changes {
        let mut at = &mut values;
        for key in path.split('.') {
            at = at.get_mut(key).unwrap_or_else(|| panic!("no value {path}"));
        }
        *at = yaml(value);
    }
    let chart = yaml(&read("Chart.yaml"));
    let mut root = yaml("Release: {Name: test, Namespace: trackers, Service: Helm}");
    root["Values"] = values;
    root["Chart"]["Name"] = chart["name"].clone();
    root["Chart"]["Version"] = chart["version"].clone();
    root["Chart"]["AppVersion"] = chart["appVersion"].clone();

    let mut all = Templates::default();
    for name in templates() {
        all.add(&name, &read(&format!("templates/{name}")))
            .expect("a template");
    }
    let mut documents = Vec::new();
    for name in templates().iter().filter(|name| name.ends_with(".yaml")) {
        let text = all.render(name, &root).expect("it renders");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let document = Value::deserialize(document);
            documents.push(document.unwrap_or_else(|error| panic!("{name}: {error}:\n{text}")));
        }
    }
    let notes = all.render("NOTES.txt", &root).expect("notes");
    (documents, notes)
}

fn one<'d>(documents: &'d [Value], kind: &str, name: &str) -> &'d Value {
    let mut found = documents
        .iter()
        .filter(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two of {kind} {name}");
    first
}

fn pod(documents: &[Value]) -> &Value {
    &one(documents, "StatefulSet", "test-karuta")["spec"]["template"]["spec"]
}

#[test]
fn with_its_defaults_it_says_what_it_should() {
    let (documents, notes) = render(&[]);
    assert_eq!(documents.len(), 4);
    for document in &documents {
        let labels = &document["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "test");
        assert_eq!(
            labels["app.kubernetes.io/version"],
            env!("CARGO_PKG_VERSION")
        );
    }
    let set = one(&documents, "StatefulSet", "test-karuta");
    let selector = &set["spec"]["selector"]["matchLabels"];
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for service in ["test-karuta", "test-karuta-metrics"] {
        let service = &one(&documents, "Service", service)["spec"];
        assert_eq!(&service["selector"], selector);
        // Every port of a service is a named port of the pod.
        for port in service["ports"].as_sequence().expect("ports") {
            let named = pod(&documents)["containers"][0]["ports"]
                .as_sequence()
                .expect("ports");
            let named = named
                .iter()
                .find(|named| named["name"] == port["targetPort"]);
            assert_eq!(named.expect("its name")["protocol"], port["protocol"]);
            assert_eq!(named.expect("its name")["containerPort"], port["port"]);
        }
    }
    for (key, value) in selector.as_mapping().expect("labels") {
        assert_eq!(&labels[key], value);
    }
    let service = &one(&documents, "Service", "test-karuta")["spec"];
    assert_eq!(service["externalTrafficPolicy"], "Local");

    let pod = pod(&documents);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let seccomp = &pod["securityContext"]["seccompProfile"];
    assert_eq!(
        (&seccomp["type"], &seccomp["localhostProfile"]),
        (&"Localhost".into(), &"karuta.json".into())
    );
    let container = &pod["containers"][0];
    let expected = format!("karuta:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], expected.as_str());
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["startupProbe"]["httpGet"]["port"], "metrics");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mounts = container["volumeMounts"].as_sequence().expect("mounts");
    let volumes = pod["volumes"].as_sequence().expect("volumes");
    for mount in mounts {
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{mount:?}"
        );
    }
    assert!(notes.contains("kubectl exec -n trackers test-karuta-0 -- karuta e2e"));
    assert!(notes.contains("profile\nkaruta.json"), "{notes}");
}

#[test]
fn its_configuration_is_one_of_karuta_and_has_its_ports() {
    let (documents, _) = render(&[]);
    let map = one(&documents, "ConfigMap", "test-karuta");
    let text = map["data"]["config.yaml"].as_str().expect("text");
    let config =
        Config::parse(text, "values.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    let port = |name: &str| {
        let ports = pod(&documents)["containers"][0]["ports"]
            .as_sequence()
            .expect("ports");
        let port = ports
            .iter()
            .find(|port| port["name"] == name)
            .expect("a port");
        port["containerPort"].as_u64().expect("a number") as u16
    };
    let has = |addresses: &[std::net::SocketAddr], name: &str| {
        assert!(!addresses.is_empty());
        for address in addresses {
            assert_eq!(address.port(), port(name), "{name}");
            assert!(address.ip().is_unspecified(), "{name}");
        }
    };
    has(&config.http.expect("http").addr, "http");
    has(&config.udp.expect("udp").addr, "udp");
    has(&config.metrics_addr, "metrics");
    // Where the container is told to look for it.
    let container = &pod(&documents)["containers"][0];
    assert_eq!(container["args"][2], "/etc/karuta/config.yaml");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/etc/karuta");
}

#[test]
fn with_everything_set_otherwise_it_renders_too() {
    let (documents, notes) = render(&[
        ("image.repository", "registry.invalid/karuta"),
        ("image.tag", "'7'"),
        ("image.pullSecrets", "[first, second]"),
        ("hostNetwork", "true"),
        ("service.type", "ClusterIP"),
        ("service.annotations", "{a: b}"),
        ("seccompProfile", "{type: Unconfined}"),
        (
            "persistence",
            "{enabled: true, size: 5Gi, storageClass: fast}",
        ),
        ("prometheusAnnotations", "false"),
        ("podAnnotations", "{c: d}"),
        ("nodeSelector", "{e: f}"),
        ("tolerations", "[{key: g, operator: Exists}]"),
        ("affinity", "{nodeAffinity: {}}"),
        ("resources", "{limits: {cpu: 4}}"),
        (
            "config",
            "{udp: {private_key: \"a # b: 'c' {{ d }}\"}, shards: 2}",
        ),
    ]);
    let service = one(&documents, "Service", "test-karuta");
    assert_eq!(service["metadata"]["annotations"]["a"], "b");
    assert!(service["spec"].get("externalTrafficPolicy").is_none());
    let set = &one(&documents, "StatefulSet", "test-karuta")["spec"];
    assert_eq!(set["template"]["metadata"]["annotations"], yaml("{c: d}"));
    let claim = &set["volumeClaimTemplates"][0];
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(claim["spec"]["storageClassName"], "fast");
    let pod = pod(&documents);
    assert_eq!(pod["volumes"].as_sequence().map(Vec::len), Some(1));
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(
        pod["imagePullSecrets"],
        yaml("[{name: first}, {name: second}]")
    );
    assert_eq!(pod["containers"][0]["image"], "registry.invalid/karuta:7");
    assert_eq!(pod["containers"][0]["resources"]["limits"]["cpu"], 4);
    assert_eq!(
        pod["securityContext"]["seccompProfile"],
        yaml("{type: Unconfined}")
    );
    assert_eq!(pod["nodeSelector"], yaml("{e: f}"));
    assert_eq!(pod["tolerations"][0]["key"], "g");
    assert_eq!(pod["affinity"], yaml("{nodeAffinity: {}}"));
    let map = one(&documents, "ConfigMap", "test-karuta");
    let text = map["data"]["config.yaml"].as_str().expect("text");
    let config = Config::parse(text, "values.yaml").expect("a configuration");
    let key = config.udp.expect("udp").private_key;
    assert_eq!(key.expose(), "a # b: 'c' {{ d }}");
    assert!(!notes.contains("kubelet"), "{notes}");
}

#[test]
fn every_value_is_there_and_used() {
    let text: String = templates()
        .iter()
        .map(|name| read(&format!("templates/{name}")))
        .collect();
    let values = yaml(&read("values.yaml"));
    let mut used = Vec::new();
    for found in text.split(".Values.").skip(1) {
        let end = found.find(|c: char| !c.is_alphanumeric() && c != '.');
        let path = found[..end.unwrap_or(found.len())].to_owned();
        let mut at = &values;
        for key in path.split('.') {
            at = at
                .get(key)
                .unwrap_or_else(|| panic!("values.yaml has no {path}"));
        }
        used.push(path);
    }
    let mut paths = Vec::new();
    collect(&values, String::new(), &mut paths);
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        let is_used = used
            .iter()
            .any(|used| path == *used || path.starts_with(&format!("{used}.")));
        assert!(is_used, "no template uses {path}");
    }
}

fn collect(value: &Value, path: String, into: &mut Vec<String>) {
    match value {
        Value::Mapping(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let key = key.as_str().expect("a word");
                let dot = if path.is_empty() { "" } else { "." };
                collect(value, format!("{path}{dot}{key}"), into);
            }
        }
        _ => into.push(path),
    }
}

#[test]
fn the_renderer_finds_mistakes() {
    let root = yaml("Values: {a: x, n: 0}");
    let attempt = |text: &str| {
        let mut templates = Templates::default();
        templates.add("t", text)?;
        templates.render("t", &root)
    };
    assert_eq!(
        attempt("1 {{- if .Values.n }} 2{{ else }} 3 {{- end }} 4").as_deref(),
        Ok("1 3 4")
    );
    assert_eq!(attempt("{{ .Values.a | quote }}").as_deref(), Ok("\"x\""));
    for wrong in [
        "{{ .Values.b }}",
        "{{ if .Values.a }}",
        "{{ end }}",
        "{{ .Values.a",
        "a }}",
        "{{ include \"nothing\" . }}",
        "{{ .Values.a | upper }}",
        "{{ .Values }}",
        "{{ range .Values.a }}{{ end }}",
    ] {
        assert!(attempt(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn helm_itself_renders_it_where_it_is_installed() {
    for command in ["lint", "template"] {
        let Ok(output) = Command::new("helm").arg(command).arg(chart()).output() else {
            println!("skipped: helm is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {command}: {said}");
    }
}
