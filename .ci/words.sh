#!/usr/bin/env bash
# Checks that no retired identifier has come back to src, tests or benches: types, functions, fields and
# modules renamed to the field's terms, and pronouns for threads. docs/architecture.md has the glossary.
# English words such as "left" or "run" are fine.
set -euo pipefail
cd "$(dirname "$0")/.."

retired='
    # retired             use instead
    Duty                  WakeUp
    fulfil                perform
    rouse|roused|Roused   wake_one, woken, Notified
    doze|doze_for|dozer|dozers|DozeEnd  announce_idle, park_for, idle_worker, IdleEnd
    dry_spells|ran_dry    times_idle, became_idle
    fall_asleep           go_to_rayon
    lie_down              go_idle
    look_again|LookAgain  recheck
    surplus|add_surplus|take_surplus  excess
    Roster|roster         Placement
    Errand|errand         Activation
    Staff|staff           ThreadTable
    Recruit|recruits      UnstartedThread
    Keeper|keeper         the timer thread; Holder
    nudge|nudges|ask_around  probe
    Mailbox|Letter|letters|has_mail  Inbox, Message
    stuck|Stuck|is_stuck  starvation, is_starved
    Site|Books            JobContext, ThreadSlots
    OfSeat|is_of_seat|seats  slot
    SHELLS|shell_left|is_shell  tombstone
    Stray|strays|take_stray  the side list
    serve_nobody          clear_steal_origin
    Lane|lane|Ticket|ticket  Consumer, ChunkTask
    gift|take_gift        rayon_turn
    is_dear               is_expensive
    Attention|eager|EAGER|PATIENT  WakeMode, prompt, batched
    Desk|desk|at_desk     slow_path
    Stock|stocked         PermitCache, cached
    look_if_drained       check_drained
    Bell|bell             Event, Parker
    stand_in              simulated
    Guest|GuestJob        StackJob
    prevails              claim_under_lock, keeps_announced
    forsake|forsaken      abandon, dropped_early
    Patient|Eager|is_eager  Batched, Prompt, is_prompt
    look_at_last|last_look  check_searcher_deadline
    Seat|SEATS|age_seat   Worker, slot
    Gift|LieDown|Doze|dozing|lying  RayonTurn, AnnounceIdle, Idle
    call_in|call_one_in|send_call  activate, activate_one, send_activation
    duties                wake_ups
    has_rung              is_notified
    told_of_stray|run_stray  a side entry
    bringer               submitter
    who|whom|whomever|somebody|nobody|Nobody|NOBODY  a noun: the worker, the waiter
'

pattern="$(sed -E 's/#.*//; /^ *$/d; s/^ *([^ ]+).*/\1/' <<<"$retired" | paste -sd'|')"
if grep -rnwE "$pattern" src tests benches --include='*.rs'; then
    echo "retired identifiers: see $0 for their replacements" >&2
    exit 1
fi
