//! This release and the next one on one database. The next one is this source with the changes that a schema change makes: another
//! number, a table, a column, and a field in each record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::{target_directory, workspace};
use tests::world::Said;
use tokio::task::block_in_place;
use tokio::time::Duration;

use super::cluster::Cluster;
use super::fleet::Fleet;
use super::host::Call;

/// Files, and what the next release has in place of what is there.
const CHANGES: [(&str, &str, &str); 4] = [
    (
        "authority/src/store/postgres/schema.rs",
        "const VERSION: i32 = 2;",
        "const VERSION: i32 = 3;",
    ),
    (
        "authority/src/store/postgres/schema.rs",
        "    if let Some(role) = runtime_role {",
        "    link.batch(\"CREATE TABLE IF NOT EXISTS endorse.next (key bytea PRIMARY KEY)\").await?;\n    \
             link.batch(\"ALTER TABLE endorse.instances ADD COLUMN IF NOT EXISTS next text\").await?;\n    \
             if let Some(role) = runtime_role {",
    ),
    ("authority/src/store/format.rs", "    v: u64,\n", "    v: u64,\n    next: bool,\n"),
    (
        "authority/src/store/format.rs",
        "&Versioned { v: VERSION, record }",
        "&Versioned { v: VERSION, next: true, record }",
    ),
];

/// The authority of the next release.
fn next_release() -> Result<PathBuf> {
    let directory = target_directory().join("next-schema");
    let source = directory.join("source");
    fs::create_dir_all(&source)?;
    for entry in fs::read_dir(workspace())? {
        let entry = entry?;
        if [".git", "target"].iter().all(|skipped| entry.file_name() != *skipped) {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--remove-destination"]).arg(entry.path()).arg(&source);
            Said::by(&mut copy)?.success()?;
        }
    }
    for (file, from, to) in CHANGES {
        let file = source.join(file);
        let text = fs::read_to_string(&file)?;
        ensure!(text.matches(from).count() == 1, "{from:?} is not in {}", file.display());
        fs::write(&file, text.replace(from, to))?;
    }
    let target = directory.join("target");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "-q", "-p", "authority", "--locked", "--target-dir"]).arg(&target);
    Said::by(build.current_dir(&source))?.success()?;
    Ok(target.join("debug/authority"))
}

/// Restarts an authority with this program, while the fleet works with the other.
async fn replace(cluster: &mut Cluster, which: usize, program: &Path, fleet: &Fleet) -> Result<()> {
    block_in_place(|| {
        let node = &mut cluster.nodes[which];
        node.stop()?;
        node.use_program(program);
        node.start()
    })?;
    fleet.until_each_is_served().await?;
    fleet.check(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds another authority; cargo xtask drills"]
async fn this_release_and_the_next_serve_hosts_from_one_database() -> Result<()> {
    let next = block_in_place(next_release)?;
    let this = PathBuf::from(tests::programs!().authority);
    let Some(mut cluster) = Cluster::start().await? else { return Ok(()) };
    let fleet = Fleet::start(&cluster, 40, &[Call::Renew, Call::Issue, Call::Join]).await?;
    fleet.until_each_is_served().await?;
    let rate = fleet.measure(Duration::from_secs(5)).await;
    println!("{rate:.1} calls/s measured");

    // An older schema is not enough for the next release, and the migration leaves this one working.
    block_in_place(|| {
        cluster.nodes[1].stop()?;
        cluster.nodes[1].use_program(&next);
        let refused = cluster.nodes[1].start().err().context("it needs no migration")?;
        ensure!(format!("{refused:#}").contains("authority store migrate"), "{refused:#}");
        cluster.migrate(&next)?;
        cluster.nodes[1].start()
    })?;
    let version = "SELECT version, oldest_writer FROM endorse.schema";
    ensure!(cluster.database.sql("postgres", version)? == "3|2");
    fleet.until_each_is_served().await?;
    fleet.check(&cluster).await?;
    println!("this and the next: {}", fleet.report());

    replace(&mut cluster, 0, &next, &fleet).await.context("the next alone")?;
    // Back again: this release starts on the newer schema, with records of the next one.
    replace(&mut cluster, 0, &this, &fleet).await.context("this on the newer schema")?;
    replace(&mut cluster, 1, &this, &fleet).await.context("this alone on the newer schema")?;
    println!("{}", fleet.report());
    fleet.assert_no_failure()?;
    fleet.end().await
}
