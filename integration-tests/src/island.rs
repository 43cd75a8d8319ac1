//! A network of one's own for a process, which a test can cut off; needs the rights of root.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with one wire to this machine. It goes with this value.
pub struct Island {
    name: String,
    wire: String,
    /// The address of this machine, as the island sees it.
    pub here: String,
    /// The address of the island.
    pub there: String,
}

fn ip(words: &str) -> bool {
    let done = Command::new("ip").args(words.split_whitespace()).output();
    done.is_ok_and(|done| done.status.success())
}

impl Island {
    /// `None` where the rights are missing.
    pub fn new() -> Option<Self> {
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (name, wire) = (format!("sinew-{process}-{number}"), format!("sn{process}x{number}"));
        let net = (process % 4_000) * 4 + number % 4;
        let at = |host: u32| format!("10.{}.{}.{}", 200 + net / 4_096, net / 64 % 64, net % 64 * 4 + host);
        let island = Self { here: at(1), there: at(2), name, wire };
        let Self { name, wire, here, there } = &island;
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {wire} type veth peer name home netns {name}"))
            && ip(&format!("addr add {here}/30 dev {wire}"))
            && ip(&format!("link set {wire} up"))
            && ip(&format!("-n {name} addr add {there}/30 dev home"))
            && ip(&format!("-n {name} link set home up"))
            && ip(&format!("-n {name} link set lo up"));
        made.then_some(island)
    }

    /// A command that runs a program there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Takes the wire out: packets are lost, and no connection is closed.
    pub fn cut(&self) {
        assert!(ip(&format!("-n {} link set home down", self.name)));
    }

    /// Puts it back.
    pub fn heal(&self) {
        assert!(ip(&format!("-n {} link set home up", self.name)));
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.wire));
        ip(&format!("netns del {}", self.name));
    }
}
