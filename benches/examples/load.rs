//! Joins under load: hosts with endorsement keys in software join at a running authority over TLS,
//! each answering its activation as a TPM does. Two authorities run in turns, so that what else the
//! machine does meets both.
//!
//! ```text
//! cargo run --release -p benches --example load -- --a target/release/authority [--b OTHER]
//! ```

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use testkit::simulated::{SoftwareTpm, Wire};
use tls::ServerTrust;
use tokio::net::TcpSocket;

/// Clock ticks a second in /proc/PID/stat: USER_HZ, which Linux fixed at 100 on all that it runs on
/// here.
const TICKS: f64 = 100.0;

/// Measure joins at one authority or compare two
#[derive(Parser)]
struct Options {
    /// The authority program to measure
    #[arg(long, value_name = "FILE")]
    a: PathBuf,
    /// Another one to compare with it; ratios are b to a
    #[arg(long, value_name = "FILE")]
    b: Option<PathBuf>,
    /// Joins in each round at each authority
    #[arg(long, default_value_t = 300)]
    joins: usize,
    /// Rounds, the authorities in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Hosts that join at the same time, each from a loopback address of its own
    #[arg(long, default_value_t = 16)]
    parallel: u8,
    /// More rules in the token that no host matches
    #[arg(long, default_value_t = 0)]
    rules: usize,
}

/// A running authority; it ends with the value.
struct Authority {
    child: Child,
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    _data: tempfile::TempDir,
}

/// What a round, or a whole run, measured.
#[derive(Clone, Copy)]
struct Figures {
    joins_per_second: f64,
    /// Median and 99th percentile of the time from the connection to the certificates.
    p50_ms: f64,
    p99_ms: f64,
    /// The authority's user and system time.
    cpu_ms_per_join: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.joins > 0 && options.rounds > 0 && options.parallel > 0, "nothing to do");
    let hosts: Arc<Vec<_>> =
        Arc::new((0..options.parallel).map(|_| SoftwareTpm::generate()).collect());
    let programs: Vec<_> = [Some(&options.a), options.b.as_ref()].into_iter().flatten().collect();
    let authorities: Vec<_> = programs
        .iter()
        .map(|program| Authority::start(program, &token(&hosts, options.rules)))
        .collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // One round that does not count: caches fill, and the allocator takes what it needs.
    let mut rounds = vec![Vec::new(); authorities.len()];
    for round in 0..=options.rounds {
        for turn in 0..authorities.len() {
            let which = (turn + round) % authorities.len();
            let authority = &authorities[which];
            let figures = runtime.block_on(measure(authority, &hosts, options.joins))?;
            if round > 0 {
                rounds[which].push(figures);
            }
        }
    }
    let medians: Vec<_> = rounds.iter().map(|rounds| Figures::medians(rounds)).collect();
    println!("{:<8} {:>9} {:>9} {:>9} {:>12}", "", "joins/s", "p50 ms", "p99 ms", "CPU ms/join");
    for (name, figures) in ["a", "b"].iter().zip(&medians) {
        figures.print(name);
    }
    if let [a, b] = &medians[..] {
        b.over(a).print("b / a");
    }
    Ok(())
}

/// The bot and the token of these hosts.
fn token(hosts: &[SoftwareTpm], more: usize) -> String {
    let known = hosts.iter().map(SoftwareTpm::ek_hash);
    let others = (0..more).map(|number| format!("{number:064x}"));
    let rules: String = known
        .chain(others)
        .map(|hash| format!("      - {{ek_public_hash: \"{hash}\"}}\n"))
        .collect();
    format!(
        "kind: bot\nversion: v1\nmetadata: {{name: load}}\nspec: {{roles: [access]}}\n---\n\
         kind: token\nversion: v2\nmetadata: {{name: load}}\nspec:\n  roles: [Bot]\n  \
         join_method: tpm\n  bot_name: load\n  tpm:\n    allow:\n{rules}"
    )
}

