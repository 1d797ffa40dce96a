import Foundation
import Glibc

/// A real object store with an S3 interface on 127.0.0.1, and a bucket in it for one test alone.
///
///     try await LoopbackS3.with(.swift) { store in … }
///
/// A store takes 5 to 15 s to start, so the tests of one process share one of each kind, each with a bucket of its own. They end with the process,
/// however it ends. A test that wants its store to hang has it reached through a relay.
public struct LoopbackS3: Sendable {
  /// The makes, which differ in what they do where Amazon's documents leave room, and elsewhere.
  public enum Kind: String, Sendable, CaseIterable {
    /// OpenStack Swift with its s3api: wants `If-None-Match` on no PUT (501).
    case swift
    /// Ceph's gateway: honours `If-None-Match: *`.
    case ceph
  }

  /// As asked for.
  public let kind: Kind
  /// A folder of this test's own.
  public let folder: TemporaryFolder
  /// The test's own bucket. Exists, empty.
  public let bucket: String
  /// `http://127.0.0.1:PORT`, without a path.
  public var endpoint: String { store.state.endpoint }
  /// Where it listens.
  public let host = "127.0.0.1"
  /// The port it listens on.
  public var port: Int { URLComponents(string: endpoint)?.port ?? 0 }
  /// The region that signatures are for.
  public var region: String { store.state.region }
  /// The key's name; OpenStack's has a colon.
  public var accessKeyID: String { store.state.accessKeyID }
  /// The key.
  public var secretAccessKey: String { store.state.secretAccessKey }
  /// A file with the key, mode 0600.
  public var secretFile: String { "\(folder.path)/secret" }
  /// Below this name the store knows buckets as hosts: `BUCKET.s3.localhost:PORT`, which libcurl takes for 127.0.0.1 without asking anybody.
  public var virtualHost: String { store.state.virtualHost }

  private let store: ObjectStore

  /// Makes a bucket in a store, runs the body, removes the bucket.
  public static func with<Result>(
    _ kind: Kind = .swift, isolation: isolated (any Actor)? = #isolation, _ body: (LoopbackS3) async throws -> Result
  ) async throws -> Result {
    try await TemporaryFolder.with { folder in
      let lab = try await LoopbackS3(kind, in: folder, store: try await SharedStores.all.store(kind))
      let result = try await body(lab)
      // Ceph's store lies in memory. The other one's disk goes with the store; its bucket would take long to empty.
      if kind == .ceph { _ = try await lab.look(["empty"]) }
      return result
    }
  }

  private init(_ kind: Kind, in folder: TemporaryFolder, store: ObjectStore) async throws {
    self.kind = kind
    self.folder = folder
    self.store = store
    bucket = "lab-\(UUID().uuidString.lowercased())"
    try folder.write(store.state.secretAccessKey + "\n", to: "secret", mode: 0o600)
    _ = try await look(["make"])
  }

  // MARK: Independent eyes

  /// An object's bytes, read past the program under test.
  public func object(_ key: [UInt8]) async throws -> [UInt8] { try await look(["get", escaped(key)]).stdout }
  /// The same for a key of text.
  public func object(_ key: String) async throws -> [UInt8] { try await object(Array(key.utf8)) }

  /// Whether there is an object of that very key.
  public func exists(_ key: [UInt8]) async throws -> Bool {
    try await look(["head", escaped(key)], accepting: [0, 4]).status == 0
  }
  /// The same for a key of text.
  public func exists(_ key: String) async throws -> Bool { try await exists(Array(key.utf8)) }

  /// The keys with a prefix, in the store's order, with the objects' sizes.
  public func objects(_ prefix: [UInt8] = []) async throws -> [(key: [UInt8], size: UInt64)] {
    try await look(["list", escaped(prefix)]).text.split(separator: "\n").map { line in
      let words = line.split(separator: " ", maxSplits: 1)
      guard words.count == 2, let size = UInt64(words[0]) else { throw TemporaryFolder.Failure("not a line of a listing: \(line)") }
      return (try unescaped(words[1]), size)
    }
  }

