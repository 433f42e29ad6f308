//! Who may call what: from the table of routes.

use ork_server::{Access, ROUTES, Storage};

use crate::harness::{Ork, raw};

fn path(pattern: &str) -> String {
    let id = "00000000-0000-7000-8000-000000000000";
    let mut path = pattern.replace("{project}", "default").replace("{id}", id);
    path = path.replace("{digest}", &"0".repeat(64)).replace("{version}", "1");
    path.replace("{name}", "w").replace("{path}", "t").replace("{n}", "1")
}

async fn status(ork: &Ork, method: &str, path: &str, token: Option<&str>) -> u16 {
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let head = format!(
        "{} {path} HTTP/1.1\r\nhost: x\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n",
        method.to_uppercase()
    );
    let answer = raw(&ork.address(), head.as_bytes()).await;
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

#[tokio::test]
async fn without_a_known_token_only_open_routes_answer() {
    let ork = Ork::start(Storage::Memory).await;
    for route in ROUTES {
        let path = path(route.path);
        for token in [None, Some("ork_wrong"), Some("")] {
            let status = status(&ork, route.method, &path, token).await;
            match route.access {
                Access::Open => assert_eq!(status, 200, "{route:?}"),
                Access::Signed => assert_eq!(status, 404, "{route:?} {token:?}"),
                Access::Token => assert_eq!(status, 401, "{route:?} {token:?}"),
            }
        }
        let status = status(&ork, route.method, &path, Some(ork.running.token())).await;
        assert!(status != 401 && status != 403 && status < 500, "{route:?}: {status}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_is_closed_too() {
    let ork = Ork::start(Storage::Memory).await;
    for path in ["/", "/nope", "/healthz/", "/healthz/x", "//healthz", "/api/v1", "/%68ealthz"] {
        assert_eq!(status(&ork, "get", path, None).await, 401, "{path}");
        assert_eq!(status(&ork, "get", path, Some(ork.running.token())).await, 404, "{path}");
    }
}

#[tokio::test]
async fn another_project_is_not_there() {
    let ork = Ork::start(Storage::Memory).await;
    for route in ROUTES.iter().filter(|route| route.path.contains("{project}")) {
        let path = path(&route.path.replace("{project}", "other"));
        let status = status(&ork, route.method, &path, Some(ork.running.token())).await;
        assert_eq!(status, 404, "{route:?}");
    }
}
