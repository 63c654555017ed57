//! On the real file system.

use super::*;

#[tokio::test]
async fn what_is_committed_is_read_in_order_and_settled_once() {
    let dir = temp();
    let (log, mut reader, recovered) = open(dir.path(), options());
    assert_eq!(recovered, Recovered::default());
    let name = log.id();
    let mut seqs = Vec::new();
    for at in 0..40 {
        seqs.push(
            log.append(at % 3, 1000 + u64::from(at), payload(300, 5))
                .await
                .unwrap(),
        );
    }
    let mut ids = Vec::new();
    for (at, seq) in seqs.iter().enumerate() {
        let entry = next(&mut reader).await;
        assert_eq!((entry.seq, entry.origin), (*seq, at as u32 % 3));
        assert_eq!(entry.payload.to_bytes(), payload(300, 5).to_bytes());
        if at % 10 == 9 {
            let range = range(log.batched(), entry.end());
            ids.push(log.boundary(range).await.unwrap());
        }
    }
    assert!(reader.try_next().await.unwrap().is_none());
    assert_eq!(log.stats().unsettled.items(), 200);
    assert!(log.stats().segments > 3);
    log.done(ids[0]).unwrap();
    log.drop_batch(ids[1], "rejected").unwrap();
    log.close().await;
    drop((log, reader));

    let (log, mut reader, recovered) = open(dir.path(), options());
    let open: Vec<u64> = recovered.batches.iter().map(|batch| batch.id).collect();
    assert_eq!(open, ids[2..]);
    assert_eq!(log.id(), name);
    assert_eq!(recovered.batches[0].tally.items(), 50);
    assert_eq!(log.stats().unsettled.items(), 100);
    assert!(reader.try_next().await.unwrap().is_none());
    let items = log.read(recovered.batches[1].range).await.unwrap();
    assert_eq!(items.len(), 10);
    log.done(ids[2]).unwrap();
    log.done(ids[3]).unwrap();
    log.close().await;
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 2, "the lock and one segment");
    assert!(log.stats().disk_bytes < 4096);
}

#[tokio::test]
async fn requests_are_visited_once_though_their_segment_grows_meanwhile() {
    let dir = temp();
    let (log, reader, _) = open(dir.path(), LogOptions::default());
    let first = log.append(0, 1000, payload(300, 5)).await.unwrap();
    let mut seen = Vec::new();
    visit_requests(&reader.shared, first, |header| {
        seen.push(header.seq);
        if seen.len() == 1 {
            futures::executor::block_on(log.append(0, 1001, payload(300, 5))).unwrap();
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [first, first + 1]);
    log.close().await;
}
