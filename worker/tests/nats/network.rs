//! Two machines, as network namespaces, with links to the server that lose packets.

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use crate::{
    child::{Process, Settings, check_outputs, duplicates, runs},
    isolated::{isolated, shell, skip},
    server::Server,
    support::{is_empty, publish, until, until_queue_for, watched},
};

const LEASE: Duration = Duration::from_secs(2);
/// The part of the packets that each direction of a link loses.
const LOSS: f64 = 0.05;

/// Drops packets that arrive by `link`: TCP notices those that its own machine drops. Fewer kernels
/// have netem than filters of classic BPF. The program: load a random word; if it is below the
/// bound, drop (2), else pass (0).
fn lossy(link: &str) -> String {
    let bound = (LOSS * f64::from(u32::MAX)) as u32;
    format!(
        "tc qdisc add dev {link} clsact; tc filter add dev {link} ingress bpf direct-action \
         bytecode '4,32 0 0 4294963256,53 1 0 {bound},6 0 0 2,6 0 0 0'"
    )
}

/// Links the machine of `process` to the server's, which is 10.0.`number`.1 there.
fn link(number: usize, process: &Process) -> Result<(), String> {
    let pid = process.pid();
    let (here, there) = (lossy(&format!("link{number}")), lossy("eth0"));
    shell(&format!(
        "ip link add name link{number} type veth peer name eth0 netns {pid}
         ip address add 10.0.{number}.1/24 dev link{number}
         ip link set link{number} up; {here}
         exec nsenter --target {pid} --net sh -ec \"
             ip address add 10.0.{number}.2/24 dev eth0; ip link set eth0 up; {there}\""
    ))
}

/// Segments that TCP sent again in this namespace.
fn sent_again() -> u64 {
    let counts = fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = counts.lines().filter(|line| line.starts_with("Tcp:"));
    let names = lines.next().unwrap().split(' ');
    let values = lines.next().unwrap().split(' ');
    let mut both = names.zip(values);
    let found = both.find(|(name, _)| *name == "RetransSegs");
    found.unwrap().1.parse().unwrap()
}

#[test]
fn links_that_lose_packets_and_break_lose_no_message() {
    const JOBS: u64 = 400;
    let name = "network::links_that_lose_packets_and_break_lose_no_message";
    isolated(name, &["--net"], || {
        if let Err(why) = shell("ip link set lo up") {
            return skip(&why);
        }
        watched(Duration::from_secs(240), || async {
            let Some(server) = Server::start(&["-js", "-a", "0.0.0.0"]) else {
                return;
            };
            let queue = server.queue().await;
            let names = || (0..JOBS).map(|number| format!("job-{number}"));
            publish(&queue, names().map(|name| format!("sleep 20 {name}"))).await;
            let mut machines = Vec::new();
            for number in 1..=2 {
                let mut settings = Settings::new(&server, LEASE);
                let address = format!("10.0.{number}.1");
                settings.url = server.url().replace("127.0.0.1", &address);
                let machine = settings.start_on_another_machine();
                if let Err(why) = link(number, &machine) {
                    return skip(&why);
                }
                machines.push(machine);
            }
            let worked = || {
                let log = fs::read_to_string(server.folder().join("runs")).unwrap_or_default();
                let pids = log.lines().filter_map(|line| line.split(' ').nth(1));
                pids.map(str::to_owned).collect::<HashSet<_>>().len()
            };
            until("both work", || worked() == 2);
            until("some jobs are done", || runs(server.folder()).len() > 50);

            shell("ip link set link1 down").unwrap();
            // Time has to pass, and no event marks it.
            tokio::time::sleep(2 * LEASE).await;
            shell("ip link set link1 up").unwrap();
            let began = Instant::now();
            let longest = Duration::from_secs(150);
            let mut lost = 0;
            until_queue_for(longest, &queue, "all jobs are done", |seen| {
                lost = seen.workers.iter().map(|worker| worker.lease_lost).sum();
                is_empty(seen) && seen.done == JOBS && seen.dead == 0 && seen.workers.len() == 2
            })
            .await;
            check_outputs(server.folder(), names());
            let twice = duplicates(server.folder());
            println!(
                "{JOBS} jobs, lost 0, {twice} started twice, {lost} leases lost, {} segments sent \
                 again by the server's machine, {:.1} s after the break",
                sent_again(),
                began.elapsed().as_secs_f64()
            );
            assert!(sent_again() > 0, "the links lose nothing");
            // What was held when the link broke, or when a lease was lost for packets that were.
            assert!(
                twice <= (1 + lost) * 4,
                "{twice} ran twice, {lost} leases were lost"
            );
        });
    });
}
