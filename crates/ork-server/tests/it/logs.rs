//! The lines of attempts.

use ork_api::problem::Code;
use ork_api::types::{AttemptQuery, LogQuery, RunLogQuery};
use ork_core::logs::{Level, Stream};

use crate::harness::{Ork, STORAGES};

#[tokio::test]
async fn a_log_in_parts_from_its_end_and_filtered() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["lines"]).await;
        let run = ork.done("w").await;
        let read = async |query: LogQuery| ork.client.logs(run.id, "lines", &query).await.unwrap();

        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let part = read(LogQuery { after: Some(after), ..LogQuery::default() }).await;
            seen.extend(part.lines.iter().map(|line| line.seq));
            after = part.scanned_to;
            if part.complete {
                break;
            }
        }
        assert_eq!(seen, (1..=2_500).collect::<Vec<_>>());

        let tail = read(LogQuery { tail: Some(3), ..LogQuery::default() }).await;
        let texts: Vec<_> = tail.lines.iter().map(|line| &*line.text).collect();
        assert_eq!(texts, ["line 2498", "line 2499", "line 2500"]);

        let errors = LogQuery { level: Some(Level::Warn), limit: Some(5), ..LogQuery::default() };
        let seqs: Vec<_> = read(errors).await.lines.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, [10, 20, 30, 40, 50]);

        let stderr =
            LogQuery { stream: Some(Stream::Stderr), limit: Some(2), ..LogQuery::default() };
        let seqs: Vec<_> = read(stderr).await.lines.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, [2, 4]);

        let found = read(LogQuery { q: Some("e 1234".into()), ..LogQuery::default() }).await;
        assert_eq!(found.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1234]);
        assert!(found.complete);
    }
}

#[tokio::test]
async fn a_follower_sees_lines_as_they_come_and_then_the_end() {
    for storage in STORAGES {
        let ork = Ork::start(storage).await;
        ork.deploy("w", &["hold"]).await;
        let run = ork.holding("w").await;
        let mut log = ork.client.follow_logs(run.id, "hold", &LogQuery::default()).await.unwrap();
        for expected in 1..=3 {
            assert_eq!(log.next().await.unwrap().unwrap().seq, expected);
        }
        ork.release.notify_one();
        for expected in 4..=5 {
            assert_eq!(log.next().await.unwrap().unwrap().seq, expected);
        }
        assert_eq!(log.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_lines_of_a_run_come_in_the_order_of_time_or_are_refused() {
    let ork = Ork::start(STORAGES[1]).await;
    ork.deploy("w", &["lines_a", "lines_b"]).await;
    let run = ork.done("w").await;
    let all = ork.client.run_logs(run.id, &RunLogQuery::default()).await.unwrap();
    assert_eq!(all.len(), 5_000);
    assert!(all.is_sorted_by_key(|line| line.at.0));
    let names: Vec<_> = all[..4].iter().map(|line| line.path.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["lines_a", "lines_b", "lines_a", "lines_b"]);
    let errors = RunLogQuery { level: Some(Level::Error), ..RunLogQuery::default() };
    assert_eq!(ork.client.run_logs(run.id, &errors).await.unwrap().len(), 500);

    let names = ["lines_a", "lines_b", "lines_c", "lines_d", "lines_e"];
    ork.deploy("much", &names).await;
    let run = ork.done("much").await;
    let refused = ork.client.run_logs(run.id, &RunLogQuery::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::TooLarge), "{refused}");
    assert!(ork.client.run_logs(run.id, &errors).await.is_ok());
}

#[tokio::test]
async fn an_attempt_by_its_number() {
    let ork = Ork::start(STORAGES[1]).await;
    ork.deploy("w", &["one"]).await;
    let run = ork.done("w").await;
    let read = async |number, query| ork.client.attempt(run.id, "one", number, &query).await;
    let newest = AttemptQuery::default();
    assert_eq!(read(1, newest).await.unwrap().attempt, 1);
    assert_eq!(read(2, newest).await.unwrap_err().code(), Some(Code::NotFound));
    let earlier = AttemptQuery { generation: Some(7) };
    assert_eq!(read(1, earlier).await.unwrap_err().code(), Some(Code::NotFound));
}
