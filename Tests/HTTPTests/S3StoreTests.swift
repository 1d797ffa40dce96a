import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

/// The driver over real stores: what the conformance suite does not ask every destination.
@Suite struct S3StoreTests {
  static func settings(_ store: LoopbackS3, prefix: String = "lab runs/é", progress: Duration = .seconds(30)) -> S3Settings {
    let http = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: store.host, port: UInt16(store.port)), allowsPlainHTTP: true, progressTimeout: progress)
    let credentials = S3Credentials(accessKeyID: store.accessKeyID, secretAccessKey: store.secretAccessKey)
    return S3Settings(http: http, bucket: store.bucket, prefix: prefix, region: store.region) { () throws(SyncFailure) in credentials }
  }

  static func with(
    _ kind: LoopbackS3.Kind, _ change: (inout S3Settings) -> Void = { _ in },
    _ body: (LoopbackS3, S3Driver, any TransportSession) async throws -> Void
  ) async throws {
    try await LoopbackS3.with(kind) { store in
      var settings = Self.settings(store)
      change(&settings)
      let driver = S3Driver(settings: settings)
      let session = try await driver.connect()
      do { try await body(store, driver, session) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }

  static func path(_ driver: S3Driver, _ relative: String) throws -> RemotePath { driver.root.appending(try RelativePath(relative)) }

  static func read(_ session: any TransportSession, _ path: RemotePath, from offset: UInt64 = 0) async throws -> [UInt8] {
    let read = Mutex<[UInt8]>([])
    try await session.download(path, from: offset) { chunk in read.withLock { $0 += chunk } }
    return read.withLock { $0 }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func filesGoThereAndBack(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { store, driver, session in
      let (folder, file) = (try Self.path(driver, "run 1"), try Self.path(driver, "run 1/a+b %41?#&'\"é\u{1}.txt"))
      try await session.makeFolder(folder)
      try await session.put(noise(3000), at: file, modified: 1_500_000_000, mode: nil, durable: true)
      let entry = try #require(try await session.entry(at: file))
      #expect(entry.size == 3000 && entry.kind == .file && entry.modified == 1_500_000_000)
      #expect(try await session.list(folder).map(\.name) == [try RelativePath("a+b %41?#&'\"é\u{1}.txt")])
      #expect(try await Self.read(session, file) == noise(3000))
      #expect(try await Self.read(session, file, from: 2990) == Array(noise(3000).suffix(10)))
      #expect(try await Self.read(session, file, from: 3000) == [])
      #expect(try await store.object("lab runs/é/run 1/a+b %41?#&'\"é\u{1}.txt") == noise(3000))
      #expect(try await session.entry(at: folder)?.kind == .folder)
      #expect(try await session.entry(at: try Self.path(driver, "run")) == nil)
      #expect(try await session.list(driver.root).map(\.kind) == [.folder])
      try await session.removeTree(folder)
      #expect(try await store.keys() == [])
    }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func thisIsWhatAStoreCanDo(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { store, driver, session in
      let probe = try await driver.probe()
      #expect(probe.failure == nil && probe.evidence == .store)
      #expect(probe.lines.allSatisfy { $0.grade != .bad }, "\(probe.lines)")
      let publish = probe.lines.first { $0.name == "publish" }
      #expect(publish?.grade == (kind == .ceph ? .good : .limited))
      #expect(probe.names?.foldsCase == false && probe.names?.foldsNormalization == false && probe.names?.maxNameBytes == 255)
      // 1,024 without the prefix and the slashes around it.
      #expect(probe.names?.maxPathBytes == 1024 - "lab runs/é/".utf8.count - 1)
      #expect(probe.names?.refused == [.notUTF8], "\(String(describing: probe.names))")
      #expect(try await store.keys() == [])
      #expect(try await store.openUploads().isEmpty)
    }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func largeFilesGoOnAfterTheirLastPart(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { settings in
      settings.partSize = 5 << 20
    } _: { store, driver, session in
      let content = noise(23 << 20)
      let path = try Self.path(driver, "large")
      let size = UInt64(content.count)
      let first = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: size, modified: 1_234_567_890)
      try await session.write(Array(content[..<(6 << 20)]), at: 0, to: first)
      try await session.flush(first, durable: true)
      let early = try #require(try await session.mark(of: first))
      #expect(early.bytes == 5 << 20)
      try await session.write(Array(content[(6 << 20)..<(17 << 20)]), at: 6 << 20, to: first)
      try await session.flush(first, durable: true)
      let mark = try #require(try await session.mark(of: first))
      #expect(mark.bytes == 15 << 20 && (mark.token?.utf8.count ?? 0) > 100)
      await session.abandonUpload(first)
      #expect(try await session.entry(at: path) == nil)
      // Another process goes on, also where the last mark that was written down is older than what arrived.
      let other = try await S3Driver(settings: driver.settings).connect()
      let second = try await other.beginUpload(path, resumingAt: early, size: size, modified: 1_234_567_890)
      #expect(second.offset == 15 << 20)
      try await other.write(Array(content[(15 << 20)...]), at: 15 << 20, to: second)
      try await other.finishUpload(second, modified: 1_234_567_890, mode: nil, durable: true)
      #expect(try await Self.read(other, path) == content)
      #expect(try await other.entry(at: path)?.modified == 1_234_567_890)
      #expect(try await store.openUploads().isEmpty)
      // The mark is used up: from the start again, or once more to the same end where the store remembers.
      let third = try await other.beginUpload(path, resumingAt: mark, size: size, modified: nil)
      let offset = try #require(third.offset)
      #expect(offset == (kind == .ceph ? 0 : size))
      try await other.write(Array(content[Int(offset)...]), at: offset, to: third)
      try await other.finishUpload(third, modified: nil, mode: nil, durable: true)
      #expect(try await Self.read(other, path) == content)
      // Sent in parts: nobody compared the whole.
      let hasher = try #require(try await driver.makeHasher())
      #expect(hasher.evidence == .store)
      #expect(try await hasher.digests(of: [path]) { _ in } == [:])
      await hasher.close()
      await other.close()
    }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func onlyWhatTheStoreComparedIsItsEvidence(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { store, driver, session in
      let hasher = try #require(try await driver.makeHasher())
      let paths = try ["put", "upload", "copy", "foreign", "gone", "spoilt"].map { try Self.path(driver, $0) }
      try await session.put([1, 2], at: paths[0], modified: 1, mode: nil, durable: true)
      let upload = try await session.beginUpload(paths[1], resumingAt: UploadMark(bytes: 0), size: 3, modified: nil)
      try await session.write([1, 2, 3], at: 0, to: upload)
      try await session.finishUpload(upload, modified: nil, mode: nil, durable: true)
      try await session.put([9], at: paths[3], modified: nil, mode: nil, durable: true)
      try await session.publish(paths[3], as: paths[2])
      try await store.plant([7], at: "lab runs/é/foreign")
      let found = try await hasher.digests(of: paths) { _ in }
      #expect(Set(found.keys) == Set(paths.prefix(2)))
      #expect(found[paths[0]]?.hex == "a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222")
      #expect(found[paths[1]]?.hex == "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81")
      await hasher.close()
    }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func oldUploadsAreEndedAndKeptOnesAreNot(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { settings in
      settings.partSize = 5 << 20
    } _: { store, driver, session in
      var marks: [UploadMark] = []
      for name in ["runs/1/a", "runs/1/b", "runs/10/c"] {
        let path = try Self.path(driver, name)
        let upload = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 9 << 20, modified: nil)
        try await session.write([UInt8](repeating: 1, count: 6 << 20), at: 0, to: upload)
        try await session.flush(upload, durable: false)
        marks.append(try #require(try await session.mark(of: upload)))
        await session.abandonUpload(upload)
      }
      #expect(try await store.openUploads().count == 3)
      try await session.discardUploads(under: try Self.path(driver, "runs/1"), except: [marks[1]])
      #expect(
        Set(try await store.openUploads().map { String(decoding: $0.key, as: UTF8.self) }) == [
          "lab runs/é/runs/1/b", "lab runs/é/runs/10/c",
        ])
      // A driver that ends whatever is older than a moment.
      try await Task.sleep(for: .seconds(2.1))
      var settings = driver.settings
      settings.abortsUploadsAfter = 1
      let other = try await S3Driver(settings: settings).connect()
      await other.close()
      #expect(try await store.openUploads().isEmpty)
    }
  }

  /// Files over the limit of one copy go in parts.
  @Test(arguments: LoopbackS3.Kind.allCases) func largeCopies(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { settings in
      settings.copyLimit = 6 << 20
    } _: { store, driver, session in
      let content = noise(13 << 20)
      let (from, to) = (try Self.path(driver, "from é+"), try Self.path(driver, "to"))
      try await session.put(content, at: from, modified: 5, mode: nil, durable: false)
      try await session.publish(from, as: to)
      #expect(try await Self.read(session, to) == content)
      #expect(try await session.entry(at: to)?.modified == 5)
      #expect(try await session.entry(at: from) == nil)
    }
  }

  /// What connecting and looking at the root ends with.
  private static func refusal(_ settings: S3Settings) async -> TransportError? {
    let driver = S3Driver(settings: settings)
    return await HostileServerTests.failure {
      let session = try await driver.connect()
      defer { session.interrupt() }
      try await session.makeFolder(driver.root)
    }
  }

  private static func with(_ settings: S3Settings, key: String, secret: String) -> S3Settings {
    let credentials = S3Credentials(accessKeyID: key, secretAccessKey: secret)
    var settings = settings
    settings.credentials = { () throws(SyncFailure) in credentials }
    return settings
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func whatIsWrongIsNamed(_ kind: LoopbackS3.Kind) async throws {
    try await LoopbackS3.with(kind) { store in
      let sound = Self.settings(store)
      #expect(await Self.refusal(sound) == nil)
      let secret = await Self.refusal(Self.with(sound, key: store.accessKeyID, secret: "wrong-secret"))
      #expect(secret?.failure.kind == .auth && secret?.description.contains("wrong-secret") == false, "\(String(describing: secret))")
      let key = await Self.refusal(Self.with(sound, key: "nobody:nothing", secret: store.secretAccessKey))
      #expect(key?.failure.kind == .auth && key?.description.contains(store.secretAccessKey) == false, "\(String(describing: key))")
      var other = sound
      other.bucket = "no-such-bucket-here"
      #expect(await Self.refusal(other)?.failure.kind == .misconfigured)
      var skewed = sound
      skewed.clock = Skewed()
      let late = await Self.refusal(skewed)
      #expect(late?.failure.kind == .local && late?.description.contains("clock") == true, "\(String(describing: late))")
    }
  }

  private struct Skewed: SyncClock {
    var wallSeconds: Double { SystemClock().wallSeconds - 86_400 * 3 }
    var monotonicNanoseconds: UInt64 { SystemClock().monotonicNanoseconds }
    func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) {}
  }

  @Test func namesThatNoStoreHoldsAreNotSent() async throws {
    try await Self.with(.swift) { store, driver, session in
      for name in [[0x61, 0xff], [UInt8](repeating: 0x61, count: 1024)] {
        let path = driver.root.appending(try RelativePath(bytes: name))
        let error = await #expect(throws: TransportError.self) {
          try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
        }
        #expect(error?.failure.kind == .misconfigured && error?.sessionLost == false)
      }
      #expect(try await store.keys() == [])
    }
  }

  @Test func bucketsAsHosts() async throws {
    try await LoopbackS3.with(.ceph) { store in
      var settings = Self.settings(store)
      settings.http.origin = HTTPOrigin(scheme: .http, host: store.virtualHost, port: UInt16(store.port))
      settings.addressing = .virtual
      let driver = S3Driver(settings: settings)
      let session = try await driver.connect()
      let path = try Self.path(driver, "ä b")
      try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
      #expect(try await session.list(driver.root).count == 1)
      #expect(try await store.object("lab runs/é/ä b") == [1])
      await session.close()
    }
  }

  @Test(arguments: LoopbackS3.Kind.allCases) func oneOfSeveralWins(_ kind: LoopbackS3.Kind) async throws {
    try await Self.with(kind) { store, driver, session in
      let path = try Self.path(driver, "claim")
      let won = await withTaskGroup(of: Bool.self) { group in
        for number in 0..<8 {
          group.addTask {
            do {
              try await session.putNew([UInt8(number)], at: path)
              return true
            } catch { return false }
          }
        }
        return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      // Where the store cannot refuse, several may believe it within the moment that the contract names.
      #expect(kind == .ceph ? won == 1 : won >= 1)
      let error = await #expect(throws: TransportError.self) { try await session.putNew([1], at: path) }
      #expect(error == .alreadyExists(path))
    }
  }
}
