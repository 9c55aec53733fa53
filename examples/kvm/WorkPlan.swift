import KVMGuest
import Postcopy

/// What the guest does with memory, computed: which pages a vCPU works on, and what every byte must be
/// once it has done so many of them.
struct WorkPlan: Sendable {
    let vcpus: Int
    /// Of each of the two.
    let blockBytes: UInt64

    private static let pageBytes = PageSize.target.bytes
    /// What is worked on in the low block; all of the high one is.
    private var lowBytes: UInt64 { blockBytes - UInt64(GUEST_WORK_AT) }
    private var pages: Int { Int((lowBytes + blockBytes) / Self.pageBytes) }
    /// Pages that each vCPU works on; what does not divide is left alone.
    private var count: UInt64 { UInt64(pages / vcpus) }
    /// A prime, so that a vCPU meets every page of its own before any again, and each is far from the
    /// one before.
    private var stride: UInt64 { count % 7919 == 0 ? 7907 : 7919 }

    /// What the assembler made of `guest.S`; empty on another processor than x86_64.
    static var image: [UInt64] {
        let words = unsafe guest_image().assumingMemoryBound(to: UInt64.self)
        return unsafe [UInt64](UnsafeBufferPointer(start: words, count: guest_image_length() / 8))
    }

    /// With these a vCPU begins.
    func registers(of vcpu: Int, idleTurns: UInt64) -> VCPURegisters {
        var registers = VCPURegisters()
        registers[.rflags] |= VCPURegisters.portPrivilege
        let values: [VCPURegister: UInt64] = [
            .rip: UInt64(GUEST_IMAGE_AT), .r8: UInt64(vcpu), .r9: UInt64(vcpus), .r10: count,
            .r11: stride, .r12: lowBytes, .r13: idleTurns,
        ]
        for (register, value) in values { registers[register] = value }
        return registers
    }

    /// Pages of the machine's memory that are not what they must be, as `block+offset`.
    /// - Parameter pagesDone: by each vCPU, since the beginning. All are stopped.
    func wrongPages(of memory: [GuestRAM], pagesDone: [UInt64]) -> [String] {
        // For each page that is worked on: how often that was done, and whether it is being done.
        var done = [UInt64](repeating: 0, count: pages)
        var isBeingDone = Set<Int>()
        for (vcpu, total) in pagesDone.enumerated() {
            let (rounds, turn) = total.quotientAndRemainder(dividingBy: count)
            for step in 0..<count {
                let page = Int(step * stride % count) * vcpus + vcpu
                done[page] = step < turn ? rounds + 1 : rounds
                if step == turn { isBeingDone.insert(page) }
            }
        }
        var wrong: [String] = []
        for page in 0..<Int(2 * blockBytes / Self.pageBytes) {
            let place = UInt64(page) * Self.pageBytes
            let (block, offset) = place.quotientAndRemainder(dividingBy: blockBytes)
            let (ram, work) = (memory[Int(block)], page - Int(GUEST_WORK_AT) / 4096)
            let isRight = ram.withPage(at: offset, lengthBytes: 4096) { words in
                if work < 0 { return Self.isRightBelowWork(words, at: offset) }
                return Self.isRight(
                    words, at: offset + block * UInt64(GUEST_HIGH_BLOCK_AT), after: done[work],
                    isBeingDone: isBeingDone.contains(work))
            }
            if !isRight { wrong.append("\(ram.geometry.name)+\(offset)") }
        }
        return wrong
    }

    /// A page that a vCPU was stopped in is new up to some word, and old from there on.
    private static func isRight(
        _ words: Span<UInt64>, at address: UInt64, after rounds: UInt64, isBeingDone: Bool
    ) -> Bool {
        let growth = rounds &* UInt64(GUEST_GROWTH)
        var mayBeNew = isBeingDone
        for index in words.indices {
            let place = address + UInt64(index * 8)
            if mayBeNew, words[index] == place &+ growth &+ UInt64(GUEST_GROWTH) { continue }
            mayBeNew = false
            guard words[index] == (rounds == 0 ? 0 : place &+ growth) else { return false }
        }
        return true
    }

    /// The guest's image stays as it was loaded, with zeros before and behind it.
    private static func isRightBelowWork(_ words: Span<UInt64>, at offset: UInt64) -> Bool {
        let image = image
        for index in words.indices {
            let place = (Int(offset) - Int(GUEST_IMAGE_AT)) / 8 + index
            if words[index] != (image.indices.contains(place) ? image[place] : 0) { return false }
        }
        return true
    }
}
