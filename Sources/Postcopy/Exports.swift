// An embedder writes one import: what a guest is made of (RAM blocks, page sizes, addresses, reports)
// comes along.
@_exported public import FaultHandling
@_exported public import FlightRecorder
@_exported public import LinuxKernel
@_exported public import MigrationCore
@_exported public import PageModel
@_exported public import PostcopyRuntime
