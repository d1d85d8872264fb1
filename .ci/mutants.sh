#!/usr/bin/env bash
# Shows that the loom models can fail: each mutant must be killed by the models that claim it, and each
# model must kill one. Its place in the code is marked by a macro of src/sync/mutants.rs. Arguments, if any, select
# mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

# mutant, model
table='
admission_no_fence        protocol::admission::model::a5_a_released_place_reaches_the_waiter
admission_no_fence        protocol::admission::model::a5_one_place_serves_two_waiters_in_turn
admission_no_fence        protocol::admission::model::a5_a_task_is_woken_when_it_is_granted
admission_drop_grant      protocol::admission::model::a5_a_grant_that_meets_a_timeout_is_taken_or_left_to_others
admission_drop_grant      protocol::admission::model::a5_a_waiter_that_gives_up_strands_none_behind_it
admission_abandon_keeps   protocol::admission::model::a5_a_dropped_future_passes_its_grant_on
admission_close_peeks     protocol::admission::model::a6_a_waiter_that_joins_a_closing_line_is_refused
admission_close_peeks     protocol::admission::model::a6_a_waiter_is_either_granted_or_closed_out
admission_close_peeks     protocol::drain::model::d2_a_pool_that_closes_runs_the_jobs_of_granted_waiters
admission_torn_take       protocol::admission::model::a6_a_closed_admission_stays_closed
admission_torn_take       protocol::admission::model::a1_one_place_has_one_owner_at_a_time
admission_torn_take       protocol::admission::model::a1_two_places_have_at_most_two_owners
admission_resize_silent   protocol::admission::model::a5_a_raised_capacity_lets_the_waiter_in
admission_no_fence_watch  protocol::admission::model::d4_a_watcher_sees_a_released_place_or_is_notified
cache_no_fence_spend      protocol::admission::permit_cache::model::a1_a_cached_place_is_spent_or_reclaimed
cache_no_fence_reclaim     protocol::admission::permit_cache::model::a1_a_cached_place_is_spent_or_reclaimed
cache_blind               protocol::admission::permit_cache::model::a1_a_cached_place_is_spent_or_reclaimed
cache_count_unlocked         protocol::admission::permit_cache::model::m1_a_reclaimed_place_is_not_counted_as_acquired
cache_unseen              protocol::admission::permit_cache::model::a3_a_cached_place_is_not_hidden
cache_no_reclaim           protocol::admission::permit_cache::model::a5_a_waiter_gets_the_places_of_a_cache
cache_open                protocol::admission::permit_cache::model::d2_no_cached_place_is_spent_after_the_end
admission_no_hold         protocol::drain::model::d1_a_permit_that_is_kept_does_not_hold_up_the_end
admission_stop_blind      protocol::drain::model::d2_the_job_of_a_permit_is_run_once_while_the_pool_ends
admission_overdraw_blind  protocol::drain::model::d2_a_job_over_the_bound_is_run_or_refused_while_the_pool_ends
admission_stop_twice      protocol::drain::model::d3_a_pool_that_two_close_stops_once
admission_unused_first    protocol::drain::model::d1_a_permit_that_is_dropped_leaves_the_others_counted
event_wake_unseen                 protocol::completion::event::model::r2_a_waiter_that_waits_again_is_notified_again
event_wake_unseen                 protocol::completion::event::model::r2_a_waiter_for_a_result_is_notified_of_it
event_no_fence_leave       protocol::completion::event::model::r6_a_result_that_meets_a_leaving_consumer_is_seen_by_one_of_the_two
event_no_fence_set        protocol::completion::event::model::r6_a_result_that_meets_a_leaving_consumer_is_seen_by_one_of_the_two
event_no_fence_set        protocol::completion::event::model::r2_a_waiter_that_waits_again_is_notified_again
event_no_fence_set        protocol::completion::event::model::r2_a_waiter_for_a_result_is_notified_of_it
event_no_fence_wait        protocol::completion::event::model::r2_a_waiter_that_waits_again_is_notified_again
event_no_fence_wait        protocol::completion::event::model::r2_a_waiter_for_a_result_is_notified_of_it
event_withdraw_late       protocol::completion::event::model::r2_a_waiter_that_waits_again_is_notified_again
chunk_keep_offer          protocol::chunk::model::r2_a_chunk_task_offers_the_remaining_items_again
chunk_relaxed_end         protocol::chunk::model::r6_the_end_of_an_item_publishes_its_result
chunk_relaxed_put         protocol::chunk::model::r1_an_item_that_meets_the_closing_is_claimed_or_given_back
chunk_torn_claim          protocol::chunk::model::r1_each_item_is_claimed_once
chunk_torn_close          protocol::chunk::model::r1_an_item_that_meets_the_closing_is_claimed_or_given_back
chunk_torn_rest           protocol::chunk::model::a2_the_remaining_items_are_claimed_once
chunk_torn_take           protocol::chunk::model::r4_a_result_that_two_threads_race_for_is_taken_once
deque_keep_claim          protocol::deque::model::r1_a_pop_and_a_theft_share_the_pushed_jobs
deque_no_fence_pop        protocol::deque::model::r1_a_pop_and_a_theft_share_the_pushed_jobs
deque_no_fence_steal      protocol::deque::model::r1_a_pop_and_a_theft_share_the_pushed_jobs
deque_no_fence_fenced     protocol::deque::model::r1_a_fenced_pop_and_a_theft_share_the_pushed_jobs
deque_no_fence_steal_fenced protocol::deque::model::r1_a_fenced_pop_and_a_theft_share_the_pushed_jobs
deque_keep_claim          protocol::deque::model::r1_an_owner_stops_fencing_between_two_thefts
deque_keep_claim          protocol::deque::model::r1_an_owner_is_asked_for_fences_between_two_thefts
deque_no_lock_for_room    protocol::deque::model::r1_the_owner_wraps_round_the_ring_beside_a_thief
deque_relaxed             protocol::deque::model::r1_a_job_that_a_thief_returns_is_there_again
deque_relaxed             protocol::deque::model::r1_a_job_that_a_thief_rejects_is_there_again
deque_forget_watermark         protocol::deque::model::r3_a_pop_stops_at_its_watermark
deque_keep_stolen         protocol::deque::model::r3_the_newest_job_is_seen_while_it_is_stolen
drain_no_fence_begin      protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
drain_no_fence_look       protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
drain_no_fence_look       protocol::drain::model::d2_the_job_of_a_permit_is_run_once_while_the_pool_ends
drain_stop_late           protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
inbox_leave_blind         protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_leaves_its_loop
inbox_park_blind          protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_parks
inbox_probe_late          protocol::inbox::model::no_message_is_forgotten_by_a_probe_on_its_way
inbox_relaxed_gone        protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_parks
placement_activate_blind         protocol::placement::model::r2_a_worker_that_comes_back_and_an_activation_share_one_slot
placement_come_back_blind    protocol::placement::model::r2_a_worker_that_comes_back_and_an_activation_share_one_slot
placement_come_back_silent     protocol::placement::model::r2_a_worker_that_voids_an_activation_sees_the_job_that_counts_on_it
placement_come_back_silent     protocol::placement::model::s4_a_parked_thread_is_activated_while_a_worker_blocks
placement_keep_activations         protocol::placement::model::r2_a_spare_thread_in_rayon_is_activated_in_place_of_a_blocked_one
placement_leave_blind        protocol::placement::model::r2_a_spare_thread_that_leaves_meets_an_activation_without_a_thread
placement_no_reroute         protocol::placement::model::r2_a_spare_thread_takes_the_activation_when_the_last_thread_blocks
placement_spare_keeps_activation   protocol::placement::model::r2_an_activation_of_a_spare_thread_that_blocks_is_sent_to_another
idle_another_uncounted   protocol::idle::model::r2_an_idle_worker_is_woken_beside_a_searcher
idle_doubt_woken         protocol::idle::model::r2_one_job_is_one_wake_up
idle_park_for_good       protocol::idle::model::s5_an_idle_time_ends_whichever_worker_the_waker_took
idle_no_fence_add        protocol::placement::model::s4_a_parked_thread_is_activated_while_a_worker_blocks
idle_no_fence_add        protocol::idle::model::places::s2_an_added_slot_is_filled_for_the_job_that_comes
idle_no_fence_add        protocol::idle::model::places::s1_two_changes_of_the_range_strand_no_job
idle_no_fence_again      protocol::placement::model::r2_a_spare_thread_in_rayon_is_activated_in_place_of_a_blocked_one
idle_no_fence_again      protocol::placement::model::r2_a_worker_that_voids_an_activation_sees_the_job_that_counts_on_it
idle_no_fence_begin      protocol::idle::model::r2_a_worker_that_begins_to_offer_sees_or_is_seen_by_one_that_becomes_idle
idle_no_fence_discard    protocol::idle::model::d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two
idle_no_fence_announce       protocol::idle::model::r2_a_job_that_meets_a_worker_that_becomes_idle_is_run
idle_no_fence_found      protocol::idle::model::r2_a_searcher_that_finds_a_job_wakes_another_for_the_next
idle_no_fence_offer      protocol::idle::model::r2_an_offer_that_meets_a_worker_that_becomes_idle_is_run
idle_no_fence_announce       protocol::idle::model::r2_an_offer_that_meets_a_worker_that_becomes_idle_is_run
idle_no_fence_push       protocol::idle::model::r2_a_job_that_meets_a_worker_that_becomes_idle_is_run
idle_no_fence_push       protocol::idle::model::r2_a_searcher_that_finds_a_job_wakes_another_for_the_next
idle_no_fence_push       protocol::idle::model::d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two
idle_no_fence_leave      protocol::idle::model::r2_a_job_that_meets_a_worker_on_its_way_to_rayon_sends_an_activation
idle_no_fence_vain       protocol::idle::model::r2_a_job_that_meets_a_search_in_vain_sends_an_activation
idle_shrink_forgets        protocol::idle::model::places::s1_two_changes_of_the_range_strand_no_job
idle_shrink_forgets        protocol::idle::model::places::s3_a_removed_slot_strands_no_job
idle_stop_wakes_one      protocol::idle::model::d1_a_stop_reaches_a_worker_that_becomes_idle
idle_torn_leave           protocol::idle::model::r2_a_waker_meets_a_worker_that_goes_to_rayon
idle_torn_excess        protocol::idle::model::places::s1_an_added_slot_meets_a_worker_that_goes_to_rayon
idle_torn_excess        protocol::idle::model::places::s3_a_removed_slot_strands_no_job
latch_announce_blind      protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_announce_blind      protocol::completion::latch::model::r6_a_waiter_for_one_job_sees_its_end
latch_keep_near           protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_no_fence_announce   protocol::completion::latch::model::r3_a_worker_that_parks_is_notified_of_a_side_job_of_its_frame
latch_no_fence_notify     protocol::completion::latch::model::r3_a_worker_that_parks_is_notified_of_a_side_job_of_its_frame
latch_read_late           protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_read_late           protocol::completion::latch::model::r6_a_waiter_for_one_job_sees_its_end
latch_relaxed             protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_relaxed             protocol::completion::latch::model::r6_a_waiter_for_one_job_sees_its_end
latch_relaxed_begin       protocol::completion::latch::model::r3_a_waiter_for_a_job_sees_the_thread_that_runs_it
latch_silent              protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_silent              protocol::completion::latch::model::r6_a_waiter_for_one_job_sees_its_end
latch_torn_end            protocol::completion::latch::model::r6_a_thread_waits_until_its_jobs_have_ended_elsewhere
latch_torn_end            protocol::completion::latch::model::r6_a_waiter_for_one_job_sees_its_end
latch_withdraw_blind      protocol::completion::latch::model::r3_a_wait_that_is_interrupted_meets_the_last_end
task_unseen                 protocol::completion::task_state::model::d2_a_task_that_awaits_a_job_is_woken_at_its_end
task_leave_early          protocol::completion::task_state::model::d2_a_thread_that_waits_for_a_job_is_notified_of_its_end
task_mute                 protocol::completion::task_state::model::d2_a_thread_that_waits_for_a_job_is_notified_of_its_end
task_relaxed_finish       protocol::completion::task_state::model::r6_a_handle_that_sees_the_end_sees_the_result
task_relaxed_leave        protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_relaxed_look         protocol::completion::task_state::model::r1_the_last_end_of_a_tombstone_drops_the_value
task_relaxed_look         protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_torn_claim           protocol::completion::task_state::model::r1_one_of_three_claims_the_job
task_torn_leave           protocol::completion::task_state::model::r1_the_last_end_of_a_tombstone_drops_the_value
task_torn_leave           protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_torn_wake            protocol::completion::task_state::model::d2_a_task_that_awaits_a_job_is_woken_at_its_end
wait_announce_to_one      protocol::wait::model::r2_a_thread_that_waits_for_either_is_notified_of_the_one_that_comes
wait_announce_once        protocol::wait::model::r2_a_thread_that_is_unparked_in_vain_announces_itself_again
wait_announce_once        protocol::completion::event::model::r2_a_waiter_that_waits_again_is_notified_again
wait_stay                 protocol::wait::model::r3_a_wait_that_is_interrupted_begins_again
starvation_silent         protocol::starvation::model::r3_a_waiter_for_a_pool_is_notified_of_its_starvation
starvation_unseen         protocol::starvation::model::r3_a_waiter_for_a_pool_is_notified_of_its_starvation
'

