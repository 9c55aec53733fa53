extension StreamDecoder {
    /// Reads the header and the configuration. Their end shows only in the byte behind them, which
    /// begins no subsection: so a head asks for one byte more than it consumes.
    ///
    /// Layout: magic: u32; version: u32; 0x07; length: u32; machine type: bytes; then subsections,
    /// each 0x05; name (length: u8; bytes); version: u32; body.
    /// Source: `qemu_loadvm_state_header`, `configuration_post_load` (`migration/savevm.c`).
    mutating func decodeHead(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let magic = try cursor.u32(in: bytes)
        guard magic == StreamFormat.magic else { throw cursor.refusal(.badMagic(magic)) }
        let version = try cursor.u32(in: bytes)
        guard version == StreamFormat.version else { throw cursor.refusal(.badVersion(version)) }
        let type = try cursor.u8(in: bytes)
        guard type == SectionType.configuration else {
            throw cursor.refusal(.missingConfiguration(type))
        }
        let machine = try decodeMachineType(at: &cursor, in: bytes)
        var seen: Set<ConfigurationSubsection> = []
        var theyIgnoreShared = false
        while try cursor.peek(in: bytes) == SectionType.subsection {
            _ = try cursor.take(1)
            let subsection = try decodeSubsectionName(at: &cursor, in: bytes)
            guard seen.insert(subsection).inserted else {
                throw cursor.refusal(.repeatedConfigurationSubsection(subsection.rawValue))
            }
            if try decodeSubsectionBody(subsection, at: &cursor, in: bytes) {
                theyIgnoreShared = true
            }
        }
        guard theyIgnoreShared == terms.ignoresShared else {
            throw cursor.refusal(
                .ignoreSharedDiffers(ours: terms.ignoresShared), at: cursor.consumed)
        }
        stage = .boundary
        return .head(machineType: machine)
    }

    private func decodeMachineType(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> String {
        let length = try cursor.u32(in: bytes)
        let maximum = StreamFormat.machineTypeBytesMax
        guard length <= maximum else {
            throw cursor.refusal(.nameTooLong(lengthBytes: length, maximum: maximum))
        }
        let first = try cursor.take(Int(length))
        let name = bytes.copy(first..<first + Int(length))
        guard let machine = String(validating: name, as: UTF8.self) else {
            throw cursor.refusal(.nameNotText)
        }
        if let machineType = terms.machineType, !machineType.utf8.starts(with: name) {
            throw cursor.refusal(.machineMismatch(machine, expected: machineType))
        }
        return machine
    }

    private func decodeSubsectionName(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ConfigurationSubsection {
        let name = bytes.text(try cursor.name(in: bytes))
        guard let subsection = ConfigurationSubsection(rawValue: name) else {
            throw cursor.refusal(.unknownConfigurationSubsection(name))
        }
        return subsection
    }

    /// Answers whether it turns `x-ignore-shared` on.
    private func decodeSubsectionBody(
        _ subsection: ConfigurationSubsection, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> Bool {
        let version = try cursor.u32(in: bytes)
        guard version == 1 else { throw cursor.refusal(.badSubsectionVersion(version)) }
        switch subsection {
        case .targetPageBits:
            let bits = try cursor.u32(in: bytes)
            guard bits == 12 else { throw cursor.refusal(.badTargetPageBits(bits)) }
        case .capabilities: return try decodeCapabilities(at: &cursor, in: bytes)
        case .uuid:
            _ = try cursor.take(16)
        }
        return false
    }

    /// Reads the names of what the source has on: none, or the one that is known, so that the list
    /// cannot be long.
    ///
    /// Source: `configuration_validate_capabilities` (`migration/savevm.c`).
    private func decodeCapabilities(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> Bool {
        let count = try cursor.u32(in: bytes)
        for index in 0..<count {
            let name = bytes.text(try cursor.name(in: bytes))
            guard name == StreamFormat.ignoreShared else {
                throw cursor.refusal(.unsupportedCapability(name))
            }
            guard index == 0 else { throw cursor.refusal(.repeatedCapability(name)) }
            guard terms.ignoresShared else {
                throw cursor.refusal(.ignoreSharedDiffers(ours: false))
            }
        }
        return count > 0
    }
}

/// The known parts of a configuration. Each comes once at most, so a head stays below 500 bytes.
///
/// Source: `vmstate_target_page_bits`, `vmstate_capabilites`, `vmstate_uuid`
/// (`migration/savevm.c`).
enum ConfigurationSubsection: String {
    /// Body: u32, the binary logarithm of a target page.
    case targetPageBits = "configuration/target-page-bits"
    /// Body: count: u32; then that many names (length: u8; bytes).
    case capabilities = "configuration/capabilities"
    /// Body: 16 bytes. A guest's identity is not ours to judge.
    case uuid = "configuration/uuid"
}
