//! Devices are closed before the process ends.
//!
//! A driver's library takes itself apart while a process exits; a thread that still uses a device then, if only
//! to give it back, brings the process down with it.

use std::sync::{Arc, Once, Weak, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Job;

/// How long a process that ends waits for its devices.
const PATIENCE: Duration = Duration::from_secs(5);

/// The threads of devices, and how to reach those whose device is in use.
static OPEN: Mutex<Open> = Mutex::new(Open { threads: 0, jobs: Vec::new() });
static FEWER: Condvar = Condvar::new();

struct Open {
    threads: usize,
    jobs: Vec<Weak<mpsc::Sender<Job>>>,
}

/// The thread of a device, from before it is opened until after it is closed.
pub(super) struct Presence(());

impl Presence {
    pub fn new() -> Self {
        OPEN.lock().threads += 1;
        Self(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        OPEN.lock().threads -= 1;
        FEWER.notify_all();
    }
}

unsafe extern "C" {
    fn atexit(call: extern "C" fn()) -> std::ffi::c_int;
}

/// Sees to it that the device behind `jobs` is closed at the end. Its driver's library is loaded by now: what is
/// to be called at the end is called in reverse order.
pub(super) fn at_the_end(jobs: &Arc<mpsc::Sender<Job>>) {
    static ONCE: Once = Once::new();
    let mut open = OPEN.lock();
    open.jobs.retain(|jobs| jobs.strong_count() > 0);
    open.jobs.push(Arc::downgrade(jobs));
    drop(open);
    ONCE.call_once(|| {
        // SAFETY: the function is C's, takes a function without arguments, and may be called at any time.
        if unsafe { atexit(close_all) } != 0 {
            log::warn!("GPUs are not closed at the end of the process");
        }
    });
}

extern "C" fn close_all() {
    let mut open = OPEN.lock();
    for jobs in std::mem::take(&mut open.jobs) {
        if let Some(jobs) = jobs.upgrade() {
            let _ = jobs.send(Box::new(|worker| worker.leave()));
        }
    }
    let until = Instant::now() + PATIENCE;
    while open.threads > 0 && !FEWER.wait_until(&mut open, until).timed_out() {}
}