export RUSTFLAGS="--cfg loom"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
export RUST_BACKTRACE=0
failed=0

# Prints the path of the executable. Only this crate gets the flags, so that its dependencies are built
# once.
build() {
    cargo rustc -p adaptive-pool --quiet --lib --profile bench --target-dir target/mutants \
        --message-format json -- --cap-lints allow "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

# The selected rows of the table; without names, all of it.
wanted=$table
if [ $# -gt 0 ]; then
    wanted=
    for mutant in "$@"; do
        rows=$(grep "^$mutant " <<<"$table") || {
            echo "there is no mutant '$mutant' in the table" >&2
            exit 2
        }
        wanted+=$rows$'\n'
    done
fi

# A model that fails without a mutant kills none.
models=$(build)
if [ $# -eq 0 ]; then set -- model::; else set -- --exact $(awk 'NF { print $2 }' <<<"$wanted" | sort -u); fi
if ! "$models" --quiet "$@"; then
    echo "FAILED: the models, without a mutant"
    exit 1
fi
while read -r model; do
    if ! grep -q " $model\$" <<<"$table"; then
        echo "IDLE: no mutant is killed by $model"
        failed=1
    fi
done < <("$models" --list model:: | sed -n 's/: test$//p')
while read -r mutant; do
    # A mutant without a model may have a shuttle program.
    if ! grep -q "^$mutant " <<<"$table" && ! grep -q "^$mutant " .ci/shuttle_mutants.sh; then
        echo "UNTRIED: $mutant"
        failed=1
    fi
done < <(grep -rhozE 'mutant(_order)?!\(\s*"[a-z_]+"' src | tr -d '\0\n ' | grep -oE '"[a-z_]+"' | tr -d '"' | sort -u)

built=
while read -r mutant model; do
    if [ -z "$mutant" ]; then
        continue
    fi
    if [ "$mutant" != "$built" ]; then
        models=$(build --cfg "mutant=\"$mutant\"")
        built=$mutant
    fi
    if ! "$models" --list --exact "$model" | grep ": test$" >/dev/null; then
        echo "MISSING: $model"
        failed=1
        continue
    fi
    # A panic, or the abort while a deadlock unwinds; a timeout proves nothing.
    status=0
    said=$(timeout 120 "$models" --quiet --exact "$model" </dev/null 2>&1) || status=$?
    # The first panic message, for the reader to compare with the model's claim.
    why=$(awk '/panicked at/ { getline; print; exit }' <<<"$said")
    case $status in
        101 | 134) echo "killed: $mutant by $model: $why" ;;
        *)
            echo "SURVIVED: $mutant against $model (exit status $status)"
            failed=1
            ;;
    esac
done <<<"$wanted"
exit "$failed"
