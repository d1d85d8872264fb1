//! One step of one thread: a call of the placement or of the idle protocol, and its effects.

use super::{
    super::*,
    world::{At, Owes, Step, Then, Thread, World},
};
use crate::protocol::idle::WakeUp;

impl World {
    /// Returns the state after one step of one thread. See `worker.rs`.
    pub(super) fn step(&self, (index, choice): Step) -> Self {
        let mut world = self.clone();
        let idle = self.idle.thaw();
        if index == self.threads.len() {
            let order = world.placement.start_for_late_activation();
            world.carry_out(order);
            return world;
        }
        let mut wake_up = WakeUp::None;
        if let Some(owed) = self.threads[index].owes {
            world.threads[index].owes = None;
            if owed == Owes::Recheck {
                wake_up = idle.recheck(|| self.waiting > 0);
            } else if world.activate(&idle) {
                world.threads[index].owes = Some(Owes::Recheck);
            }
        } else if index == self.submitter() {
            world.jobs -= 1;
            world.waiting += 1;
            wake_up = idle.after_push();
        } else if index == self.scaler() {
            world.changes -= 1;
            let is_wider = choice == 2;
            if choice >= 2 {
                let max = world.placement.max;
                world
                    .placement
                    .set_max(if is_wider { max + 1 } else { max - 1 });
                world.reroute();
            }
            if choice == 0 || is_wider {
                wake_up = idle.add_places(1, || self.waiting > 0);
            } else {
                idle.remove_places(1);
            }
        } else {
            wake_up = world.step_of_pool(index, choice, &idle);
        }
        assert_ne!(wake_up, WakeUp::Discard);
        if wake_up == WakeUp::Activate {
            world.threads[index].owes = Some(Owes::Activate);
        }
        world.idle = idle.freeze();
        world
    }

    fn step_of_pool(&mut self, index: usize, choice: u8, idle: &Idle) -> WakeUp {
        let mut thread = self.threads[index];
        let waiting = self.waiting;
        let work = || waiting > 0;
        let mut wake_up = WakeUp::None;
        thread.at = match thread.at {
            At::NotStarted => unreachable!(),
            At::InRayon if choice == 1 => {
                self.rayon_jobs -= 1;
                At::Busy
            }
            At::InRayon => {
                *self.activations(index) -= 1;
                if self.placement.begin_work(index) {
                    idle.activation_taken();
                    (thread.in_loop, thread.has_deques) = (true, true);
                    At::Search
                } else {
                    At::InRayon
                }
            }
            At::Poll if work() => {
                self.waiting -= 1;
                At::Busy
            }
            At::Poll if idle.try_search(choice == 1) => At::Search,
            At::Poll => At::AnnounceIdle,
            At::Search if idle.take_excess() => At::LeaveSearch,
            At::Search if work() => {
                self.waiting -= 1;
                wake_up = idle.stop_searching(|| waiting > 1);
                At::Busy
            }
            At::Search => {
                wake_up = idle.search_in_vain(work);
                thread.has_deques = false;
                At::RayonTurn
            }
            At::RayonTurn if choice == 1 => {
                self.rayon_jobs -= 1;
                At::Busy
            }
            At::RayonTurn => {
                thread.has_deques = true;
                At::ComeBack(1, Then::AnnounceIdle)
            }
            At::AnnounceIdle => {
                wake_up = idle.announce_idle(index, work);
                At::Idle
            }
            At::Idle if self.idle.is_notified(index) => {
                idle.wake(index);
                At::Search
            }
            At::Idle if self.placement.go_to_rayon(idle, index) => {
                thread.leave_loop();
                At::Recheck
            }
            At::Idle => At::Idle,
            At::Recheck => {
                wake_up = idle.recheck(work);
                At::InRayon
            }
            At::Busy => self.step_of_busy(index, choice, &mut thread, idle),
            At::StartNested => {
                idle.activation_taken();
                self.waiting = waiting.saturating_sub(1);
                wake_up = idle.stop_searching(|| self.waiting > 0);
                if work() {
                    thread.nested += 1;
                    At::Busy
                } else {
                    At::EndNested
                }
            }
            At::EndNested => {
                wake_up = idle.leave_service(work);
                At::Busy
            }
            At::Block(0) => At::Reroute,
            At::Block(places) => {
                wake_up = idle.block(work);
                At::Block(places - 1)
            }
            At::Reroute => {
                self.reroute();
                At::Blocked
            }
            At::Blocked => At::ComeBack(thread.places(), Then::Unblock),
            At::ComeBack(0, Then::Unblock) => At::Unblock,
            At::ComeBack(0, Then::Poll) => At::Poll,
            At::ComeBack(0, Then::Search) => At::Search,
            At::ComeBack(0, Then::AnnounceIdle) => At::AnnounceIdle,
            At::ComeBack(places, then) if idle.return_to_service() => {
                At::ComeBack(places - 1, then)
            }
            At::ComeBack(places, then) => At::ComeLate(places - 1, then),
            At::ComeLate(places, then) if self.placement.come_back(idle) => {
                At::RecheckLate(places, then)
            }
            At::ComeLate(places, then) => At::ComeBack(places, then),
            At::RecheckLate(places, then) => {
                wake_up = idle.recheck(work);
                At::ComeBack(places, then)
            }
            At::Unblock => {
                if thread.in_loop {
                    self.placement.unblock();
                } else {
                    self.placement.unblock_aside(index, thread.aside);
                    thread.aside = false;
                    self.reroute();
                }
                At::Busy
            }
            At::AfterJob if idle.take_excess() => At::Leave,
            At::AfterJob => At::Poll,
            At::Leave if self.placement.leave_as_excess(idle, index) => {
                thread.leave_loop();
                At::HandOver
            }
            At::Leave => At::RecheckLate(0, Then::Poll),
            At::LeaveSearch if self.placement.leave_as_excess(idle, index) => {
                thread.leave_loop();
                At::EndSearch
            }
            At::LeaveSearch => At::RecheckLate(0, Then::Search),
            At::EndSearch => {
                wake_up = idle.stop_searching(work);
                At::InRayon
            }
            At::HandOver => {
                wake_up = idle.after_push();
                At::InRayon
            }
        };
        self.threads[index] = thread;
        wake_up
    }

    fn step_of_busy(&mut self, index: usize, choice: u8, thread: &mut Thread, idle: &Idle) -> At {
        match choice {
            0 if thread.nested > 0 => {
                thread.nested -= 1;
                At::EndNested
            }
            0 if thread.has_deques => At::AfterJob,
            0 if thread.in_loop => {
                thread.has_deques = true;
                At::ComeBack(1, Then::Poll)
            }
            0 => At::InRayon,
            1 if thread.in_loop => {
                self.blocks -= 1;
                self.placement.block();
                At::Block(thread.places())
            }
            1 => {
                self.blocks -= 1;
                let aside = self.placement.block_aside(index, false);
                thread.aside = aside.counts;
                if aside.is_voided && self.activate(idle) {
                    thread.owes = Some(Owes::Recheck);
                }
                At::Block(thread.places())
            }
            2 => {
                self.nested -= 1;
                *self.activations(index) -= 1;
                let is_taken = self.placement.take_activation(index);
                self.reroute();
                if is_taken { At::StartNested } else { At::Busy }
            }
            _ => {
                self.waiting -= 1;
                At::Busy
            }
        }
    }
}
