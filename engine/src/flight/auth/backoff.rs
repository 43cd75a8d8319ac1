//! Those who guess passwords wait longer and longer; others do not feel it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures that cost nothing: people mistype.
const FREE: u32 = 4;
/// The longest wait.
const MOST: Duration = Duration::from_secs(300);
/// Names and addresses that are remembered; the oldest makes room.
const REMEMBERED: usize = 10_000;

/// Who tries: a name, which need not be a user's, from an address.
type Who = (String, Option<IpAddr>);

#[derive(Debug)]
struct Failures {
    count: u32,
    next: Instant,
}

/// Failed attempts to log in.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<Who, Failures>>);

impl Backoff {
    /// How long an attempt still has to wait; `None` means not at all.
    pub fn wait(&self, who: &Who) -> Option<Duration> {
        let left = self.0.lock().get(who)?.next.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// An attempt has failed.
    pub fn failed(&self, who: &Who) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED && !all.contains_key(who) {
            let oldest = all.iter().min_by_key(|(_, failures)| failures.next).map(|(who, _)| who.clone());
            oldest.map(|oldest| all.remove(&oldest));
        }
        let failures = all.entry(who.clone()).or_insert(Failures { count: 0, next: Instant::now() });
        failures.count = failures.count.saturating_add(1);
        let doubled = failures.count.saturating_sub(FREE).min(16);
        let wait = if doubled == 0 { Duration::ZERO } else { Duration::from_secs(1 << (doubled - 1)).min(MOST) };
        failures.next = Instant::now() + wait;
    }

    /// An attempt has succeeded.
    pub fn succeeded(&self, who: &Who) {
        self.0.lock().remove(who);
    }

    /// Forgets those who have not tried for long.
    pub fn sweep(&self) {
        self.0.lock().retain(|_, failures| failures.next.elapsed() < 2 * MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_gets_slower_and_only_for_who_guesses() {
        let backoff = Backoff::default();
        let (one, other) = (("ann".to_string(), Some(IpAddr::from([10, 0, 0, 1]))), ("ann".to_string(), None));
        for _ in 0..FREE {
            backoff.failed(&one);
            assert_eq!(backoff.wait(&one), None);
        }
        let mut before = Duration::ZERO;
        for _ in 0..5 {
            backoff.failed(&one);
            let wait = backoff.wait(&one).unwrap_or_default();
            assert!(wait > before, "{wait:?}");
            before = wait;
        }
        assert_eq!(backoff.wait(&other), None);
        for _ in 0..100 {
            backoff.failed(&one);
        }
        assert!(backoff.wait(&one).is_some_and(|wait| wait <= MOST));
        backoff.succeeded(&one);
        assert_eq!(backoff.wait(&one), None);
        for name in 0..REMEMBERED + 10 {
            backoff.failed(&(name.to_string(), None));
        }
        assert_eq!(backoff.0.lock().len(), REMEMBERED);
    }
}
