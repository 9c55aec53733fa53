internal import Synchronization

/// What a handle of C stands for.
protocol Handled: AnyObject, Sendable {
    /// What C calls it.
    static var kind: String { get }
}

/// Every handle that is out. A handle is a number that looks like a pointer: it is looked up and
/// never followed, and given out once, so that one which was freed is known as such.
enum Handles {
    private struct Table {
        var last: UInt = 0
        var objects: [UInt: any Handled] = [:]
    }

    /// Locked for a look or a change.
    private static let table = Mutex(Table())

    /// Nothing is mapped at addresses this small (`vm.mmap_min_addr`) as long as few handles were
    /// made: who follows one is stopped. Steps of 16 are what an allocator's pointers look like.
    private static let step: UInt = 16

    static func add(_ object: some Handled) -> OpaquePointer? {
        unsafe table.withLock { table in
            table.last += step
            table.objects[table.last] = object
            return unsafe OpaquePointer(bitPattern: table.last)
        }
    }

    static func find<Object: Handled>(
        _ handle: OpaquePointer?, as _: Object.Type = Object.self
    ) throws(Failure) -> Object {
        guard let handle = unsafe handle else { throw .badHandle("the \(Object.kind) is NULL") }
        let key = UInt(bitPattern: handle)
        guard let object = table.withLock({ $0.objects[key] }) as? Object else {
            throw .badHandle(
                "there is no \(Object.kind) with this handle: it was freed, or is of another kind")
        }
        return object
    }

    static func remove(_ handle: OpaquePointer?) {
        guard let handle = unsafe handle else { return }
        let key = UInt(bitPattern: handle)
        // The object goes outside the lock: its end may take others with it.
        _ = table.withLock { $0.objects.removeValue(forKey: key) }
    }
}
