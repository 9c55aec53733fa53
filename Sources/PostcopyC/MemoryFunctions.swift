// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Postcopy

@c @implementation
public func postcopy_ram_create(
    _ options: UnsafePointer<postcopy_ram_options>!, _ ram: UnsafeMutablePointer<OpaquePointer?>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe handOut(ram, "ram") { () throws(Failure) in
            try unsafe RAMBlock(.read(options))
        }
    }
}

@c @implementation
public func postcopy_ram_address(_ ram: OpaquePointer!) -> UnsafeMutableRawPointer! {
    guard let block = try? unsafe Handles.find(ram, as: RAMBlock.self) else { return nil }
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(block.ram.address.rawValue))
}

@c @implementation
public func postcopy_ram_length(_ ram: OpaquePointer!) -> UInt64 {
    (try? unsafe Handles.find(ram, as: RAMBlock.self))?.ram.geometry.lengthBytes ?? 0
}

@c @implementation
public func postcopy_ram_used_length(_ ram: OpaquePointer!) -> UInt64 {
    (try? unsafe Handles.find(ram, as: RAMBlock.self))?.ram.usedBytes ?? 0
}

@c @implementation
public func postcopy_ram_resize(
    _ ram: OpaquePointer!, _ used_length: UInt64, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let block = try unsafe Handles.find(ram, as: RAMBlock.self)
        try coded { try block.ram.resize(to: used_length) }
    }
}

@c @implementation
public func postcopy_ram_lock(_ ram: OpaquePointer!, _ error: OpaquePointer!) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let block = try unsafe Handles.find(ram, as: RAMBlock.self)
        try coded { try block.ram.lock() }
    }
}

@c @implementation
public func postcopy_ram_free(_ ram: OpaquePointer!, _ error: OpaquePointer!) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard unsafe ram != nil else { return }
        try unsafe Handles.find(ram, as: RAMBlock.self).close()
        unsafe Handles.remove(ram)
    }
}

/// Makes an object and answers its handle, or NULL where there is none.
@unsafe func handOut(
    _ place: UnsafeMutablePointer<OpaquePointer?>?, _ name: String,
    _ make: () throws(Failure) -> some Handled
) throws(Failure) {
    guard let place = unsafe place else { throw .null(name) }
    unsafe place.pointee = nil
    unsafe place.pointee = unsafe Handles.add(try make())
}
