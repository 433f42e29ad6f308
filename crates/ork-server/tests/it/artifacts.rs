//! Files: put, listed, read in part, removed.

use bytes::Bytes;
use futures_util::StreamExt as _;
use ork_api::problem::Code;
use ork_api::types::{ArtifactQuery, NewRun, Part};
use ork_core::value::{Digest, FileRef};
use ork_server::Storage;

use crate::harness::{Ork, STORAGES, raw};

async fn put(ork: &Ork, name: &str, content: &[u8]) -> FileRef {
    let blob = ork.client.put_blob(Bytes::copy_from_slice(content)).await.unwrap();
    FileRef { digest: blob.digest, name: name.into(), size: blob.size }
}

/// The answer to a request with these header lines: its head, in small letters, and its body.
async fn ask(ork: &Ork, method: &str, path: &str, headers: &str) -> (String, String) {
    let request = format!(
        "{method} /api/v1/projects/default{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {}\r\n{headers}\r\n",
        ork.running.token()
    );
    let answer = raw(&ork.address(), request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn artifacts_are_listed_and_read_in_parts() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        let mut files = Vec::new();
        for n in 0..5 {
            files.push(
                put(&ork, &format!("plots/{n} ü.txt"), format!("content {n}").as_bytes()).await,
            );
        }
        *ork.artifacts.lock().unwrap() = files.clone();
        ork.deploy("w", &["quick", "lines"]).await;
        let run = ork.done("w").await;
        let names = |items: &[ork_api::types::Artifact]| {
            items.iter().map(|one| format!("{} {}", one.path, one.name)).collect::<Vec<_>>()
        };
        let mut query = ArtifactQuery { limit: Some(2), ..ArtifactQuery::default() };
        let mut listed = Vec::new();
        loop {
            let page = ork.client.task_artifacts(run.id, "quick", &query).await.unwrap();
            assert!(page.items.len() <= 2);
            listed.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        let expected: Vec<_> = (0..5).map(|n| format!("quick plots/{n} ü.txt")).collect();
        assert_eq!(names(&listed), expected);
        assert_eq!((listed[3].attempt, listed[3].size, listed[3].digest), (1, 9, files[3].digest));

        let mut part = Part { limit: Some(3), cursor: None };
        let mut all = Vec::new();
        loop {
            let page = ork.client.artifacts(run.id, &part).await.unwrap();
            assert!(page.items.len() <= 3);
            all.extend(page.items);
            part.cursor = page.next_cursor;
            if part.cursor.is_none() {
                break;
            }
        }
        assert_eq!(names(&all)[..5], expected);
        assert_eq!(all.len(), 10, "of both tasks");
        let other = ArtifactQuery { attempt: Some(7), ..ArtifactQuery::default() };
        let refused = ork.client.task_artifacts(run.id, "quick", &other).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::NotFound));

        let path = format!("/runs/{}/tasks/quick/artifacts/plots%2F3%20%C3%BC.txt", run.id);
        let tag = format!("\"{}\"", files[3].digest);
        let (head, body) = ask(&ork, "GET", &path, "").await;
        assert_eq!((&head[..15], &*body), ("http/1.1 200 ok", "content 3"));
        for line in [
            "content-length: 9",
            "accept-ranges: bytes",
            &format!("etag: {tag}"),
            "content-disposition: attachment; filename=\"3 _.txt\"; filename*=utf-8''3%20%c3%bc.txt",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.lines().any(|known| known == line), "{line}\n{head}");
        }
        let (head, body) = ask(&ork, "GET", &path, "range: bytes=2-5\r\n").await;
        assert!(head.contains(" 206 ") && head.contains("content-range: bytes 2-5/9"), "{head}");
        assert_eq!(body, "nten");
        let (head, body) = ask(&ork, "HEAD", &path, "").await;
        assert!(head.contains("content-length: 9") && body.is_empty(), "{head}");
        let (head, body) = ask(&ork, "GET", &path, &format!("if-none-match: {tag}\r\n")).await;
        assert!(head.contains(" 304 ") && body.is_empty(), "{head}");
        let (head, body) = ask(&ork, "GET", &path, "range: bytes=9-\r\n").await;
        assert!(head.contains(" 416 ") && body.contains("range_not_satisfiable"), "{head}{body}");
        let (head, _) =
            ask(&ork, "GET", &format!("/runs/{}/tasks/quick/artifacts/none", run.id), "").await;
        assert!(head.contains(" 404 "), "{head}");
    }
}

#[tokio::test]
async fn a_blob_may_come_in_parts_and_has_a_limit() {
    let ork = Ork::with(|config| config.limits.artifact = 10).await;
    let content = |parts: &[&'static str]| {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        futures_util::stream::iter(parts).boxed()
    };
    let digest = Digest::of(b"0123456789");
    assert!(!ork.client.has_blob(&digest).await.unwrap());
    let kept = ork.client.put_stream(&digest, content(&["01234", "56789"])).await.unwrap();
    assert_eq!((kept.digest, kept.size), (digest, 10));
    assert!(ork.client.has_blob(&digest).await.unwrap());
    assert_eq!(ork.client.blob(&digest).await.unwrap(), "0123456789");
    let long = ork.client.put_stream(&digest, content(&["01234", "56789x"])).await.unwrap_err();
    assert_eq!(long.code(), Some(Code::TooLarge));
    assert!(long.to_string().contains("limits.artifact"), "{long}");
    let other = ork.client.put_stream(&digest, content(&["x"])).await.unwrap_err();
    assert_eq!(other.code(), Some(Code::Invalid));
}

#[tokio::test]
async fn a_param_names_a_file_that_is_here() {
    let ork = Ork::start(Storage::Memory).await;
    let source = "name: w\nparams: { data: file }\ntasks:\n  quick: { run: [\"true\"] }\n";
    let deploy = ork_api::types::Deploy {
        file: "w.yaml".into(),
        source: source.into(),
        bundle: None,
        reason: None,
    };
    ork.client.deploy(&deploy).await.unwrap();
    let file = put(&ork, "a.csv", b"a").await;
    let run = |file: serde_json::Value| NewRun {
        workflow: Some("w".into()),
        params: [("data".to_owned(), file)].into_iter().collect(),
        ..NewRun::default()
    };
    ork.client.create_run(&run(file.to_value())).await.unwrap();
    for (wrong, expected) in [
        (FileRef { digest: Digest::of(b"b"), ..file.clone() }.to_value(), "is not kept as"),
        (FileRef { size: 9, ..file }.to_value(), "with 9 bytes"),
        ("a.csv".into(), "expected file, got str"),
    ] {
        let refused = ork.client.create_run(&run(wrong)).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Invalid), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}