impl Authority {
    fn start(program: &Path, resources: &str) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let directory = data.path().join("data");
        let mut child = Command::new(program)
            .args(["start", "--listen", "127.0.0.1:0", "--cluster-name", "load.example"])
            .arg("--data-dir")
            .arg(&directory)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(data.path().join("log"))?)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let said = BufReader::new(child.stdout.take().context("no output")?);
        let listens = |line: String| line.strip_prefix("Listen").map(|rest| rest.trim().to_owned());
        let address = said.lines().map_while(Result::ok).find_map(listens);
        let Some(address) = address else {
            let _ = child.wait();
            bail!("{} does not start: {}", program.display(), read(&data.path().join("log")));
        };
        let ca = CertificateDer::from_pem_file(directory.join("cluster/x509-ca.pem"))?;
        let config = tls::client_config(&ServerTrust::Certificates(vec![ca]), None)?;
        let authority = Self { child, address: address.parse()?, config, _data: data };
        let file = authority._data.path().join("resources.yaml");
        fs::write(&file, resources)?;
        let created = Command::new(program)
            .arg("create")
            .arg(&file)
            .arg("--data-dir")
            .arg(&directory)
            .stdout(Stdio::null())
            .status()?;
        ensure!(created.success(), "{} create: {created}", program.display());
        Ok(authority)
    }

    /// The time that the processor spent on it.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything, the state is the third field.
        let (_, fields) = stat.rsplit_once(')').context("no /proc/PID/stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<u32, _>>()?;
        Ok(Duration::from_secs_f64(f64::from(ticks) / TICKS))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// So many joins, by all hosts at the same time.
async fn measure(
    authority: &Authority,
    hosts: &Arc<Vec<SoftwareTpm>>,
    joins: usize,
) -> Result<Figures> {
    let left = Arc::new(AtomicUsize::new(joins));
    let (cpu, begin) = (authority.cpu()?, Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for host in 0..hosts.len() {
        let (hosts, left) = (Arc::clone(hosts), Arc::clone(&left));
        let (address, config) = (authority.address, Arc::clone(&authority.config));
        running.spawn(async move {
            let mut times = Vec::new();
            let one_less = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                let begin = Instant::now();
                join(&hosts[host], host, address, Arc::clone(&config)).await?;
                times.push(begin.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(joins);
    while let Some(some) = running.join_next().await {
        times.extend(some??);
    }
    let (cpu, elapsed) = (authority.cpu()?.saturating_sub(cpu), begin.elapsed());
    times.sort();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    Ok(Figures {
        joins_per_second: joins as f64 / elapsed.as_secs_f64(),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        cpu_ms_per_join: cpu.as_secs_f64() * 1e3 / joins as f64,
    })
}

/// One honest join on a connection of its own.
async fn join(
    host: &SoftwareTpm,
    number: usize,
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number + 1)?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), 0))?;
    let wire = Wire::over(socket.connect(address).await?, config).await;
    wire.complete_join(host, "load").await?;
    Ok(())
}

impl Figures {
    fn each(rounds: &[Self], of: impl Fn(&Self) -> f64) -> f64 {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    fn medians(rounds: &[Self]) -> Self {
        Self {
            joins_per_second: Self::each(rounds, |one| one.joins_per_second),
            p50_ms: Self::each(rounds, |one| one.p50_ms),
            p99_ms: Self::each(rounds, |one| one.p99_ms),
            cpu_ms_per_join: Self::each(rounds, |one| one.cpu_ms_per_join),
        }
    }

    fn over(&self, other: &Self) -> Self {
        Self {
            joins_per_second: self.joins_per_second / other.joins_per_second,
            p50_ms: self.p50_ms / other.p50_ms,
            p99_ms: self.p99_ms / other.p99_ms,
            cpu_ms_per_join: self.cpu_ms_per_join / other.cpu_ms_per_join,
        }
    }

    fn print(&self, name: &str) {
        let Self { joins_per_second, p50_ms, p99_ms, cpu_ms_per_join } = self;
        println!(
            "{name:<8} {joins_per_second:>9.2} {p50_ms:>9.2} {p99_ms:>9.2} {cpu_ms_per_join:>12.2}"
        );
    }
}
