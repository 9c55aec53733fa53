import Glibc

/// What the kernel notes of the mapping that holds `address` (`VmFlags` in smaps of proc(5)).
public func mappingFlags(at address: UInt64) -> Set<Substring> {
    Set(mappingNote("VmFlags", at: address) ?? [])
}

/// The words behind `field:` among the notes of one mapping.
private func mappingNote(_ field: String, at address: UInt64) -> ArraySlice<Substring>? {
    var isInside = false
    for line in readAll("/proc/self/smaps").split(separator: "\n") {
        let words = line.split(separator: " ")
        if isInside, words.first == "\(field):" { return words.dropFirst() }
        let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
        if ends.count == 2 { isInside = ends[0] <= address && address < ends[1] }
    }
    return nil
}

/// A number of bytes that the kernel notes of the mapping that holds `address`, for example `Rss`.
public func mappingBytes(_ field: String, at address: UInt64) -> UInt64? {
    mappingNote(field, at: address)?.first.flatMap { UInt64($0) }.map { $0 << 10 }
}

/// Whether this host gives transparent huge pages to who asks, and says where they are (Linux 6.7).
public let hostGivesHugePages: Bool = {
    let setting = readAll("/sys/kernel/mm/transparent_hugepage/enabled")
    let release = readAll("/proc/sys/kernel/osrelease").split(separator: ".").prefix(2)
    let version = release.compactMap { Int($0.prefix { $0.isNumber }) }
    return !setting.isEmpty && !setting.contains("[never]")
        && !version.lexicographicallyPrecedes([6, 7])
}()

private func readAll(_ path: String) -> String {
    guard let file = unsafe fopen(path, "r") else { return "" }
    defer { _ = unsafe fclose(file) }
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        guard count > 0 else { return String(decoding: text, as: UTF8.self) }
        text += chunk[..<count]
    }
}
