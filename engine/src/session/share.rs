//! The part of the process's memory that one session may hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// A pool within another: what it gives out, the other has given as well.
#[derive(Debug)]
pub struct Share {
    all: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl Share {
    /// At most `limit` bytes of a pool.
    pub fn of(all: &Arc<dyn MemoryPool>, limit: usize) -> Self {
        Self { all: Arc::clone(all), limit, used: AtomicUsize::new(0) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.limit, self.all)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.limit);
        if let Err(used) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} asks for {additional} bytes, and the statements of this session hold {used} of the {} that \
                 sinew.flight_memory allows",
                reservation.consumer().name(),
                self.limit
            )));
        }
        let given = self.all.try_grow(reservation, additional);
        if given.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        given
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn one_session_leaves_room_for_others() -> Result<()> {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let [one, other]: [Arc<dyn MemoryPool>; 2] = [Arc::new(Share::of(&all, 60)), Arc::new(Share::of(&all, 60))];
        let (first, second) = (MemoryConsumer::new("a").register(&one), MemoryConsumer::new("b").register(&other));
        first.try_grow(60)?;
        let error = first.try_grow(1).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("flight_memory"), "{error}");
        second.try_grow(40)?;
        assert!(second.try_grow(1).is_err(), "both together keep to the whole");
        first.shrink(60);
        second.try_grow(20)?;
        assert_eq!((all.reserved(), one.reserved(), other.reserved()), (60, 0, 60));
        Ok(())
    }
}
