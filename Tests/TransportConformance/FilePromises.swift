import Foundation
import Glibc
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@Suite struct FilePromises {
  /// Names that a shell, a log or a lazy parser would trip over.
  static let oddNames: [[UInt8]] =
    [
      "plain", "with space", " lead", "trail ", "quote'\"`", "new\nline", "tab\t", "back\\slash", "-rf", "--", "$(reboot)", "${HOME}", "*",
      "?[a]",
      "semi;colon|pipe&", "größe", "gro\u{0308}ße", "🔬 microscope", "日本語", "...", "..hidden", "~", "#", "%2e%2e", "a:b", "CON",
    ].map { Array($0.utf8) } + [[UInt8](repeating: 0x78, count: 255), [0xff, 0xfe, 0x41], [0x1b, 0x5b, 0x32, 0x4a], [0xc3]]

  /// Names that every destination must hold; of the others a driver without POSIX below it may refuse some, but never keep one otherwise.
  private static func mustGo(_ name: [UInt8]) -> Bool {
    guard let text = String(validating: name, as: UTF8.self), !text.hasPrefix("."), !text.hasSuffix(" "), !text.hasPrefix(" ") else {
      return false
    }
    return !text.unicodeScalars.contains { $0.value < 0x20 || "<>:\"\\|?*".unicodeScalars.contains($0) }
  }

  @Test(arguments: ConformanceSubject.all) func anyNameGoesThere(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      var stored: Set<[UInt8]> = []
      for (number, name) in Self.oddNames.enumerated() {
        let path = try running.path(name)
        let file = path.appending(try RelativePath(bytes: name))
        do {
          try await session.makeFolder(path)
          try await session.put([UInt8(number)], at: file, modified: nil, mode: nil, durable: false)
          #expect(try await session.entry(at: file)?.name.bytes == name)
          let read = Mutex<[UInt8]>([])
          try await session.download(file, from: 0) { chunk in read.withLock { $0 += chunk } }
          #expect(read.withLock { $0 } == [UInt8(number)])
          stored.insert(name)
        } catch let error as TransportError {
          #expect(!session.capabilities.keepsModes && !Self.mustGo(name) && !error.sessionLost, "\(displayText(of: name)): \(error)")
        }
      }
      let listed = Set(try await session.list(running.root).map(\.name.bytes))
      #expect(stored.isSubset(of: listed), "\(stored.subtracting(listed).map { displayText(of: $0) })")
      let seen = try await running.eyes.names(in: "")
      #expect(stored.isSubset(of: seen), "\(stored.subtracting(seen).map { displayText(of: $0) })")
      if session.capabilities.keepsModes { #expect(listed == Set(Self.oddNames) && seen == listed) }
    }
  }

  @Test(arguments: ConformanceSubject.all) func putWritesBytesTimesAndMode(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      for (number, size) in [0, 1, 4096, 32 * 1024, 32 * 1024 + 1, 261_120, 261_121, 900_000].enumerated() {
        let content = noise(size, seed: UInt64(number) + 1)
        try await session.put(content, at: try running.path("f\(number)"), modified: 1_500_000_000, mode: 0o600, durable: number % 2 == 0)
        #expect(try await running.eyes.bytes(of: "f\(number)") == content)
        // What a store keeps of times beside an object, only its driver can tell: see `entriesSayWhatIsThere`.
        guard let disk = running.disk else { continue }
        let status = try #require(disk.status(of: "f\(number)"))
        #expect((status.st_mtim.tv_sec == 1_500_000_000) == session.capabilities.keepsTimes)
        if session.capabilities.keepsModes { #expect(status.st_mode & 0o7777 == 0o600) }
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func putReplacesAFormerAttempt(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let path = try running.path("f")
      try await session.put(noise(5000), at: path, modified: nil, mode: 0o444, durable: false)
      try await session.put([1, 2], at: path, modified: nil, mode: 0o444, durable: false)
      #expect(try await running.eyes.bytes(of: "f") == [1, 2])
      // What a link of a former attempt leads to is not written. Where the protocol has no links, no attempt has left one.
      if session.capabilities.symlinks {
        let disk = try #require(running.disk)
        try await session.put([7], at: try running.path("precious"), modified: nil, mode: nil, durable: false)
        try disk.link("l", to: "precious")
        try await session.put([3], at: try running.path("l"), modified: nil, mode: nil, durable: false)
        #expect(try await running.eyes.bytes(of: "precious") == [7])
        #expect(try await running.eyes.bytes(of: "l") == [3])
      }
      let upload = try await session.beginUpload(path, resumingAt: 0)
      try await session.write([9], at: 0, to: upload)
      try await session.finishUpload(upload, modified: nil, mode: nil, durable: false)
      #expect(try await running.eyes.bytes(of: "f") == [9])
      let folder = try running.path("folder")
      try await session.makeFolder(folder)
      let refusal = await failure { try await session.put([1], at: folder, modified: nil, mode: nil, durable: false) }
      if session.capabilities.renames || refusal != nil {
        #expect(refusal == .alreadyExists(folder))
      } else {
        // In a store both can be; then neither is taken for the other.
        #expect(await failure { _ = try await session.list(running.root) }?.failure.kind == .remoteConflict)
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func putIntoAMissingFolder(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let path = try running.path("gone/f")
      guard session.capabilities.renames else {
        // A folder of a store is there with what lies in it, and gone with it.
        try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
        #expect(try await session.entry(at: try running.path("gone"))?.kind == .folder)
        try await session.removeFile(path)
        #expect(try await session.entry(at: try running.path("gone")) == nil)
        return
      }
      await #expect(throws: TransportError.notFound(path)) {
        try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
      }
      // A folder that somebody removed behind the session's back is made again once that was noticed.
      try await session.makeFolder(try running.path("gone"))
      try await running.eyes.removeFolder("gone")
      await #expect(throws: TransportError.self) { try await session.put([1], at: path, modified: nil, mode: nil, durable: false) }
      try await session.makeFolder(try running.path("gone"))
      try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
    }
  }

  @Test(arguments: ConformanceSubject.all) func twoThousandPutsAtOnce(_ subject: ConformanceSubject) async throws {
    let count = 2000 / subject.slowness
    try await subject.withSession { session, running in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<count {
          let path = try running.path("f\(number)")
          group.addTask { try await session.put(noise(4096, seed: UInt64(number)), at: path, modified: 1, mode: nil, durable: false) }
        }
        try await group.waitForAll()
      }
      for number in stride(from: 0, to: count, by: 37) {
        #expect(try await running.eyes.bytes(of: "f\(number)") == noise(4096, seed: UInt64(number)))
      }
      #expect(try await session.list(running.root).count == count)
    }
  }

  @Test(arguments: ConformanceSubject.all) func largeFileThereAndBack(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      // More than two parts of a store's.
      let content = noise(20 << 20)
      let path = try running.path("large")
      let upload = try await session.beginUpload(path, resumingAt: 0)
      var offset = 0
      // Pieces of all sizes, one larger than the window.
      for size in [1, 5 << 20, 100_000, 1 << 20] + Array(repeating: 777_777, count: 30) where offset < content.count {
        let end = min(offset + size, content.count)
        try await session.write(Array(content[offset..<end]), at: UInt64(offset), to: upload)
        offset = end
      }
      #expect(offset == content.count)
      try await session.flush(upload, durable: true)
      // A store shows a file whole or not at all.
      if !session.capabilities.renames {
        #expect(try await running.eyes.exists("large") == false)
      } else if session.capabilities.resumesFiles {
        #expect(try await running.eyes.bytes(of: "large") == content)
      }
      try await session.finishUpload(upload, modified: 1_234_567_890, mode: 0o640, durable: false)
      #expect(try await running.eyes.bytes(of: "large") == content)
      #expect(keepsItsWord(try await session.entry(at: path), 1_234_567_890, session))
      for start in [0, 12_345_678, content.count - 32_768, content.count - 1, content.count, content.count + 5] {
        let read = Mutex<[UInt8]>([])
        try await session.download(path, from: UInt64(start)) { chunk in read.withLock { $0 += chunk } }
        #expect(read.withLock { $0 } == Array(content.dropFirst(start)))
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func severalSessionsWriteOneFile(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let path = try running.path("f")
      let other = try await running.driver.connect()
      guard session.capabilities.joinsUploads else {
        let refusal = await #expect(throws: TransportError.self) { try await other.joinUpload(path) }
        #expect(refusal?.sessionLost == false)
        return await other.close()
      }
      await #expect(throws: TransportError.notFound(path)) { try await other.joinUpload(path) }
      let content = noise(6 << 20)
      let upload = try await session.beginUpload(path, resumingAt: 0)
      let joined = try await other.joinUpload(path)
      // In turns, and the one that joined is ahead at times.
      for (number, start) in stride(from: 0, to: content.count, by: 200_000).enumerated() {
        let piece = Array(content[start..<min(start + 200_000, content.count)])
        if number % 3 == 0 {
          try await session.write(piece, at: UInt64(start), to: upload)
        } else {
          try await other.write(piece, at: UInt64(start), to: joined)
        }
      }
      try await other.flush(joined, durable: false)
      await other.abandonUpload(joined)
      try await session.finishUpload(upload, modified: 1_234_567_890, mode: nil, durable: true)
      #expect(try await running.eyes.bytes(of: "f") == content)
      #expect(keepsItsWord(try await session.entry(at: path), 1_234_567_890, session))
      // What is not the file that was begun is not written to.
      try #require(running.disk).link("l", to: "f")
      await #expect(throws: TransportError.self) { try await other.joinUpload(try running.path("l")) }
      await other.close()
    }
  }

  @Test(arguments: ConformanceSubject.all) func resumesInsideAFile(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      guard session.capabilities.resumesFiles else { return try await restartsWhole(session, running) }
      guard session.capabilities.renames else { return try await resumesByMark(session, running) }
      let content = noise(3 << 20)
      let path = try running.path("f")
      let first = try await session.beginUpload(path, resumingAt: 0)
      try await session.write(Array(content[..<2_000_000]), at: 0, to: first)
      try await session.flush(first, durable: true)
      await session.abandonUpload(first)
      await #expect(throws: TransportError.self) { try await session.write([1], at: 0, to: first) }
      // Only 1,500,000 bytes were proven: the rest is cut.
      let other = try await running.driver.connect()
      let second = try await other.beginUpload(path, resumingAt: 1_500_000)
      #expect(try await other.entry(at: path)?.size == 1_500_000)
      try await other.write(Array(content[1_500_000...]), at: 1_500_000, to: second)
      try await other.finishUpload(second, modified: nil, mode: nil, durable: false)
      #expect(try await running.eyes.bytes(of: "f") == content)
      let short = await #expect(throws: TransportError.self) { try await other.beginUpload(path, resumingAt: 4 << 20) }
      #expect(short?.failure.kind == .protocol)
      #expect(short?.sessionLost == false)
      #expect(try await running.eyes.bytes(of: "f") == content)
      await #expect(throws: TransportError.notFound(try running.path("none"))) {
        try await other.beginUpload(try running.path("none"), resumingAt: 5)
      }
      try #require(running.disk).link("l", to: "f")
      await #expect(throws: TransportError.self) { try await other.beginUpload(try running.path("l"), resumingAt: 5) }
      await other.close()
    }
  }

  /// What a store promises: whole parts stay, a mark leads back to them from another session, and what no mark leads to is ended.
  private func resumesByMark(_ session: any TransportSession, _ running: RunningSubject) async throws {
    let content = noise(40 << 20)
    let (path, size) = (try running.path("f"), UInt64(content.count))
    func begun(_ session: any TransportSession, at path: RemotePath) async throws -> UploadMark {
      let upload = try await session.beginUpload(path, resumingAt: 0, size: size, modified: 1_234_567_890)
      try await session.write(Array(content[..<(30 << 20)]), at: 0, to: upload)
      try await session.flush(upload, durable: true)
      let mark = try #require(try await session.mark(of: upload))
      await session.abandonUpload(upload)
      await #expect(throws: TransportError.self) { try await session.write([1], at: 30 << 20, to: upload) }
      #expect(mark.bytes > 0 && mark.bytes <= 30 << 20)
      return mark
    }
    let mark = try await begun(session, at: path)
    let lost = try await begun(session, at: try running.path("lost"))
    #expect(try await session.entry(at: path) == nil)
    #expect(try await running.eyes.names(in: "").isEmpty)
    let other = try await running.driver.connect()
    try await other.discardUploads(under: running.root, except: [mark])
    let second = try await other.beginUpload(path, resumingAt: mark, size: size, modified: 1_234_567_890)
    let start = second.offset ?? mark.bytes
    #expect(start > 0 && start <= mark.bytes)
    try await other.write(Array(content[Int(start)...]), at: start, to: second)
    try await other.finishUpload(second, modified: 1_234_567_890, mode: nil, durable: true)
    #expect(try await running.eyes.bytes(of: "f") == content)
    // The other one is gone, and the driver says so before a byte is sent.
    let third = try await other.beginUpload(try running.path("lost"), resumingAt: lost, size: size, modified: nil)
    #expect(third.offset == 0)
    await other.abandonUpload(third)
    await #expect(throws: TransportError.self) { try await other.beginUpload(try running.path("none"), resumingAt: 5) }
    try await other.discardUploads(under: running.root, except: [])
    #expect(try await running.eyes.names(in: "") == [Array("f".utf8)])
    await other.close()
  }

  /// The other promise: nothing but a start from the beginning is taken, and what was cut off is no hindrance.
  private func restartsWhole(_ session: any TransportSession, _ running: RunningSubject) async throws {
    let content = noise(3 << 20)
    let path = try running.path("f")
    let first = try await session.beginUpload(path, resumingAt: 0, size: UInt64(content.count), modified: 1_234_567_890)
    try await session.write(Array(content[..<2_000_000]), at: 0, to: first)
    await session.abandonUpload(first)
    await #expect(throws: TransportError.self) { try await session.write([1], at: 2_000_000, to: first) }
    let refused = await #expect(throws: TransportError.self) { try await session.beginUpload(path, resumingAt: 1_500_000) }
    #expect(refused?.sessionLost == false)
    // Half a file is never taken for a whole one.
    let short = try await session.beginUpload(path, resumingAt: 0, size: UInt64(content.count), modified: nil)
    await #expect(throws: TransportError.self) {
      try await session.write(Array(content[..<1_000_000]), at: 0, to: short)
      try await session.finishUpload(short, modified: nil, mode: nil, durable: false)
    }
    await session.abandonUpload(short)
    let second = try await session.beginUpload(path, resumingAt: 0, size: UInt64(content.count), modified: 1_234_567_890)
    await #expect(throws: TransportError.self) { try await session.write([1], at: 5, to: second) }
    await session.abandonUpload(second)
    // A server may hold a lock until it has noticed that the last attempt was cut; it says so, and the queue would try again.
    let deadline = ContinuousClock.now + .seconds(90)
    while true {
      let last = try await session.beginUpload(path, resumingAt: 0, size: UInt64(content.count), modified: 1_234_567_890)
      let refusal = await failure {
        try await session.write(content, at: 0, to: last)
        try await session.finishUpload(last, modified: 1_234_567_890, mode: nil, durable: true)
      }
      await session.abandonUpload(last)
      guard let refusal else { break }
      try #require(refusal.failure.retry && !refusal.sessionLost && ContinuousClock.now < deadline, "\(refusal)")
    }
    #expect(try await running.eyes.bytes(of: "f") == content)
    #expect(keepsItsWord(try await session.entry(at: path), 1_234_567_890, session))
  }

  @Test(arguments: ConformanceSubject.all) func downloadPassesOnWhatItsBodyThrows(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await session.put(noise(500_000), at: try running.path("f"), modified: nil, mode: nil, durable: false)
      let mine = SyncFailure(.localChanged, "stop", hint: "-")
      await #expect(throws: TransportError.failure(mine, sessionLost: false)) {
        try await session.download(try running.path("f"), from: 0) { (_) throws(SyncFailure) in throw mine }
      }
      await #expect(throws: TransportError.notFound(try running.path("gone"))) {
        try await session.download(try running.path("gone"), from: 0) { _ in }
      }
      try await session.put([], at: try running.path("empty"), modified: nil, mode: nil, durable: false)
      try await session.download(try running.path("empty"), from: 0) { _ in Issue.record("an empty file has no chunk") }
      // More files than handles that stay open would leave room for.
      for _ in 0..<1200 / subject.slowness { try await session.download(try running.path("empty"), from: 0) { _ in } }
    }
  }

  @Test(arguments: ConformanceSubject.all) func manyDownloadsAtOnce(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      for number in 0..<40 {
        try await session.put(noise(number * 20_011, seed: 3), at: try running.path("f\(number)"), modified: nil, mode: nil, durable: false)
      }
      let whole = noise(40 * 20_011, seed: 3)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<40 {
          let path = try running.path("f\(number)")
          group.addTask {
            let read = Mutex<[UInt8]>([])
            try await session.download(path, from: 0) { chunk in read.withLock { $0 += chunk } }
            #expect(read.withLock { $0 } == Array(whole.prefix(number * 20_011)))
          }
        }
        try await group.waitForAll()
      }
    }
  }
}

/// Whether a file shows the time it was given exactly where the destination keeps times. A store that keeps none may still have noted it.
func keepsItsWord(_ entry: RemoteEntry?, _ given: Int64, _ session: any TransportSession) -> Bool {
  guard let shown = entry?.modified else { return entry != nil && !session.capabilities.keepsTimes }
  if !session.capabilities.renames, !session.capabilities.keepsTimes { return shown == given || shown > 1_700_000_000 }
  return (shown == given) == session.capabilities.keepsTimes
}
