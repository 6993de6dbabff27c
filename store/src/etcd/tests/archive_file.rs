//! An archive as a file: it is read back whole, and nothing that was done to it goes unnoticed.

use std::ops::ControlFlow;
use std::path::Path;

use super::super::archive;
use super::*;
use crate::backup::{Part, read, verify};

async fn archive_of(bench: &Bench) -> Vec<u8> {
    let backend = bench.backend.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        let written = archive::write(&*backend, 100, &mut |blob| {
            file.extend_from_slice(&blob.bytes);
            ControlFlow::Continue(())
        });
        written.map(|()| file)
    });
    written.await.unwrap().unwrap()
}

fn verified(path: &Path, bytes: &[u8]) -> Result<crate::backup::Contents, String> {
    std::fs::write(path, bytes).unwrap();
    verify(path).map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let bench = Bench::new().await;
    for index in 0..20 {
        bench.put(&format!("key-{index:02}"), "value").await;
    }
    bench.compact(7).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    let bytes = archive_of(&bench).await;
    let contents = verified(&path, &bytes).unwrap();
    assert_eq!((contents.revision, contents.compact_revision), (21, 7));
    assert_eq!((contents.keys, contents.leases), (20, 0));
    assert_eq!(contents.size_bytes, bytes.len() as u64);
    let mut keys = Vec::new();
    let again = read(&path, &mut |part| {
        if let Part::Key(kv) = part {
            keys.push(kv);
        }
        Ok(())
    });
    assert_eq!(again.unwrap(), contents);
    let live = bench.range(everything()).await.unwrap().body.kvs;
    assert_eq!(keys, live);
}

#[tokio::test]
async fn an_archive_that_was_cut_or_changed_is_refused() {
    let bench = Bench::new().await;
    for index in 0..20 {
        bench.put(&format!("key-{index:02}"), "value").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    let whole = archive_of(&bench).await;
    for length in [
        0,
        32,
        544,
        whole.len() - 512,
        whole.len() - 32,
        whole.len() - 1,
    ] {
        assert!(verified(&path, &whole[..length]).is_err(), "{length}");
    }
    for place in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert!(verified(&path, &changed).is_err(), "byte {place}");
    }
    // One whose hash fits, of a version to come.
    let mut newer = whole[..whole.len() - 32].to_vec();
    let kind = newer.iter().position(|byte| *byte == archive::KEY);
    newer[kind.unwrap()] = 77;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&newer);
    newer.extend_from_slice(&digest);
    assert!(verified(&path, &newer).is_err());
    assert!(verified(&path, &whole).is_ok());
}

#[tokio::test]
async fn a_restored_member_has_all_of_it_at_a_revision_that_nobody_has_seen() {
    use crate::backup::{BUMP_REVISION, BackupError, NewCluster, restore};
    use crate::config::{InitialMember, engine};
    use crate::data_dir::DataDir;
    use crate::raft::machine::Replica;

    let bench = Bench::new().await;
    for index in 0..20 {
        bench.put(&format!("key-{index:02}"), "value").await;
    }
    let live = bench.range(everything()).await.unwrap().body;
    let home = tempfile::tempdir().unwrap();
    let archive = home.path().join("archive");
    verified(&archive, &archive_of(&bench).await).unwrap();
    let member = |id: u64| InitialMember {
        id,
        name: format!("m{id}"),
        peer_address: format!("127.0.0.1:{id}"),
    };
    let cluster = NewCluster {
        cluster_id: 0xc2,
        members: vec![member(1), member(2)],
        bump_revision: BUMP_REVISION,
    };
    let engine = engine();
    let mut memberships = Vec::new();
    for id in [1, 2] {
        let path = home.path().join(format!("data-{id}"));
        // An empty directory is as good as none.
        std::fs::create_dir(&path).unwrap();
        let made = restore(&archive, &path, id, &cluster, engine.as_ref());
        let (revision, contents) = made.unwrap();
        assert_eq!((revision, contents.keys), (21 + BUMP_REVISION, 20));
        let dir = DataDir::open(crate::files::real(), &path, 0xc2, id).unwrap();
        let met = dir.peers().unwrap().all();
        assert_eq!(met.len(), 1, "the other one");
        let state = engine.open_state(&path, false).unwrap();
        let replica = Replica::load(0xc2, state).unwrap();
        let all = replica.range(everything()).await.unwrap();
        assert_eq!((all.revision, all.body), (revision, live.clone()));
        let membership = replica.position().membership.unwrap();
        assert_eq!(membership.incarnation(id), Some(dir.incarnation()));
        memberships.push(membership);
        let again = restore(&archive, &path, id, &cluster, engine.as_ref());
        assert!(matches!(again, Err(BackupError::Occupied(_))));
    }
    assert_eq!(memberships[0], memberships[1]);

    // Nothing comes of an archive that is not whole.
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let path = home.path().join("data-3");
    let refused = restore(&archive, &path, 1, &cluster, engine.as_ref());
    assert!(matches!(refused, Err(BackupError::Archive { .. })));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 3);
}
