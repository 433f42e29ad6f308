//! Limits, by raw sockets.

use std::time::Duration;

use ork_server::{Limits, Storage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Ork, raw};

async fn limited(change: impl FnOnce(&mut Limits)) -> Ork {
    Ork::with(|config| {
        config.storage = Storage::Memory;
        change(&mut config.limits);
    })
    .await
}

fn post(ork: &Ork, more: &str) -> String {
    format!(
        "POST /api/v1/projects/default/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\nconnection: close\r\n{more}",
        ork.running.token()
    )
}

#[tokio::test]
async fn a_large_body_is_413() {
    let ork = limited(|limits| limits.body = 1_000).await;
    for request in [
        post(&ork, &format!("content-length: 1001\r\n\r\n{}", "x".repeat(1_001))),
        post(&ork, &format!("content-length: 1000000000\r\n\r\n{}", "x".repeat(5_000))),
        post(&ork, &format!("transfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n", "x".repeat(2_000))),
    ] {
        let answer = raw(&ork.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("limits.body"), "{answer}");
    }
}

#[tokio::test]
async fn a_large_head_is_431() {
    let ork = limited(|limits| (limits.head, limits.headers) = (8_192, 20)).await;
    let long = format!("x-long: {}\r\n\r\n", "x".repeat(20_000));
    let many: String = (0..50).map(|n| format!("x-{n}: 1\r\n")).collect();
    for request in [post(&ork, &long), post(&ork, &(many + "\r\n"))] {
        let answer = raw(&ork.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_408() {
    let short = Duration::from_millis(50);
    let ork = limited(|limits| (limits.head_timeout, limits.body_timeout) = (short, short)).await;
    let slow = post(&ork, "content-length: 10\r\n\r\n{");
    for (request, name) in [("GET /healthz HT", "head_timeout"), (&*slow, "body_timeout")] {
        let answer = raw(&ork.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains(name), "{answer}");
    }
}

#[tokio::test]
async fn too_many_connections_are_turned_away() {
    let ork = limited(|limits| limits.connections = 2).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    let mut buffer = [0; 15];
    for _ in 0..2 {
        let mut socket = TcpStream::connect(ork.address()).await.unwrap();
        socket.write_all(request).await.unwrap();
        socket.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"HTTP/1.1 200 OK");
        held.push(socket);
    }
    let mut third = TcpStream::connect(ork.address()).await.unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("limits.connections"), "{answer}");
}

#[tokio::test]
async fn too_many_streams_are_429() {
    let ork = limited(|limits| limits.streams = 1).await;
    let topics = ["project:default".to_owned()];
    let _one = ork.client.events(&topics, None).await.unwrap();
    let error = ork.client.events(&topics, None).await.err().unwrap();
    assert_eq!(error.problem().unwrap().status, 429);
}
