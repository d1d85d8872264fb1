#!/usr/bin/env bash
# Shows that the shuttle programs can fail: each mutant must be killed by the program that claims it.
# These are the mutants of .ci/mutants.sh that shuttle can detect (it does not model fences), and one
# that no model has. Arguments, if any, select mutants. SCHEDULES (default 400) is the number per program.
set -euo pipefail
cd "$(dirname "$0")/.."

# mutant, program
table='
admission_drop_grant      jobs::a5_a_future_that_is_dropped_passes_its_place_on
admission_drop_grant      waits::a11_a_consumer_waits_for_a_place_or_a_result
admission_abandon_keeps   jobs::a5_a_future_that_is_dropped_passes_its_place_on
admission_no_hold         ends::a2_a_permit_that_outlives_the_pool_runs_or_drops_its_job
admission_resize_silent   sizes::a5_a_raised_capacity_admits_the_waiters
admission_stop_blind      ends::a2_a_permit_that_outlives_the_pool_runs_or_drops_its_job
admission_torn_take       ends::a6_submitters_at_a_full_queue_that_closes_are_admitted_or_refused
latch_keep_near           waits::r3_a_scope_waits_for_what_its_jobs_spawn
latch_silent              waits::r3_an_outside_thread_waits_in_place_for_a_scope
deque_keep_stolen         waits::r3_a_job_spawned_within_a_join_runs
drain_stop_late           waits::r3_a_scope_waits_for_what_its_jobs_spawn
latch_announce_blind      ends::d6_a_scope_that_is_open_when_the_pool_closes_is_finished
join_unseen               waits::r3_a_job_spawned_within_a_join_runs
task_unseen                 jobs::a5_a_future_that_is_dropped_passes_its_place_on
task_mute                 ends::r4_a_panic_stays_in_its_job
task_torn_claim           jobs::d2_every_handle_ends_under_concurrent_cancels
idle_stop_wakes_one      waits::r3_joins_within_joins_end
idle_torn_leave           jobs::r2_a_job_that_comes_to_an_idle_pool_is_run
idle_torn_excess        waits::r3_a_waiting_thread_works_for_a_pool_whose_threads_are_all_blocked
wait_announce_to_one      waits::a1_a_queue_of_one_place_keeps_two_workers_busy
'

export RUSTFLAGS="--cfg shuttle"
export CARGO_INCREMENTAL=1
export RUST_BACKTRACE=0
wrapper="$PWD/target/shuttle/rustc"
failed=0

# Prints the path of the executable. Only this crate gets the flag, so that its dependencies are built
# once.
build() {
    mkdir -p "${wrapper%/*}"
    printf '#!/bin/sh\nexec "$@" --cap-lints allow --cfg '"'mutant=\"%s\"'"'\n' "$1" >"$wrapper"
    chmod +x "$wrapper"
    # cargo does not track the contents of the wrapper.
    touch src/lib.rs
    RUSTC_WORKSPACE_WRAPPER="$wrapper" cargo test -p adaptive-pool --features _shuttle --quiet --release --test shuttle \
        --target-dir target/shuttle --no-run --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

built=
while read -r mutant program; do
    if [ -z "$mutant" ] || { [ $# -gt 0 ] && [[ " $* " != *" $mutant "* ]]; }; then
        continue
    fi
    if ! grep -rqz "mutant[a-z_]*!([[:space:]]*\"$mutant\"" src; then
        echo "MISSING: $mutant"
        failed=1
        continue
    fi
    if [ "$mutant" != "$built" ]; then
        programs=$(build "$mutant")
        built=$mutant
    fi
    if ! "$programs" --list --exact "$program" | grep ": test$" >/dev/null; then
        echo "MISSING: $program"
        failed=1
        continue
    fi
    # A panic, or the abort while a deadlock unwinds; a timeout proves nothing.
    status=0
    { timeout 120 "$programs" --quiet --exact "$program" </dev/null || status=$?; } >/dev/null 2>&1
    case $status in
        101 | 134) echo "killed: $mutant by $program" ;;
        *)
            echo "SURVIVED: $mutant against $program (exit status $status)"
            failed=1
            ;;
    esac
done <<<"$table"
exit "$failed"
