// swift-tools-version: 6.2
import PackageDescription

// The rooms and the arrows between them are explained in Specs/architecture.md; the targets make the compiler hold them.

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .treatAllWarnings(as: .error),
]

/// The parsers' inputs are replayed by a test; `make fuzz` builds the same code for libFuzzer, which brings a `main` of its own.
let fuzzing = Context.environment["NASSYNC_FUZZ"] != nil

func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  // Swift 6.3's optimizer gives up on this room with "circular reference" where the rooms below are built for testing. Of it only the
  // receipt and the claim are fuzzed, which Foundation decodes.
  let settings = fuzzing && name == "NASSync" ? strict + [.unsafeFlags(["-Onone"])] : strict
  return .target(name: name, dependencies: dependencies, path: "Sources/\(name)", swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: strict)
}

func library(_ name: String, pkgConfig: String, apt: String) -> Target {
  .systemLibrary(name: name, path: "Sources/C/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let parsers: [Target.Dependency] = [
  "SyncModel", "Digests", "Configuration", "Intake", "Gate", "Cleanup", "TransportSFTP", "TransportHTTP", "NASSync",
]

let fuzz: Target =
  fuzzing
  ? .executableTarget(
    name: "nassync-fuzz", dependencies: parsers, path: "Tests/FuzzTests", exclude: ["CorpusTests.swift", "Corpus"],
    swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])])
  : .testTarget(
    name: "FuzzTests", dependencies: parsers, path: "Tests/FuzzTests", exclude: ["FuzzMain.swift", "Corpus"], swiftSettings: strict)

let package = Package(
  name: "NASSync",
  products: [
    .library(name: "NASSyncClient", targets: ["NASSync"]),
    .executable(name: "nassync", targets: ["nassync"]),
  ],
  targets: [
    library("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
    library("CLibArchive", pkgConfig: "libarchive", apt: "libarchive-dev"),
    library("CLibSSH", pkgConfig: "libssh", apt: "libssh-dev"),
    library("CLibSSH2", pkgConfig: "libssh2", apt: "libssh2-1-dev"),
    library("CLibCrypto", pkgConfig: "libcrypto", apt: "libssl-dev"),
    library("CCurl", pkgConfig: "libcurl", apt: "libcurl4-openssl-dev"),
    library("CLibXML2", pkgConfig: "libxml-2.0", apt: "libxml2-dev"),
    library("CFYAML", pkgConfig: "libfyaml", apt: "libfyaml-dev"),
    .target(name: "CLinux", path: "Sources/C/CLinux"),

    room("SyncModel", []),
    room("Executors", ["CLinux"]),
    room("SQLite", ["CSQLite"]),
    room("Digests", ["CLibCrypto", "SyncModel"]),
    room("Configuration", ["CFYAML", "SyncModel"]),
    room("Intake", ["CLinux", "SyncModel"]),
    room("Gate", ["CLinux", "SyncModel", "Intake", "Executors", "Digests"]),
    room("JobQueue", ["CLinux", "SyncModel", "SQLite", "Executors", "Digests"]),
    room("Bandwidth", ["SyncModel"]),
    room("Transport", ["SyncModel", "Digests"]),
    room(
      "TransportSFTP",
      ["CLibArchive", "CLibSSH", "CLibSSH2", "CLibCrypto", "CLinux", "SyncModel", "Executors", "Digests", "Transport"]),
    room("TransportHTTP", ["CCurl", "CLibXML2", "CLibCrypto", "SyncModel", "Executors", "Digests", "Transport"]),
    room("Verification", ["SyncModel", "Digests", "Transport"]),
    room("Cleanup", ["CLinux", "Digests", "SyncModel", "Intake", "Verification"]),
    room(
      "NASSync",
      [
        "SyncModel", "Executors", "SQLite", "Digests", "Configuration", "Intake", "Gate", "JobQueue", "Bandwidth", "Transport",
        "TransportSFTP", "TransportHTTP", "Verification", "Cleanup", "CLinux",
      ]),
    room("NASSyncCLI", ["NASSync", "SyncModel", "Executors"]),
    .executableTarget(name: "nassync", dependencies: ["NASSyncCLI", "CLinux"], path: "Sources/nassync", swiftSettings: strict),
    .executableTarget(
      name: "nassync-bench", dependencies: ["Bandwidth", "SyncModel", "Intake", "Gate", "JobQueue", "SQLite", "Digests", "CLinux"],
      path: "Sources/nassync-bench", swiftSettings: strict),

    .target(name: "TestSupport", dependencies: ["SyncModel", "CLinux"], path: "Tests/TestSupport", swiftSettings: strict),
    tests("SyncModelTests", ["SyncModel", "Executors", "Digests", "TestSupport"]),
    tests("DigestsTests", ["Digests", "SyncModel"]),
    tests("JobQueueTests", ["JobQueue", "SQLite", "CSQLite", "SyncModel", "Executors", "Digests", "CLinux", "TestSupport"]),
    tests(
      "NASSyncTests",
      [
        "NASSync", "JobQueue", "SQLite", "Verification", "TransportSFTP", "TransportHTTP", "Executors", "Digests", "Intake", "Bandwidth",
        "Cleanup",
        "CLinux",
        "TestSupport",
      ]),
    // The program itself, so that it is built before the tests start it.
    tests("EndToEndTests", ["nassync", "CLinux", "TestSupport"]),
    tests("ConfigurationTests", ["Configuration", "SyncModel"]),
    tests("BandwidthTests", ["Bandwidth", "SyncModel", "TestSupport"]),
    tests("NASSyncCLITests", ["NASSyncCLI", "NASSync", "SyncModel"]),
    tests("IntakeTests", ["SyncModel", "Intake", "Executors", "TestSupport"]),
    tests("GateTests", ["SyncModel", "Intake", "Gate", "Executors", "Digests", "CLinux", "TestSupport"]),
    tests("CleanupTests", ["Cleanup", "Digests", "Verification", "Intake", "SyncModel", "Executors", "CLinux", "TestSupport"]),
    tests("SFTPCodecTests", ["TransportSFTP"]),
    tests("HTTPTests", ["TransportHTTP", "Transport", "SyncModel", "Executors", "TestSupport"]),
    tests(
      "TransportConformance",
      ["TransportSFTP", "TransportHTTP", "CLibCrypto", "Transport", "SyncModel", "Executors", "CLinux", "TestSupport"]),
    tests("SSHTests", ["TransportSFTP", "Transport", "SyncModel", "Executors", "TestSupport"]),
    fuzz,
  ]
)
