//! `dead`: lists the dead jobs, and puts them back.

use adaptive_pool_worker::{DeadMessage, Queue};

use crate::{
    Stop,
    args::{Dead, Server},
    print, usage,
};

pub async fn run(server: &Server, args: Dead) -> Result<(), Stop> {
    let client = server.connect().await?;
    let queue = Queue::open(&client, &server.stream).await?;
    if let Some(number) = args.revive {
        if !queue.revive(number).await? {
            return Err(usage(format!("there is no dead message {number}")));
        }
        return print(&format!("{number} is back in the queue"));
    }
    let mut count: u64 = 0;
    let mut from = 0;
    while let Some(message) = queue.next_dead(from).await? {
        count += 1;
        from = message.number + 1;
        if args.revive_all {
            queue.revive(message.number).await?;
        } else {
            print(&line(&message))?;
        }
    }
    let done = if args.revive_all {
        "back in the queue"
    } else {
        "dead"
    };
    print(&format!("{count} {done}"))
}

fn line(message: &DeadMessage) -> String {
    let times = match message.reason.as_str() {
        "crashed" => format!("{} deliveries never ended", message.crashes),
        "poison" => String::from("at once"),
        _ => format!("after {} failures", message.failures),
    };
    format!(
        "{:>6}  {} {times}: {}\n        {}",
        message.number,
        message.reason,
        message.error,
        String::from_utf8_lossy(&message.payload)
    )
}
