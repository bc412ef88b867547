//! What fails, and how the fleet gets over it.

use anyhow::{Context, Result, ensure};
use tokio::task::block_in_place;
use tokio::time::{Duration, sleep};

use super::cluster::{Cluster, Node};
use super::fleet::Fleet;
use super::host::Call;

/// What each host does once it has joined.
const LIFE: [Call; 3] = [Call::Renew, Call::Issue, Call::Join];

/// How large a drill is.
#[derive(Clone, Copy)]
struct Scale {
    hosts: usize,
    measured: Duration,
    /// How long something lasts.
    outage: Duration,
}

const SHORT: Scale =
    Scale { hosts: 12, measured: Duration::from_secs(2), outage: Duration::from_secs(10) };
const LONG: Scale =
    Scale { hosts: 100, measured: Duration::from_secs(20), outage: Duration::from_secs(60) };

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL of this authority, which is started again.
    Killed(usize),
    /// SIGSTOP and SIGCONT of this authority.
    Paused(usize),
    /// The database ends as in a crash, and is started again.
    DatabaseRestarted,
    /// All sessions of the database are ended, again and again.
    ConnectionsCut,
    /// The database takes two seconds for each message.
    DatabaseSlow,
    /// No room on the disk of the database.
    DiskFull,
    /// The authorities' clocks are five minutes apart.
    Clocks,
}

impl Fault {
    /// Lets it happen and go by. A host is removed in the middle.
    async fn happen(
        self,
        cluster: &mut Cluster,
        fleet: &Fleet,
        outage: Duration,
        remove: impl AsyncFnOnce(&Node) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Killed(which) => {
                cluster.nodes[which].kill();
                remove(&cluster.nodes[1 - which]).await?;
                sleep(outage / 3).await;
                block_in_place(|| cluster.nodes[which].start())
            }
            Self::Paused(which) => {
                cluster.nodes[which].signal("-STOP")?;
                sleep(outage / 2).await;
                remove(&cluster.nodes[1 - which]).await?;
                sleep(outage / 2).await;
                cluster.nodes[which].signal("-CONT")
            }
            Self::DatabaseRestarted => {
                block_in_place(|| cluster.database.stop())?;
                sleep(outage / 10).await;
                block_in_place(|| cluster.database.start_again())?;
                remove(&cluster.nodes[1]).await
            }
            Self::ConnectionsCut => {
                const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                                   WHERE application_name = 'endorse'";
                for _ in 0..10 {
                    block_in_place(|| cluster.database.sql("postgres", CUT))?;
                    sleep(outage / 50).await;
                }
                remove(&cluster.nodes[1]).await
            }
            Self::DatabaseSlow => {
                cluster.link.delay(Duration::from_secs(2));
                sleep(outage).await;
                unready(cluster, "store").await?;
                cluster.link.delay(Duration::ZERO);
                remove(&cluster.nodes[1]).await
            }
            Self::DiskFull => {
                block_in_place(|| cluster.database.fill_disk())?;
                sleep(outage).await;
                unready(cluster, "store").await?;
                block_in_place(|| cluster.database.clear_disk())?;
                remove(&cluster.nodes[1]).await
            }
            Self::Clocks => {
                for ahead in [300, -300] {
                    block_in_place(|| {
                        cluster.nodes[1].stop()?;
                        cluster.nodes[1].set_clock(ahead)?;
                        cluster.nodes[1].start()
                    })?;
                    sleep(outage / 2).await;
                    fleet.until_each_is_served().await?;
                }
                remove(&cluster.nodes[1]).await
            }
        }
        .with_context(|| format!("{self:?}"))
    }
}

/// Monitoring is told by each authority that this part of it is not healthy.
async fn unready(cluster: &Cluster, part: &str) -> Result<()> {
    for node in &cluster.nodes {
        let said = node.until_readiness_is(503).await?;
        ensure!(said.contains(part), "{said}");
        println!("{said}");
    }
    Ok(())
}

/// The faults, one after the other, on a cluster under load.
async fn drill(mut cluster: Cluster, scale: Scale, faults: &[Fault]) -> Result<()> {
    let fleet = Fleet::start(&cluster, scale.hosts, &LIFE).await?;
    fleet.until_each_is_served().await?;
    let rate = fleet.measure(scale.measured).await;
    println!("{rate:.1} calls/s measured with {} hosts", scale.hosts);
    for (number, fault) in faults.iter().enumerate() {
        let before = fleet.granted();
        let remove = async |node: &Node| fleet.remove(number, node).await;
        fault.happen(&mut cluster, &fleet, scale.outage, remove).await?;
        let meanwhile = fleet.granted() - before;
        let served = fleet.until_each_is_served().await.with_context(|| format!("{fault:?}"))?;
        for node in &cluster.nodes {
            node.until_readiness_is(200).await?;
        }
        fleet.check(&cluster).await.with_context(|| format!("after {fault:?}"))?;
        println!(
            "{fault:?}: {meanwhile} calls granted meanwhile, each host served {served:.1?} later; {}",
            fleet.report()
        );
    }
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleet_gets_over_a_killed_and_a_paused_authority_and_a_lost_database() -> Result<()> {
    let Some(cluster) = Cluster::start().await? else { return Ok(()) };
    // After the first, all hosts are at the second authority.
    let faults =
        [Fault::Killed(0), Fault::Paused(1), Fault::ConnectionsCut, Fault::DatabaseRestarted];
    drill(cluster, SHORT, &faults).await
}

async fn long(fault: Fault) -> Result<()> {
    let Some(cluster) = Cluster::start().await? else { return Ok(()) };
    drill(cluster, LONG, &[fault]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn authority_is_killed() -> Result<()> {
    long(Fault::Killed(0)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn authority_is_paused_for_a_minute() -> Result<()> {
    long(Fault::Paused(0)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn clocks_of_authorities_are_five_minutes_apart() -> Result<()> {
    long(Fault::Clocks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn database_is_restarted() -> Result<()> {
    long(Fault::DatabaseRestarted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn connections_to_the_database_are_cut() -> Result<()> {
    long(Fault::ConnectionsCut).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn database_takes_two_seconds_for_each_statement() -> Result<()> {
    long(Fault::DatabaseSlow).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; cargo xtask drills"]
async fn disk_of_the_database_is_full() -> Result<()> {
    let Some(cluster) = Cluster::start_on_small_disk(64 << 20).await? else { return Ok(()) };
    drill(cluster, LONG, &[Fault::DiskFull]).await
}