  /// SHA-256 of each object with a prefix, in hexadecimal, by its key.
  public func digests(_ prefix: String) async throws -> [String: String] {
    var digests: [String: String] = [:]
    for line in try await look(["sums", escaped(Array(prefix.utf8))]).text.split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 1)
      guard words.count == 2 else { throw TemporaryFolder.Failure("not a line of digests: \(line)") }
      digests[String(decoding: try unescaped(words[1]), as: UTF8.self)] = String(words[0])
    }
    return digests
  }

  /// The keys with a prefix, as text; one that is no text makes it throw.
  public func keys(_ prefix: String = "") async throws -> [String] {
    try await objects(Array(prefix.utf8)).map { object in
      guard let text = String(validating: object.key, as: UTF8.self) else { throw TemporaryFolder.Failure("a key is not UTF-8") }
      return text
    }
  }

  /// Puts an object there past the program under test.
  public func plant(_ content: [UInt8], at key: [UInt8]) async throws { _ = try await look(["put", escaped(key)], input: content) }
  /// The same for a key of text.
  public func plant(_ content: [UInt8], at key: String) async throws { try await plant(content, at: Array(key.utf8)) }

  /// Puts many empty objects `PREFIX0`, `PREFIX1`, … there.
  public func plantMany(_ count: Int, below prefix: String) async throws {
    _ = try await look(["fill", escaped(Array(prefix.utf8)), "\(count)"])
  }

  /// Removes an object past the program under test.
  public func remove(_ key: String) async throws { _ = try await look(["delete", escaped(Array(key.utf8))]) }

  /// Inverts a bit in the middle of an object; a second time restores it. The metadata stays, the ETag changes, as it does wherever somebody
  /// stores other bytes; bytes that rot on a disk are what the store's own checks are for.
  public func corrupt(_ key: String) async throws { _ = try await look(["flip", escaped(Array(key.utf8))]) }

  /// Multipart uploads that were neither completed nor aborted: key and upload id.
  public func openUploads() async throws -> [(key: [UInt8], id: String)] {
    try await look(["uploads"]).text.split(separator: "\n").map { line in
      let words = line.split(separator: " ", maxSplits: 1)
      guard words.count == 2 else { throw TemporaryFolder.Failure("not a line of a listing: \(line)") }
      return (try unescaped(words[0]), String(words[1]))
    }
  }

  private func look(_ arguments: [String], input: [UInt8] = [], accepting: Set<Int32> = [0]) async throws -> ProcessResult {
    let script = try repositoryFile("scripts/servers/s3.py")
    let result = try await runProcess(["/usr/bin/python3", "-B", script, store.stateFile, bucket] + arguments, input: input)
    guard accepting.contains(result.status) else {
      throw TemporaryFolder.Failure("s3.py \(arguments.joined(separator: " ")): \(result.errorText)")
    }
    return result
  }

  private func escaped(_ key: [UInt8]) -> String {
    key.map { byte in
      let plain = (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
      return plain ? String(UnicodeScalar(byte)) : String(format: "%%%02X", Int(byte))
    }.joined()
  }

  private func unescaped(_ text: Substring) throws -> [UInt8] {
    var result: [UInt8] = []
    var rest = text.utf8
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        result.append(byte)
        continue
      }
      guard let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        throw TemporaryFolder.Failure("not an escape: \(text)")
      }
      result.append(value)
      rest = rest.dropFirst(2)
    }
    return result
  }
}

/// A store that runs.
private struct ObjectStore {
  /// What the starting script says of it.
  struct State: Decodable {
    let endpoint: String
    let region: String
    let accessKeyID: String
    let secretAccessKey: String
    let virtualHost: String

    enum CodingKeys: String, CodingKey {
      case endpoint, region
      case accessKeyID = "access_key_id"
      case secretAccessKey = "secret_access_key"
      case virtualHost = "virtual_host"
    }
  }

  let folder: String
  let state: State
  let process: ServerProcess
  var stateFile: String { "\(folder)/store.json" }

  static func start(_ kind: LoopbackS3.Kind, in folder: TemporaryFolder) async throws -> ObjectStore {
    let script = try repositoryFile("scripts/servers/object-store.py")
    // Another test may take a port between the script's looking and the server's binding.
    for attempt in 1...3 {
      let base = "\(folder.path)/store\(attempt)"
      let output = "\(folder.path)/store\(attempt).out"
      do {
        let process = try await ServerProcess.start(
          "the object store (\(kind.rawValue))", [script, kind.rawValue, base],
          environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder.path, "LANG": "C.UTF-8"], folder: folder,
          streams: ChildProcess.Streams(output: output, error: "\(base).err"), seconds: 120,
          until: { (try? String(contentsOfFile: output, encoding: .utf8)) == "READY\n" },  // not there yet
          log: { (try? String(contentsOfFile: "\(base).err", encoding: .utf8)) ?? "" })  // nothing said
        let state = try JSONDecoder().decode(State.self, from: Data(contentsOf: URL(fileURLWithPath: "\(base)/store.json")))
        return ObjectStore(folder: base, state: state, process: process)
      } catch { if attempt == 3 { throw error } }
    }
    throw TemporaryFolder.Failure("unreachable")
  }
}

/// The stores that all tests of this process share. They are never stopped in order: their watchdogs end them with the process.
private actor SharedStores {
  static let all = SharedStores()
  private var starting: [LoopbackS3.Kind: Task<ObjectStore, any Error>] = [:]

  func store(_ kind: LoopbackS3.Kind) async throws -> ObjectStore {
    let task = starting[kind] ?? Task { try await ObjectStore.start(kind, in: try TemporaryFolder(in: "/tmp")) }
    starting[kind] = task
    return try await task.value
  }
}

/// The path of a file of this repository, which a test uses where it lies.
func repositoryFile(_ name: String, from file: String = #filePath) throws -> String {
  let root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  let path = root.appendingPathComponent(name).path
  guard FileManager.default.fileExists(atPath: path) else { throw TemporaryFolder.Failure("\(path) is missing") }
  return path
}
