//! An output folder that fails in the middle of a run: a clear error, and no message is lost.

use std::{fs, ops::Range, path::Path, time::Duration};

use adaptive_pool_worker::Queue;

use crate::{
    isolated::{isolated, shell, skip},
    program::{Working, enqueue, outputs, program},
    server::Server,
    support::{is_empty, until, until_queue, watched},
};

/// Kilobytes of a file: no compressor makes it smaller.
const SIZE: usize = 16;

fn noise(number: u64) -> Vec<u8> {
    let mut state = number;
    let byte = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(SIZE * 1024).collect()
}

fn write_files(folder: &Path, numbers: Range<u64>) {
    fs::create_dir_all(folder).unwrap();
    for number in numbers {
        fs::write(folder.join(number.to_string()), noise(number)).unwrap();
    }
}

/// That `out` has what belongs to these files, byte for byte, and nothing else.
fn check(out: &Path, numbers: Range<u64>) {
    let found = outputs(out);
    assert_eq!(found.len() as u64, numbers.end - numbers.start);
    for number in numbers {
        let input = noise(number);
        let name = format!("{}.zst", blake3::hash(&input).to_hex());
        let output = zstd::bulk::decompress(&found[&name], input.len()).unwrap();
        assert!(output == input, "the output of {number} is damaged");
    }
}

/// A worker has done some files when its folder is mounted anew with `broken`. It ends, and its
/// error has `what_to_do`. With `mended`, another worker does the rest.
fn goes_on(name: &str, broken: &str, mended: &str, what_to_do: &str) {
    const FIRST: u64 = 20;
    const ALL: u64 = 60;
    isolated(name, &["--mount"], || {
        watched(Duration::from_secs(120), || async {
            let (Some(server), Some(program)) = (Server::jetstream(), program()) else {
                return;
            };
            let (input, out) = (server.folder().join("in"), server.folder().join("out"));
            fs::create_dir_all(&out).unwrap();
            let mount = |options: &str| {
                let folder = out.display();
                shell(&format!("mount -t tmpfs -o {options} tmpfs {folder}"))
            };
            if let Err(why) = mount("size=4m") {
                return skip(&why);
            }
            write_files(&input, 0..FIRST);
            enqueue(&program, &server, &input);
            let queue = Queue::open(&server.client().await, "batch").await.unwrap();
            let worker = Working::start(&program, &server, &out);
            until_queue(&queue, "the first are done", |seen| {
                is_empty(seen) && seen.done == FIRST
            })
            .await;
            // The worker may still be about to close a file.
            until("the folder is mounted anew", || {
                mount(&format!("remount,{broken}")).is_ok()
            });
            write_files(&input, FIRST..ALL);
            enqueue(&program, &server, &input);
            let (code, said) = worker.ended();
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(what_to_do), "{said}");
            let seen = queue.status("workers").await.unwrap();
            assert_eq!(seen.done, outputs(&out).len() as u64);
            assert!(seen.done < ALL && seen.dead == 0, "{seen:?}");

            mount(&format!("remount,{mended}")).unwrap();
            let _worker = Working::start(&program, &server, &out);
            until_queue(&queue, "all are done", |seen| {
                is_empty(seen) && seen.done == ALL && seen.dead == 0
            })
            .await;
            check(&out, 0..ALL);
        });
    });
}

#[test]
fn a_disk_that_becomes_full_ends_the_worker_and_loses_nothing() {
    goes_on(
        "disk::a_disk_that_becomes_full_ends_the_worker_and_loses_nothing",
        // Room for the first files, and for few more.
        "size=480k",
        "size=4m",
        "make room there",
    );
}

#[test]
fn a_folder_that_becomes_read_only_ends_the_worker_and_loses_nothing() {
    goes_on(
        "disk::a_folder_that_becomes_read_only_ends_the_worker_and_loses_nothing",
        "ro",
        "rw",
        "make it writable for this user",
    );
}
