import Glibc
import LinuxKernel

/// Waits until a condition holds; answers whether it did in time.
func eventually(withinSeconds seconds: UInt64 = 10, _ condition: () -> Bool) -> Bool {
    let deadline = Monotonic.now() + seconds * 1_000_000_000
    while !condition() {
        guard Monotonic.now() < deadline else { return false }
        sched_yield()
    }
    return true
}
