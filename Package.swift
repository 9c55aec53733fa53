// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is compiled the same way; a module that needs an exception says so by its name.
let house: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "postcopy",
    products: [
        .library(name: "Postcopy", targets: ["Postcopy"]),
        .library(name: "VhostUser", targets: ["VhostUser"]),
        .library(name: "PostcopyC", type: .static, targets: ["PostcopyC"]),
        .executable(name: "postcopy", targets: ["PostcopyCommand"]),
        .executable(name: "postcopy-bench", targets: ["PostcopyBench"]),
        .executable(name: "postcopy-simulate", targets: ["PostcopySimulate"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        .target(
            name: "CShims", path: "CShims", exclude: ["abi"],
            cSettings: [
                .define("_GNU_SOURCE"),
                .enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error),
            ],
            linkerSettings: [.linkedLibrary("uring"), .linkedLibrary("z")]),
        .target(name: "PageModel", swiftSettings: house),
        .target(name: "PlainJSON", swiftSettings: house),
        .target(
            name: "StreamWire", dependencies: ["PageModel"], exclude: ["README.md"],
            swiftSettings: house),
        .target(
            name: "MigrationCore",
            dependencies: [
                "PageModel", "StreamWire",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ], swiftSettings: house),
        .target(
            name: "FlightRecorder", dependencies: ["MigrationCore", "PageModel"],
            swiftSettings: house),
        .target(name: "LinuxKernel", dependencies: ["CShims", "PageModel"], swiftSettings: house),
        .target(
            name: "PostcopyRuntime",
            dependencies: [
                "MigrationCore", "FlightRecorder", "StreamWire", "LinuxKernel", "PageModel",
            ],
            swiftSettings: house),
        .target(
            name: "FaultHandling",
            dependencies: ["LinuxKernel", "MigrationCore", "PageModel", "PlainJSON"],
            swiftSettings: house),
        .target(
            name: "Postcopy",
            dependencies: [
                "PostcopyRuntime", "FaultHandling", "FlightRecorder", "LinuxKernel",
                "MigrationCore", "PageModel",
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            swiftSettings: house),
        .target(
            name: "VhostUser", dependencies: ["PostcopyRuntime", "LinuxKernel", "PageModel"],
            swiftSettings: house),
        .systemLibrary(name: "CPostcopy", path: "CShims/abi"),
        .target(
            name: "PostcopyC", dependencies: ["CPostcopy", "Postcopy"], swiftSettings: house),
        .target(
            name: "TestWorkload",
            dependencies: ["Postcopy", "StreamWire", "LinuxKernel", "PageModel"],
            swiftSettings: house),
        .target(
            name: "Parking",
            dependencies: ["Postcopy", "StreamWire", "LinuxKernel", "PageModel", "PlainJSON"],
            swiftSettings: house),
        .executableTarget(
            name: "PostcopyCommand",
            dependencies: [
                "Postcopy", "TestWorkload", "Parking", "StreamWire", "PlainJSON",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ], swiftSettings: house),
        .executableTarget(
            name: "embed", dependencies: ["Postcopy"], path: "examples/embed", swiftSettings: house),
        .target(name: "KVMGuest", path: "examples/kvm/guest"),
        .executableTarget(
            name: "kvm", dependencies: ["Postcopy", "KVMGuest"], path: "examples/kvm",
            exclude: ["guest"], swiftSettings: house),
        .executableTarget(
            name: "tutorial", dependencies: ["Postcopy"], path: "examples/tutorial",
            swiftSettings: house),
        .executableTarget(
            name: "snapshot", dependencies: ["Postcopy"], path: "examples/snapshot",
            swiftSettings: house),
        .executableTarget(
            name: "PostcopyBench",
            dependencies: [
                "TestSupport", "HeldFaults",
                "CShims", "PostcopyRuntime", "LinuxKernel", "PageModel", "MigrationCore",
                "StreamWire", "FaultHandling", "FlightRecorder",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ], path: "Tests/Performance", swiftSettings: house),
        .target(
            name: "TestSupport", dependencies: ["PageModel", "StreamWire", "LinuxKernel"],
            path: "Tests/TestSupport",
            swiftSettings: house),
        .target(
            name: "HeldFaults",
            dependencies: [
                "TestSupport", "PostcopyRuntime", "FlightRecorder", "MigrationCore", "LinuxKernel",
                "PageModel",
            ], path: "Tests/HeldFaults", swiftSettings: house),
        .target(
            name: "Simulation",
            dependencies: ["TestSupport", "MigrationCore", "StreamWire", "PageModel"],
            path: "Tests/Simulation", exclude: ["Mutants"], swiftSettings: house),
        .executableTarget(
            name: "PostcopySimulate", dependencies: ["Simulation"], path: "Tests/Simulate",
            swiftSettings: house),
        .testTarget(
            name: "SimulationTests", dependencies: ["Simulation"], swiftSettings: house),
        .testTarget(
            name: "PageModelTests", dependencies: ["TestSupport", "PageModel", "LinuxKernel"],
            swiftSettings: house),
        .testTarget(
            name: "PlainJSONTests", dependencies: ["TestSupport", "PlainJSON"],
            swiftSettings: house),
        .testTarget(
            name: "KernelTests",
            dependencies: ["TestSupport", "LinuxKernel", "PageModel", "CShims"],
            swiftSettings: house),
        .testTarget(
            name: "StreamWireTests", dependencies: ["TestSupport", "StreamWire", "PageModel"],
            swiftSettings: house),
        .testTarget(
            name: "MigrationCoreTests",
            dependencies: [
                "TestSupport",
                "MigrationCore", "StreamWire", "PageModel",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ], swiftSettings: house),
        .testTarget(
            name: "FlightRecorderTests",
            dependencies: ["TestSupport", "FlightRecorder", "MigrationCore", "PageModel"],
            swiftSettings: house),
        .executableTarget(
            name: "FaultClient", dependencies: ["LinuxKernel", "CShims", "PageModel"],
            path: "Tests/FaultClient", swiftSettings: house),
        .testTarget(
            name: "FaultHandlingTests",
            dependencies: [
                "FaultClient", "TestSupport", "FaultHandling", "LinuxKernel", "MigrationCore",
                "PageModel", "CShims",
            ], swiftSettings: house),
        .testTarget(
            name: "TestWorkloadTests",
            dependencies: [
                "TestSupport", "TestWorkload", "FlightRecorder", "LinuxKernel", "PageModel",
            ], swiftSettings: house),
        .testTarget(
            name: "ParkingTests",
            dependencies: [
                "TestSupport", "Parking", "Postcopy", "StreamWire", "LinuxKernel", "PageModel",
            ], swiftSettings: house),
        .executableTarget(
            name: "SharedClientProgram",
            dependencies: ["TestSupport", "TestWorkload", "VhostUser", "LinuxKernel", "PageModel"],
            path: "Tests/SharedClientProgram", swiftSettings: house),
        .testTarget(
            name: "RuntimeTests",
            dependencies: [
                "TestSupport", "TestWorkload", "VhostUser", "SharedClientProgram", "kvm",
                "HeldFaults", "PostcopyRuntime", "FlightRecorder", "MigrationCore", "StreamWire",
                "LinuxKernel", "PageModel",
            ], swiftSettings: house),
        .testTarget(
            name: "PostcopyTests",
            dependencies: [
                "TestSupport", "Postcopy", .product(name: "CoreMetrics", package: "swift-metrics"),
            ], swiftSettings: house),
        .testTarget(
            name: "VhostUserTests",
            dependencies: [
                "TestSupport", "VhostUser", "PostcopyRuntime", "LinuxKernel", "PageModel", "CShims",
            ], swiftSettings: house),
        .testTarget(
            name: "PostcopyCommandTests",
            dependencies: [
                "TestSupport", "StreamWire",
                "PostcopyCommand", "Postcopy", "PostcopyRuntime", "TestWorkload", "PageModel",
                "LinuxKernel",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ], swiftSettings: house),
        .executableTarget(
            name: "FirecrackerClient", dependencies: ["TestSupport", "CShims", "LinuxKernel"],
            path: "Tests/FirecrackerClient", swiftSettings: house),
        .testTarget(
            name: "ProcessTests",
            dependencies: [
                "TestSupport", "PostcopyCommand", "FirecrackerClient", "Parking", "CShims",
                "LinuxKernel", "PageModel", "StreamWire", "kvm",
            ], exclude: ["scripts"], swiftSettings: house),
        .testTarget(
            name: "InteropTests", dependencies: ["TestSupport", "PostcopyCommand"],
            path: "Tests/Interop",
            exclude: [
                "README.md", "capture_vectors.py", "guest.s", "interop", "requirements.txt",
                "run.py",
            ],
            swiftSettings: house),
        .testTarget(name: "CLibraryTests", swiftSettings: house),
        .testTarget(
            name: "PostcopyCTests",
            dependencies: ["TestSupport", "PostcopyC", "CPostcopy", "LinuxKernel", "PageModel"],
            swiftSettings: house),
        .testTarget(name: "TidyTests", swiftSettings: house),
    ]
)
