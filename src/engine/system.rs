//! Facts from the operating system (Linux's /proc).

use std::fs;

/// Bytes of memory that are free for a new program; `None` where the system does not say.
pub fn available_memory_bytes() -> Option<u64> {
    kilobytes(&read("/proc/meminfo"), "MemAvailable")
}

/// The processors' time until now: the machine's, and this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorClock(Option<Ticks>);

/// In the kernel's ticks, which are of one length in both files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    /// Of all processors together, at work for anybody or stolen by the host.
    busy: u64,
    /// The same, idle or not.
    all: u64,
    /// Of this process's threads.
    own: u64,
}

impl ProcessorClock {
    /// Now.
    pub fn now() -> Self {
        Self(Ticks::parse(&read("/proc/stat"), &read("/proc/self/stat")))
    }

    /// Share of the machine's processor time since then that went to others, of 1; `None` where the system does not say, and for a time too
    /// short to tell.
    pub fn others_since(&self) -> Option<f64> {
        others(self.0?, Self::now().0?)
    }
}

impl Ticks {
    fn parse(machine: &str, own: &str) -> Option<Self> {
        // cpu user nice system idle iowait irq softirq steal; what follows is counted among these.
        let line = machine.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let idle = fields.get(3)? + fields.get(4)?;
        let all: u64 = fields.iter().sum();
        // Behind the name, which may hold anything: state is field 3, utime 14, stime 15 (proc(5)).
        let behind = own.rsplit_once(')')?.1;
        let own = behind.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Some(Self { busy: all - idle, all, own: own.sum::<Result<_, _>>().ok()? })
    }
}

fn others(before: Ticks, after: Ticks) -> Option<f64> {
    /// Ticks of all processors; a single one may fall to either side.
    const LEAST: u64 = 20;
    let all = after.all.checked_sub(before.all).filter(|all| *all >= LEAST)?;
    let busy = after.busy.saturating_sub(before.busy);
    let own = after.own.saturating_sub(before.own);
    Some(busy.saturating_sub(own) as f64 / all as f64)
}

/// The file's text; empty if it cannot be read.
pub fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line `name: value`.
pub fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The bytes of a line `name: N kB`.
pub fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    value.trim_end_matches("kB").trim().parse::<u64>().ok().map(|count| count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_used_is_the_machine_s_busy_time_without_our_own() {
        let own = |user: u64, system: u64| format!("7 (a) b (c)) S 1 7 7 0 -1 4 9 0 0 0 {user} {system} 3 4 20 0");
        let before = Ticks::parse("cpu  100 0 50 800 50 0 0 0 5 0\ncpu0 1 2 3\n", &own(10, 5)).unwrap();
        assert_eq!(before, Ticks { busy: 150, all: 1000, own: 15 });
        let after = Ticks::parse("cpu  160 0 60 860 70 0 0 50 5 0\n", &own(40, 15)).unwrap();
        // Of 200 ticks 120 were busy, 40 of them ours.
        assert_eq!(others(before, after), Some(0.4));
        assert_eq!(others(before, before), None, "no time has passed");
        assert_eq!(Ticks::parse("", &own(1, 1)), None);
    }

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let status = "VmPeak:\t  100 kB\nVmHWM:\t    42 kB\n";
        assert_eq!(kilobytes(status, "VmHWM"), Some(42 * 1024));
        assert_eq!(kilobytes(status, "VmRSS"), None);
        assert_eq!(field("model name\t: A CPU @ 2 GHz\n", "model name").as_deref(), Some("A CPU @ 2 GHz"));
    }
}
