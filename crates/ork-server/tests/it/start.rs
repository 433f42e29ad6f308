//! Starting and stopping.

use ork_api::problem::Code;
use ork_api::types::{Retry, RunQuery};
use ork_core::run::RunState;
use ork_server::{Config, Server, ServerFile, StartError, Storage};

use crate::harness::{Ork, ended_well, run_of};

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let ork = Ork::start(Storage::Sqlite).await;
    let error = Server::start(Config::local(ork.dir.path())).await.unwrap_err();
    assert!(error.to_string().contains(&ork.url()), "{error}");
    let StartError::Locked { holder, .. } = error else { panic!("{error}") };
    assert_eq!(holder.as_ref(), Some(ork.running.file()));
}

#[tokio::test]
async fn a_stopped_server_leaves_its_directory_and_its_rows() {
    let ork = Ork::start(Storage::Sqlite).await;
    ork.deploy("w", &["a"]).await;
    let run = ork.done("w").await;
    let Ork { running, worker, dir, .. } = ork;
    let (url, token) = (running.url().to_owned(), running.token().to_owned());
    running.shutdown().await;
    worker.await.unwrap();
    assert_eq!(ServerFile::read(dir.path()).unwrap(), None);
    assert!(tokio::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).await.is_err());
    let ork = Ork::on(Config::local(dir.path()), dir).await;
    assert_eq!(ork.running.token(), token);
    assert_eq!(ork.client.runs(&RunQuery::default()).await.unwrap().items, [run]);
    ended_well(&ork.done("w").await);
}

#[tokio::test]
async fn attempts_of_an_earlier_boot_are_lost_at_once_and_tried_again() {
    let ork = Ork::start(Storage::Sqlite).await;
    ork.deploy("w", &["hold"]).await;
    let run = ork.holding("w").await;
    let Ork { running, worker, dir, .. } = ork;
    running.shutdown().await;
    worker.await.unwrap();
    let config = Config::local(dir.path());
    let running = Server::start(config).await.unwrap();
    let gone = running.old_workers().await.unwrap();
    running.workers_are_gone(&gone).await.unwrap();
    assert_eq!(gone, ["test/1".into()]);
    let state = running.client().run(run.id).await.unwrap().state;
    assert_eq!(state, RunState::Running);
    let attempts =
        running.client().attempts(run.id, "hold", &ork_api::types::Part::default()).await.unwrap();
    assert_eq!(attempts.items[0].state, ork_core::run::AttemptState::Lost);
}

#[tokio::test]
async fn a_client_within_the_process_needs_no_socket() {
    let ork = Ork::start(Storage::Memory).await;
    let client = ork.running.client();
    assert!(client.me().await.unwrap().local);
    assert_eq!(client.readyz().await.unwrap().status, "ok");
    assert_eq!(client.healthz().await.unwrap().status, "ok");
}

#[tokio::test]
async fn a_server_beside_which_nothing_works_takes_no_work() {
    let mut ork = Ork::start(Storage::Sqlite).await;
    ork.deploy("w", &["a"]).await;
    let run = ork.done("w").await;
    ork.running.take_work(false).await.unwrap();
    assert!(!ServerFile::read(ork.dir.path()).unwrap().unwrap().works);
    let error = ork.client.create_run(&run_of("w")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(error.to_string().contains("start `ork up`"), "{error}");
    let error = ork.client.retry(run.id, &Retry::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert_eq!(ork.client.runs(&RunQuery::default()).await.unwrap().items, [run]);
    ork.running.take_work(true).await.unwrap();
    assert!(ServerFile::read(ork.dir.path()).unwrap().unwrap().works);
    ended_well(&ork.done("w").await);
}
