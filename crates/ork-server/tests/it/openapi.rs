//! The document and the routes say the same.

use std::collections::BTreeSet;

use ork_server::{ROUTES, Storage};
use serde_json::Value;

use crate::harness::Ork;

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let ork = Ork::start(Storage::Memory).await;
    let document = ork.client.openapi().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    let told: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.clone(), path.clone()))
        })
        .collect();
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(told, routes);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let ork = Ork::start(Storage::Memory).await;
    let document = ork.client.openapi().await.unwrap();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn every_name_in_a_path_is_declared() {
    let ork = Ork::start(Storage::Memory).await;
    let document = ork.client.openapi().await.unwrap();
    for route in ROUTES {
        let pointer = format!("/paths/{}/{}", route.path.replace('/', "~1"), route.method);
        let operation = document.pointer(&pointer).unwrap();
        let declared: BTreeSet<_> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let named: BTreeSet<_> = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect();
        assert_eq!(declared, named, "{route:?}");
    }
}
