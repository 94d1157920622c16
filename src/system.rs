//! Facts from the operating system (Linux's /proc).

use std::fs;

/// Bytes of memory that are free for a new program; `None` where the system does not say.
pub fn available_memory_bytes() -> Option<u64> {
    kilobytes(&read("/proc/meminfo"), "MemAvailable")
}

/// The file's text; empty if it cannot be read.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line `name: value`.
pub(crate) fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The bytes of a line `name: N kB`.
pub(crate) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    value.trim_end_matches("kB").trim().parse::<u64>().ok().map(|count| count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let status = "VmPeak:\t  100 kB\nVmHWM:\t    42 kB\n";
        assert_eq!(kilobytes(status, "VmHWM"), Some(42 * 1024));
        assert_eq!(kilobytes(status, "VmRSS"), None);
        assert_eq!(field("model name\t: A CPU @ 2 GHz\n", "model name").as_deref(), Some("A CPU @ 2 GHz"));
    }
}
