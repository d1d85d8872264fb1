#!/usr/bin/env bash
# Shows that the loom models can fail: each mutant must be killed by the models that claim it, and each
# model must kill one. Its place in the code is marked by a macro of src/sync/mutants.rs. Arguments, if any, select
# mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

# mutant, model
table='
admission_no_fence        protocol::admission::model::a5_a_place_that_is_given_back_reaches_who_waits_for_it
admission_no_fence        protocol::admission::model::a5_two_who_wait_are_both_served_by_one_place
admission_no_fence        protocol::admission::model::a5_a_task_is_woken_when_it_is_granted
admission_drop_grant      protocol::admission::model::a5_a_grant_that_meets_a_timeout_is_taken_or_left_to_others
admission_drop_grant      protocol::admission::model::a5_who_gives_up_in_front_strands_nobody_behind
admission_forsake_keeps   protocol::admission::model::a5_a_dropped_future_passes_its_grant_on
admission_close_peeks     protocol::admission::model::a6_who_joins_the_line_while_the_door_closes_is_told
admission_close_peeks     protocol::admission::model::a6_a_waiter_that_is_granted_and_closed_out_at_once_is_one_of_the_two
admission_close_peeks     protocol::drain::model::d2_a_pool_that_closes_runs_the_jobs_of_those_who_were_granted
admission_torn_take       protocol::admission::model::a6_closed_is_for_ever
admission_torn_take       protocol::admission::model::a1_one_place_has_one_owner_at_a_time
admission_torn_take       protocol::admission::model::a1_two_places_have_at_most_two_owners
admission_resize_silent   protocol::admission::model::a5_a_raised_capacity_lets_the_waiter_in
admission_no_fence_watch  protocol::admission::model::d4_who_watches_sees_a_place_given_back_or_is_told
stock_no_fence_spend      protocol::admission::permit_cache::model::a1_a_place_in_a_stock_is_spent_or_recalled
stock_no_fence_recall     protocol::admission::permit_cache::model::a1_a_place_in_a_stock_is_spent_or_recalled
stock_blind               protocol::admission::permit_cache::model::a1_a_place_in_a_stock_is_spent_or_recalled
stock_count_aloud         protocol::admission::permit_cache::model::m1_a_place_that_is_recalled_is_not_counted_as_taken
stock_unseen              protocol::admission::permit_cache::model::a3_what_is_put_into_a_stock_is_not_hidden
stock_no_recall           protocol::admission::permit_cache::model::a5_who_waits_gets_what_lies_in_a_stock
stock_open                protocol::admission::permit_cache::model::d2_nothing_is_spent_after_the_end
admission_no_hold         protocol::drain::model::d1_a_permit_that_is_kept_does_not_hold_up_the_end
admission_stop_blind      protocol::drain::model::d2_the_job_of_a_permit_is_run_once_while_the_pool_ends
admission_overdraw_blind  protocol::drain::model::d2_a_job_over_the_bound_is_run_or_refused_while_the_pool_ends
admission_stop_twice      protocol::drain::model::d3_a_pool_that_two_close_stops_once
admission_unused_first    protocol::drain::model::d1_a_permit_that_is_dropped_leaves_the_others_counted
bell_deaf                 protocol::completion::event::model::r2_who_waits_again_is_told_again
bell_deaf                 protocol::completion::event::model::r2_who_waits_for_a_result_is_told_of_it
bell_no_fence_leave       protocol::completion::event::model::r6_a_result_that_meets_a_consumer_that_leaves_is_seen_by_one_of_the_two
bell_no_fence_ring        protocol::completion::event::model::r6_a_result_that_meets_a_consumer_that_leaves_is_seen_by_one_of_the_two
bell_no_fence_ring        protocol::completion::event::model::r2_who_waits_again_is_told_again
bell_no_fence_ring        protocol::completion::event::model::r2_who_waits_for_a_result_is_told_of_it
bell_no_fence_wait        protocol::completion::event::model::r2_who_waits_again_is_told_again
bell_no_fence_wait        protocol::completion::event::model::r2_who_waits_for_a_result_is_told_of_it
bell_take_back_late       protocol::completion::event::model::r2_who_waits_again_is_told_again
chunk_keep_offer          protocol::chunk::model::r2_what_is_left_is_offered_again_by_the_job_that_takes_an_offer
chunk_relaxed_end         protocol::chunk::model::r6_the_end_of_an_item_publishes_its_result
chunk_relaxed_put         protocol::chunk::model::r1_an_item_that_meets_the_closing_is_claimed_or_given_back
chunk_torn_claim          protocol::chunk::model::r1_each_item_is_claimed_once
chunk_torn_close          protocol::chunk::model::r1_an_item_that_meets_the_closing_is_claimed_or_given_back
chunk_torn_rest           protocol::chunk::model::a2_the_rest_is_claimed_once
chunk_torn_take           protocol::chunk::model::r4_a_result_that_two_threads_race_for_is_taken_once
countdown_keep_near       protocol::completion::countdown::model::r6_a_worker_waits_until_its_jobs_have_ended_elsewhere
countdown_look_late       protocol::completion::countdown::model::r6_a_worker_waits_until_its_jobs_have_ended_elsewhere
countdown_no_fence_block  protocol::completion::countdown::model::r3_a_worker_that_blocks_is_told_of_a_stray_of_its_frame
countdown_no_fence_stray  protocol::completion::countdown::model::r3_a_worker_that_blocks_is_told_of_a_stray_of_its_frame
countdown_read_late       protocol::completion::countdown::model::r6_a_stranger_waits_until_its_jobs_have_ended_elsewhere
countdown_relaxed         protocol::completion::countdown::model::r6_a_worker_waits_until_its_jobs_have_ended_elsewhere
countdown_relaxed         protocol::completion::countdown::model::r6_a_stranger_waits_until_its_jobs_have_ended_elsewhere
countdown_relaxed         protocol::completion::countdown::model::r6_who_waits_for_one_job_sees_its_end
countdown_relaxed         protocol::completion::countdown::model::r6_a_worker_waits_for_one_job_by_its_number
countdown_silent          protocol::completion::countdown::model::r6_a_worker_waits_until_its_jobs_have_ended_elsewhere
countdown_torn_end        protocol::completion::countdown::model::r6_a_stranger_waits_until_its_jobs_have_ended_elsewhere
deque_keep_claim          protocol::deque::model::r1_a_pop_and_a_theft_share_out_what_was_pushed
deque_no_fence_pop        protocol::deque::model::r1_a_pop_and_a_theft_share_out_what_was_pushed
deque_no_fence_steal      protocol::deque::model::r1_a_pop_and_a_theft_share_out_what_was_pushed
deque_no_fence_fenced     protocol::deque::model::r1_a_fenced_pop_and_a_theft_share_out_what_was_pushed
deque_no_fence_steal_fenced protocol::deque::model::r1_a_fenced_pop_and_a_theft_share_out_what_was_pushed
deque_keep_claim          protocol::deque::model::r1_an_owner_gives_up_its_fences_between_two_thefts
deque_keep_claim          protocol::deque::model::r1_an_owner_is_asked_for_fences_between_two_thefts
deque_no_lock_for_room    protocol::deque::model::r1_the_owner_goes_round_the_ring_under_a_thief
deque_relaxed             protocol::deque::model::r1_what_a_thief_gives_back_is_there_again
deque_relaxed             protocol::deque::model::r1_what_a_thief_does_not_want_is_there_again
deque_forget_mark         protocol::deque::model::r3_a_pop_stops_at_its_mark
deque_keep_stolen         protocol::deque::model::r3_what_was_pushed_last_is_seen_while_it_is_stolen
drain_no_fence_begin      protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
drain_no_fence_look       protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
drain_no_fence_look       protocol::drain::model::d2_the_job_of_a_permit_is_run_once_while_the_pool_ends
drain_stop_late           protocol::drain::model::d2_a_pool_that_closes_runs_what_it_admitted_and_stops_once
ending_deaf               protocol::completion::countdown::model::r6_who_waits_for_one_job_sees_its_end
ending_deaf               protocol::completion::countdown::model::r6_a_worker_waits_for_one_job_by_its_number
ending_deaf               protocol::completion::countdown::model::r3_who_waits_for_a_job_sees_who_runs_it
ending_relaxed_begin      protocol::completion::countdown::model::r3_who_waits_for_a_job_sees_who_runs_it
ending_read_late          protocol::completion::countdown::model::r6_who_waits_for_one_job_sees_its_end
ending_torn               protocol::completion::countdown::model::r6_who_waits_for_one_job_sees_its_end
ending_torn               protocol::completion::countdown::model::r6_a_worker_waits_for_one_job_by_its_number
inbox_leave_blind         protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_leaves_its_loop
inbox_park_blind          protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_parks
inbox_probe_late          protocol::inbox::model::no_message_is_forgotten_by_a_probe_on_its_way
inbox_relaxed_gone        protocol::inbox::model::no_message_is_forgotten_by_an_owner_that_parks
roster_call_blind         protocol::placement::model::r2_a_worker_that_comes_back_and_a_call_share_one_place
roster_come_back_blind    protocol::placement::model::r2_a_worker_that_comes_back_and_a_call_share_one_place
roster_come_back_deaf     protocol::placement::model::r2_who_voids_a_call_sees_the_job_that_counts_on_it
roster_come_back_deaf     protocol::placement::model::s4_a_parked_thread_is_called_in_while_a_worker_blocks
roster_keep_calls         protocol::placement::model::r2_a_spare_that_falls_asleep_is_called_in_place_of_who_cannot_come
roster_leave_blind        protocol::placement::model::r2_a_spare_that_leaves_meets_a_call_that_finds_no_thread
roster_no_reroute         protocol::placement::model::r2_a_call_is_answered_by_a_spare_when_its_last_thread_blocks
roster_spare_keeps_call   protocol::placement::model::r2_a_call_to_a_spare_that_blocks_is_sent_to_another
sleep_another_uncounted   protocol::idle::model::r2_a_dozer_is_roused_beside_one_who_searches
sleep_doubt_woken         protocol::idle::model::r2_one_job_is_one_wake_up
sleep_doze_for_good       protocol::idle::model::s5_a_doze_ends_whomever_the_waker_took
sleep_no_fence_add        protocol::placement::model::s4_a_parked_thread_is_called_in_while_a_worker_blocks
sleep_no_fence_add        protocol::idle::model::s2_a_place_that_is_added_is_filled_for_the_job_that_comes
sleep_no_fence_add        protocol::idle::model::s1_two_changes_of_the_range_strand_no_job
sleep_no_fence_again      protocol::placement::model::r2_a_spare_that_falls_asleep_is_called_in_place_of_who_cannot_come
sleep_no_fence_again      protocol::placement::model::r2_who_voids_a_call_sees_the_job_that_counts_on_it
sleep_no_fence_begin      protocol::idle::model::r2_who_begins_to_offer_is_seen_or_sees_who_lies_down
sleep_no_fence_discard    protocol::idle::model::d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two
sleep_no_fence_doze       protocol::idle::model::r2_a_job_that_meets_a_worker_on_its_way_to_sleep_is_run
sleep_no_fence_found      protocol::idle::model::r2_who_finds_a_job_rouses_another_for_the_next
sleep_no_fence_offer      protocol::idle::model::r2_a_fork_that_meets_a_worker_on_its_way_to_sleep_is_run
sleep_no_fence_doze       protocol::idle::model::r2_a_fork_that_meets_a_worker_on_its_way_to_sleep_is_run
sleep_no_fence_push       protocol::idle::model::r2_a_job_that_meets_a_worker_on_its_way_to_sleep_is_run
sleep_no_fence_push       protocol::idle::model::r2_who_finds_a_job_rouses_another_for_the_next
sleep_no_fence_push       protocol::idle::model::d4_a_job_that_meets_a_discard_is_dropped_by_one_of_the_two
sleep_no_fence_leave      protocol::idle::model::r2_a_job_that_meets_a_worker_on_its_way_to_rayon_sends_a_call
sleep_no_fence_vain       protocol::idle::model::r2_a_job_that_meets_a_search_in_vain_sends_a_call
sleep_park_forgets        protocol::idle::model::s1_two_changes_of_the_range_strand_no_job
sleep_park_forgets        protocol::idle::model::s3_a_place_that_is_removed_strands_no_job
sleep_stop_rings_one      protocol::idle::model::d1_a_stop_reaches_a_worker_that_lies_down
sleep_torn_fall           protocol::idle::model::r2_a_waker_meets_a_worker_that_falls_asleep
sleep_torn_surplus        protocol::idle::model::s1_a_place_that_is_added_meets_a_worker_that_falls_asleep
sleep_torn_surplus        protocol::idle::model::s3_a_place_that_is_removed_strands_no_job
task_deaf                 protocol::completion::task_state::model::d2_a_task_that_awaits_a_job_is_told_of_its_end
task_leave_early          protocol::completion::task_state::model::d2_a_thread_that_waits_for_a_job_is_told_of_its_end
task_mute                 protocol::completion::task_state::model::d2_a_thread_that_waits_for_a_job_is_told_of_its_end
task_relaxed_finish       protocol::completion::task_state::model::r6_a_handle_that_sees_the_end_sees_the_result
task_relaxed_leave        protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_relaxed_look         protocol::completion::task_state::model::r1_the_last_end_of_a_tombstone_drops_the_value
task_relaxed_look         protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_torn_claim           protocol::completion::task_state::model::r1_one_of_three_claims_the_job
task_torn_leave           protocol::completion::task_state::model::r1_the_last_end_of_a_tombstone_drops_the_value
task_torn_leave           protocol::completion::task_state::model::r1_the_last_of_two_ends_drops_the_value
task_torn_wake            protocol::completion::task_state::model::d2_a_task_that_awaits_a_job_is_told_of_its_end
wait_announce_at_one      protocol::wait::model::r2_a_thread_that_waits_for_either_is_told_of_the_one_that_comes
wait_announce_once        protocol::wait::model::r2_a_thread_that_is_unparked_in_vain_announces_itself_again
wait_announce_once        protocol::completion::event::model::r2_who_waits_again_is_told_again
wait_stay                 protocol::wait::model::r3_a_wait_that_is_interrupted_begins_again
starvation_silent         protocol::starvation::model::r3_a_thread_that_waits_for_a_pool_learns_that_it_is_starved
starvation_unseen         protocol::starvation::model::r3_a_thread_that_waits_for_a_pool_learns_that_it_is_starved
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
